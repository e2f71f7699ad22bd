//! The clock of the runner.

use std::time::{Duration, Instant};

/// A monotonic clock, with a function that waits.
///
/// Tests use a clock whose `sleep` advances `now` and returns at once.
///
/// ```
/// use std::sync::Arc;
/// use std::time::{Duration, Instant};
/// use parking_lot::Mutex;
/// use prodigy_storage_retry::{Retry, RetrySettings, Time};
///
/// /// A clock that each sleep advances.
/// struct TestTime(Mutex<Instant>);
///
/// impl Time for TestTime {
///     fn now(&self) -> Instant {
///         *self.0.lock()
///     }
///
///     fn sleep(&self, duration: Duration) {
///         *self.0.lock() += duration;
///     }
/// }
///
/// let retry = Retry::new(RetrySettings::default()).with_time(Arc::new(TestTime(Mutex::new(Instant::now()))));
/// let failure = retry.run(None, |_| true, |_| {}, |_| Err::<(), _>("no answer")).unwrap_err();
/// assert!(failure.elapsed > Duration::from_secs(1)); // the test itself did not wait
/// ```
pub trait Time: Send + Sync {
    /// The present time.
    fn now(&self) -> Instant;

    /// Blocks until at least `duration` has passed on this clock.
    fn sleep(&self, duration: Duration);
}

/// The system's monotonic clock; `sleep` blocks the calling thread.
///
/// ```
/// use std::sync::Arc;
/// use prodigy_storage_retry::{RealTime, Retry, RetrySettings};
///
/// // The same as `Retry::new` alone.
/// let retry = Retry::new(RetrySettings::default()).with_time(Arc::new(RealTime));
/// # let _ = retry;
/// ```
#[derive(Debug, Clone, Copy, Default)]
#[expect(clippy::exhaustive_structs, reason = "a unit, written as a value")]
pub struct RealTime;

impl Time for RealTime {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn sleep(&self, duration: Duration) {
        std::thread::sleep(duration);
    }
}
