//! The relaxed writes that the next flush has to sync, except those to logs, which the logs' writers know.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use prodigy_storage_backend::{Deadline, ErrorKind, Result, StorageError};

use super::Root;
use crate::fs::OpenMode;

const FLUSH: &str = "flush";
/// The largest number of stored files, and of stored folders. Any further path is synced at once.
const MOST: usize = 1024;

/// The paths that the next flush has to sync.
#[derive(Debug, Default)]
pub(super) struct Unflushed {
    /// Files that were changed in place.
    files: Mutex<BTreeSet<PathBuf>>,
    /// Folders in which names were added or removed.
    folders: Mutex<BTreeSet<PathBuf>>,
}

impl Unflushed {
    /// Stores a path. Returns false if too many paths are stored.
    fn keep(paths: &Mutex<BTreeSet<PathBuf>>, path: &Path) -> bool {
        let mut paths = paths.lock();
        if paths.contains(path) {
            return true;
        }
        paths.len() < MOST && paths.insert(path.to_owned())
    }
}

impl Root {
    /// True if any relaxed write has not been synced yet.
    pub(crate) fn has_unflushed(&self) -> bool {
        let Unflushed { files, folders } = &self.unflushed;
        !files.lock().is_empty() || !folders.lock().is_empty()
    }

    /// Leaves the sync of the names in a folder to the next flush.
    pub(crate) fn sync_later(&self, folder: &Path) -> Result<()> {
        if Unflushed::keep(&self.unflushed.folders, folder) {
            return Ok(());
        }
        self.flush_folder(folder)
    }

    /// Leaves the sync of a file that was written in place, and of its name, to the next flush.
    pub(crate) fn sync_file_later(&self, path: &Path) -> Result<()> {
        if !Unflushed::keep(&self.unflushed.files, path) {
            self.flush_file(path)?;
        }
        self.sync_later(path.parent().unwrap_or(Path::new("")))
    }

    /// Makes the syncs that were left to this flush. A failed sync is reported once and not repeated, as for a segment.
    pub(crate) fn flush_files(&self, deadline: Deadline) -> Result<()> {
        let mut outcome = Ok(());
        for (paths, files) in [(&self.unflushed.files, true), (&self.unflushed.folders, false)] {
            // Paths are removed one by one, so that the next flush makes the remaining syncs if the deadline passes.
            loop {
                let Some(path) = paths.lock().first().cloned() else {
                    break;
                };
                deadline.check(FLUSH, &self.absolute(&path).display(), "the syncs of other files")?;
                paths.lock().remove(&path);
                let synced = if files {
                    self.flush_file(&path)
                } else {
                    self.flush_folder(&path)
                };
                outcome = outcome.and(synced);
            }
        }
        outcome
    }

    fn flush_file(&self, path: &Path) -> Result<()> {
        let file = match self.fs.open(path, OpenMode::Read) {
            Ok(file) => file,
            // The file was removed since it was written.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(self.unclear(path, self.write_fault(FLUSH, path, error))),
        };
        self.counters.sync(path);
        file.sync_all()
            .map_err(|error| self.unclear(path, self.write_fault(FLUSH, path, error)))
    }

    fn flush_folder(&self, folder: &Path) -> Result<()> {
        match self.fs.metadata(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            _ => self
                .sync_folder(folder)
                .map_err(|error| self.unclear(folder, error)),
        }
    }

    fn unclear(&self, path: &Path, error: StorageError) -> StorageError {
        StorageError::new(
            ErrorKind::OutcomeUnknown,
            FLUSH,
            self.absolute(path).display(),
            "what was written there relaxed could not be synced: it may be gone after a loss of power",
        )
        .with_hint("read it again, and repeat what is missing")
        .with_source(error)
    }
}
