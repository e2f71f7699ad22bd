//! The format of an archive: a `tar` file in a Zstandard frame, followed by a checksum.
//!
//! The first entry describes the archive, the next entries are files of a root under their paths, and the last one is
//! the manifest: a line of JSON for each file, and a closing line. So an archive without a manifest is truncated. An
//! extended header holds the mtime of each file in nanoseconds, and a path that is too long for a plain header.

use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use prodigy_storage_backend::{ErrorKind, Result, StorageError};
use prodigy_storage_layout::{JobAddress, Timestamp};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tempfile::SpooledTempFile;

use super::BACKUP;
use super::sealed::Sealing;

/// The names of the first and the last entry.
pub(super) const HEAD: &str = "archive.json";
pub(super) const MANIFEST: &str = "manifest.jsonl";
/// The newest version of the format.
pub(super) const VERSION: u64 = 2;
/// The version of an archive without marks of moved parts. Earlier programs can read it.
pub(super) const WITHOUT_MARKS: u64 = 1;
/// The largest manifest or queue, in bytes, that is kept in memory; a larger one is kept in a temporary file.
pub(super) const IN_MEMORY: usize = 8 << 20;
const LEVEL: i32 = 3;

/// The first entry of an archive, as JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Head {
    pub(super) archive: u64,
    /// A random id of this archive.
    pub(super) id: String,
    /// When the backup began.
    pub(super) made: Timestamp,
    pub(super) written_by: String,
    /// The repository of an archive of one job; `None` for a whole root. `job` is its job.
    pub(super) repo: Option<String>,
    pub(super) job: Option<String>,
}

/// A line of the manifest.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Line {
    pub(super) path: String,
    pub(super) bytes: u64,
    pub(super) sha256: String,
}

/// The last line of the manifest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Closing {
    pub(super) files: u64,
    pub(super) bytes: u64,
    pub(super) jobs: u64,
    /// The jobs that were deleted while the backup was made: the archive may hold only a part of them.
    pub(super) deleted: Vec<JobName>,
}

/// The name of a job in the manifest.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct JobName {
    repo: String,
    job: String,
}

impl From<&JobAddress> for JobName {
    fn from(job: &JobAddress) -> Self {
        Self {
            repo: job.repo.to_string(),
            job: job.job.to_string(),
        }
    }
}

/// A reader of a fixed number of bytes that computes their checksum.
pub(super) struct Summed<R> {
    inner: R,
    left: u64,
    sum: Sha256,
    /// True if a read failed. The copy then failed because of the source, not because of the archive.
    failed: bool,
}

impl<R: Read> Summed<R> {
    pub(super) fn new(inner: R, len: u64) -> Self {
        Self {
            inner,
            left: len,
            sum: Sha256::new(),
            failed: false,
        }
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failed
    }

    /// The checksum in hexadecimal digits. Must be called after all bytes were read.
    pub(super) fn sha256(self) -> String {
        data_encoding::HEXLOWER.encode(&self.sum.finalize())
    }
}

impl<R: Read> Read for Summed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let buffer = buffer.get_mut(..most).unwrap_or_default();
        if buffer.is_empty() {
            return Ok(0);
        }
        let read = match self.inner.read(buffer) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            other => other,
        };
        let read = read.inspect_err(|_| self.failed = true)?;
        self.left -= read as u64;
        self.sum.update(buffer.get(..read).unwrap_or_default());
        Ok(read)
    }
}

/// The file whose failure ended a copy.
pub(super) enum Failed {
    /// Reading the copied file failed.
    Source(io::Error),
    /// Writing the archive failed.
    Archive(StorageError),
}

/// Writes an archive: first the files, then the manifest, then the checksum of the whole.
pub(super) struct ArchiveWriter<'w> {
    tar: tar::Builder<zstd::Encoder<'static, Sealing<'w>>>,
    manifest: SpooledTempFile,
    pub(super) closing: Closing,
}

/// The metadata of a file in an archive.
pub(super) struct FileHead<'p> {
    pub(super) path: &'p Path,
    pub(super) mode: u32,
    pub(super) modified: Timestamp,
    pub(super) len: u64,
}

impl<'w> ArchiveWriter<'w> {
    pub(super) fn begin(out: &'w mut dyn Write, head: &Head) -> Result<Self> {
        let encoder = zstd::Encoder::new(Sealing::new(out), LEVEL).map_err(unwritten)?;
        let mut writer = Self {
            tar: tar::Builder::new(encoder),
            manifest: SpooledTempFile::new(IN_MEMORY),
            closing: Closing::default(),
        };
        let text = json_line(head)?;
        writer.entry(
            &FileHead::of_text(Path::new(HEAD), head.made, text.len() as u64),
            &mut text.as_slice(),
        )?;
        Ok(writer)
    }

    /// Adds a file of the root.
    pub(super) fn add(&mut self, file: &FileHead<'_>, contents: impl Read) -> Result<(), Failed> {
        let mut contents = Summed::new(contents, file.len);
        if let Err(error) = self.append(file, &mut contents) {
            return Err(match contents.failed {
                true => Failed::Source(error),
                false => Failed::Archive(unwritten(error)),
            });
        }
        let line = Line {
            path: file.path.to_string_lossy().into_owned(),
            bytes: file.len,
            sha256: contents.sha256(),
        };
        self.closing.files += 1;
        self.closing.bytes += file.len;
        let written = json_line(&line).and_then(|line| self.manifest.write_all(&line).map_err(unwritten));
        written.map_err(Failed::Archive)
    }

    /// Writes the manifest and ends the archive. The caller syncs the file or device.
    pub(super) fn finish(mut self, now: Timestamp) -> Result<Closing> {
        let closing = json_line(&self.closing)?;
        let mut manifest = std::mem::replace(&mut self.manifest, SpooledTempFile::new(0));
        let len = manifest
            .write_all(&closing)
            .and_then(|()| manifest.stream_position());
        let len = len.map_err(unwritten)?;
        manifest.seek(SeekFrom::Start(0)).map_err(unwritten)?;
        self.entry(&FileHead::of_text(Path::new(MANIFEST), now, len), &mut manifest)?;
        let ended = self.tar.into_inner().and_then(zstd::Encoder::finish);
        ended.and_then(Sealing::finish).map_err(unwritten)?;
        Ok(self.closing)
    }

    fn entry(&mut self, file: &FileHead<'_>, contents: &mut dyn Read) -> Result<()> {
        self.append(file, contents).map_err(unwritten)
    }

    fn append(&mut self, file: &FileHead<'_>, contents: &mut dyn Read) -> io::Result<()> {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Regular);
        header.set_mode(file.mode);
        header.set_size(file.len);
        let nanos = file.modified.as_nanos().max(0);
        let (seconds, below) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
        header.set_mtime(seconds.unsigned_abs());
        let time = format!("{seconds}.{below:09}");
        let mut extended = vec![("mtime", time.as_bytes())];
        let path = file.path.to_string_lossy();
        if header.set_path(file.path).is_err() || !path.is_ascii() {
            extended.push(("path", path.as_bytes()));
            header.set_path("long-name")?;
        }
        header.set_cksum();
        self.tar.append_pax_extensions(extended)?;
        self.tar.append(&header, contents)
    }
}

impl<'p> FileHead<'p> {
    /// The metadata of a file whose contents are in memory.
    pub(super) fn of_text(path: &'p Path, modified: Timestamp, len: u64) -> Self {
        Self {
            path,
            mode: crate::fs::FILE_MODE,
            modified,
            len,
        }
    }
}

pub(super) fn json_line(value: &impl Serialize) -> Result<Vec<u8>> {
    let mut line = serde_json::to_vec(value).map_err(|error| unwritten(error.into()))?;
    line.push(b'\n');
    Ok(line)
}

/// The error of a failed write to the archive.
pub(super) fn unwritten(error: io::Error) -> StorageError {
    let kind = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::DiskFull,
        _ => ErrorKind::Io,
    };
    StorageError::new(kind, BACKUP, "the archive", "it can't be written")
        .with_hint(
            "make room where the archive is written, or write it elsewhere; nothing in the store was changed",
        )
        .with_source(error)
}
