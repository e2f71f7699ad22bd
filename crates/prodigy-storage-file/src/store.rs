//! The base of every part of the file backend: the file system, the options, folders, atomic writes.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use prodigy_storage_backend::{Durability, ErrorKind, Result, Stats, StorageError};
use prodigy_storage_layout::{QUARANTINE, Timestamp};

use crate::document::DurableMarks;
use crate::fault::{Access, fault};
use crate::foreign::Foreign;
use crate::fs::{FileSystem, FsFile, FsFolder, OpenMode, RealFs, TEMP_PREFIX};
use crate::lockfile::KeyedMutex;
use crate::log::Logs;
use crate::log::archive::Archive;
use crate::options::FileOptions;
use crate::queue::Queues;
use crate::unflushed::Unflushed;
use crate::whereabouts::Whereabouts;

/// The counters for [`Stats`](prodigy_storage_backend::Stats).
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) appends: AtomicU64,
    pub(crate) events: AtomicU64,
    pub(crate) appended_bytes: AtomicU64,
    pub(crate) syncs: AtomicU64,
    pub(crate) sealed: AtomicU64,
    pub(crate) compressed: AtomicU64,
    pub(crate) documents: AtomicU64,
    pub(crate) queue_rewrites: AtomicU64,
}

impl Counters {
    /// Adds what was counted.
    pub(crate) fn add_to(&self, stats: &mut Stats) {
        for (name, counter) in [
            ("log.appends", &self.appends),
            ("log.events", &self.events),
            ("log.bytes", &self.appended_bytes),
            ("log.sealed", &self.sealed),
            ("log.compressed", &self.compressed),
            ("file.syncs", &self.syncs),
            ("document.writes", &self.documents),
            ("queue.rewrites", &self.queue_rewrites),
        ] {
            stats.add(name, counter.load(Ordering::Relaxed));
        }
    }
}

impl Counters {
    /// Counts and traces a sync that is about to begin.
    pub(crate) fn sync(&self, path: &Path) {
        count(&self.syncs, 1);
        tracing::trace!(path = %path.display(), "sync");
    }
}

/// Adds to a counter.
pub(crate) fn count(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

/// One root, as all handles of one process on it share it.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) fs: Arc<dyn FileSystem>,
    pub(crate) options: FileOptions,
    pub(crate) counters: Counters,
    /// Turns at what only one thread may do at a time, by lock file.
    pub(crate) keyed_mutex: KeyedMutex,
    pub(crate) queues: Queues,
    pub(crate) logs: Logs,
    pub(crate) archive: Archive,
    pub(crate) unflushed: Unflushed,
    pub(crate) whereabouts: Whereabouts,
    /// The fencing marks that are known to be durable.
    pub(crate) durable_marks: DurableMarks,
    /// The data of other programs that readers skipped.
    pub(crate) foreign: Foreign,
    /// Folders whose names are known to survive power loss, with the inode that was synced.
    durable: Mutex<HashMap<PathBuf, (u64, u64)>>,
    ready: AtomicBool,
    /// The root, locked, so that other processes notice this one.
    pub(crate) root_lock: Mutex<Option<Arc<dyn FsFolder>>>,
}

/// The treatment of an existing file by an atomic write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Replace {
    /// It goes.
    Over,
    /// It stays, and the write fails with `Conflict`.
    Never,
}

impl Store {
    pub(crate) fn new(fs: Arc<dyn FileSystem>, options: FileOptions) -> Self {
        Self {
            fs,
            options,
            counters: Counters::default(),
            keyed_mutex: KeyedMutex::default(),
            queues: Queues::default(),
            logs: Logs::default(),
            archive: Archive::default(),
            durable_marks: DurableMarks::default(),
            foreign: Foreign::default(),
            unflushed: Unflushed::default(),
            whereabouts: Whereabouts::default(),
            durable: Mutex::default(),
            ready: AtomicBool::new(false),
            root_lock: Mutex::default(),
        }
    }

    /// The store below a folder of the operating system.
    pub(crate) fn open(options: FileOptions) -> Self {
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
            crate::root::check_owner(self)?;
            self.fs
                .create_root()
                .map_err(|error| self.write_fault("create root", Path::new(""), error))?;
            crate::root::check(self)?;
            crate::root::write_format(self)?;
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
                .fs
                .metadata(parent)
                .map_err(|error| self.write_fault("sync folder", parent, error))?
                .identity;
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

    fn sync_one(&self, folder: &Path) -> Result<()> {
        self.counters.sync(folder);
        self.fs
            .sync_dir(folder)
            .map_err(|error| self.write_fault("sync folder", folder, error))
    }

    /// A new temporary file in a folder, which is made if it is missing. Its lock is held, so that
    /// [`sweep`](Self::sweep) can tell it from one that a dead writer left.
    pub(crate) fn create_temp(&self, folder: &Path) -> Result<(PathBuf, Box<dyn FsFile>)> {
        loop {
            let path = folder.join(format!("{TEMP_PREFIX}{}", uuid::Uuid::new_v4().simple()));
            let file = match self.fs.open(&path, OpenMode::CreateNew) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    self.make_folder(folder)?;
                    self.fs
                        .open(&path, OpenMode::CreateNew)
                        .map_err(|error| self.write_fault("create file", &path, error))?
                }
                Err(error) => return Err(self.write_fault("create file", &path, error)),
            };
            let locked = self
                .try_lock(&*file)
                .map_err(|error| self.write_fault("lock file", &path, error))?;
            let linked = file
                .metadata()
                .map_err(|error| self.write_fault("create file", &path, error))?
                .links
                > 0;
            // Else a sweeper was quicker, and removes it.
            if locked && linked {
                return Ok((path, file));
            }
        }
    }

    /// Writes a file whole or not at all: temporary file, sync, rename, sync of the folder. A relaxed write leaves
    /// out the sync of the folder only: a loss of power may take the file, and never leaves half of it.
    ///
    /// After the rename the outcome is unknown when the folder can't be synced: `OutcomeUnknown`.
    pub(crate) fn write_atomic(
        &self,
        operation: &'static str,
        path: &Path,
        parts: &[&[u8]],
        replace: Replace,
        durability: Durability,
    ) -> Result<()> {
        let folder = path.parent().unwrap_or(Path::new(""));
        let (temp, file) = self.create_temp(folder)?;
        let written = self.fill_temp(&temp, &*file, parts).and_then(|()| {
            let renamed = match replace {
                Replace::Over => self.fs.rename(&temp, path),
                Replace::Never => self.fs.rename_new(&temp, path),
            };
            renamed.map_err(|error| match error.kind() {
                io::ErrorKind::AlreadyExists => StorageError::new(
                    ErrorKind::Conflict,
                    operation,
                    path.display(),
                    "it exists already",
                ),
                _ => self.write_fault(operation, path, error),
            })
        });
        if let Err(error) = written {
            // Best effort: what stays is swept by the next writer.
            let _ = self.fs.unlink(&temp);
            return Err(error);
        }
        if durability == Durability::Strict {
            self.sync_folder(folder).map_err(|error| {
                StorageError::new(
                    ErrorKind::OutcomeUnknown,
                    operation,
                    path.display(),
                    "it was written, but its folder could not be synced: it may be gone after a loss of power",
                )
                .with_hint("read it again, and repeat the write")
                .with_source(error)
            })
        } else {
            self.sync_later(folder)
        }
    }

    fn fill_temp(&self, temp: &Path, file: &dyn FsFile, parts: &[&[u8]]) -> Result<()> {
        let mut offset = 0;
        for part in parts {
            file.write_all_at(part, offset)
                .map_err(|error| self.write_fault("write file", temp, error))?;
            offset += part.len() as u64;
        }
        self.counters.sync(temp);
        file.sync_all()
            .map_err(|error| self.write_fault("sync file", temp, error))
    }

    /// Removes the temporary files among `names` that dead writers left in a folder. Best effort.
    pub(crate) fn sweep<'a>(&self, folder: &Path, names: impl IntoIterator<Item = &'a str>) {
        for name in names.into_iter().filter(|name| name.starts_with(TEMP_PREFIX)) {
            let path = folder.join(name);
            if let Ok(file) = self.fs.open(&path, OpenMode::Write)
                && matches!(file.try_lock(), Ok(true))
            {
                let _ = self.fs.unlink(&path);
            }
        }
    }

    /// A name in the quarantine that states the place of the bytes.
    pub(crate) fn quarantine_name(&self, path: &Path, offset: u64) -> String {
        let flat = path.to_string_lossy().replace(['/', '\\'], "_");
        // Names are up to 255 bytes; the end of a path says most.
        let tail: String = {
            let mut chars: Vec<char> = flat.chars().rev().take(100).collect();
            chars.reverse();
            while chars.iter().map(|c| c.len_utf8()).sum::<usize>() > 150 {
                chars.remove(0);
            }
            chars.into_iter().collect()
        };
        let random = uuid::Uuid::new_v4().simple().to_string();
        format!(
            "{}-{}-{offset}-{tail}",
            self.now(),
            random.get(..8).unwrap_or_default()
        )
    }

    /// Keeps bytes that must go from their place, under a name that states the place. Durable on return.
    pub(crate) fn quarantine(&self, path: &Path, offset: u64, bytes: &[u8]) -> Result<PathBuf> {
        let kept = Path::new(QUARANTINE).join(self.quarantine_name(path, offset));
        self.write_atomic("quarantine", &kept, &[bytes], Replace::Never, Durability::Strict)?;
        tracing::warn!(from = %path.display(), offset, bytes = bytes.len(), to = %kept.display(), "moved to quarantine");
        Ok(kept)
    }
}
