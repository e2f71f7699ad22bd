//! The runner: a policy applied to an operation.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::delays::draw;
use crate::failure::{Failure, GaveUp};
use crate::settings::RetrySettings;
use crate::time::{RealTime, Time};

/// Tries an operation again for as long as its errors are transient, the policy has retries and the deadline time.
///
/// Cheap to clone, and used by any number of threads at once.
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

/// A failed try, which an observer receives before each delay.
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
    /// How many tries have failed so far: 1 at the first retry.
    pub tries: u32,
    /// How long the runner is about to wait.
    pub delay: Duration,
    /// How long the operation has taken so far, delays counted.
    pub elapsed: Duration,
}

impl Retry {
    /// A runner on the system's clock. Settings out of bounds are saturated, see
    /// [`Delays`](crate::Delays).
    #[must_use]
    pub fn new(settings: RetrySettings) -> Self {
        Self {
            settings,
            time: Arc::new(RealTime),
            jitter: Arc::new(draw),
        }
    }

    /// The same runner on another clock.
    #[must_use]
    pub fn with_time(mut self, time: Arc<dyn Time>) -> Self {
        self.time = time;
        self
    }

    /// The same runner with another jitter source, as [`RetrySettings::delays_with`] takes it.
    #[must_use]
    pub fn with_jitter(mut self, jitter: impl Fn() -> u32 + Send + Sync + 'static) -> Self {
        self.jitter = Arc::new(jitter);
        self
    }

    /// The policy.
    #[must_use]
    pub fn settings(&self) -> &RetrySettings {
        &self.settings
    }

    /// Runs `operation` until it succeeds or there is a reason to give up.
    ///
    /// The operation is given the number of the try, from 1. It is tried at least once, also past the deadline: an
    /// operation that takes a deadline of its own says best what it could not do. An error for which `is_transient`
    /// is false ends the run at once. `on_retry` is called before each delay and never after the last try. No delay
    /// begins that would not end before the deadline, and none follows the last try.
    ///
    /// The deadline bounds the delays, not a try that is under way: an operation that can hang needs a limit itself.
    ///
    /// # Errors
    /// [`Failure`] with the last error, the number of tries and why there was no further one.
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
            // A sleep may take longer than asked for.
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
