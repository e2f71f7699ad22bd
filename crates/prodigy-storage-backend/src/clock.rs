//! The clocks of a store, injected so that tests can turn them.

use std::fmt;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use prodigy_storage_layout::Timestamp;

/// Tells the time of day.
pub trait Clock: fmt::Debug + Send + Sync {
    /// Now. May step back, stand still or leap: callers make no other assumption.
    fn now(&self) -> Timestamp;

    /// The time since a moment that stays the same while the process lives. It never steps back.
    fn monotonic(&self) -> Duration {
        static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);
        BEGAN.elapsed()
    }
}

/// The clock of the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}
