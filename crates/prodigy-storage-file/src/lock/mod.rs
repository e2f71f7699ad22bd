//! Named locks between processes.
//!
//! The kernel's lock on the file decides who holds a named lock. It excludes other processes and other handles of the same
//! process, and ends when the last descriptor with the lock is closed. The holder's name in the file only informs. The
//! fencing token in the file is part of the guarantee: it survives power loss before a guard is returned ([`slots`]).
//!
//! A listing takes no lock, so it never delays a process that takes one ([`listing`]).

mod guard;
mod listing;
mod origin;
mod ranges;
mod slots;

#[cfg(test)]
mod tests;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use prodigy_storage_backend::{Deadline, ErrorKind, Holder, LockGuard, LockOptions, Result, StorageError};
use prodigy_storage_layout::{Entry, LockName, Part};

use crate::fs::{FsFile, OpenMode};
use crate::root::holder::{describe, this_process};
use crate::root::{LockWait, Root, has_no_locks};
use guard::FileGuard;
pub(crate) use guard::HELD;
use slots::{Slots, State};

const LOCK: &str = "take lock";
const LONGEST_PAUSE: Duration = Duration::from_millis(25);

/// The named locks of a root.
#[derive(Debug)]
pub(crate) struct Locks {
    root: Arc<Root>,
    /// The number of guards that exist in this process.
    held: Arc<AtomicUsize>,
}

impl Locks {
    pub(crate) fn new(root: Arc<Root>) -> Self {
        Self {
            root,
            held: Arc::default(),
        }
    }

    /// True if this process holds a named lock of this root.
    pub(crate) fn is_any_held(&self) -> bool {
        self.held.load(Ordering::Acquire) > 0
    }

    /// Implements [`LockStore::lock`](prodigy_storage_backend::LockStore::lock). The token is always synced, even in a
    /// relaxed store.
    pub(crate) fn lock(
        &self,
        name: &LockName,
        options: &LockOptions,
        deadline: Deadline,
    ) -> Result<Box<dyn LockGuard>> {
        self.lock_above(name, options, 0, deadline)
    }

    /// Takes a lock with a token above `above` and above all earlier tokens.
    pub(crate) fn lock_above(
        &self,
        name: &LockName,
        options: &LockOptions,
        above: u64,
        deadline: Deadline,
    ) -> Result<Box<dyn LockGuard>> {
        let path = Entry::Lock(name.clone()).path();
        self.root.prepare_write(LOCK, &path.display())?;
        self.root.refuse_moved(LOCK, &Part::of_lock(name))?;
        let began = options.since.unwrap_or_else(Instant::now);
        let file = self.acquire(&path, began, deadline)?;
        let holder = this_process(self.root.now(), options.purpose.clone());
        let fencing = self.next_token(name, &path, &*file, &holder, above, deadline)?;
        Ok(Box::new(FileGuard::new(
            Arc::clone(&self.root),
            Arc::clone(&self.held),
            name.clone(),
            path,
            file,
            holder,
            fencing,
        )))
    }

    /// Opens and locks the lock file. Waits for the lock until the deadline.
    fn acquire(&self, path: &Path, began: Instant, deadline: Deadline) -> Result<Box<dyn FsFile>> {
        let wait = LockWait {
            root: &self.root,
            operation: LOCK,
            path,
            folder: path.parent().unwrap_or(Path::new("")),
            began,
            deadline,
            longest_pause: LONGEST_PAUSE,
            hint: "wait for the holder, or end it: the kernel frees the lock when it dies. Never remove the lock file: two \
                   could hold it then, and its fencing tokens would begin again",
        };
        let (file, found) = wait.take(
            || self.root.fs.open(path, OpenMode::Create),
            |file| {
                file.try_lock().map_err(|error| match has_no_locks(&error) {
                    true => self.no_named_locks(path, error),
                    false => self.root.write_fault(LOCK, path, error),
                })
            },
            |file| holder_of(&**file),
        )?;
        match found.links {
            0 | 1 => Ok(file),
            _ => Err(self.has_second_name(path)),
        }
    }

    fn no_named_locks(&self, path: &Path, error: io::Error) -> StorageError {
        let why = "a named lock is a lock of the operating system on a file, and this file system has none";
        StorageError::new(
            ErrorKind::Unsupported,
            LOCK,
            self.root.absolute(path).display(),
            why,
        )
        .with_hint("use a local disk; or set `enable_locking: false`, if nothing else runs at the same time")
        .with_source(error)
    }

    /// The reason why the contents of a lock file are doubtful; `None` if all of them verify. Takes no lock.
    pub(crate) fn why_suspect(&self, path: &Path) -> Result<Option<&'static str>> {
        let fault = |error| self.root.read_fault("examine lock", path, error);
        let file = self.root.fs.open(path, OpenMode::Read).map_err(fault)?;
        Ok(Slots::read(&*file).map_err(fault)?.why_suspect())
    }

    /// The error for a lock file with a second name (a hard link). The store would write tokens to it, and it may be
    /// another user's file.
    fn has_second_name(&self, path: &Path) -> StorageError {
        StorageError::new(
            ErrorKind::Refused,
            LOCK,
            self.root.absolute(path).display(),
            "the lock file has a second name (a hard link), and what it leads to is not written to",
        )
        .with_hint(
            "find out who made it (`find -samefile`) and remove the other name; back the root up with copies, not \
             with hard links",
        )
    }

    /// Writes the next token and the holder to the file. On return, they survive power loss, and so do the name of the
    /// file and the folders above it.
    fn next_token(
        &self,
        name: &LockName,
        path: &Path,
        file: &dyn FsFile,
        holder: &Holder,
        above: u64,
        deadline: Deadline,
    ) -> Result<u64> {
        let fault = |error| self.root.write_fault(LOCK, path, error);
        // A holder that was killed may not have synced its slot, which has the greatest token. So this syncs the file
        // first.
        self.root.counters.sync(path);
        file.sync().map_err(fault)?;
        let slots = Slots::read(file).map_err(fault)?;
        let range = match slots.needs_range() {
            true => self.new_range(name, deadline)?,
            false => 0,
        };
        let next = slots.next_token(range);
        let next = next.and_then(|next| Some(next.max(above.checked_add(1)?)));
        let fencing = next.ok_or_else(|| {
            StorageError::new(
                ErrorKind::Damaged,
                LOCK,
                self.root.absolute(path).display(),
                "its fencing token is the greatest possible one",
            )
            .with_hint("nothing counts that far: find out what wrote to the file")
        })?;
        if slots.is_damaged() {
            tracing::warn!(path = %path.display(), fencing, "a lock file was damaged; its fencing tokens continue from here");
        }
        let signed = slots
            .sign(file, fencing, holder)
            .map_err(fault)
            .and_then(|()| {
                self.root.counters.sync(path);
                file.sync_all().map_err(fault)
            })
            .and_then(|()| self.root.sync_folder(path.parent().unwrap_or(Path::new(""))));
        if let Err(error) = signed {
            // It is unknown whether the slot reached the disk. It is overwritten, so that it does not verify.
            let _ = slots.blank(file);
            return Err(error);
        }
        if slots.has_gap() || above > 0 {
            // The slot that was just synced has the greatest token, so it is now safe to overwrite the other slot.
            self.root.counters.sync(path);
            slots
                .close_gap(file, fencing, holder)
                .and_then(|()| file.sync_all())
                .map_err(fault)?;
        }
        Ok(fencing)
    }
}

/// Describes, for an error message, the process that holds the lock on a file.
fn holder_of(file: &dyn FsFile) -> String {
    let record = Slots::read(file).ok().and_then(Slots::into_record);
    // After a release, the lock may be held by a process that inherited it, or by a new holder that has not written its
    // name yet.
    let released = record
        .as_ref()
        .is_some_and(|record| record.state == State::Released);
    describe(file, record.as_ref().map(|record| &record.holder), released)
}
