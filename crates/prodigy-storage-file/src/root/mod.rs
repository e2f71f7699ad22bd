//! The open folder of a store: the base of every part of the file backend.
//!
//! [`Root`] has the file system, the options and the syncs of folders. A file in it is written whole by a [`TempFile`], locked
//! by a [`LockedFile`], and moved out of the way by the [`Quarantine`]. No module here knows what the files mean.

mod check;
mod counters;
mod deletion;
mod exposure;
mod fault;
mod format;
mod health;
pub(crate) mod holder;
mod lock_wait;
mod locked_file;
mod network;
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

use crate::fs::{DirEntry, FileSystem, FsFolder, RealFs};
use counters::Counters;
use fault::{Access, fault};
use locked_file::KeyedMutex;
use place::Whereabouts;
use unflushed::Unflushed;

pub(crate) use check::{check, check_owner, check_place, enter, foreign_owner, is_of_this_machine};
pub(crate) use counters::count;
pub(crate) use deletion::deleted;
pub(crate) use format::{FORMAT, format_text, read_format};
#[cfg(feature = "backup")]
pub(crate) use format::{restoring_text, unfinished_restore};
pub(crate) use health::health;
pub(crate) use lock_wait::{LockNow, LockWait, has_no_locks};
pub(crate) use locked_file::LockedFile;
pub use options::FileOptions;
pub(crate) use place::{LASTS, Look};
pub(crate) use quarantine::Quarantine;
pub(crate) use store_name::salvage as salvage_name;
pub(crate) use temp_file::{Replace, TempFile};
pub(crate) use usage::usage;

/// Device and inode of a folder, and when it was made: another process may remove a folder, and make another one that gets
/// the same inode.
pub(crate) type FolderId = ((u64, u64), Option<Timestamp>);

/// One root, as all handles of one process on it share it.
#[derive(Debug)]
pub(crate) struct Root {
    pub(crate) fs: Arc<dyn FileSystem>,
    pub(crate) options: FileOptions,
    pub(crate) counters: Counters,
    /// Turns at what only one thread may do at a time, by lock file.
    keyed_mutex: KeyedMutex,
    unflushed: Unflushed,
    whereabouts: Whereabouts,
    /// The data of other programs that readers skipped.
    pub(crate) foreign: Foreign,
    /// Folders whose names are known to survive power loss, with the folder that was synced.
    durable: Mutex<HashMap<PathBuf, FolderId>>,
    ready: AtomicBool,
    /// The root, locked, so that other processes notice this one.
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

    /// The root in a folder of the operating system.
    pub(crate) fn open(options: FileOptions) -> Arc<Self> {
        let fs = RealFs::reached_by(options.given.clone(), options.root.clone());
        Self::new(Arc::new(fs), options)
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.options.clock.now()
    }

    /// The absolute path, for messages and for what leaves the library.
    pub(crate) fn absolute(&self, path: &Path) -> PathBuf {
        if path.as_os_str().is_empty() {
            return self.options.root.clone();
        }
        self.options.root.join(path)
    }

    /// An error of a read.
    pub(crate) fn read_fault(&self, operation: &'static str, path: &Path, error: io::Error) -> StorageError {
        fault(self, operation, path, error, Access::Read)
    }

    /// An error of a write.
    pub(crate) fn write_fault(&self, operation: &'static str, path: &Path, error: io::Error) -> StorageError {
        fault(self, operation, path, error, Access::Write)
    }

    /// Refuses a write through a handle that only reads; before the first write, makes the root and `format.json`.
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

    /// Makes a folder and what is missing above it.
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

    /// Makes the names in a folder survive power loss, and those of the folder and everything above it, of any process.
    /// A name that this process synced before is not synced again, except those in the folder itself.
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
            // The name of a folder is an entry of the one above it.
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

    /// Which folder a path leads to.
    pub(crate) fn folder_id(&self, path: &Path) -> io::Result<FolderId> {
        Ok((self.fs.metadata(path)?.identity, self.fs.born(path)?))
    }

    fn sync_one(&self, folder: &Path) -> Result<()> {
        self.counters.sync(folder);
        self.fs
            .sync_dir(folder)
            .map_err(|error| self.write_fault("sync folder", folder, error))
    }

    /// The names in a folder; none where it is absent.
    pub(crate) fn names_in(&self, operation: &'static str, folder: &Path) -> Result<Vec<DirEntry>> {
        match self.fs.list(folder) {
            Ok(entries) => Ok(entries),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(self.read_fault(operation, folder, error)),
        }
    }

    /// A folder, for looking at what is in it; `None` where it is absent.
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
