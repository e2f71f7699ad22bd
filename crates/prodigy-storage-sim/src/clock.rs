//! A clock that steps on by itself.

use std::sync::atomic::{AtomicI64, Ordering};

use prodigy_storage_backend::Clock;
use prodigy_storage_layout::Timestamp;

/// When simulated time begins, in nanoseconds since 1970.
pub const START: i64 = 1_800_000_000_000_000_000;
/// How far each look at the clock moves it on, in nanoseconds.
const STEP: i64 = 1_000;

/// Tells a time that is a microsecond later at each look: the same run sees the same times.
#[derive(Debug)]
pub struct SimClock(AtomicI64);

impl SimClock {
    /// A clock that shows this time at the first look.
    #[must_use]
    pub fn at(time: Timestamp) -> Self {
        Self(AtomicI64::new(time.as_nanos()))
    }

    /// Moves it on, or back.
    pub fn turn(&self, nanos: i64) {
        self.0.fetch_add(nanos, Ordering::Relaxed);
    }

    /// What it shows, without moving it on.
    #[must_use]
    pub fn shown(&self) -> Timestamp {
        Timestamp::from_nanos(self.0.load(Ordering::Relaxed))
    }
}

impl Default for SimClock {
    fn default() -> Self {
        Self::at(Timestamp::from_nanos(START))
    }
}

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(self.0.fetch_add(STEP, Ordering::Relaxed))
    }
}
