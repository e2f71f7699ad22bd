//! Retries with exponential backoff and jitter, and a fair semaphore. Both have a deadline.
//!
//! # Model
//! [`RetrySettings`] is the policy. [`RetrySettings::delays`] converts it to [`Delays`], an iterator that neither
//! waits nor reads a clock. [`Retry`] applies the policy to an operation: it waits between tries, gives up if the
//! next delay would pass the deadline, and returns the last error with the number of tries as a [`Failure`]. The
//! clock and sleeper ([`Time`]) and the jitter are injected, so a test of an hour of retries takes no time.
//!
//! A [`Semaphore`] limits the number of operations that run at once. It gives out permits in order of arrival, and
//! each wait for a permit has a deadline.
//!
//! This crate does not depend on the other storage crates.
//!
//! # Limitations
//! - A wait blocks the calling thread; there is no asynchronous version.
//! - The deadline limits only the delays. A running try is not interrupted: an operation that can block needs its
//!   own limit, or a single try may pass the deadline.
//! - The runner does not know whether an operation may be repeated. The caller decides this for each error.
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
//! // An error that is not transient is not retried.
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

/// Compiles and runs the examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;
