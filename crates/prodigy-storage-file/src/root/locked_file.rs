//! Exclusive locks on files, with a wait that ends at a deadline.
//!
//! The file of a lock that is taken often stays open for up to a second. The next lock on it then needs only one system
//! call for its path, and writes the holder's name only if another process wrote one meanwhile.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use prodigy_storage_backend::{Deadline, Holder, Result};
use prodigy_storage_layout::Timestamp;

use super::Root;
use super::holder::{describe, this_process};
use super::lock_wait::{ANOTHER_THREAD, LockWait};
use super::place::LASTS;
use crate::fs::{FsFile, Metadata, OpenMode};

/// The longest pause between two attempts to take a lock.
const LONGEST_PAUSE: Duration = Duration::from_millis(25);
const HINT: &str = "wait for the holder, or end it: the kernel frees the lock when it dies. Never remove the lock file: two \
                    could hold it then";

/// The largest number of lock files that stay open after the release of their lock.
const KEPT: usize = 64;

/// A mutex for each path. The threads of this process wait for each other here, and not in the kernel.
#[derive(Debug, Default)]
pub(super) struct KeyedMutex {
    locked: Mutex<HashSet<PathBuf>>,
    unlocked: Condvar,
    /// Lock files that stay open after the release of their lock.
    kept: Mutex<HashMap<PathBuf, LockFile>>,
}

/// An open file whose lock is waited for.
type Opened = Box<dyn FsFile>;

/// An open lock file.
#[derive(Debug)]
struct LockFile {
    file: Opened,
    /// Device and inode. No other file can get the same ones while this file is open.
    identity: (u64, u64),
    /// The monotonic time at which the file was opened.
    opened: Duration,
    /// The line that names this process as the holder, as of the opening of the file.
    line: Vec<u8>,
    /// The mtime of the file after this process wrote its line; `None` before that.
    signed: Option<Timestamp>,
}

impl KeyedMutex {
    /// Waits for the mutex of a path. Returns false if the deadline passes first.
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

/// The progress of a thread that waits for a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ahead {
    /// No other thread of this process holds the lock, or is before this thread.
    Next,
    /// Another process holds the lock.
    Waits,
}

/// A lock that is held until this is dropped. The file is not removed: otherwise, two processes could hold the lock.
#[derive(Debug)]
pub(crate) struct LockedFile<'a> {
    root: &'a Root,
    path: PathBuf,
    file: Option<LockFile>,
    /// True if the file stays open for a while after the release of the lock.
    is_kept: bool,
}

impl Drop for LockedFile<'_> {
    fn drop(&mut self) {
        // The kernel's lock is released first. Otherwise, the next thread would find it held and pause needlessly.
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
    /// Takes the lock on a file, which is created if it is missing. With `file_locks` off, on a file system without
    /// locks, only threads of this process exclude each other.
    pub(crate) fn take(
        root: &'r Root,
        path: &Path,
        operation: &'static str,
        purpose: &str,
        deadline: Deadline,
    ) -> Result<Self> {
        Self::take_as(root, path, operation, purpose, deadline, None)
    }

    /// Like [`take`](Self::take), for a lock that is taken often and always for this purpose: its file stays open for a
    /// while. `ahead` does work that does not need the lock. It is called when no other thread of this process is
    /// before this one, and again if another process then holds the lock.
    pub(crate) fn take_often(
        root: &'r Root,
        path: &Path,
        operation: &'static str,
        purpose: &str,
        deadline: Deadline,
        ahead: &mut dyn FnMut(Ahead),
    ) -> Result<Self> {
        Self::take_as(root, path, operation, purpose, deadline, Some(ahead))
    }

    fn take_as(
        root: &'r Root,
        path: &Path,
        operation: &'static str,
        purpose: &str,
        deadline: Deadline,
        mut ahead: Option<&mut dyn FnMut(Ahead)>,
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
            return Err(wait.refused(ANOTHER_THREAD));
        }
        let mut lock = LockedFile {
            root,
            path: path.to_owned(),
            file: None,
            is_kept: ahead.is_some(),
        };
        if let Some(ahead) = &mut ahead {
            ahead(Ahead::Next);
        }
        let fault = |error| root.write_fault(operation, path, error);
        let try_lock = |file: &Opened| root.try_lock(file).map_err(fault);
        let holder = |file: &Opened| describe(&**file, read_holder(&**file).as_ref(), false);
        let kept = root.keyed_mutex.kept.lock().remove(path).filter(|_| lock.is_kept);
        if let Some(mut kept) = kept {
            let is_locked = match try_lock(&kept.file)? {
                false if kept.found(root, path).is_some() => {
                    if let Some(ahead) = &mut ahead {
                        ahead(Ahead::Waits);
                    }
                    wait.lock(&kept.file, try_lock, holder)?;
                    true
                }
                is_locked => is_locked,
            };
            if is_locked && let Some(found) = kept.found(root, path) {
                if kept.signed != Some(found.modified) {
                    kept.sign(&found);
                }
                lock.file = Some(kept);
                return Ok(lock);
            }
        }
        let opened = root.options.clock.monotonic();
        let (file, found) = wait.take(|| root.fs.open(path, OpenMode::Create), try_lock, holder)?;
        let mut file = LockFile {
            file,
            identity: found.identity,
            opened,
            line: line_about_this_process(root, purpose),
            signed: None,
        };
        file.sign(&found);
        lock.file = Some(file);
        Ok(lock)
    }
}

impl LockedFile<'_> {
    /// Removes the line about the holder to free a block of the disk. Errors are ignored.
    pub(crate) fn empty(&self) {
        if let Some(file) = &self.file {
            let _ = file.file.set_len(0);
        }
    }
}

impl LockFile {
    /// The metadata of the file at the path, if it is still this file. `None` if this file was opened a while ago: the
    /// path must then be opened again, since a folder on it may have become a link.
    fn found(&self, root: &Root, path: &Path) -> Option<Metadata> {
        let age = root.options.clock.monotonic().saturating_sub(self.opened);
        let found = root.fs.metadata_by_path(path).ok();
        found.filter(|found| age < LASTS && found.identity == self.identity)
    }

    /// Writes the holder of the lock into its file, unless the file has a second hard link. Such a file may belong to
    /// another user, and may be locked but not overwritten. The text only informs, so errors are ignored.
    fn sign(&mut self, found: &Metadata) {
        if found.links < 2 && self.file.write_all_at(&self.line, 0).is_ok() {
            let len = self.line.len() as u64;
            // Truncates only if the file is longer, since each change of the length adds work to the next sync.
            if found.len > len {
                let _ = self.file.set_len(len);
            }
        }
        self.signed = self.file.metadata().ok().map(|found| found.modified);
    }
}

/// The line that names this process as the holder of a lock from now on.
fn line_about_this_process(root: &Root, purpose: &str) -> Vec<u8> {
    let holder = this_process(root.now(), purpose.to_owned());
    // A holder can always be serialised.
    let mut line = serde_json::to_vec(&holder).unwrap_or_default();
    line.push(b'\n');
    line
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

/// The process that a lock file names as its holder.
pub(super) fn read_holder(file: &dyn FsFile) -> Option<Holder> {
    let bytes = file.read_to_end(0, 64 << 10).ok()?;
    serde_json::Deserializer::from_slice(&bytes)
        .into_iter::<Holder>()
        .next()?
        .ok()
}
