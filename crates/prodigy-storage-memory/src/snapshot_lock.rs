//! The lock on a snapshot, which only one store at a time may write.
#![expect(clippy::disallowed_methods, reason = "the snapshot is a file")]

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use prodigy_storage_backend::{ErrorKind, Result, StorageError};

/// The largest number of bytes that are read of a lock file's text about the holder.
const LONGEST_HOLDER: u64 = 256;

/// The lock on a snapshot. It is held until this value is dropped. The lock file is never removed, since otherwise two
/// processes could hold the lock at the same time.
#[derive(Debug)]
pub(crate) struct SnapshotLock {
    _file: Option<File>,
}

/// The path of the lock file for a snapshot.
fn lock_path(snapshot: &Path) -> PathBuf {
    let mut name = snapshot.as_os_str().to_owned();
    name.push(".lock");
    PathBuf::from(name)
}

impl SnapshotLock {
    /// Takes the lock on a snapshot, whose folder must exist.
    pub(crate) fn take(snapshot: &Path) -> Result<Self> {
        let path = lock_path(snapshot);
        let mut file = open(&path).map_err(|error| super::snapshot::io_error(LOCK, &path, error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(held(&path, &file)),
            // The file system has no locks, so no other store can hold the lock either.
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {
                tracing::warn!(path = %path.display(), "the file system supports no locks: one process only may use the snapshot");
                return Ok(Self { _file: None });
            }
            Err(TryLockError::Error(error)) => {
                return Err(super::snapshot::io_error(LOCK, &path, error));
            }
        }
        // The text only informs: the kernel holds the lock. So a failed write is ignored.
        let _ = file
            .set_len(0)
            .and_then(|()| write!(file, "process {}", std::process::id()));
        Ok(Self { _file: Some(file) })
    }
}

const LOCK: &str = "lock snapshot";

fn open(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::other("it is not a regular file"))
    }
}

fn held(path: &Path, file: &File) -> StorageError {
    let mut holder = String::new();
    let read = file.take(LONGEST_HOLDER).read_to_string(&mut holder);
    if read.is_err() || holder.is_empty() {
        "another process".clone_into(&mut holder);
    }
    let why = format!("{} uses the snapshot", holder.escape_debug());
    StorageError::new(ErrorKind::LockUnavailable, LOCK, path.display(), why)
        .with_hint("wait until it ends, or open the snapshot for reading only")
}
