//! Reads the bytes of a segment in any form.

use std::io::{self, Read};
#[cfg(feature = "compression")]
use std::path::Path;

use prodigy_storage_backend::{ErrorKind, Result, StorageError};
use prodigy_storage_layout::SegmentForm;

use super::segment_ref::SegmentRef;
use super::tail;
use crate::fs::{FileRead, FsFile, Metadata, OpenMode};
#[cfg(feature = "compression")]
use crate::root::Root;

/// The number of uncompressed bytes that are skipped between two checks of the clock.
const STRETCH: u64 = 16 << 20;

/// Skips the beginning of a segment when it is first read, so that damage there is reported like other damage. Returns
/// `Interrupted` now and then: the caller checks its time limit, and reads again.
struct Skipping {
    inner: Box<dyn Read + Send>,
    left: u64,
}

impl Read for Skipping {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let until = self.left.saturating_sub(STRETCH);
        while self.left > 0 {
            if self.left <= until && until > 0 {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let most = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
            let read = self.inner.read(buffer.get_mut(..most).unwrap_or_default())?;
            if read == 0 {
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "it ends before the position that was read once",
                ));
            }
            self.left -= read as u64;
        }
        self.inner.read(buffer)
    }
}

/// Reads byte by byte, so that all bytes before damage are returned. A larger read that meets damage would return none.
struct Dripping {
    inner: Box<dyn Read + Send>,
    /// The number of bytes still to skip, because they were already read.
    left: u64,
    failed: Option<io::Error>,
}

impl Read for Dripping {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut passed = [0; 4096];
        while self.left > 0 {
            let most = passed.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
            match self.inner.read(passed.get_mut(..most).unwrap_or_default())? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => self.left -= read as u64,
            }
        }
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        let mut filled = 0;
        for place in buffer.chunks_mut(1) {
            match self.inner.read(place) {
                Ok(0) => break,
                Ok(_) => filled += 1,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => break,
                Err(error) if filled > 0 => {
                    self.failed = Some(error);
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }
}

/// Opens a damaged compressed file again, at an offset of the uncompressed data up to which it was read. `None` if it
/// is gone.
pub(crate) fn open_again(
    segment: SegmentRef<'_>,
    form: SegmentForm,
    read: u64,
) -> Result<Option<Box<dyn Read + Send>>> {
    let Some((file, _)) = open_form(segment, form)? else {
        return Ok(None);
    };
    let inner = decode(segment, file, form)?;
    Ok(Some(Box::new(Dripping {
        inner,
        left: read,
        failed: None,
    })))
}

/// A segment that is open for reading.
pub(crate) struct Opened {
    pub(crate) bytes: Box<dyn Read + Send>,
    /// The form that was opened.
    pub(crate) form: SegmentForm,
    /// True if the segment is sealed, so that no writer appends to it.
    pub(crate) sealed: bool,
    /// True if a plain segment ends at the offset at which it was opened, and in the middle of a line.
    pub(crate) is_cut: bool,
    /// The length of a plain segment when it was opened; `None` for a compressed form.
    pub(crate) len: Option<u64>,
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opened")
            .field("form", &self.form)
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}

const FORMS: [SegmentForm; 3] = [SegmentForm::Plain, SegmentForm::Zstd, SegmentForm::Gzip];

/// Opens one form of a segment, without decompression; `None` if it does not exist.
pub(crate) fn open_form(
    segment: SegmentRef<'_>,
    form: SegmentForm,
) -> Result<Option<(Box<dyn FsFile>, Metadata)>> {
    if segment.name.twin_form().is_some_and(|only| only != form) {
        return Ok(None);
    }
    let path = segment.path(form);
    let file = match segment.root.fs.open(&path, OpenMode::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(segment.root.read_fault("open segment", &path, error)),
    };
    let found = file
        .metadata()
        .map_err(|error| segment.root.read_fault("open segment", &path, error))?;
    Ok(Some((file, found)))
}

/// Opens a segment at an offset of the uncompressed data, in the first form that exists: plain, then compressed. `None`
/// if no form exists, because the segment was removed.
pub(crate) fn open(segment: SegmentRef<'_>, offset: u64) -> Result<Option<Opened>> {
    // Tries all forms twice. If a compression ends during the first try, that try may miss both forms; the compressed
    // form is complete before the plain one is removed, so the second try finds it.
    for form in FORMS.into_iter().chain(FORMS) {
        let Some((file, found)) = open_form(segment, form)? else {
            continue;
        };
        return Ok(Some(match form {
            SegmentForm::Plain => Opened {
                sealed: found.is_sealed(),
                is_cut: found.is_sealed()
                    && found.len == offset
                    && !tail::is_whole(&*file, offset).map_err(|error| {
                        segment
                            .root
                            .read_fault("open segment", &segment.path(form), error)
                    })?,
                len: Some(found.len),
                bytes: Box::new(FileRead::new(file, offset)),
                form,
            },
            _ => Opened {
                sealed: true,
                is_cut: false,
                len: None,
                bytes: Box::new(Skipping {
                    inner: decode(segment, file, form)?,
                    left: offset,
                }),
                form,
            },
        }));
    }
    Ok(None)
}

/// The first bytes of a gzip stream (RFC 1952, 2.3.1).
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// The form that a file's first bytes show. The file of another program may be plain text although its name ends in
/// `.gz`.
fn form_of_content(file: &dyn FsFile, form: SegmentForm) -> io::Result<SegmentForm> {
    if form != SegmentForm::Gzip {
        return Ok(form);
    }
    let mut magic = [0; GZIP.len()];
    let read = file.read_full_at(&mut magic, 0)?;
    let is_gzip = magic == GZIP && read == GZIP.len();
    Ok(if is_gzip { form } else { SegmentForm::Plain })
}

#[cfg(feature = "compression")]
pub(crate) fn decode(
    segment: SegmentRef<'_>,
    file: Box<dyn FsFile>,
    form: SegmentForm,
) -> Result<Box<dyn Read + Send>> {
    let path = segment.path(form);
    let fault = |error| segment.root.read_fault("read segment", &path, error);
    let form = form_of_content(&*file, form).map_err(fault)?;
    let start = match form {
        SegmentForm::Zstd => super::archive::frame_start(&*file).map_err(fault)?,
        _ => 0,
    };
    let file = FileRead::new(file, start);
    match form {
        SegmentForm::Zstd => {
            let decoder = zstd::stream::read::Decoder::new(file).and_then(|mut decoder| {
                // Level 3 needs a window of 2 MiB. The limit of 8 MiB bounds the memory that a hostile file can make
                // this process use.
                decoder.window_log_max(23)?;
                Ok(decoder)
            });
            Ok(Box::new(
                decoder.map_err(|error| undecodable(segment.root, &path, error))?,
            ))
        }
        SegmentForm::Gzip => Ok(Box::new(flate2::read::MultiGzDecoder::new(io::BufReader::new(
            file,
        )))),
        _ => Ok(Box::new(file)),
    }
}

#[cfg(not(feature = "compression"))]
pub(crate) fn decode(
    segment: SegmentRef<'_>,
    file: Box<dyn FsFile>,
    form: SegmentForm,
) -> Result<Box<dyn Read + Send>> {
    let path = segment.path(form);
    let fault = |error| segment.root.read_fault("read segment", &path, error);
    let form = form_of_content(&*file, form).map_err(fault)?;
    if form == SegmentForm::Plain {
        return Ok(Box::new(FileRead::new(file, 0)));
    }
    Err(StorageError::new(
        ErrorKind::Unsupported,
        "read segment",
        segment.root.absolute(&path).display(),
        "it is compressed, and this build can't read that",
    )
    .with_hint("build with the feature `compression`"))
}

/// The error for a compressed segment that can't be decompressed.
#[cfg(feature = "compression")]
pub(crate) fn undecodable(root: &Root, path: &Path, error: io::Error) -> StorageError {
    StorageError::new(
        ErrorKind::Damaged,
        "read segment",
        root.absolute(path).display(),
        "it does not decompress",
    )
    .with_hint("all events before the damage were returned; keep the file, and compare it with a backup")
    .with_source(error)
}
