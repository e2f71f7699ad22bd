//! Temporary folders outside of a store. Those of processes that were killed are removed by the next one that needs one.
#![expect(clippy::disallowed_methods, reason = "these folders are not in a store")]

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, SystemTime};

use prodigy_storage_backend::{ErrorKind, Result, StorageError};
use tempfile::TempDir;

const PREFIX: &str = "prodigy-storage-";
/// The file in a temporary folder that its process keeps locked.
const LOCK: &str = "lock";
/// A lock file is made before it is locked. One that is younger than this is not examined.
const YOUNG: Duration = Duration::from_secs(60);

/// A folder that is removed when the value is dropped.
#[derive(Debug)]
pub(crate) struct TemporaryFolder {
    folder: TempDir,
    _lock: File,
}

impl TemporaryFolder {
    /// Makes a folder, and removes those that dead processes left.
    pub(crate) fn make(operation: &'static str) -> Result<Self> {
        let parent = std::env::temp_dir();
        sweep(&parent);
        Self::make_in(&parent).map_err(|error| {
            let why = "no temporary folder can be made";
            StorageError::new(ErrorKind::Io, operation, Path::new("$TMPDIR").display(), why)
                .with_hint("set TMPDIR to a folder with room for the job")
                .with_source(error)
        })
    }

    fn make_in(parent: &Path) -> std::io::Result<Self> {
        let folder = tempfile::Builder::new().prefix(PREFIX).tempdir_in(parent)?;
        let lock = File::create_new(folder.path().join(LOCK))?;
        lock.lock()?;
        Ok(Self { folder, _lock: lock })
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// Removes the temporary folders whose process has ended. Failures are ignored: the next sweep tries again.
fn sweep(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let is_ours = entry
            .file_name()
            .to_str()
            .is_some_and(|name| name.starts_with(PREFIX));
        if is_ours && entry.file_type().is_ok_and(|kind| kind.is_dir()) && is_left(&entry.path().join(LOCK)) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// True if the lock file has been there for a while, and nobody has locked it.
fn is_left(lock: &Path) -> bool {
    // Another user may have put a pipe there, which would never open.
    if !fs::symlink_metadata(lock).is_ok_and(|found| found.is_file()) {
        return false;
    }
    let Ok(lock) = File::open(lock) else { return false };
    let made = lock.metadata().and_then(|found| found.modified());
    let age = made.map(|made| SystemTime::now().duration_since(made).unwrap_or_default());
    age.is_ok_and(|age| age > YOUNG) && lock.try_lock().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_dead_processes_left_is_swept() {
        let parent = tempfile::tempdir().unwrap();
        let old = SystemTime::now() - Duration::from_secs(3_600);
        let make = |age: SystemTime| {
            let made = TemporaryFolder::make_in(parent.path()).unwrap();
            File::options()
                .write(true)
                .open(made.path().join(LOCK))
                .unwrap()
                .set_modified(age)
                .unwrap();
            made
        };
        let (living, dead, young) = (make(old), make(old), make(SystemTime::now()));
        let [dead, young] = [dead, young].map(|killed| killed.folder.keep());
        let other = parent.path().join("prodigy-storage-of-another");
        fs::create_dir(&other).unwrap();
        sweep(parent.path());
        assert!(!dead.exists());
        for kept in [living.path(), &young, &other] {
            assert!(kept.exists(), "{}", kept.display());
        }
    }
}
