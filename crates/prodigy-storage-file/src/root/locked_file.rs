//! Exclusive locks on files, with a wait that ends at a deadline.
//!
//! The file of a lock that is taken often stays open for up to a second. The next lock on it then needs only one lookup of
//! its path, and signs the file only if another process signed it meanwhile.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use prodigy_storage_backend::{Deadline, Holder, Result};
use prodigy_storage_layout::Timestamp;

use super::Root;
use super::holder::{describe, this_process};
use super::lock_wait::LockWait;
use super::place::LASTS;
use crate::fs::{FsFile, Metadata, OpenMode};

/// The longest pause between two tries at a lock.
const LONGEST_PAUSE: Duration = Duration::from_millis(25);
const HINT: &str = "wait for the holder, or end it: the kernel frees the lock when it dies. Never remove the lock file: two \
                    could hold it then";

/// The largest number of unlocked lock files that stay open.
const KEPT: usize = 64;

/// A keyed mutex: one per path, for the threads of this process. They wait here for each other, and not in the kernel.
#[derive(Debug, Default)]
pub(super) struct KeyedMutex {
    locked: Mutex<HashSet<PathBuf>>,
    unlocked: Condvar,
    /// Open lock files whose lock was released.
    kept: Mutex<HashMap<PathBuf, LockFile>>,
}

/// An open lock file.
#[derive(Debug)]
struct LockFile {
    file: Box<dyn FsFile>,
    /// Device and inode. No other file can get them while this one is open.
    identity: (u64, u64),
    /// The monotonic time at which it was opened.
    opened: Duration,
    /// The mtime of the file after this process signed it.
    signed: Option<Timestamp>,
}

impl KeyedMutex {
    /// False if the deadline passed first.
    fn lock(&self, path: &Path, deadline: Deadline) -> bool {
        let mut locked = self.locked.lock();
        while locked.contains(path) {
            match deadline.instant() {
                None => self.unlocked.wait(&mut locked),
                Some(at) => {
                    if self.unlocked.wait_until(&mut locked, at).timed_out() && locked.contains(path) {
                        return false;
                    }
                }
            }
        }
        locked.insert(path.to_owned())
    }

    fn unlock(&self, path: &Path) {
        self.locked.lock().remove(path);
        self.unlocked.notify_all();
    }

    fn keep(&self, path: &Path, file: LockFile) {
        let mut kept = self.kept.lock();
        if kept.len() >= KEPT
            && let Some(other) = kept.keys().next().cloned()
        {
            kept.remove(&other);
        }
        kept.insert(path.to_owned(), file);
    }
}

/// A lock that is held until it is dropped. The file stays: a lock file that is unlinked can be held twice.
#[derive(Debug)]
pub(crate) struct LockedFile<'a> {
    root: &'a Root,
    path: PathBuf,
    file: Option<LockFile>,
    /// True if the file stays open after the lock is released.
    is_kept: bool,
}

impl Drop for LockedFile<'_> {
    fn drop(&mut self) {
        // Release the kernel's lock first: otherwise the next thread would find it taken, and wait for nothing.
        if let Some(file) = self.file.take()
            && self.is_kept
            && file.file.unlock().is_ok()
        {
            self.root.keyed_mutex.keep(&self.path, file);
        }
        self.root.keyed_mutex.unlock(&self.path);
    }
}

impl<'r> LockedFile<'r> {
    /// Takes the lock on a file, which is created if it is missing. On a file system without locks, with `file_locks` off,
    /// only the threads of this process exclude each other.
    pub(crate) fn take(
        root: &'r Root,
        path: &Path,
        operation: &'static str,
        purpose: &str,
        deadline: Deadline,
    ) -> Result<Self> {
        Self::take_as(root, path, operation, purpose, deadline, false)
    }

    /// Like [`take`](Self::take), for a lock that is taken often and always for this purpose: its file stays open for a while.
    pub(crate) fn take_often(
        root: &'r Root,
        path: &Path,
        operation: &'static str,
        purpose: &str,
        deadline: Deadline,
    ) -> Result<Self> {
        Self::take_as(root, path, operation, purpose, deadline, true)
    }

    fn take_as(
        root: &'r Root,
        path: &Path,
        operation: &'static str,
        purpose: &str,
        deadline: Deadline,
        is_kept: bool,
    ) -> Result<Self> {
        let wait = LockWait {
            root,
            operation,
            path,
            folder: path.parent().unwrap_or(Path::new("")),
            began: Instant::now(),
            deadline,
            longest_pause: LONGEST_PAUSE,
            hint: HINT,
        };
        if !root.keyed_mutex.lock(path, deadline) {
            return Err(wait.refused("another thread of this process"));
        }
        let mut lock = LockedFile {
            root,
            path: path.to_owned(),
            file: None,
            is_kept,
        };
        let fault = |error| root.write_fault(operation, path, error);
        let opened = root.options.clock.monotonic();
        let kept = root.keyed_mutex.kept.lock().remove(path);
        // After this time, open the file by its whole path again: a folder on the path may have become a link.
        let kept = kept.filter(|kept| is_kept && opened.saturating_sub(kept.opened) < LASTS);
        if let Some(mut kept) = kept
            && root.try_lock(&kept.file).map_err(fault)?
            && let Ok(found) = root.fs.metadata_by_path(path)
            && found.identity == kept.identity
        {
            if kept.signed != Some(found.modified) {
                kept.sign(root, &found, purpose);
            }
            lock.file = Some(kept);
            return Ok(lock);
        }
        let (file, found) = wait.take(
            || root.fs.open(path, OpenMode::Create),
            |file| root.try_lock(file).map_err(fault),
            |file| describe(&**file, read_holder(&**file).as_ref(), false),
        )?;
        let mut file = LockFile {
            file,
            identity: found.identity,
            opened,
            signed: None,
        };
        file.sign(root, &found, purpose);
        lock.file = Some(file);
        Ok(lock)
    }
}

impl LockedFile<'_> {
    /// Removes the line about the holder, which takes a block of the disk. Best effort.
    pub(crate) fn empty(&self) {
        if let Some(file) = &self.file {
            let _ = file.file.set_len(0);
        }
    }
}

impl LockFile {
    /// Writes the holder of the lock into its file, except if the file has a hard link: then it may be a file of another
    /// user, which can be locked but must not be overwritten.
    fn sign(&mut self, root: &Root, found: &Metadata, purpose: &str) {
        if found.links < 2 {
            write_holder(root, &*self.file, found.len, purpose);
        }
        self.signed = self.file.metadata().ok().map(|found| found.modified);
    }
}

/// Writes the holder of a lock into its file. The text only informs, so a failure is ignored.
fn write_holder(root: &Root, file: &dyn FsFile, old: u64, purpose: &str) {
    let holder = this_process(root.now(), purpose.to_owned());
    if let Ok(mut text) = serde_json::to_vec(&holder) {
        text.push(b'\n');
        let len = text.len() as u64;
        // Truncate only a longer file: each change of a length adds work to the next sync.
        let _ = file
            .write_all_at(&text, 0)
            .and_then(|()| if old > len { file.set_len(len) } else { Ok(()) });
    }
}

impl Root {
    /// True if a lock file has contents that do not name a holder.
    pub(crate) fn holder_is_unreadable(&self, path: &Path) -> bool {
        let Ok(file) = self.fs.open(path, OpenMode::Read) else {
            return false;
        };
        file.metadata().is_ok_and(|found| found.len > 0) && read_holder(&*file).is_none()
    }
}

/// The process that holds, or held, a lock.
fn read_holder(file: &dyn FsFile) -> Option<Holder> {
    let bytes = file.read_to_end(0, 64 << 10).ok()?;
    serde_json::Deserializer::from_slice(&bytes)
        .into_iter::<Holder>()
        .next()?
        .ok()
}
