//! The layer that tries again.

use std::cell::Cell;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prodigy_storage_backend::{
    Added, AppendOptions, Appended, Backend, Batch, Body, Capabilities, Deadline, DocumentEntry, Durability,
    ErrorKind, Expected, Health, ItemId, LeaseToken, LockGuard, LockInfo, LockOptions, LogSummary,
    PutOptions, PutReport, QueueEntry, QueueItem, QueueScan, Result, Revision, Scan, ScanOptions, Select,
    Settled, Stats, StorageError, StoredDocument, Usage,
};
use prodigy_storage_layout::{
    Document, DocumentScope, JobAddress, JobId, LockName, Phase, RepoName, SessionId,
};

use crate::document_path::DocumentPath;
use crate::failure::{Failure, GaveUp};
use crate::retry::{Retry, RetryEvent};
use crate::settings::RetrySettings;

/// A backend whose transient errors are tried again, within the deadline of the call.
///
/// - Only an error that says so ([`StorageError::is_transient`]) is tried again. A conflict and a refused fencing
///   token never are, whatever they say: what they tell has to be decided on, not repeated.
/// - A write whose outcome is unknown is not repeated, with one exception: an **append** is, under the same ids, and
///   is stored once. Given up after that, it stays [`OutcomeUnknown`](ErrorKind::OutcomeUnknown) with its ids,
///   whatever the last error was.
/// - No delay begins that would not end before the deadline. The last error is returned, with the number of tries.
///
/// What is not tried again: a step of a scan or of a walk through a queue (go on from the cursor, or begin anew), the
/// release of a lock, and [`health`](Backend::health), which is there to show trouble.
///
/// Put it outside of [`Limited`](crate::Limited): the other way round an operation keeps its place while it waits for
/// its next try.
#[derive(Debug)]
pub struct Retrying<B: ?Sized> {
    retry: Retry,
    counters: Counters,
    inner: Arc<B>,
}

/// What a [`Retrying`] did since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct RetryStats {
    /// Tries after a first one.
    pub retries: u64,
    /// Calls that succeeded, but not at the first try.
    pub recovered: u64,
    /// Calls given up on a transient error, for want of retries or of time.
    pub gave_up: u64,
    /// Appends, by try, whose outcome was unknown.
    pub unclear_appends: u64,
}

#[derive(Debug, Default)]
struct Counters {
    retries: AtomicU64,
    recovered: AtomicU64,
    gave_up: AtomicU64,
    unclear_appends: AtomicU64,
}

impl<B: Backend + ?Sized> Retrying<B> {
    /// The backend under this policy, on the system's clock.
    #[must_use]
    pub fn new(inner: Arc<B>, settings: RetrySettings) -> Self {
        Self::with_retry(inner, Retry::new(settings))
    }

    /// The backend under this runner, for a clock or a jitter source of the caller's.
    #[must_use]
    pub fn with_retry(inner: Arc<B>, retry: Retry) -> Self {
        Self {
            retry,
            counters: Counters::default(),
            inner,
        }
    }

    /// The backend that is wrapped.
    #[must_use]
    pub fn inner(&self) -> &Arc<B> {
        &self.inner
    }

    /// What it did.
    #[must_use]
    pub fn counts(&self) -> RetryStats {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        RetryStats {
            retries: load(&self.counters.retries),
            recovered: load(&self.counters.recovered),
            gave_up: load(&self.counters.gave_up),
            unclear_appends: load(&self.counters.unclear_appends),
        }
    }

    fn run<T>(
        &self,
        operation: &'static str,
        target: impl fmt::Display,
        deadline: Deadline,
        mut call: impl FnMut(&B) -> Result<T>,
    ) -> Result<T> {
        self.run_where(operation, target, deadline, is_repeatable, |_| call(&self.inner))
    }

    fn run_where<T>(
        &self,
        operation: &'static str,
        target: impl fmt::Display,
        deadline: Deadline,
        is_repeatable: impl FnMut(&StorageError) -> bool,
        mut call: impl FnMut(u32) -> Result<T>,
    ) -> Result<T> {
        let mut tries = 1;
        let result = self.retry.run(
            deadline.instant(),
            is_repeatable,
            |event| self.observe(operation, &target, event),
            |number| {
                if number > 1 {
                    self.counters.retries.fetch_add(1, Ordering::Relaxed);
                }
                tries = number;
                call(number)
            },
        );
        match result {
            Ok(value) => {
                if tries > 1 {
                    self.counters.recovered.fetch_add(1, Ordering::Relaxed);
                    tracing::debug!(operation, %target, tries, "succeeded after retries");
                }
                Ok(value)
            }
            Err(failure) => Err(self.given_up(failure)),
        }
    }

    fn observe(&self, operation: &str, target: &dyn fmt::Display, event: &RetryEvent<'_, StorageError>) {
        tracing::warn!(
            operation,
            %target,
            tries = event.tries,
            delay = ?event.delay,
            elapsed = ?event.elapsed,
            error = %event.error,
            "failed, will be tried again"
        );
    }

    fn given_up(&self, failure: Failure<StorageError>) -> StorageError {
        if failure.reason != GaveUp::Permanent {
            self.counters.gave_up.fetch_add(1, Ordering::Relaxed);
        }
        if failure.tries > 1 {
            failure.error.with_attempts(failure.tries)
        } else {
            failure.error
        }
    }
}

/// Whether any call that failed with it may be made again. A write that may have been done is not among them.
fn is_repeatable(error: &StorageError) -> bool {
    error.is_transient()
        && !matches!(
            error.kind(),
            ErrorKind::OutcomeUnknown | ErrorKind::Conflict | ErrorKind::Fenced
        )
}

/// An append that failed for good, after an earlier try that may have stored it.
fn still_unclear(job: &JobAddress, batch: &Batch, last: StorageError) -> StorageError {
    let tries = last.attempts();
    let settle = "append the same batch under the same ids: what is stored is not stored again";
    let hint = match last.hint() {
        Some(first) => format!("{first}; then {settle}"),
        None => settle.to_owned(),
    };
    StorageError::new(
        ErrorKind::OutcomeUnknown,
        "append events",
        job,
        "an earlier try may have stored them, and the last one failed",
    )
    .with_ids(batch.ids())
    .with_attempts(tries)
    .with_hint(hint)
    // The tries are told once.
    .with_source(last.with_attempts(1))
}

#[deny(clippy::missing_trait_methods)]
impl<B: Backend + ?Sized> Backend for Retrying<B> {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn append(
        &self,
        job: &JobAddress,
        batch: &mut Batch,
        options: &AppendOptions,
        deadline: Deadline,
    ) -> Result<Appended> {
        let brought_ids = !batch.ids().is_empty();
        let (unclear, has_ids) = (Cell::new(false), Cell::new(false));
        let result = self.run_where(
            "append events",
            job,
            deadline,
            |error| is_repeatable(error) || (error.kind() == ErrorKind::OutcomeUnknown && has_ids.get()),
            |_| {
                let result = self.inner.append(job, batch, options, deadline);
                if let Err(error) = &result
                    && error.kind() == ErrorKind::OutcomeUnknown
                {
                    self.counters.unclear_appends.fetch_add(1, Ordering::Relaxed);
                    unclear.set(true);
                    if batch.ids().is_empty() && error.ids().len() == batch.len() {
                        batch.set_ids(error.ids().iter().copied());
                    }
                    has_ids.set(batch.ids().len() == batch.len());
                }
                result
            },
        );
        match result {
            // Ids that are new in this call are no one else's: a duplicate is what an earlier try stored.
            Ok(Appended { stored, duplicates }) if !brought_ids => Ok(Appended {
                stored: stored + duplicates,
                duplicates: 0,
            }),
            Err(error) if unclear.get() && error.kind() != ErrorKind::OutcomeUnknown => {
                Err(still_unclear(job, batch, error))
            }
            result => result,
        }
    }

    fn scan(&self, job: &JobAddress, options: &ScanOptions, deadline: Deadline) -> Result<Box<dyn Scan>> {
        self.run("scan events", job, deadline, |inner| {
            inner.scan(job, options, deadline)
        })
    }

    fn log_summary(&self, job: &JobAddress, deadline: Deadline) -> Result<LogSummary> {
        self.run("summarise events", job, deadline, |inner| {
            inner.log_summary(job, deadline)
        })
    }

    fn seal(&self, job: &JobAddress, deadline: Deadline) -> Result<()> {
        self.run("seal events", job, deadline, |inner| inner.seal(job, deadline))
    }

    fn get(&self, document: &Document, deadline: Deadline) -> Result<Option<StoredDocument>> {
        self.run("get document", DocumentPath(document), deadline, |inner| {
            inner.get(document, deadline)
        })
    }

    fn revision(&self, document: &Document, deadline: Deadline) -> Result<Option<Revision>> {
        self.run("get revision", DocumentPath(document), deadline, |inner| {
            inner.revision(document, deadline)
        })
    }

    fn put(
        &self,
        document: &Document,
        body: Body<'_>,
        options: &PutOptions,
        deadline: Deadline,
    ) -> Result<Revision> {
        self.run("put document", DocumentPath(document), deadline, |inner| {
            inner.put(document, body, options, deadline)
        })
    }

    fn add(
        &self,
        job: &JobAddress,
        phase: Phase,
        body: Body<'_>,
        options: &PutOptions,
        deadline: Deadline,
    ) -> Result<Added> {
        self.run("add checkpoint", job, deadline, |inner| {
            inner.add(job, phase, body, options, deadline)
        })
    }

    fn delete(
        &self,
        document: &Document,
        expected: Expected,
        durability: Durability,
        deadline: Deadline,
    ) -> Result<bool> {
        self.run("delete document", DocumentPath(document), deadline, |inner| {
            inner.delete(document, expected, durability, deadline)
        })
    }

    fn list(&self, scope: &DocumentScope, deadline: Deadline) -> Result<Vec<DocumentEntry>> {
        self.run("list documents", "", deadline, |inner| {
            inner.list(scope, deadline)
        })
    }

    fn newest(
        &self,
        job: &JobAddress,
        phase: Phase,
        before: Option<&Document>,
        deadline: Deadline,
    ) -> Result<Option<DocumentEntry>> {
        self.run("find newest document", job, deadline, |inner| {
            inner.newest(job, phase, before, deadline)
        })
    }

    fn queue_put(
        &self,
        job: &JobAddress,
        items: &[QueueItem],
        durability: Durability,
        deadline: Deadline,
    ) -> Result<PutReport> {
        self.run("put items", job, deadline, |inner| {
            inner.queue_put(job, items, durability, deadline)
        })
    }

    fn queue_get(&self, job: &JobAddress, id: &ItemId, deadline: Deadline) -> Result<Option<QueueEntry>> {
        self.run("get item", job, deadline, |inner| {
            inner.queue_get(job, id, deadline)
        })
    }

    fn queue_scan(&self, job: &JobAddress, deadline: Deadline) -> Result<QueueScan<'static>> {
        self.run("read items", job, deadline, |inner| {
            inner.queue_scan(job, deadline)
        })
    }

    fn queue_take(
        &self,
        job: &JobAddress,
        select: &Select,
        limit: usize,
        lease: Duration,
        deadline: Deadline,
    ) -> Result<Vec<QueueEntry>> {
        self.run("take items", job, deadline, |inner| {
            inner.queue_take(job, select, limit, lease, deadline)
        })
    }

    fn queue_ack(
        &self,
        job: &JobAddress,
        tokens: &[LeaseToken],
        deadline: Deadline,
    ) -> Result<Settled<LeaseToken>> {
        self.run("acknowledge items", job, deadline, |inner| {
            inner.queue_ack(job, tokens, deadline)
        })
    }

    fn queue_nack(
        &self,
        job: &JobAddress,
        tokens: &[LeaseToken],
        deadline: Deadline,
    ) -> Result<Settled<LeaseToken>> {
        self.run("give items back", job, deadline, |inner| {
            inner.queue_nack(job, tokens, deadline)
        })
    }

    fn queue_remove(&self, job: &JobAddress, ids: &[ItemId], deadline: Deadline) -> Result<Settled<ItemId>> {
        self.run("remove items", job, deadline, |inner| {
            inner.queue_remove(job, ids, deadline)
        })
    }

    fn lock(&self, name: &LockName, options: &LockOptions, deadline: Deadline) -> Result<Box<dyn LockGuard>> {
        self.run("acquire lock", name, deadline, |inner| {
            inner.lock(name, options, deadline)
        })
    }

    fn locks(&self, deadline: Deadline) -> Result<Vec<LockInfo>> {
        self.run("list locks", "", deadline, |inner| inner.locks(deadline))
    }

    fn repositories(&self, deadline: Deadline) -> Result<Vec<RepoName>> {
        self.run("list repositories", "", deadline, |inner| {
            inner.repositories(deadline)
        })
    }

    fn jobs(&self, repo: &RepoName, deadline: Deadline) -> Result<Vec<JobId>> {
        self.run("list jobs", repo, deadline, |inner| inner.jobs(repo, deadline))
    }

    fn worktree_path(&self, repo: &RepoName, session: &SessionId) -> Result<PathBuf> {
        self.inner.worktree_path(repo, session)
    }

    fn worktrees(&self, repo: &RepoName, deadline: Deadline) -> Result<Vec<SessionId>> {
        self.run("list worktrees", repo, deadline, |inner| {
            inner.worktrees(repo, deadline)
        })
    }

    fn flush(&self, deadline: Deadline) -> Result<()> {
        self.run("flush", "", deadline, |inner| inner.flush(deadline))
    }

    fn health(&self, deadline: Deadline) -> Result<Health> {
        self.inner.health(deadline)
    }

    fn usage(&self, deadline: Deadline) -> Result<Usage> {
        self.run("measure usage", "", deadline, |inner| inner.usage(deadline))
    }

    fn stats(&self, stats: &mut Stats) {
        let counts = self.counts();
        stats.add("retry.retries", counts.retries);
        stats.add("retry.recovered", counts.recovered);
        stats.add("retry.gave_up", counts.gave_up);
        stats.add("retry.unclear_appends", counts.unclear_appends);
        self.inner.stats(stats);
    }
}
