//! A clock whose time a test sets.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use prodigy_storage_layout::Timestamp;

use crate::clock::{BootId, Clock, Uptime};

/// A clock whose time a test sets, forwards and back. It starts at the beginning of 2026 and does not advance by
/// itself.
#[derive(Debug)]
pub struct ManualClock {
    wall: AtomicI64,
    /// Nanoseconds since the boot.
    uptime: AtomicU64,
    boots: AtomicU64,
}

impl ManualClock {
    /// The time at which the clock starts.
    pub const START: Timestamp = Timestamp::from_millis(1_767_225_600_000);

    /// A clock at [`START`](Self::START).
    #[must_use]
    pub fn new() -> Self {
        Self {
            wall: AtomicI64::new(Self::START.as_nanos()),
            uptime: AtomicU64::new(0),
            boots: AtomicU64::new(1),
        }
    }

    /// Advances the time of day and the time since the boot.
    pub fn advance(&self, by: Duration) {
        let nanos = i64::try_from(by.as_nanos()).unwrap_or(i64::MAX);
        self.wall.fetch_add(nanos, Ordering::SeqCst);
        self.uptime.fetch_add(nanos.unsigned_abs(), Ordering::SeqCst);
    }

    /// Sets the time of day, which may step back. The time since the boot stays as it is.
    pub fn set(&self, time: Timestamp) {
        self.wall.store(time.as_nanos(), Ordering::SeqCst);
    }

    /// Restarts the machine: the time since the boot starts at zero.
    pub fn reboot(&self) {
        self.boots.fetch_add(1, Ordering::SeqCst);
        self.uptime.store(0, Ordering::SeqCst);
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(self.wall.load(Ordering::SeqCst))
    }

    fn uptime(&self) -> Uptime {
        Uptime {
            boot: BootId::from_u128(u128::from(self.boots.load(Ordering::SeqCst))),
            since: Duration::from_nanos(self.uptime.load(Ordering::SeqCst)),
        }
    }
}
