//! The error for a broken promise, which differs from a failure of the check itself.

use std::fmt;

/// A broken promise: acknowledged data is lost, or stored data is torn, duplicated, damaged or wrong.
#[derive(Debug)]
pub(crate) struct Lost(String);

impl fmt::Display for Lost {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Lost {}

/// A broken promise as an error.
pub(crate) fn lost(what: impl Into<String>) -> anyhow::Error {
    anyhow::Error::new(Lost(what.into()))
}
