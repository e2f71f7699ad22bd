//! How long a call may take.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::error::{Result, StorageError};

/// The moment by which a call has to end, all its waits and retries counted.
///
/// A system call under way can't be interrupted, so a deadline is checked between steps: it bounds every wait of
/// ours, not the operating system.
///
/// ```
/// use std::sync::atomic::{AtomicBool, Ordering};
/// use std::time::Duration;
/// use prodigy_storage_backend::Deadline;
///
/// assert!(Deadline::never().remaining().is_none());
/// assert!(Deadline::after(Duration::ZERO).has_passed());
/// assert!(Deadline::after(Duration::from_secs(60)).remaining().is_some());
///
/// static ASKED_TO_END: AtomicBool = AtomicBool::new(false);
/// let deadline = Deadline::never().or_when(&ASKED_TO_END);
/// ASKED_TO_END.store(true, Ordering::Relaxed);
/// assert!(deadline.is_interrupted());
/// assert!(!Deadline::never().or_when(&ASKED_TO_END).is_interrupted());
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    at: Option<Instant>,
    interrupt: Option<&'static AtomicBool>,
}

impl Deadline {
    /// No bound.
    #[must_use]
    pub const fn never() -> Self {
        Self {
            at: None,
            interrupt: None,
        }
    }

    /// The deadline after this duration; unbounded if the clock cannot represent it.
    #[must_use]
    pub fn after(timeout: Duration) -> Self {
        Self {
            at: Instant::now().checked_add(timeout),
            interrupt: None,
        }
    }

    /// This moment.
    #[must_use]
    pub const fn at(instant: Instant) -> Self {
        Self {
            at: Some(instant),
            interrupt: None,
        }
    }

    /// The same deadline, whose waits for other processes also end when the flag is raised, as a handler of signals does. A flag
    /// that is raised already ends none of them: what a program stores because it was asked to end is not given up.
    #[must_use]
    pub fn or_when(self, raised: &'static AtomicBool) -> Self {
        Self {
            interrupt: Some(raised).filter(|flag| !flag.load(Ordering::Relaxed)),
            ..self
        }
    }

    /// Whether the flag of [`or_when`](Self::or_when) was raised since.
    #[must_use]
    pub fn is_interrupted(self) -> bool {
        self.interrupt.is_some_and(|flag| flag.load(Ordering::Relaxed))
    }

    /// The moment, if there is a bound.
    #[must_use]
    pub const fn instant(self) -> Option<Instant> {
        self.at
    }

    /// The time left, zero when it has passed; `None` without a bound.
    #[must_use]
    pub fn remaining(self) -> Option<Duration> {
        self.at.map(|at| at.saturating_duration_since(Instant::now()))
    }

    /// Whether it has passed.
    #[must_use]
    pub fn has_passed(self) -> bool {
        self.at.is_some_and(|at| Instant::now() >= at)
    }

    /// The earlier of the two.
    #[must_use]
    pub fn min(self, other: Self) -> Self {
        Self {
            at: match (self.at, other.at) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            },
            interrupt: self.interrupt.or(other.interrupt),
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
