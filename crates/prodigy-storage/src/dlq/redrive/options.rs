//! The options of a redrive.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use prodigy_storage_backend::dead_letter::Failure;
use prodigy_storage_backend::setters;

type Stop = Arc<dyn Fn() -> bool + Send + Sync>;

/// The options of a redrive; `Default` works on one item at a time, without pauses, until no item is left.
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
    /// The length of an item's lease. If this process dies, the item is pending again after this time. During the
    /// work the lease is extended whenever a third of it has passed, so one second is long enough for any work.
    pub lease: Duration,
    /// The number of items whose work may run at the same time, each on its own thread; 0 counts as 1. There are
    /// never more threads than items.
    pub concurrency: usize,
    /// The largest number of items to take; unbounded if `None`.
    pub limit: Option<usize>,
    /// If an item fails again and then has at least this number of failures, it is parked; unbounded if `None`.
    pub max_attempts: Option<u64>,
    /// The shortest time between the starts of two items.
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
    /// The default options.
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

    /// Sets [`interval`](Self::interval) so that at most `items` items start in each span of `per`, evenly spaced.
    /// 0 items means no limit.
    #[must_use]
    pub fn rate(mut self, items: u32, per: Duration) -> Self {
        self.interval = per.checked_div(items).filter(|interval| !interval.is_zero());
        self
    }

    /// Sets a function that stops the run: once it returns true, no further work starts. Work that has started is
    /// finished and its items are settled; items whose work has not started are released. `stop` is called often
    /// and by several threads, so it should be as cheap as reading a flag.
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

/// The outcome of the work on an item. It decides how the item is settled.
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
    /// The work is done. The item is removed.
    Done,
    /// The work failed again. The failure is added to the item's history, and the item is kept.
    Failed(Box<Failure>),
    /// The item is kept unchanged, and is pending again after the delay. The same run does not take it again.
    Release {
        /// The delay. With zero, the item is pending at once.
        after: Duration,
    },
    /// The item is set aside for a person, with this reason.
    Park(Option<String>),
}

impl Outcome {
    /// The work failed again with this failure.
    #[must_use]
    pub fn failed(failure: Failure) -> Self {
        Self::Failed(Box::new(failure))
    }

    /// The item is kept unchanged, and is pending again at once. The same run does not take it again.
    #[must_use]
    pub fn release() -> Self {
        Self::Release {
            after: Duration::ZERO,
        }
    }

    /// The item is set aside for a person, with this reason.
    #[must_use]
    pub fn park(reason: impl Into<String>) -> Self {
        Self::Park(Some(reason.into()))
    }
}
