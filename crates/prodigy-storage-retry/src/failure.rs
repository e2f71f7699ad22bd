//! The error after the last try.

use std::error::Error;
use std::fmt;
use std::time::Duration;

/// The last error of an operation that failed, with the number of tries and the reason for giving up.
///
/// `Display` shows the error, and the number of tries if there was more than one. [`source`](Error::source) is the
/// source of the last error, not the error itself, so that no message appears twice.
///
/// ```
/// use prodigy_storage_retry::{Failure, Retry, RetrySettings};
///
/// let failure: Failure<&str> =
///     Retry::new(RetrySettings::none()).run(None, |_| true, |_| {}, |_| Err::<(), _>("no answer")).unwrap_err();
/// assert_eq!((failure.error, failure.tries), ("no answer", 1));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Failure<E> {
    /// The error of the last try.
    pub error: E,
    /// The number of tries, at least 1.
    pub tries: u32,
    /// The time from the start of the first try to the end of the last, including delays.
    pub elapsed: Duration,
    /// The reason why there was no further try.
    pub reason: GaveUp,
}

/// The reason why an operation was not tried again.
///
/// ```
/// use prodigy_storage_retry::{GaveUp, Retry, RetrySettings};
///
/// let retry = Retry::new(RetrySettings::none());
/// let failure = retry.run(None, |_| false, |_| {}, |_| Err::<(), _>("not allowed")).unwrap_err();
/// assert_eq!(failure.reason, GaveUp::Permanent);
/// let failure = retry.run(None, |_| true, |_| {}, |_| Err::<(), _>("no answer")).unwrap_err();
/// assert_eq!(failure.reason, GaveUp::Exhausted);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GaveUp {
    /// The error is not transient, so another try would fail too.
    Permanent,
    /// The policy allows no more retries.
    Exhausted,
    /// The next delay would not have ended before the deadline.
    Deadline,
}

impl<E: fmt::Display> fmt::Display for Failure<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.error)?;
        if self.tries == 1 {
            return Ok(());
        }
        let why = match self.reason {
            GaveUp::Permanent => "",
            GaveUp::Exhausted => ", no retries left",
            GaveUp::Deadline => ", no time left for another",
        };
        write!(f, " (tried {} times in {:.1?}{why})", self.tries, self.elapsed)
    }
}

impl<E: Error> Error for Failure<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error.source()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_the_tries_behind_the_error() {
        let failure = |tries, reason| Failure {
            error: std::fmt::Error,
            tries,
            elapsed: Duration::from_millis(7000),
            reason,
        };
        let plain = std::fmt::Error.to_string();
        assert_eq!(failure(1, GaveUp::Permanent).to_string(), plain);
        assert_eq!(
            failure(4, GaveUp::Exhausted).to_string(),
            format!("{plain} (tried 4 times in 7.0s, no retries left)")
        );
        assert!(failure(2, GaveUp::Deadline).to_string().contains("no time left"));
    }
}
