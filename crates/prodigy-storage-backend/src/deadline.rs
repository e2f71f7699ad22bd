//! How long a call may take.

use std::time::{Duration, Instant};

use crate::error::{Result, StorageError};

/// The moment by which a call has to end, all its waits and retries counted.
///
/// A system call under way can't be interrupted, so a deadline is checked between steps: it bounds every wait of
/// ours, not the operating system.
///
/// ```
/// use std::time::Duration;
/// use prodigy_storage_backend::Deadline;
///
/// assert!(Deadline::never().remaining().is_none());
/// assert!(Deadline::after(Duration::ZERO).has_passed());
/// assert!(Deadline::after(Duration::from_secs(60)).remaining().is_some());
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Deadline(Option<Instant>);

impl Deadline {
    /// No bound.
    #[must_use]
    pub const fn never() -> Self {
        Self(None)
    }

    /// The deadline after this duration; unbounded if the clock cannot represent it.
    #[must_use]
    pub fn after(timeout: Duration) -> Self {
        Self(Instant::now().checked_add(timeout))
    }

    /// This moment.
    #[must_use]
    pub const fn at(instant: Instant) -> Self {
        Self(Some(instant))
    }

    /// The moment, if there is a bound.
    #[must_use]
    pub const fn instant(self) -> Option<Instant> {
        self.0
    }

    /// The time left, zero when it has passed; `None` without a bound.
    #[must_use]
    pub fn remaining(self) -> Option<Duration> {
        self.0.map(|at| at.saturating_duration_since(Instant::now()))
    }

    /// Whether it has passed.
    #[must_use]
    pub fn has_passed(self) -> bool {
        self.0.is_some_and(|at| Instant::now() >= at)
    }

    /// The earlier of the two.
    #[must_use]
    pub fn min(self, other: Self) -> Self {
        match (self.0, other.0) {
            (Some(a), Some(b)) => Self(Some(a.min(b))),
            (a, b) => Self(a.or(b)),
        }
    }

    /// An error of kind `Timeout` that names what was waited for, if it has passed.
    ///
    /// # Errors
    /// [`ErrorKind::Timeout`](crate::ErrorKind::Timeout) when the deadline has passed.
    pub fn check(
        self,
        operation: &'static str,
        target: &dyn std::fmt::Display,
        waited_for: &str,
    ) -> Result<()> {
        if self.has_passed() {
            return Err(StorageError::timeout(operation, target, waited_for));
        }
        Ok(())
    }
}
