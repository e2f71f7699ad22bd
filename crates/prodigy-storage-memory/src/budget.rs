//! The memory that the data takes, and its limit.

use std::fmt::Display;
use std::sync::atomic::{AtomicU64, Ordering};

use prodigy_storage_backend::{ErrorKind, Result, StorageError};

/// The bytes of a record besides its line: its entries in the order of arrival and of ids (vectors double, so each
/// counts twice), and the allocation of the line.
pub(crate) const RECORD_COST: u64 = 144;
/// The bytes of a document besides key and body: tree node, revision, times, allocation.
pub(crate) const DOCUMENT_COST: u64 = 256;
/// The bytes of an item besides key and body: entries by order, key and token, the lease, the fields, allocations.
pub(crate) const ITEM_COST: u64 = 512;
/// The bytes of a lock besides its name: tree node, holder, waiting callers.
pub(crate) const LOCK_COST: u64 = 512;
/// The bytes of an empty job besides its address.
pub(crate) const JOB_COST: u64 = 1024;

/// Counts bytes, and refuses writes over the limit. Aligned to its own cache lines, since every write changes it.
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

    /// Reserves bytes for a write, before it changes anything.
    pub(crate) fn reserve(&self, bytes: u64, operation: &'static str, target: &dyn Display) -> Result<()> {
        self.replace(0, bytes, operation, target)
    }

    /// Reserves the bytes that a write adds to those it frees. A write that adds nothing is never refused.
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

    /// Counts loaded data, even over the limit.
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
