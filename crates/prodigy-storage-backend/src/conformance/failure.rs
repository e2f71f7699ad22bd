//! The error of a property: how a backend differs from a promise.

use std::error::Error;
use std::fmt;

/// How a backend differs from the promise of a property.
pub struct Failure(String);

impl Failure {
    /// A failure with this text.
    #[must_use]
    pub fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Makes any error that a property does not expect a failure of the property.
impl<E: Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(format!("an error where none was expected: {error}"))
    }
}

/// Fails the property unless the condition is true.
macro_rules! ensure {
    ($condition:expr, $($what:tt)+) => {
        // The whole condition is negated, so that an incomparable pair such as NaN fails too.
        if !$condition {
            return Err(crate::conformance::Failure::new(format!($($what)+)));
        }
    };
}

/// Fails the property unless the two values are equal.
macro_rules! ensure_eq {
    ($found:expr, $wanted:expr, $($what:tt)+) => {
        // The `match` keeps the temporary values of both expressions alive.
        match (&$found, &$wanted) {
            (found, wanted) => {
                if found != wanted {
                    let what = format!($($what)+);
                    return Err(crate::conformance::Failure::new(format!(
                        "{what}: found {found:?}, expected {wanted:?}"
                    )));
                }
            }
        }
    };
}

pub(super) use {ensure, ensure_eq};
