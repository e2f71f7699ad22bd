//! Settings of retries.

use std::time::Duration;

use serde::Serialize;

/// The retry policy: the number of retries of a failed operation, and the delays before them.
///
/// Names and defaults are the same as in the `retry_policy` section of the configuration. Durations are
/// written as `humantime` text (`30s`, `1h 30m`).
///
/// ```
/// use std::time::Duration;
/// use prodigy_storage_retry::RetrySettings;
///
/// let patient = RetrySettings::default().max_retries(10).max_delay(Duration::from_secs(60));
/// assert_eq!(patient.delays().count(), 10);
/// ```
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub struct RetrySettings {
    /// The number of retries after the first try. With zero, the first failure is final. Default: 3.
    pub max_retries: u32,
    /// The delay before the first retry. Default: 1 second.
    #[serde(with = "humantime_serde")]
    pub initial_delay: Duration,
    /// The longest delay, including jitter. Default: 30 seconds.
    #[serde(with = "humantime_serde")]
    pub max_delay: Duration,
    /// The factor by which each delay is longer than the one before. Finite and at least 1. Default: 2.0.
    pub backoff_multiplier: f64,
    /// True to draw each delay at random between its half and its whole, so that callers that failed at the same
    /// moment do not all retry at the same moment. Default: true.
    pub jitter: bool,
}

impl Default for RetrySettings {
    fn default() -> Self {
        Self {
            max_retries: 3,
            initial_delay: Duration::from_secs(1),
            max_delay: Duration::from_secs(30),
            backoff_multiplier: 2.0,
            jitter: true,
        }
    }
}

impl RetrySettings {
    /// Sets [`max_retries`](field@Self::max_retries).
    #[must_use]
    pub fn max_retries(mut self, value: u32) -> Self {
        self.max_retries = value;
        self
    }

    /// Sets [`initial_delay`](field@Self::initial_delay).
    #[must_use]
    pub fn initial_delay(mut self, value: Duration) -> Self {
        self.initial_delay = value;
        self
    }

    /// Sets [`max_delay`](field@Self::max_delay).
    #[must_use]
    pub fn max_delay(mut self, value: Duration) -> Self {
        self.max_delay = value;
        self
    }

    /// Sets [`backoff_multiplier`](field@Self::backoff_multiplier).
    #[must_use]
    pub fn backoff_multiplier(mut self, value: f64) -> Self {
        self.backoff_multiplier = value;
        self
    }

    /// Sets [`jitter`](field@Self::jitter).
    #[must_use]
    pub fn jitter(mut self, value: bool) -> Self {
        self.jitter = value;
        self
    }

    /// Settings without retries.
    #[must_use]
    pub fn none() -> Self {
        Self {
            max_retries: 0,
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_the_documented_ones() {
        let settings = RetrySettings::default();
        assert_eq!(settings.max_retries, 3);
        assert_eq!(settings.initial_delay, Duration::from_secs(1));
        assert_eq!(settings.max_delay, Duration::from_secs(30));
        assert!((settings.backoff_multiplier - 2.0).abs() < f64::EPSILON);
        assert!(settings.jitter);
        assert_eq!(RetrySettings::none().max_retries, 0);
    }

    #[test]
    fn is_written_as_the_configuration_writes_it() {
        let settings = RetrySettings {
            initial_delay: Duration::from_millis(1500),
            ..RetrySettings::default()
        };
        let text = serde_json::to_string(&settings).unwrap();
        assert!(text.contains("\"1s 500ms\""), "{text}");
    }
}
