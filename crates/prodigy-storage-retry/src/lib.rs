//! Retry with exponential backoff and jitter, and a fair semaphore, both bounded by a deadline.
//!
//! # Model
//! A [`RetrySettings`] is the policy. [`RetrySettings::delays`] turns it into [`Delays`], a pure iterator that neither
//! waits nor reads a clock. [`Retry`] applies the policy to an operation: it waits between tries, gives up early
//! when the next wait would pass the deadline, and keeps the last error with the number of tries in [`Failure`].
//! Clock, sleeper ([`Time`]) and jitter are injected, so a test of an hour of retries takes no time.
//!
//! A [`Semaphore`] limits how many operations run at once. It serves in order of arrival, and each wait for a permit has
//! a deadline.
//!
//! This crate knows nothing of storage.
//!
//! # Limitations
//! - A wait blocks the calling thread; there is no async runner.
//! - The deadline bounds the waits. A try that is under way is not cut off: an operation that can hang needs a limit
//!   of its own, or one try outlives the deadline.
//! - The runner does not know whether an operation may be repeated. The caller decides, error by error.
//!
//! # Example
//! ```
//! use std::io::{Error, ErrorKind};
//! use std::time::{Duration, Instant};
//!
//! use prodigy_storage_retry::{GaveUp, Retry, RetrySettings};
//!
//! let retry = Retry::new(RetrySettings::default().initial_delay(Duration::from_millis(1)));
//! let deadline = Instant::now() + Duration::from_secs(5);
//! let transient = |error: &Error| error.kind() == ErrorKind::TimedOut;
//!
//! // Fails twice, then succeeds.
//! let tries = retry.run(
//!     Some(deadline),
//!     transient,
//!     |event| assert!(event.tries < 3),
//!     |number| if number < 3 { Err(Error::from(ErrorKind::TimedOut)) } else { Ok(number) },
//! );
//! assert_eq!(tries.unwrap(), 3);
//!
//! // An error that is not transient is final.
//! let failure = retry
//!     .run(Some(deadline), transient, |_| {}, |_| Err::<(), _>(Error::from(ErrorKind::NotFound)))
//!     .unwrap_err();
//! assert_eq!((failure.tries, failure.reason), (1, GaveUp::Permanent));
//! ```
#![cfg_attr(not(test), warn(clippy::disallowed_methods))]
#![warn(clippy::exhaustive_enums, clippy::exhaustive_structs)]

mod delays;
mod failure;
mod retry;
mod semaphore;
mod settings;
mod sync;
mod time;

pub use delays::Delays;
pub use failure::{Failure, GaveUp};
pub use retry::{Retry, RetryEvent};
pub use semaphore::{NoPermit, Permit, Semaphore, SemaphoreStats};
pub use settings::RetrySettings;
pub use time::{RealTime, Time};

/// Compiles the examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;
