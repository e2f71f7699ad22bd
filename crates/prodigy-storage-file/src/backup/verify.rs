//! Reads an archive from its first byte to its last, and checks all of it.

use std::collections::HashSet;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use prodigy_storage_backend::{ErrorKind, Result, StorageError};
use prodigy_storage_layout::{Entry, JobAddress, Timestamp};
use serde::Deserialize;
use tempfile::SpooledTempFile;

use super::archive::{
    Closing, HEAD, Head, IN_MEMORY, JobName, Line, MANIFEST, Summed, VERSION, WITHOUT_MARKS, json_line,
};
use super::job_of::may_be_archived;
use super::sealed::Sealed;

const READ: &str = "read";
/// The largest length, in bytes, of the first entry and of each line of the manifest except the last.
const LONGEST: u64 = 64 << 10;
/// The largest length of the manifest's closing line, in bytes: it lists the jobs that were deleted during the backup.
const LONGEST_CLOSING: u64 = 64 << 20;

/// A file of an archive.
pub(super) struct Archived {
    pub(super) path: PathBuf,
    pub(super) mode: u32,
    pub(super) modified: Timestamp,
    pub(super) len: u64,
}

/// Receives the files of an archive.
pub(super) trait Receiver {
    /// Receives a file. The caller reads the contents that this method leaves unread.
    fn file(&mut self, file: &Archived, contents: &mut dyn Read) -> Result<()>;
}

/// A receiver for a check without a restore: it leaves all contents unread.
pub(super) struct Nothing;

impl Receiver for Nothing {
    fn file(&mut self, _: &Archived, _: &mut dyn Read) -> Result<()> {
        Ok(())
    }
}

/// The contents of an archive that was read to its end and verified.
#[derive(Clone, Debug)]
pub(super) struct Verified {
    pub(super) head: Head,
    pub(super) closing: Closing,
    /// The number of marks of moved parts.
    pub(super) marks: u64,
    deleted: HashSet<JobName>,
}

impl Verified {
    /// True if a job was deleted while the backup was made: it is not restored, because its data may be incomplete.
    pub(super) fn is_deleted(&self, job: &JobAddress) -> bool {
        !self.deleted.is_empty() && self.deleted.contains(&job.into())
    }
}

/// Reads an archive and passes each file to a receiver. The files are verified only when this function returns: a
/// receiver must be able to discard them.
pub(super) fn read(archive: &mut dyn Read, receiver: &mut dyn Receiver) -> Result<Verified> {
    let mut sealed = Sealed::new(archive);
    let decoder = zstd::Decoder::new(&mut sealed).map_err(no_archive)?;
    let mut tar = tar::Archive::new(decoder);
    let mut computed = SpooledTempFile::new(IN_MEMORY);
    let (mut own, mut marks) = (Closing::default(), 0);
    let (mut head, mut closing, mut newer) = (None::<Head>, None::<Closing>, None);
    for entry in tar.entries().map_err(no_archive)? {
        let mut entry = entry.map_err(|error| match head {
            None => no_archive(error),
            Some(_) => damaged("the archive", "its next entry can't be read", Some(error)),
        })?;
        let archived = archived(&mut entry)?;
        let name = archived.path.display().to_string();
        let fault = |error| damaged(&name, "it can't be read", Some(error));
        if closing.is_some() {
            return Err(damaged(&name, "it comes after the manifest", None));
        }
        if head.is_none() {
            match read_head(&archived, &mut entry) {
                // The version may only seem newer because a byte is damaged. The checksum of the archive decides.
                Err(error) if error.kind() == ErrorKind::NewerFormat => {
                    newer = Some(error);
                    break;
                }
                read => head = Some(read?),
            }
            continue;
        }
        if archived.path == Path::new(MANIFEST) {
            computed.seek(SeekFrom::Start(0)).map_err(fault)?;
            closing = Some(compare(
                &mut BufReader::new(&mut entry),
                &mut BufReader::new(&mut computed),
            )?);
            continue;
        }
        if !may_be_archived(&archived.path) || !entry.header().entry_type().is_file() {
            return Err(damaged(&name, "no backup of a store has such a file", None));
        }
        let mut contents = Summed::new(&mut entry, archived.len);
        receiver
            .file(&archived, &mut contents)
            .map_err(|error| match contents.has_failed() {
                true => damaged(&name, "it can't be read", Some(io::Error::other(error))),
                false => error,
            })?;
        io::copy(&mut contents, &mut io::sink()).map_err(fault)?;
        let line = Line {
            path: name.clone(),
            bytes: archived.len,
            sha256: contents.sha256(),
        };
        computed.write_all(&json_line(&line)?).map_err(fault)?;
        marks += u64::from(matches!(Entry::parse(&archived.path), Some(Entry::Moved(_))));
        own.files += 1;
        own.bytes += archived.len;
    }
    let rest = io::copy(&mut tar.into_inner(), &mut io::sink());
    rest.map_err(|error| damaged("the archive", "its end can't be read", Some(error)))?;
    if !sealed.holds() {
        return Err(damaged(
            "the archive",
            "its checksum does not match, or it was truncated",
            None,
        ));
    }
    if let Some(newer) = newer {
        return Err(newer);
    }
    let (Some(head), Some(closing)) = (head, closing) else {
        return Err(damaged(
            "the archive",
            "it ends before its manifest: it was truncated",
            None,
        ));
    };
    if (closing.files, closing.bytes) != (own.files, own.bytes) {
        return Err(damaged("the archive", "its manifest has other counts", None));
    }
    Ok(Verified {
        deleted: closing.deleted.iter().cloned().collect(),
        head,
        closing,
        marks,
    })
}

fn archived(entry: &mut tar::Entry<'_, impl Read>) -> Result<Archived> {
    let fault = |error| damaged("the archive", "the head of an entry can't be read", Some(error));
    let mut modified = Timestamp::from_nanos(0);
    if let Some(extensions) = entry.pax_extensions().map_err(fault)? {
        for extension in extensions {
            let extension = extension.map_err(fault)?;
            if let (Ok("mtime"), Ok(text)) = (extension.key(), extension.value()) {
                modified = parse_time(text).unwrap_or(modified);
            }
        }
    }
    Ok(Archived {
        path: entry.path().map_err(fault)?.into_owned(),
        mode: entry.header().mode().map_err(fault)?,
        modified,
        len: entry.size(),
    })
}

/// Parses seconds since 1970 with nine decimal places.
fn parse_time(text: &str) -> Option<Timestamp> {
    let (seconds, nanos) = text.split_once('.')?;
    let seconds: i64 = seconds.parse().ok()?;
    let nanos: i64 = nanos.parse().ok().filter(|_| nanos.len() == 9)?;
    Some(Timestamp::from_nanos(
        seconds.checked_mul(1_000_000_000)?.checked_add(nanos)?,
    ))
}

/// The version field of an archive's head, which is in every version of the format.
#[derive(Deserialize)]
struct Version {
    archive: u64,
}

fn read_head(archived: &Archived, entry: &mut dyn Read) -> Result<Head> {
    if archived.path != Path::new(HEAD) {
        return Err(no_archive(io::ErrorKind::InvalidData.into()));
    }
    let mut text = Vec::new();
    entry.take(LONGEST).read_to_end(&mut text).map_err(no_archive)?;
    // Parses only the version first: the head of a later version may have other fields.
    let version: Version = serde_json::from_slice(&text).map_err(|error| no_archive(error.into()))?;
    let found = version.archive;
    if !(WITHOUT_MARKS..=VERSION).contains(&found) {
        let why = format!("the archive has version {found}, this program reads {WITHOUT_MARKS} to {VERSION}");
        return Err(
            StorageError::new(ErrorKind::NewerFormat, READ, "the archive", why)
                .with_hint("use the version that wrote it, or a newer one"),
        );
    }
    serde_json::from_slice(&text).map_err(|error| no_archive(error.into()))
}

/// Compares the manifest with the lines computed from the archive; returns its closing line.
fn compare(manifest: &mut dyn BufRead, computed: &mut dyn BufRead) -> Result<Closing> {
    let fault = |error| damaged(MANIFEST, "it can't be read", Some(error));
    loop {
        let (mut stated, mut found) = (Vec::new(), Vec::new());
        computed.read_until(b'\n', &mut found).map_err(fault)?;
        let longest = if found.is_empty() {
            LONGEST_CLOSING
        } else {
            LONGEST
        };
        manifest
            .take(longest)
            .read_until(b'\n', &mut stated)
            .map_err(fault)?;
        if found.is_empty() {
            return serde_json::from_slice(&stated)
                .map_err(|error| damaged(MANIFEST, "its closing line can't be read", Some(error.into())));
        }
        if stated != found {
            let path =
                serde_json::from_slice(&found).map_or_else(|_| MANIFEST.to_owned(), |line: Line| line.path);
            return Err(damaged(
                &path,
                "its size or checksum differs from the manifest",
                None,
            ));
        }
    }
}

fn no_archive(error: io::Error) -> StorageError {
    StorageError::new(
        ErrorKind::Damaged,
        READ,
        "the archive",
        "it does not begin as an archive of `backup` does",
    )
    .with_hint("name a file that `backup` wrote; if it is one, its beginning is damaged")
    .with_source(error)
}

pub(super) fn damaged(what: &str, why: &'static str, error: Option<io::Error>) -> StorageError {
    let damaged = StorageError::new(ErrorKind::Damaged, READ, what, why)
        .with_hint("the archive is damaged: use another copy of it, or another backup");
    match error {
        Some(error) => damaged.with_source(error),
        None => damaged,
    }
}
