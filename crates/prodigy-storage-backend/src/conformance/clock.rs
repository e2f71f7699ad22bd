//! A clock that a test moves.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use prodigy_storage_layout::Timestamp;

use crate::clock::{BootId, Clock, Uptime};

/// A clock that a test turns, forwards and back. It begins at the start of 2026 and does not advance by itself.
#[derive(Debug)]
pub struct ManualClock {
    wall: AtomicI64,
    /// Nanoseconds since the boot.
    uptime: AtomicU64,
    boots: AtomicU64,
}

impl ManualClock {
    /// Where it begins.
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

    /// Lets time pass: the time of day and the time since the boot advance.
    pub fn advance(&self, by: Duration) {
        let nanos = i64::try_from(by.as_nanos()).unwrap_or(i64::MAX);
        self.wall.fetch_add(nanos, Ordering::SeqCst);
        self.uptime.fetch_add(nanos.unsigned_abs(), Ordering::SeqCst);
    }

    /// Sets the time of day, which may lie before the present one. No time passes.
    pub fn set(&self, time: Timestamp) {
        self.wall.store(time.as_nanos(), Ordering::SeqCst);
    }

    /// Restarts the machine: the time since the boot begins at zero.
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
