//! Settings of retries.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

/// The number of tries of a failed operation, and the delays between them.
///
/// Names and defaults are the same as in the `retry_policy` section of the configuration. Durations are
/// written as `humantime` text (`30s`, `1h 30m`).
///
/// ```
/// use std::time::Duration;
/// use prodigy_storage_retry::RetrySettings;
///
/// let patient = RetrySettings { max_retries: 10, max_delay: Duration::from_secs(60), ..RetrySettings::default() };
/// patient.validate()?;
/// # Ok::<(), prodigy_storage_retry::InvalidRetrySettings>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub struct RetrySettings {
    /// Retries after the first try. Zero means that the first failure is final. Default: 3.
    pub max_retries: u32,
    /// The delay before the first retry. Default: 1 second.
    #[serde(with = "humantime_serde")]
    pub initial_delay: Duration,
    /// No delay is longer than this, jitter counted. Default: 30 seconds.
    #[serde(with = "humantime_serde")]
    pub max_delay: Duration,
    /// Each delay is this many times the one before. Finite and at least 1. Default: 2.0.
    pub backoff_multiplier: f64,
    /// Whether each delay is drawn from [half of it, all of it] instead of being the same for everyone who failed
    /// at the same moment. Default: true.
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
    /// Settings under which nothing is retried.
    #[must_use]
    pub fn none() -> Self {
        Self {
            max_retries: 0,
            ..Self::default()
        }
    }

    /// Checks the values alone and against each other.
    ///
    /// # Errors
    /// [`InvalidRetrySettings`] with every problem found, not only the first.
    pub fn validate(&self) -> Result<(), InvalidRetrySettings> {
        let mut problems = Vec::new();
        if !self.backoff_multiplier.is_finite() || self.backoff_multiplier < 1.0 {
            problems.push(RetryProblem {
                key: "backoff_multiplier",
                reason: format!(
                    "must be a finite number of at least 1, not {}",
                    self.backoff_multiplier
                ),
            });
        }
        if self.initial_delay > self.max_delay {
            problems.push(RetryProblem {
                key: "initial_delay",
                reason: format!(
                    "must not be above `max_delay`: {:?} is longer than {:?}",
                    self.initial_delay, self.max_delay
                ),
            });
        }
        if problems.is_empty() {
            Ok(())
        } else {
            Err(InvalidRetrySettings { problems })
        }
    }
}

/// One impossible value in [`RetrySettings`].
///
/// ```
/// use prodigy_storage_retry::RetrySettings;
///
/// let settings = RetrySettings { backoff_multiplier: 0.5, ..RetrySettings::default() };
/// let refused = settings.validate().unwrap_err();
/// assert_eq!(refused.problems()[0].key, "backoff_multiplier");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RetryProblem {
    /// The field's name, which is also its key in a configuration file.
    pub key: &'static str,
    /// The problem with the value, to be read after the key.
    pub reason: String,
}

impl fmt::Display for RetryProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` {}", self.key, self.reason)
    }
}

/// Retry settings that make no sense, with every reason.
///
/// ```
/// use std::time::Duration;
/// use prodigy_storage_retry::RetrySettings;
///
/// let settings = RetrySettings { max_delay: Duration::ZERO, backoff_multiplier: 0.0, ..RetrySettings::default() };
/// let refused = settings.validate().unwrap_err();
/// assert!(refused.problems().len() > 1, "{refused}");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidRetrySettings {
    problems: Vec<RetryProblem>,
}

impl InvalidRetrySettings {
    /// The problems, at least one.
    #[must_use]
    pub fn problems(&self) -> &[RetryProblem] {
        &self.problems
    }
}

impl fmt::Display for InvalidRetrySettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("invalid retry settings: ")?;
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("; ")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for InvalidRetrySettings {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_the_documented_ones_and_valid() {
        let settings = RetrySettings::default();
        assert_eq!(settings.max_retries, 3);
        assert_eq!(settings.initial_delay, Duration::from_secs(1));
        assert_eq!(settings.max_delay, Duration::from_secs(30));
        assert!((settings.backoff_multiplier - 2.0).abs() < f64::EPSILON);
        assert!(settings.jitter);
        settings.validate().unwrap();
        RetrySettings::none().validate().unwrap();
    }

    #[test]
    fn every_problem_is_told_at_once() {
        for multiplier in [f64::NAN, f64::INFINITY, 0.99, -1.0] {
            let settings = RetrySettings {
                backoff_multiplier: multiplier,
                initial_delay: Duration::from_secs(31),
                ..RetrySettings::default()
            };
            let invalid = settings.validate().unwrap_err();
            let keys: Vec<_> = invalid.problems().iter().map(|problem| problem.key).collect();
            assert_eq!(keys, ["backoff_multiplier", "initial_delay"]);
            assert!(
                invalid.to_string().contains("31s is longer than 30s"),
                "{invalid}"
            );
        }
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
