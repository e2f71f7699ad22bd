//! Writes whole files: a temporary file, a sync, and a rename. The backend writes all whole files in this way.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use prodigy_storage_backend::{Durability, ErrorKind, Result, StorageError};

use super::Root;
use crate::fs::{FsFile, OpenMode, TEMP_PREFIX};

/// The effect of writing a file whose name exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Replace {
    /// The new file replaces the existing one.
    Over,
    /// The existing file remains, and the write fails with `Conflict`.
    Never,
}

/// A new file with a temporary name. Its lock is held, so that [`sweep`](Self::sweep) does not take it for the file of
/// a dead writer. It is removed if it is dropped before it was published.
#[derive(Debug)]
pub(crate) struct TempFile<'r> {
    root: &'r Root,
    operation: &'static str,
    path: PathBuf,
    file: Box<dyn FsFile>,
    /// The offset at which the next append is written.
    len: u64,
    published: bool,
}

impl<'r> TempFile<'r> {
    /// Creates a temporary file in a folder, which is created if it is missing.
    pub(crate) fn create(root: &'r Root, operation: &'static str, folder: &Path) -> Result<Self> {
        loop {
            let path = folder.join(format!("{TEMP_PREFIX}{}", uuid::Uuid::new_v4().simple()));
            let fault = |error| root.write_fault(operation, &path, error);
            let file = root
                .open_in(folder, || root.fs.open(&path, OpenMode::CreateNew))?
                .map_err(fault)?;
            let locked = root.try_lock(&file).map_err(fault)?;
            let linked = file.metadata().map_err(fault)?.links > 0;
            // Otherwise, a sweep has locked and removed the file, so the loop tries again with a new name.
            if locked && linked {
                return Ok(Self {
                    root,
                    operation,
                    path,
                    file,
                    len: 0,
                    published: false,
                });
            }
        }
    }

    /// Writes a file atomically: temporary file, sync, rename, sync of the folder. A relaxed write leaves the sync of
    /// the folder to the next flush: a power loss may then undo the whole write, but never leaves half of a file.
    ///
    /// Fails with `OutcomeUnknown` if the folder can't be synced after the rename.
    pub(crate) fn write_whole(
        root: &Root,
        operation: &'static str,
        path: &Path,
        parts: &[&[u8]],
        replace: Replace,
        durability: Durability,
    ) -> Result<()> {
        let folder = path.parent().unwrap_or(Path::new(""));
        let mut temp = TempFile::create(root, operation, folder)?;
        for part in parts {
            temp.append(part).map_err(|error| temp.fault(error))?;
        }
        temp.publish(path, replace)?;
        if durability == Durability::Relaxed {
            return root.sync_later(folder);
        }
        root.sync_folder(folder).map_err(|error| {
            StorageError::new(
                ErrorKind::OutcomeUnknown,
                operation,
                path.display(),
                "it was written, but its folder could not be synced: it may be gone after a loss of power",
            )
            .with_hint("read it again, and repeat the write")
            .with_source(error)
        })
    }

    /// The open file, for writes at given offsets.
    pub(crate) fn file(&self) -> &dyn FsFile {
        &*self.file
    }

    /// Converts an I/O error of a write to this file.
    pub(crate) fn fault(&self, error: io::Error) -> StorageError {
        self.root.write_fault(self.operation, &self.path, error)
    }

    /// Writes bytes after those of the earlier appends.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, self.len)?;
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// Syncs the file and renames it to `path`, in the same folder. The new name survives power loss once the folder is
    /// synced. The lock is held until this value is dropped.
    pub(crate) fn publish(&mut self, path: &Path, replace: Replace) -> Result<()> {
        self.root.counters.sync(&self.path);
        self.file.sync_all().map_err(|error| self.fault(error))?;
        let renamed = match replace {
            Replace::Over => self.root.fs.rename(&self.path, path),
            Replace::Never => self.root.fs.rename_new(&self.path, path),
        };
        renamed.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => StorageError::new(
                ErrorKind::Conflict,
                self.operation,
                path.display(),
                "it exists already",
            ),
            _ => self.root.write_fault(self.operation, path, error),
        })?;
        self.published = true;
        Ok(())
    }

    /// Removes the temporary files among `names` that dead writers left in a folder. Failures are ignored.
    pub(crate) fn sweep<'a>(root: &Root, folder: &Path, names: impl IntoIterator<Item = &'a str>) {
        for name in names.into_iter().filter(|name| name.starts_with(TEMP_PREFIX)) {
            let path = folder.join(name);
            if let Ok(file) = root.fs.open(&path, OpenMode::Write)
                && matches!(file.try_lock(), Ok(true))
            {
                let _ = root.fs.unlink(&path);
            }
        }
    }

    /// Like [`sweep`](Self::sweep), for all names in a folder.
    pub(crate) fn sweep_all(root: &Root, folder: &Path) {
        if let Ok(names) = root.fs.list(folder) {
            Self::sweep(root, folder, names.iter().map(|entry| entry.name.as_str()));
        }
    }
}

impl Write for TempFile<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write_at(bytes, self.len)?;
        self.len += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for TempFile<'_> {
    fn drop(&mut self) {
        if !self.published {
            // Errors are ignored: a later sweep removes the file.
            let _ = self.root.fs.unlink(&self.path);
        }
    }
}
