//! The leases that this process took and has not settled.

use std::time::Duration;

use parking_lot::Mutex;

/// Counts the leases of this process, which would be lost with the root.
#[derive(Debug, Default)]
pub(crate) struct Leases(Mutex<Taken>);

#[derive(Debug, Default)]
struct Taken {
    count: usize,
    /// The monotonic time at which the last of them ends.
    until: Duration,
}

impl Leases {
    /// Adds leases that end at a monotonic time.
    pub(crate) fn taken(&self, count: usize, until: Duration) {
        if count > 0 {
            let mut taken = self.0.lock();
            taken.count += count;
            taken.until = taken.until.max(until);
        }
    }

    /// Subtracts leases that were settled.
    pub(crate) fn settled(&self, count: usize) {
        let mut taken = self.0.lock();
        taken.count = taken.count.saturating_sub(count);
        if taken.count == 0 {
            taken.until = Duration::ZERO;
        }
    }

    /// True if a lease lasts at a monotonic time.
    pub(crate) fn last_at(&self, now: Duration) -> bool {
        let taken = self.0.lock();
        taken.count > 0 && taken.until > now
    }
}
