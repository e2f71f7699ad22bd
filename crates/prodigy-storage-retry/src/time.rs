//! Where the runner takes its time from.

use std::time::{Duration, Instant};

/// A clock that never goes back, and a way to wait on it.
///
/// Tests give one whose `sleep` moves its own `now` and returns at once.
pub trait Time: Send + Sync {
    /// This moment.
    fn now(&self) -> Instant;

    /// Returns once `duration` has passed on this clock, or later.
    fn sleep(&self, duration: Duration);
}

/// The system's monotonic clock; `sleep` blocks the calling thread.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealTime;

impl Time for RealTime {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn sleep(&self, duration: Duration) {
        std::thread::sleep(duration);
    }
}
