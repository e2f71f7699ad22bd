//! Applies a retry policy to an operation.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::delays::draw;
use crate::failure::{Failure, GaveUp};
use crate::settings::RetrySettings;
use crate::time::{RealTime, Time};

/// Repeats an operation while its errors are transient, the policy has retries left, and the deadline leaves time.
///
/// It is cheap to clone, and any number of threads can use it at once.
///
/// ```
/// use std::time::Duration;
/// use prodigy_storage_retry::{Retry, RetrySettings};
///
/// let settings = RetrySettings::default().initial_delay(Duration::from_millis(1));
/// let answer = Retry::new(settings).run(
///     None,
///     |error: &&str| *error == "no answer",
///     |_| {},
///     |number| if number < 2 { Err("no answer") } else { Ok(number) },
/// );
/// assert_eq!(answer.ok(), Some(2));
/// ```
#[derive(Clone)]
pub struct Retry {
    settings: RetrySettings,
    time: Arc<dyn Time>,
    jitter: Arc<dyn Fn() -> u32 + Send + Sync>,
}

/// A failed try that will be repeated. `on_retry` gets it before the delay.
///
/// ```
/// use prodigy_storage_retry::RetryEvent;
///
/// fn log(event: &RetryEvent<'_, std::io::Error>) {
///     eprintln!("try {} failed: {}; again in {:?}", event.tries, event.error, event.delay);
/// }
/// # let _ = log;
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct RetryEvent<'a, E> {
    /// The error that is about to be retried.
    pub error: &'a E,
    /// The number of failed tries so far: 1 before the first retry.
    pub tries: u32,
    /// The delay before the next try.
    pub delay: Duration,
    /// The time since the start of the first try, including delays.
    pub elapsed: Duration,
}

impl Retry {
    /// A runner with the system's clock. Settings out of range are limited as described at
    /// [`Delays`](crate::Delays).
    #[must_use]
    pub fn new(settings: RetrySettings) -> Self {
        Self {
            settings,
            time: Arc::new(RealTime),
            jitter: Arc::new(draw),
        }
    }

    /// Sets another clock.
    #[must_use]
    pub fn with_time(mut self, time: Arc<dyn Time>) -> Self {
        self.time = time;
        self
    }

    /// Sets another source of jitter, as described at [`RetrySettings::delays_with`].
    #[must_use]
    pub fn with_jitter(mut self, jitter: impl Fn() -> u32 + Send + Sync + 'static) -> Self {
        self.jitter = Arc::new(jitter);
        self
    }

    /// The retry policy.
    #[must_use]
    pub fn settings(&self) -> &RetrySettings {
        &self.settings
    }

    /// Runs `operation` until it succeeds, or until there is a reason to give up ([`GaveUp`](crate::GaveUp)).
    ///
    /// The operation gets the number of the try, from 1. It is tried at least once, even after the deadline: an
    /// operation that has the deadline too then returns the most precise error. An error for which `is_transient`
    /// returns false ends the run at once. `on_retry` is called before each delay, and never after the last try. A
    /// delay that would not end before the deadline is not begun.
    ///
    /// The deadline limits the delays, but does not interrupt a running try: an operation that can block needs its own limit.
    ///
    /// # Errors
    /// [`Failure`] with the last error, the number of tries, and the reason why there was no further try.
    pub fn run<T, E>(
        &self,
        deadline: Option<Instant>,
        mut is_transient: impl FnMut(&E) -> bool,
        mut on_retry: impl FnMut(&RetryEvent<'_, E>),
        mut operation: impl FnMut(u32) -> Result<T, E>,
    ) -> Result<T, Failure<E>> {
        let start = self.time.now();
        let mut delays = self.settings.delays_with(|| (self.jitter)());
        let mut tries: u32 = 1;
        loop {
            let error = match operation(tries) {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            let now = self.time.now();
            let elapsed = now.saturating_duration_since(start);
            let give_up = |error, reason| {
                Err(Failure {
                    error,
                    tries,
                    elapsed,
                    reason,
                })
            };
            if !is_transient(&error) {
                return give_up(error, GaveUp::Permanent);
            }
            let Some(delay) = delays.next() else {
                return give_up(error, GaveUp::Exhausted);
            };
            if let Some(deadline) = deadline
                && now.checked_add(delay).is_none_or(|end| end >= deadline)
            {
                return give_up(error, GaveUp::Deadline);
            }
            on_retry(&RetryEvent {
                error: &error,
                tries,
                delay,
                elapsed,
            });
            self.time.sleep(delay);
            // A sleep may have taken longer than requested.
            if deadline.is_some_and(|deadline| self.time.now() >= deadline) {
                return give_up(error, GaveUp::Deadline);
            }
            tries = tries.saturating_add(1);
        }
    }
}

impl fmt::Debug for Retry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retry")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}
