//! The error of a lookup.

use std::error::Error;
use std::fmt;
use std::time::Duration;

/// The reason why [`Cache::get_or_load`](crate::Cache::get_or_load) returned no value.
///
/// ```
/// use prodigy_storage_cache::{Cache, CacheSettings, LoadError};
///
/// let cache: Cache<u32, u32> = Cache::new(&CacheSettings::default());
/// match cache.get_or_load(&1, None, || Err("no answer")) {
///     Err(LoadError::Failed(error)) => assert_eq!(error, "no answer"),
///     other => panic!("{other:?}"),
/// }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum LoadError<E> {
    /// The load or the check of this caller failed. `Display` shows its error.
    Failed(E),
    /// The load of another caller did not end by the deadline of this one.
    WaitTimedOut {
        /// The time that this caller waited.
        waited: Duration,
    },
}

impl<E: fmt::Display> fmt::Display for LoadError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) => error.fmt(f),
            Self::WaitTimedOut { waited } => {
                write!(
                    f,
                    "waited {waited:.1?} for another thread's load of the same key, which had not ended"
                )
            }
        }
    }
}

impl<E: Error> Error for LoadError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Failed(error) => error.source(),
            Self::WaitTimedOut { .. } => None,
        }
    }
}
