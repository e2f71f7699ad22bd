//! The deadline of a call.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::error::{Result, StorageError};

/// The moment by which a call has to end, including all waits and retries.
///
/// A running system call can't be interrupted, so a deadline is checked between steps. It bounds every wait of
/// this library, but not the time of a single system call.
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
    announce: Option<fn(&str)>,
}

impl Deadline {
    /// No deadline.
    #[must_use]
    pub const fn never() -> Self {
        Self {
            at: None,
            interrupt: None,
            announce: None,
        }
    }

    /// The deadline after this duration; no deadline if the clock can't represent it.
    #[must_use]
    pub fn after(timeout: Duration) -> Self {
        Self {
            at: Instant::now().checked_add(timeout),
            interrupt: None,
            announce: None,
        }
    }

    /// A deadline at this moment.
    #[must_use]
    pub const fn at(instant: Instant) -> Self {
        Self {
            at: Some(instant),
            interrupt: None,
            announce: None,
        }
    }

    /// The same deadline, but a wait for another process also ends when the flag is raised, for example by a
    /// signal handler. A flag that is raised before this call ends no wait: so a program that was asked to end can
    /// still store its data.
    #[must_use]
    pub fn or_when(self, raised: &'static AtomicBool) -> Self {
        Self {
            interrupt: Some(raised).filter(|flag| !flag.load(Ordering::Relaxed)),
            ..self
        }
    }

    /// The same deadline. A wait for another process that takes more than a second calls this function once, with a text that
    /// says what it waits for and who holds that.
    #[must_use]
    pub fn announcing(self, announce: fn(&str)) -> Self {
        Self {
            announce: Some(announce),
            ..self
        }
    }

    /// Reports a wait for another process to the function of [`announcing`](Self::announcing).
    pub fn announce(self, text: &str) {
        if let Some(announce) = self.announce {
            announce(text);
        }
    }

    /// True if the flag of [`or_when`](Self::or_when) was raised after that call.
    #[must_use]
    pub fn is_interrupted(self) -> bool {
        self.interrupt.is_some_and(|flag| flag.load(Ordering::Relaxed))
    }

    /// The moment of the deadline; `None` without a deadline.
    #[must_use]
    pub const fn instant(self) -> Option<Instant> {
        self.at
    }

    /// The time left, which is zero after the deadline; `None` without a deadline.
    #[must_use]
    pub fn remaining(self) -> Option<Duration> {
        self.at.map(|at| at.saturating_duration_since(Instant::now()))
    }

    /// True if the deadline has passed.
    #[must_use]
    pub fn has_passed(self) -> bool {
        self.at.is_some_and(|at| Instant::now() >= at)
    }

    /// The same limits with the earlier of the two moments.
    #[must_use]
    pub fn min(self, other: Self) -> Self {
        Self {
            at: match (self.at, other.at) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            },
            interrupt: self.interrupt.or(other.interrupt),
            announce: self.announce.or(other.announce),
        }
    }

    /// Fails if the deadline has passed. The error names what the caller waited for.
    ///
    /// # Errors
    /// [`ErrorKind::Timeout`](crate::ErrorKind::Timeout) if the deadline has passed.
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
