//! The origin of a fencing token: its store, its lock and its holder.
//!
//! A root restored from a backup has old lock files, and a root that was created again has none: both issue the same
//! numbers a second time. So a token also identifies its origin: the store, and the time at which its holder took the
//! lock. The lock file names the two newest holders. A token of any older holder is out of date.

use std::fmt;
use std::io;

use prodigy_storage_backend::{ErrorKind, Fence, Holder, LockOrigin, Result, StorageError, record};
use prodigy_storage_layout::{Entry, LockName};

use super::Locks;
use super::slots::Slots;
use crate::fs::OpenMode;
use crate::root::Root;

const AFRESH: &str = "stop, or take the lock again and read afresh";

/// The origin of a token that a holder received.
pub(super) fn origin(root: &Root, lock: &LockName, token: u64, holder: &Holder) -> LockOrigin {
    let taking = format!("{lock}\n{token}\n{}\n{}", holder.pid, holder.since.as_nanos());
    LockOrigin::new(store_sum(root), record::checksum(taking.as_bytes()))
}

fn store_sum(root: &Root) -> u32 {
    record::checksum(root.name().unwrap_or_default().as_bytes())
}

impl Locks {
    /// Refuses a token if this store did not issue it, or if its holder is not among the two newest. A token given as a
    /// bare number has no origin and is accepted.
    pub(crate) fn check_origin(
        &self,
        operation: &'static str,
        target: impl fmt::Display,
        fence: &Fence,
    ) -> Result<()> {
        // A token with an origin always has the name of its lock.
        let (Some(origin), Some(lock)) = (fence.origin(), fence.lock()) else {
            return Ok(());
        };
        let refused =
            |why: String| StorageError::new(ErrorKind::Fenced, operation, target, why).with_hint(AFRESH);
        if origin.store() != store_sum(&self.root) {
            return Err(refused(format!(
                "the fencing token {fence} comes from another store: the root was created again since, or is another one"
            )));
        }
        let Some(slots) = self.slots_of(operation, lock)? else {
            return Err(refused(format!(
                "the fencing token {fence} comes from a lock file that is gone: it was removed, or the root was restored"
            )));
        };
        match slots.holder(fence.token()) {
            Some(holder) if self::origin(&self.root, lock, fence.token(), holder) == origin => Ok(()),
            // The slot of this token's holder may be the damaged one, so the token is accepted.
            None if slots.is_damaged() => Ok(()),
            None if slots.fencing() > fence.token() => Err(refused(format!(
                "the lock of the fencing token {fence} was taken by others since; the newest token is {}",
                slots.fencing()
            ))),
            _ => Err(refused(format!(
                "the fencing token {fence} was not given out by this lock file: the root was restored from an older copy, \
                 or the lock file was removed"
            ))),
        }
    }

    /// Replaces the hint of a fencing error if no newer holder exists: the lock then issues tokens that begin again at
    /// a low number.
    pub(crate) fn explain_fenced(&self, error: StorageError, fence: &Fence) -> StorageError {
        if error.kind() != ErrorKind::Fenced {
            return error;
        }
        match fence.lock().map(|lock| (lock, self.newest_token(lock))) {
            Some((lock, Ok(newest))) if newest <= fence.token() => error.with_hint(format!(
                "no newer holder took the lock {lock}: its lock file was removed or restored, so its tokens began again below \
                 the mark of the job; `prodigy-storage doctor --repair` raises them above the mark, or says what to do where it can't; \
                 then take the lock again"
            )),
            _ => error,
        }
    }

    /// The newest token of a lock; 0 if the lock has no file. Takes no lock.
    pub(crate) fn newest_token(&self, lock: &LockName) -> Result<u64> {
        let slots = self.slots_of("examine lock", lock)?;
        Ok(slots.map_or(0, |slots| slots.fencing()))
    }

    fn slots_of(&self, operation: &'static str, lock: &LockName) -> Result<Option<Slots>> {
        let path = Entry::Lock(lock.clone()).path();
        let fault = |error| self.root.read_fault(operation, &path, error);
        match self.root.fs.open(&path, OpenMode::Read) {
            Ok(file) => Slots::read(&*file).map(Some).map_err(fault),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(fault(error)),
        }
    }
}
