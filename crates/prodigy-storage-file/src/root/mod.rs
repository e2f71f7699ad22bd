//! The root of a store, with everything that the other modules need to read and write files in it.
//!
//! [`Root`] has the file system, the options and the syncs of folders. A [`TempFile`] writes a whole file, a
//! [`LockedFile`] is a lock on a file, and the [`Quarantine`] keeps copies of damaged bytes. No module here depends on
//! the contents of files.

mod check;
mod contents;
mod counters;
mod deletion;
mod displaced;
mod exposure;
mod fault;
mod format;
mod health;
mod held;
pub(crate) mod holder;
mod imported;
mod in_the_way;
mod lock_wait;
mod locked_file;
mod misplaced;
mod move_mark;
mod network;
mod no_store;
mod options;
mod place;
mod quarantine;
mod store_name;
mod temp_file;
mod unflushed;
mod usage;

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use prodigy_storage_backend::{ErrorKind, Foreign, Result, StorageError};
use prodigy_storage_layout::Timestamp;

use crate::fs::{DirEntry, FileKind, FileSystem, FsFolder, OpenMode, RealFs};
use counters::Counters;
use fault::{Access, fault};
use locked_file::KeyedMutex;
use place::Whereabouts;
use unflushed::Unflushed;

pub(crate) use check::{check, check_owner, check_place, enter, foreign_owner, is_of_this_machine};
pub(crate) use contents::{CHECKSUM, has_checksum, is_text, is_zstd};
pub(crate) use counters::count;
pub(crate) use deletion::deleted;
pub(crate) use displaced::{Displaced, displaced, is_folder};
pub(crate) use fault::io_cause;
pub(crate) use format::{FORMAT, format_text, read_format};
#[cfg(feature = "backup")]
pub(crate) use format::{WRITTEN_BY, restoring_text, unfinished_restore};
pub(crate) use health::{failure, health};
pub(crate) use imported::{AsImported, Imported};
pub(crate) use in_the_way::InTheWay;
pub(crate) use lock_wait::{LockNow, LockWait, has_no_locks};
pub(crate) use locked_file::{Ahead, LockedFile};
pub(crate) use misplaced::is_misplaced;
#[cfg(feature = "backup")]
pub(crate) use move_mark::{moved_in, moved_text};
pub(crate) use no_store::{is_no_store, is_of_user};
pub use options::FileOptions;
pub(crate) use place::{LASTS, Look};
pub(crate) use quarantine::Quarantine;
pub(crate) use store_name::salvage as salvage_name;
pub(crate) use temp_file::{Replace, TempFile};
pub(crate) use usage::{bytes_below, usage};

/// Device and inode of a folder, and its creation time if the file system stores it. The time distinguishes it from a
/// removed folder with the same inode.
pub(crate) type FolderId = ((u64, u64), Option<Timestamp>);

/// An open root. All handles of this process with the same path and options share it.
#[derive(Debug)]
pub(crate) struct Root {
    pub(crate) fs: Arc<dyn FileSystem>,
    pub(crate) options: FileOptions,
    pub(crate) counters: Counters,
    /// Mutexes between the threads of this process, one for each lock file.
    keyed_mutex: KeyedMutex,
    unflushed: Unflushed,
    whereabouts: Whereabouts,
    /// Counts of the data of other programs that readers skipped.
    pub(crate) foreign: Foreign,
    /// The folders whose names this process has synced, each with its identity at that time.
    durable: Mutex<HashMap<PathBuf, FolderId>>,
    ready: AtomicBool,
    /// The lock on the root's folder, which other processes notice.
    root_lock: Mutex<Option<Arc<dyn FsFolder>>>,
}

impl Root {
    pub(crate) fn new(fs: Arc<dyn FileSystem>, options: FileOptions) -> Arc<Self> {
        Arc::new(Self {
            fs,
            options,
            counters: Counters::default(),
            keyed_mutex: KeyedMutex::default(),
            foreign: Foreign::default(),
            unflushed: Unflushed::default(),
            whereabouts: Whereabouts::default(),
            durable: Mutex::default(),
            ready: AtomicBool::new(false),
            root_lock: Mutex::default(),
        })
    }

    /// Opens a root on the real file system.
    pub(crate) fn open(options: FileOptions) -> Arc<Self> {
        let fs = RealFs::reached_by(options.given.clone(), options.root.clone());
        Self::new(Arc::new(fs), options)
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.options.clock.now()
    }

    /// The absolute form of a path relative to the root, for messages and for callers of the library.
    pub(crate) fn absolute(&self, path: &Path) -> PathBuf {
        if path.as_os_str().is_empty() {
            return self.options.root.clone();
        }
        self.options.root.join(path)
    }

    /// Converts an I/O error of a read to an error of this library.
    pub(crate) fn read_fault(&self, operation: &'static str, path: &Path, error: io::Error) -> StorageError {
        fault(self, operation, path, error, Access::Read)
    }

    /// Converts an I/O error of a write to an error of this library.
    pub(crate) fn write_fault(&self, operation: &'static str, path: &Path, error: io::Error) -> StorageError {
        fault(self, operation, path, error, Access::Write)
    }

    /// Fails for a read-only handle. Before the first write, checks the root, and creates it and `format.json` if they
    /// are missing.
    pub(crate) fn prepare_write(
        &self,
        operation: &'static str,
        target: &dyn std::fmt::Display,
    ) -> Result<()> {
        if self.options.read_only {
            return Err(StorageError::new(
                ErrorKind::ReadOnly,
                operation,
                target,
                "this handle was opened for reading only",
            )
            .with_hint("open the storage for writing"));
        }
        if !self.ready.load(Ordering::Acquire) {
            check_owner(self)?;
            self.fs
                .create_root()
                .map_err(|error| self.write_fault("create root", Path::new(""), error))?;
            check(self)?;
            format::write_format(self)?;
            self.ready.store(true, Ordering::Release);
        }
        Ok(())
    }

    /// Creates a folder, and the missing folders above it.
    pub(crate) fn make_folder(&self, folder: &Path) -> Result<()> {
        match self.fs.create_dir(folder) {
            Ok(()) => {
                self.durable.lock().remove(folder);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                match folder.parent() {
                    Some(parent) if !parent.as_os_str().is_empty() => self.make_folder(parent)?,
                    _ => self
                        .fs
                        .create_root()
                        .map_err(|error| self.write_fault("create root", folder, error))?,
                }
                match self.fs.create_dir(folder) {
                    Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                        Err(self.write_fault("create folder", folder, error))
                    }
                    _ => {
                        self.durable.lock().remove(folder);
                        Ok(())
                    }
                }
            }
            Err(error) => Err(self.write_fault("create folder", folder, error)),
        }
    }

    /// Makes the names in a folder survive power loss, and the names of the folder and of all folders above it,
    /// whichever process created them. Always syncs the folder itself. Syncs a folder above it only if this process has
    /// not yet synced the name in it.
    pub(crate) fn sync_folder(&self, folder: &Path) -> Result<()> {
        if !cfg!(any(target_os = "linux", target_os = "macos")) {
            return Err(StorageError::new(
                ErrorKind::Unsupported,
                "sync folder",
                self.absolute(folder).display(),
                "what it takes to survive power loss is not known for this platform",
            )
            .with_hint("set `durability: relaxed`"));
        }
        self.sync_one(folder)?;
        for parent in folder.ancestors() {
            let identity = self
                .folder_id(parent)
                .map_err(|error| self.write_fault("sync folder", parent, error))?;
            if self.durable.lock().get(parent) == Some(&identity) {
                break;
            }
            // The name of a folder is stored in the folder above it.
            match parent.parent() {
                Some(above) => self.sync_one(above)?,
                None => {
                    self.counters.sync(parent);
                    self.fs
                        .sync_above_root()
                        .map_err(|error| self.write_fault("sync folder", parent, error))?;
                }
            }
            self.durable.lock().insert(parent.to_owned(), identity);
        }
        Ok(())
    }

    /// The identity of the folder that a path leads to.
    pub(crate) fn folder_id(&self, path: &Path) -> io::Result<FolderId> {
        Ok((self.fs.metadata(path)?.identity, self.fs.born(path)?))
    }

    fn sync_one(&self, folder: &Path) -> Result<()> {
        self.counters.sync(folder);
        self.fs
            .sync_dir(folder)
            .map_err(|error| self.write_fault("sync folder", folder, error))
    }

    /// The entries of a folder; empty if the folder is absent.
    pub(crate) fn names_in(&self, operation: &'static str, folder: &Path) -> Result<Vec<DirEntry>> {
        match self.fs.list(folder) {
            Ok(entries) => Ok(entries),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(self.read_fault(operation, folder, error)),
        }
    }

    /// The names of the folders within a folder in which only folders belong. Anything else, such as a link in place of
    /// a folder, is counted as skipped.
    pub(crate) fn folders_in(
        &self,
        operation: &'static str,
        folder: &Path,
    ) -> Result<impl Iterator<Item = String>> {
        let (folders, others): (Vec<_>, Vec<_>) = self
            .names_in(operation, folder)?
            .into_iter()
            .partition(|entry| entry.kind == FileKind::Folder);
        for entry in others {
            self.pass_over(&folder.join(&entry.name), entry.kind);
        }
        Ok(folders.into_iter().map(|entry| entry.name))
    }

    /// Calls `show` with each name in a folder and its kind, without collecting them. Does nothing if the folder is
    /// absent.
    pub(crate) fn each_name(
        &self,
        operation: &'static str,
        folder: &Path,
        show: &mut dyn FnMut(&str, FileKind),
    ) -> Result<()> {
        let Some(opened) = self.open_folder(operation, folder)? else {
            return Ok(());
        };
        opened
            .names(show)
            .map_err(|error| self.read_fault(operation, folder, error))
    }

    /// The contents of a file; `None` if it is absent. Fails if it has more than `most` bytes.
    pub(crate) fn read_small(
        &self,
        operation: &'static str,
        path: &Path,
        most: u64,
    ) -> Result<Option<Vec<u8>>> {
        let file = self.fs.open(path, OpenMode::Read);
        match file.and_then(|file| file.read_to_end(0, most)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.read_fault(operation, path, error)),
        }
    }

    /// Removes a file. Returns false if it is absent.
    pub(crate) fn unlink(&self, operation: &'static str, path: &Path) -> Result<bool> {
        match self.fs.unlink(path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(self.write_fault(operation, path, error)),
        }
    }

    /// Opens a folder to read its entries; `None` if it is absent.
    pub(crate) fn open_folder(
        &self,
        operation: &'static str,
        path: &Path,
    ) -> Result<Option<Box<dyn FsFolder>>> {
        match self.fs.folder(path) {
            Ok(folder) => Ok(Some(folder)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.read_fault(operation, path, error)),
        }
    }
}
