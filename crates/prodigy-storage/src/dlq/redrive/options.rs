//! The options of a redrive.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use prodigy_storage_backend::dead_letter::Failure;
use prodigy_storage_backend::setters;

type Stop = Arc<dyn Fn() -> bool + Send + Sync>;

/// How to redrive; `Default` works on one item at a time, as fast as it goes, until nothing is left.
///
/// ```
/// use std::time::Duration;
/// use prodigy_storage::RedriveOptions;
///
/// let options = RedriveOptions::new()
///     .concurrency(8)
///     .max_attempts(Some(3))
///     .rate(10, Duration::from_secs(1));
/// assert_eq!(options.interval, Some(Duration::from_millis(100)));
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub struct RedriveOptions {
    /// How long an item stays leased if this process dies. The lease is extended while the work lasts, each time a third
    /// of it has passed, so a second is long enough for any work.
    pub lease: Duration,
    /// Items to work on at the same time, a thread each; 0 counts as 1. No more threads are started than there are items.
    pub concurrency: usize,
    /// Items to take in all; without a bound if `None`.
    pub limit: Option<usize>,
    /// An item that fails is parked if it has failed this number of times then. Without a bound if `None`.
    pub max_attempts: Option<u64>,
    /// The shortest time between the beginnings of two items.
    pub interval: Option<Duration>,
    stop: Option<Stop>,
}

impl Default for RedriveOptions {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(300),
            concurrency: 1,
            limit: None,
            max_attempts: None,
            interval: None,
            stop: None,
        }
    }
}

impl RedriveOptions {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    setters! {
        /// Sets [`lease`](Self::lease).
        lease: Duration,

        /// Sets [`concurrency`](Self::concurrency).
        concurrency: usize,

        /// Sets [`limit`](Self::limit).
        limit: Option<usize>,

        /// Sets [`max_attempts`](Self::max_attempts).
        max_attempts: Option<u64>,
    }

    /// Begins no more than this number of items in this time, evenly: sets [`interval`](Self::interval). 0 items is no
    /// bound.
    #[must_use]
    pub fn rate(mut self, items: u32, per: Duration) -> Self {
        self.interval = per.checked_div(items).filter(|interval| !interval.is_zero());
        self
    }

    /// No item begins once this is true. Items that are being worked on are finished and settled, and those that were
    /// taken and not begun are released. It is called often, by several threads: a look at a flag is right.
    #[must_use]
    pub fn stop(mut self, stop: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        self.stop = Some(Arc::new(stop));
        self
    }

    pub(crate) fn stops(&self) -> bool {
        self.stop.as_ref().is_some_and(|stop| stop())
    }
}

impl fmt::Debug for RedriveOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedriveOptions")
            .field("lease", &self.lease)
            .field("concurrency", &self.concurrency)
            .field("limit", &self.limit)
            .field("max_attempts", &self.max_attempts)
            .field("interval", &self.interval)
            .field("stop", &self.stop.is_some())
            .finish()
    }
}

/// The outcome of the work on an item.
///
/// ```
/// use std::time::Duration;
/// use prodigy_storage::{Failure, Outcome};
///
/// fn outcome(exit_code: i32) -> Outcome {
///     match exit_code {
///         0 => Outcome::Done,
///         75 => Outcome::Release { after: Duration::from_secs(60) },
///         code => Outcome::failed(Failure::new("Exit", format!("exit code {code}"))),
///     }
/// }
/// # let _ = outcome(0);
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Outcome {
    /// It is done, and goes.
    Done,
    /// It failed again: the failure is added to its history, and it stays.
    Failed(Box<Failure>),
    /// It stays as it is, pending once the delay has passed.
    Release {
        /// Zero: at once, for the next run.
        after: Duration,
    },
    /// A person has to look at it, for this reason.
    Park(Option<String>),
}

impl Outcome {
    /// It failed again, like this.
    #[must_use]
    pub fn failed(failure: Failure) -> Self {
        Self::Failed(Box::new(failure))
    }

    /// It stays as it is, pending for the next run.
    #[must_use]
    pub fn release() -> Self {
        Self::Release {
            after: Duration::ZERO,
        }
    }

    /// A person has to look at it, for this reason.
    #[must_use]
    pub fn park(reason: impl Into<String>) -> Self {
        Self::Park(Some(reason.into()))
    }
}
