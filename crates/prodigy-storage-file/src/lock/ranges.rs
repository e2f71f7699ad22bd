//! Ranges of fencing tokens, for a lock whose damaged file no longer shows which tokens were issued.
//!
//! Such a lock continues in a new range. A clock can't choose the range, because it may have been set back. Instead, a
//! special lock of the store is taken for each new range, and its token is the number of the range. So each range is
//! above all earlier ranges, and above all tokens of locks that were never damaged.

use prodigy_storage_backend::{Deadline, LockOptions, Result};
use prodigy_storage_layout::LockName;

use super::Locks;

/// The lock whose tokens number the ranges.
const COUNTER: &str = "prodigy-storage/token-ranges";
/// The number of tokens in a range. No lock is ever taken that many times.
const SIZE: u64 = 1 << 40;
/// The start of the first range. It is above all tokens counted from 1, and above the microseconds since 1970, which an
/// earlier version used as tokens after damage.
const FIRST: u64 = 1 << 52;

impl Locks {
    /// The first token of a new range for a damaged lock. The caller holds the kernel's lock on its file.
    pub(super) fn new_range(&self, lock: &LockName, deadline: Deadline) -> Result<u64> {
        if lock.as_str() == COUNTER {
            // The special lock itself gets no range: its tokens continue above the greatest readable one.
            return Ok(0);
        }
        let counter = LockName::new(COUNTER).map_err(|error| {
            prodigy_storage_backend::StorageError::invalid("take lock", COUNTER, error.to_string())
        })?;
        let options = LockOptions::new("a new range of fencing tokens");
        let guard = self.lock(&counter, &options, deadline)?;
        let count = guard.fencing();
        guard.release()?;
        Ok(FIRST.saturating_add(count.saturating_mul(SIZE)))
    }
}
