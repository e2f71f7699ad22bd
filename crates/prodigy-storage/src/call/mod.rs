//! The caller: every call of a typed store to its backend goes through it.
//!
//! [`Caller::call`] refuses writes through a read-only handle, limits the number of operations that run at once,
//! repeats calls that failed with a transient error, and counts calls. The rules for an operation are in its row
//! in [`operation`]. Two operations need more: an append keeps its ids when it is repeated ([`append`]), and a
//! document may come from the cache ([`document`]).

mod append;
mod document;
pub(crate) mod operation;
#[cfg(all(test, feature = "file", feature = "memory"))]
pub(crate) mod tests;

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use prodigy_storage_backend::{
    Backend, Capabilities, Deadline, ErrorKind, OperationStats, Result, SharedHistogram, Stats, StorageError,
};
use prodigy_storage_config::StorageConfig;
use prodigy_storage_retry::{GaveUp, Permit, Retry, Semaphore, Time};

use document::DocumentCache;
use operation::{Access, Limit, Operation};

/// During a pause, the flag that interrupts it is checked at this interval.
const PIECE: Duration = Duration::from_millis(25);

/// A warning is logged for a document that is larger than `max_document_size` divided by this number.
const LARGE_SHARE: u64 = 10;

/// Calls a backend, with the retries, the limit and the cache of a configuration.
#[derive(Debug)]
pub(crate) struct Caller {
    backend: Arc<dyn Backend>,
    read_only: bool,
    retry: Retry,
    semaphore: Semaphore,
    cache: Option<DocumentCache>,
    /// The sizes in bytes of the documents that cause a warning. A larger document is refused.
    large_documents: RangeInclusive<u64>,
    counters: Counters,
    /// The statistics of each operation, in the order of the table.
    meters: Vec<Meter>,
}

/// The statistics of an operation.
#[derive(Debug, Default)]
struct Meter {
    failures: AtomicU64,
    latency: SharedHistogram,
}

/// The system's clock. Its pauses end when the flag is raised.
#[derive(Debug)]
struct Interruptible(&'static AtomicBool);

impl Time for Interruptible {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn sleep(&self, duration: Duration) {
        let end = Deadline::after(duration);
        while let Some(left) = end.remaining().filter(|left| !left.is_zero())
            && !self.0.load(Ordering::Relaxed)
        {
            std::thread::sleep(left.min(PIECE));
        }
    }
}

#[derive(Debug, Default)]
struct Counters {
    /// The number of attempts after the first one of each call.
    retries: AtomicU64,
    /// The number of calls that succeeded after a retry.
    recovered: AtomicU64,
    /// The number of calls that ended with a transient error, after all retries or at the deadline.
    gave_up: AtomicU64,
    /// The number of attempts of appends that had an unknown outcome.
    unclear_appends: AtomicU64,
    /// The number of calls of tasks that waited for a thread of the handle, since all threads were busy.
    thread_waits: AtomicU64,
    thread_waited_micros: AtomicU64,
    /// The number of calls of tasks that waited for a thread of the handle during their whole `timeout`.
    thread_timeouts: AtomicU64,
}

impl Caller {
    pub(crate) fn new(backend: Arc<dyn Backend>, config: &StorageConfig, read_only: bool) -> Self {
        Self {
            read_only: read_only || backend.capabilities().read_only,
            backend,
            retry: Retry::new(config.retry_policy.clone()),
            semaphore: Semaphore::new(config.connection_pool_size),
            cache: config
                .enable_cache
                .then(|| DocumentCache::new(&config.cache_config)),
            large_documents: {
                let most = config.file.max_document_size;
                most / LARGE_SHARE + 1..=most
            },
            counters: Counters::default(),
            meters: operation::ALL.iter().map(|_| Meter::default()).collect(),
        }
    }

    /// Makes the pauses before retries end when the flag is raised.
    pub(crate) fn interruptible(mut self, flag: Option<&'static AtomicBool>) -> Self {
        if let Some(flag) = flag {
            self.retry = self.retry.with_time(Arc::new(Interruptible(flag)));
        }
        self
    }

    /// The backend itself, for calls without retries, limit and counters.
    pub(crate) fn backend(&self) -> &Arc<dyn Backend> {
        &self.backend
    }

    pub(crate) fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// The capabilities of the backend, with the access mode of this handle.
    pub(crate) fn capabilities(&self) -> Capabilities {
        let mut capabilities = self.backend.capabilities();
        capabilities.read_only = self.read_only;
        capabilities
    }

    /// Fails if the handle was opened for reading only.
    pub(crate) fn check_writable(&self, operation: &'static str, target: &dyn fmt::Display) -> Result<()> {
        if !self.read_only {
            return Ok(());
        }
        let why = "the handle was opened for reading only";
        Err(StorageError::new(ErrorKind::ReadOnly, operation, target, why)
            .with_hint("open the storage for writing"))
    }

    /// Makes one call of an operation until `deadline`, and repeats it as the operation's row in the table allows.
    ///
    /// Each attempt needs its own permit: no permit is held during the delay before the next attempt. If a delay
    /// would end after the deadline, the call ends at once. It returns the last error, with the number of
    /// attempts.
    pub(crate) fn call<T>(
        &self,
        operation: Operation,
        target: &dyn fmt::Display,
        deadline: Deadline,
        try_once: impl FnMut(&dyn Backend) -> Result<T>,
    ) -> Result<T> {
        self.counted(operation, target, || {
            self.call_uncounted(operation, target, deadline, try_once)
        })
    }

    /// Counts the call that `run` makes. The call of a task began before it came to this thread; if that took too
    /// long, it fails.
    #[cfg_attr(
        not(feature = "tokio"),
        expect(unused_variables, reason = "there are no tasks")
    )]
    pub(crate) fn counted<T>(
        &self,
        operation: Operation,
        target: &dyn fmt::Display,
        run: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let began = Instant::now();
        #[cfg(feature = "tokio")]
        let began = match crate::asynchronous::wait_of_task() {
            None => began,
            Some(wait) => {
                if let Some(waited) = wait.waited {
                    let micros = u64::try_from(waited.as_micros()).unwrap_or(u64::MAX);
                    self.counters.thread_waits.fetch_add(1, Ordering::Relaxed);
                    self.counters
                        .thread_waited_micros
                        .fetch_add(micros, Ordering::Relaxed);
                }
                if wait.is_late {
                    self.thread_timed_out();
                    self.count(operation, wait.begun, true);
                    return Err(crate::asynchronous::late(operation.name, target));
                }
                wait.begun
            }
        };
        let outcome = run();
        self.count(operation, began, outcome.is_err());
        outcome
    }

    /// Counts a call that ends now.
    pub(crate) fn count(&self, operation: Operation, began: Instant, has_failed: bool) {
        if let Some(meter) = self.meters.get(operation.index) {
            meter.latency.record(began.elapsed());
            if has_failed {
                meter.failures.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Counts a call that waited for a thread of the handle during its whole `timeout`.
    #[cfg(feature = "tokio")]
    pub(crate) fn thread_timed_out(&self) {
        self.counters.thread_timeouts.fetch_add(1, Ordering::Relaxed);
    }

    /// Like [`call`](Self::call), for a caller that counts the call.
    pub(crate) fn call_uncounted<T>(
        &self,
        operation: Operation,
        target: &dyn fmt::Display,
        deadline: Deadline,
        mut try_once: impl FnMut(&dyn Backend) -> Result<T>,
    ) -> Result<T> {
        if operation.access == Access::Write {
            self.check_writable(operation.name, target)?;
        }
        let mut tries = 1;
        let outcome = self.retry.run(
            deadline.instant(),
            |error| operation.may_repeat(error) && !deadline.is_interrupted(),
            |event| {
                self.counters.retries.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(
                    operation = operation.name,
                    %target,
                    tries = event.tries,
                    delay = ?event.delay,
                    elapsed = ?event.elapsed,
                    error = %event.error,
                    "failed, will be tried again"
                );
            },
            |number| {
                tries = number;
                let _permit = match operation.limit {
                    Limit::Permit => Some(self.permit(operation, target, deadline)?),
                    Limit::Free => None,
                };
                try_once(&*self.backend)
            },
        );
        match outcome {
            Ok(value) => {
                if tries > 1 {
                    self.counters.recovered.fetch_add(1, Ordering::Relaxed);
                    tracing::debug!(operation = operation.name, %target, tries, "succeeded after retries");
                }
                Ok(value)
            }
            Err(failure) => {
                if failure.reason != GaveUp::Permanent {
                    self.counters.gave_up.fetch_add(1, Ordering::Relaxed);
                }
                Err(match failure.tries {
                    1 => failure.error,
                    tries => failure.error.with_attempts(tries),
                })
            }
        }
    }

    fn permit(
        &self,
        operation: Operation,
        target: &dyn fmt::Display,
        deadline: Deadline,
    ) -> Result<Permit<'_>> {
        match self.semaphore.acquire(deadline.instant()) {
            Ok(permit) => {
                if let Some(waited) = permit.waited() {
                    tracing::debug!(operation = operation.name, %target, waited_ms = millis(waited), "waited for a permit");
                }
                Ok(permit)
            }
            Err(refused) => {
                tracing::debug!(operation = operation.name, %target, waited_ms = millis(refused.waited), "no permit in time");
                let size = self.semaphore.size();
                let waited_for = format!("one of {size} permits for operations that run at once");
                Err(
                    StorageError::timeout(operation.name, target, &waited_for).with_hint(
                        "raise `connection_pool_size` or `timeout`, or find out which operations are slow",
                    ),
                )
            }
        }
    }

    /// The counters of the caller and of the backend.
    pub(crate) fn stats(&self) -> Stats {
        let mut stats = Stats::default();
        let limit = self.semaphore.stats();
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        for (name, count) in [
            ("limit.waits", limit.waits + load(&self.counters.thread_waits)),
            (
                "limit.timeouts",
                limit.timeouts + load(&self.counters.thread_timeouts),
            ),
            (
                "limit.waited_ms",
                millis(limit.waited) + load(&self.counters.thread_waited_micros) / 1000,
            ),
            ("retry.retries", load(&self.counters.retries)),
            ("retry.recovered", load(&self.counters.recovered)),
            ("retry.gave_up", load(&self.counters.gave_up)),
            ("retry.unclear_appends", load(&self.counters.unclear_appends)),
        ] {
            stats.add(name, count);
        }
        for (operation, meter) in operation::ALL.iter().zip(&self.meters) {
            let latency = meter.latency.load();
            if latency.count() > 0 {
                let calls = OperationStats::new(load(&meter.failures), latency);
                stats.set_operation(operation.name, calls);
            }
        }
        if let Some(cache) = &self.cache {
            cache.stats(&mut stats);
        }
        self.backend.stats(&mut stats);
        stats
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
