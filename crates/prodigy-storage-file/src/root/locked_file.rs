//! Exclusive locks on files, waited for until a deadline.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use prodigy_storage_backend::{Deadline, Holder, Result};

use super::Root;
use super::holder::{describe, this_process};
use super::lock_wait::LockWait;
use crate::fs::{FsFile, OpenMode};

/// The longest pause between two tries at a lock.
const LONGEST_PAUSE: Duration = Duration::from_millis(25);
const HINT: &str = "wait for the holder, or end it: the kernel frees the lock when it dies. Never remove the lock file: two \
                    could hold it then";

/// A mutex per path within this process: its threads wait here for each other, and not in the kernel.
#[derive(Debug, Default)]
pub(super) struct KeyedMutex {
    locked: Mutex<HashSet<PathBuf>>,
    unlocked: Condvar,
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
}

/// A lock that is held until it is dropped. The file stays: a lock file that is unlinked can be held twice.
#[derive(Debug)]
pub(crate) struct LockedFile<'a> {
    root: &'a Root,
    path: PathBuf,
    file: Option<Box<dyn FsFile>>,
}

impl Drop for LockedFile<'_> {
    fn drop(&mut self) {
        // The kernel's lock first, else the next thread would find it taken and wait a pause for nothing.
        self.file = None;
        self.root.keyed_mutex.unlock(&self.path);
    }
}

impl<'r> LockedFile<'r> {
    /// Takes the lock on a file, which is made if it is missing. Where the file system has no locks and the user promised a
    /// single process, only the threads of this process are kept apart.
    pub(crate) fn take(
        root: &'r Root,
        path: &Path,
        operation: &'static str,
        purpose: &str,
        deadline: Deadline,
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
        };
        let (file, found) = wait.take(
            || root.fs.open(path, OpenMode::Create),
            |file| {
                root.try_lock(file)
                    .map_err(|error| root.write_fault(operation, path, error))
            },
            |file| describe(&**file, read_holder(&**file).as_ref(), false),
        )?;
        // One with a second name may be a file of somebody else: it locks as well, and is not written to.
        if found.links < 2 {
            write_holder(root, &*file, purpose);
        }
        lock.file = Some(file);
        Ok(lock)
    }
}

/// Writes who holds a lock into its file: information only, so a failure changes nothing.
fn write_holder(root: &Root, file: &dyn FsFile, purpose: &str) {
    let holder = this_process(root.now(), purpose.to_owned());
    if let Ok(mut text) = serde_json::to_vec(&holder) {
        text.push(b'\n');
        let len = text.len() as u64;
        // Only where there is something to cut: it is one more change for the next sync to carry.
        let is_longer = file.metadata().map_or(true, |found| found.len > len);
        let _ = file
            .write_all_at(&text, 0)
            .and_then(|()| if is_longer { file.set_len(len) } else { Ok(()) });
    }
}

impl Root {
    /// Whether a lock file that holds a line about its last holder holds something else.
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
