//! The tokens of a lock whose file is damaged so much that it does not say which tokens it gave out.
//!
//! No clock decides where they continue: it may have stepped back since they were given out. A lock of the store counts such
//! damage. Each time its next token selects a range that no lock ever gave a token of, above every count from 1 and above every
//! range before.

use prodigy_storage_backend::{Deadline, LockOptions, Result};
use prodigy_storage_layout::LockName;

use super::Locks;

/// The lock that counts the ranges.
const COUNTER: &str = "prodigy-storage/token-ranges";
/// The tokens in a range: more than any lock is taken.
const SIZE: u64 = 1 << 40;
/// Above all counts from 1, and above the microseconds since 1970, at which an earlier version went on.
const FIRST: u64 = 1 << 52;

impl Locks {
    /// The first token of a new range for a lock, whose file the caller has locked.
    pub(super) fn new_range(&self, lock: &LockName, deadline: Deadline) -> Result<u64> {
        if lock.as_str() == COUNTER {
            // The count continues behind what can still be read.
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
