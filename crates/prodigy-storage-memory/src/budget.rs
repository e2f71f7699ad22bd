//! Counts the memory that the data uses, and enforces its limit.

use std::fmt::Display;
use std::sync::atomic::{AtomicU64, Ordering};

use prodigy_storage_backend::{ErrorKind, Result, StorageError};

/// The number of bytes that a record uses besides its line: its entries in the orders of arrival and of ids (counted
/// twice, since vectors double their capacity), and the allocation of the line.
pub(crate) const RECORD_COST: u64 = 144;
/// The number of bytes that a document uses besides its key and body: tree node, revision, times, and allocation.
pub(crate) const DOCUMENT_COST: u64 = 256;
/// The number of bytes that an item uses besides its key and body: entries by order, key and token, the lease, the
/// parsed fields, and allocations.
pub(crate) const ITEM_COST: u64 = 512;
/// The number of bytes that a lock uses besides its name: tree node, holder, and waiting callers.
pub(crate) const LOCK_COST: u64 = 512;
/// The number of bytes that an empty job uses besides its address.
pub(crate) const JOB_COST: u64 = 1024;

/// Counts bytes, and refuses writes above the limit. It is aligned so that no other value shares its cache lines, since
/// every write changes it.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Budget {
    used: AtomicU64,
    max: u64,
}

impl Budget {
    pub(crate) fn new(max: u64) -> Self {
        Self {
            used: AtomicU64::new(0),
            max,
        }
    }

    pub(crate) fn used(&self) -> u64 {
        self.used.load(Ordering::Acquire)
    }

    pub(crate) fn max(&self) -> u64 {
        self.max
    }

    pub(crate) fn free(&self) -> u64 {
        self.max.saturating_sub(self.used())
    }

    /// Reserves bytes for a write. Called before the write changes anything.
    pub(crate) fn reserve(&self, bytes: u64, operation: &'static str, target: &dyn Display) -> Result<()> {
        self.replace(0, bytes, operation, target)
    }

    /// Reserves the bytes that a write adds, less those that it frees. A write that adds nothing is never refused.
    pub(crate) fn replace(
        &self,
        old: u64,
        new: u64,
        operation: &'static str,
        target: &dyn Display,
    ) -> Result<()> {
        if new <= old {
            self.release(old - new);
            return Ok(());
        }
        let more = new - old;
        let reserved = self
            .used
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |used| {
                used.checked_add(more).filter(|&after| after <= self.max)
            });
        match reserved {
            Ok(_) => Ok(()),
            Err(used) => Err(StorageError::new(
                ErrorKind::DiskFull,
                operation,
                target,
                format!(
                    "the memory backend holds {used} of at most {} bytes, and this takes {more} more",
                    self.max
                ),
            )
            .with_hint(
                "nothing of it was stored; raise `max_memory`, remove checkpoints or items, or use the file backend",
            )),
        }
    }

    /// Counts loaded data, even above the limit.
    pub(crate) fn force(&self, bytes: u64) {
        self.used.fetch_add(bytes, Ordering::AcqRel);
    }

    pub(crate) fn release(&self, bytes: u64) {
        let _ = self
            .used
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |used| {
                Some(used.saturating_sub(bytes))
            });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_exact_and_shrinking_is_never_refused() {
        let budget = Budget::new(100);
        budget.reserve(100, "test", &"").unwrap();
        let error = budget.reserve(1, "test", &"x").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DiskFull);
        assert!(error.to_string().contains("100 of at most 100 bytes"), "{error}");
        budget.force(50);
        budget.replace(30, 10, "test", &"").unwrap();
        assert_eq!(budget.used(), 130);
        assert_eq!(
            budget.reserve(u64::MAX, "test", &"").unwrap_err().kind(),
            ErrorKind::DiskFull
        );
        budget.release(1000);
        assert_eq!((budget.used(), budget.free()), (0, 100));
    }
}
