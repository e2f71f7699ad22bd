//! Counts the leases that this process has taken and not settled.

use std::time::Duration;

use parking_lot::Mutex;

/// The number of leases of this process that would be lost with the root.
#[derive(Debug, Default)]
pub(crate) struct Leases(Mutex<Taken>);

#[derive(Debug, Default)]
struct Taken {
    count: usize,
    /// The monotonic time at which the last one of these leases ends.
    until: Duration,
}

impl Leases {
    /// Adds this number of leases, which end at the monotonic time `until`.
    pub(crate) fn taken(&self, count: usize, until: Duration) {
        if count > 0 {
            let mut taken = self.0.lock();
            taken.count += count;
            taken.until = taken.until.max(until);
        }
    }

    /// Subtracts this number of settled leases.
    pub(crate) fn settled(&self, count: usize) {
        let mut taken = self.0.lock();
        taken.count = taken.count.saturating_sub(count);
        if taken.count == 0 {
            taken.until = Duration::ZERO;
        }
    }

    /// True if any lease is still in force at the monotonic time `now`.
    pub(crate) fn last_at(&self, now: Duration) -> bool {
        let taken = self.0.lock();
        taken.count > 0 && taken.until > now
    }
}
