//! The queue's file written anew, with some items changed.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use prodigy_storage_backend::{Deadline, Durability, ErrorKind, Result, StorageError};

use super::CLOSING;
use super::known::{Known, STRIDE};
use super::line::{self, Seal, TRAILER};
use super::scan::{Scanner, Unit};
use crate::fs::{FsFile, OpenMode};
use crate::store::{Store, count};

/// Bytes written at once.
const CHUNK: usize = 256 << 10;
/// Bytes that go to one file of the quarantine, at most.
const PIECE: u64 = 64 << 20;

/// What becomes of an item, by its offset in the file.
#[derive(Debug)]
pub(super) enum Change {
    /// It goes.
    Drop,
    /// This line takes its place.
    Line(Vec<u8>),
}

/// All that one rewrite does. What is not named here is copied byte for byte.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) items: HashMap<u64, Change>,
    /// Lines for the end.
    pub(super) added: Vec<Vec<u8>>,
    /// Whether what is damaged was copied to the quarantine already.
    pub(super) kept: bool,
}

impl Changes {
    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty() && self.added.is_empty()
    }
}

struct Output<'a> {
    file: &'a dyn FsFile,
    offset: u64,
    buffer: Vec<u8>,
    any: bool,
}

impl Output<'_> {
    fn line(&mut self, line: &[u8]) -> std::io::Result<()> {
        self.buffer
            .extend_from_slice(if self.any { b",\n" } else { b"\n" });
        self.buffer.extend_from_slice(line);
        self.any = true;
        if self.buffer.len() >= CHUNK {
            self.flush()
        } else {
            Ok(())
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.write_all_at(&self.buffer, self.offset)?;
        self.offset += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

impl Store {
    /// Writes the queue anew: temporary file, sync, rename, sync of the folder. Damaged bytes go to `quarantine/`.
    /// Gives what is known of the new file. Under the queue's lock.
    pub(super) fn queue_rewrite(
        &self,
        operation: &'static str,
        path: &Path,
        known: &Known,
        changes: Changes,
        durability: Durability,
        deadline: Deadline,
    ) -> Result<Known> {
        let folder = path.parent().unwrap_or(Path::new(""));
        let (temp, file) = self.create_temp(folder)?;
        let done = self
            .fill(operation, path, &temp, &*file, known, changes, deadline)
            .and_then(|made| {
                // Also where the change is relaxed: it goes in the place of what may have been stored strictly.
                self.counters.sync(&temp);
                file.sync_all()
                    .map_err(|error| self.write_fault(operation, &temp, error))?;
                deadline.check(operation, &path.display(), "the queue to be rewritten")?;
                self.fs
                    .rename(&temp, path)
                    .map_err(|error| self.write_fault(operation, path, error))?;
                Ok(made)
            });
        drop(file);
        let mut made = match done {
            Ok(made) => made,
            Err(error) => {
                // Best effort: what stays is swept by the next writer.
                let _ = self.fs.unlink(&temp);
                return Err(error);
            }
        };
        count(&self.counters.queue_rewrites, 1);
        tracing::debug!(path = %path.display(), bytes = made.len, "queue rewritten");
        if durability == Durability::Strict {
            self.sync_folder(folder)
                .map_err(|error| unknown(self, operation, path, "its folder could not be synced", error))?;
            made.linked = true;
        } else {
            self.sync_later(folder)?;
        }
        Ok(made)
    }

    #[expect(clippy::too_many_arguments, reason = "the one half of the function above")]
    fn fill(
        &self,
        operation: &'static str,
        path: &Path,
        temp: &Path,
        file: &dyn FsFile,
        known: &Known,
        mut changes: Changes,
        deadline: Deadline,
    ) -> Result<Known> {
        let read = |error| self.write_fault(operation, path, error);
        let write = |error| self.write_fault(operation, temp, error);
        let mut hashes = HashSet::with_capacity(known.hashes.len() + changes.added.len());
        let mut out = Output {
            file,
            offset: 0,
            buffer: vec![b'['],
            any: false,
        };
        let limit = self.options.max_record_size;
        let mut scanner = Scanner::new(Arc::clone(&known.file), limit).map_err(read)?;
        let mut units = 0;
        while let Some(unit) = scanner.next().map_err(read)? {
            units += 1;
            if units % STRIDE == 0 {
                deadline.check(operation, &path.display(), "the queue to be rewritten")?;
            }
            match unit {
                Unit::Item { start, range, seal } => {
                    let stored = scanner.bytes(range);
                    let mended;
                    let line = match changes.items.get(&start) {
                        Some(Change::Drop) => continue,
                        Some(Change::Line(line)) => line.as_slice(),
                        None if seal == Seal::Framed => {
                            mended = resealed(stored);
                            mended.as_slice()
                        }
                        None => stored,
                    };
                    if let Some(id) = line::id(line) {
                        hashes.insert(self.queues.hash(&id));
                    }
                    out.line(line).map_err(write)?;
                }
                Unit::Damage { .. } if changes.kept => {}
                Unit::Damage { mut start, end, .. } => {
                    // In pieces: neighbouring damage is one, however much it is.
                    while start < end {
                        let piece = (end - start).min(PIECE);
                        let mut bytes = vec![0; piece as usize];
                        let len = known.file.read_full_at(&mut bytes, start).map_err(read)?;
                        bytes.truncate(len);
                        self.quarantine(path, start, &bytes)?;
                        start += piece;
                    }
                }
            }
        }
        for line in changes.added.drain(..) {
            if let Some(id) = line::id(&line) {
                hashes.insert(self.queues.hash(&id));
            }
            out.line(&line).map_err(write)?;
        }
        let end = out.offset + out.buffer.len() as u64;
        out.buffer.extend_from_slice(CLOSING);
        out.flush().map_err(write)?;
        // A descriptor without the temporary file's lock.
        let file: Arc<dyn FsFile> = self.fs.open(temp, OpenMode::Write).map_err(write)?.into();
        Ok(Known {
            identity: file.metadata().map_err(write)?.identity,
            file,
            end,
            len: end + CLOSING.len() as u64,
            any: out.any,
            plain: true,
            hashes,
            linked: false,
            synced: true,
        })
    }
}

/// A line whose checksum holds, with a new frame around it.
fn resealed(line: &[u8]) -> Vec<u8> {
    let mut out = line
        .get(..line.len().saturating_sub(TRAILER))
        .unwrap_or_default()
        .to_vec();
    prodigy_storage_backend::record::seal_line(&mut out, 0);
    out
}

/// A write whose fate can't be told.
pub(super) fn unknown(
    store: &Store,
    operation: &'static str,
    path: &Path,
    why: &str,
    error: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> StorageError {
    StorageError::new(
        ErrorKind::OutcomeUnknown,
        operation,
        store.absolute(path).display(),
        format!("it was written, but {why}: it may be there, and it may be gone after a loss of power"),
    )
    .with_hint("read the items again, and repeat the call; the file is opened afresh and checked")
    .with_source(error)
}
