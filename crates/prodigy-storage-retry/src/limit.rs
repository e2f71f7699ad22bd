//! The layer that lets only so many operations run at once.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use prodigy_storage_backend::{
    Added, AppendOptions, Appended, Backend, Batch, Body, Capabilities, Deadline, DocumentEntry, Durability,
    Expected, Health, ItemId, LeaseToken, LockGuard, LockInfo, LockOptions, LogSummary, PutOptions,
    PutReport, QueueEntry, QueueItem, QueueScan, Result, Revision, Scan, ScanOptions, Select, Settled, Stats,
    StorageError, StoredDocument, Usage,
};
use prodigy_storage_layout::{
    Document, DocumentScope, JobAddress, JobId, LockName, Phase, RepoName, SessionId,
};

use crate::document_path::DocumentPath;
use crate::places::{LimitStats, Place, Places};

/// A backend of which at most so many operations run at once: `connection_pool_size`.
///
/// Who finds no place waits, in order of arrival, until the deadline of its call at most, and is then told what it
/// waited for. An operation keeps its place until it returns.
///
/// Two kinds of operation take no place of their own, since they could wait for themselves:
///
/// - Taking a **named lock** ([`lock`](Backend::lock)) may wait for a holder that needs places for its work.
/// - A **scan** and a walk through a queue have a place while they begin, not while they are read: a reader that
///   appends what it reads would otherwise need two.
///
/// Strict appends to one log at the same time **share a place** where the backend syncs them together
/// ([`Capabilities::group_commit`]): what they wait for is one sync. While anyone waits for a place, they wait as all
/// others do.
#[derive(Debug)]
pub struct Limited<B: ?Sized> {
    places: Places,
    group_commit: bool,
    inner: Arc<B>,
}

impl<B: Backend + ?Sized> Limited<B> {
    /// The backend with so many places; 0 counts as 1.
    #[must_use]
    pub fn new(inner: Arc<B>, places: usize) -> Self {
        Self {
            places: Places::new(places),
            group_commit: inner.capabilities().group_commit,
            inner,
        }
    }

    /// The backend that is wrapped.
    #[must_use]
    pub fn inner(&self) -> &Arc<B> {
        &self.inner
    }

    /// What it did, and its state now.
    #[must_use]
    pub fn counts(&self) -> LimitStats {
        self.places.counts()
    }

    fn place(
        &self,
        operation: &'static str,
        target: impl fmt::Display,
        deadline: Deadline,
    ) -> Result<Place<'_>> {
        self.told(operation, target, self.places.take(deadline.instant()))
    }

    fn told<'a>(
        &self,
        operation: &'static str,
        target: impl fmt::Display,
        taken: Result<Place<'a>, Duration>,
    ) -> Result<Place<'a>> {
        // Told only now: not under the lock of the places.
        match &taken {
            Ok(place) => {
                if let Some(waited) = place.waited() {
                    tracing::debug!(operation, %target, waited_ms = millis(waited), "waited for a place");
                }
            }
            Err(waited) => {
                tracing::debug!(operation, %target, waited_ms = millis(*waited), "no place in time");
            }
        }
        taken.map_err(|_| {
            let size = self.places.size();
            let waited_for = format!("a free place to run in, of {size} in all");
            StorageError::timeout(operation, target, &waited_for).with_hint(
                "raise `connection_pool_size` or `timeout`, or find out which operations take so long",
            )
        })
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[deny(clippy::missing_trait_methods)]
impl<B: Backend + ?Sized> Backend for Limited<B> {
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
        let shared = self.group_commit && options.durability == Durability::Strict;
        let taken = if shared {
            self.places.take_among(job, deadline.instant())
        } else {
            self.places.take(deadline.instant())
        };
        let _place = self.told("append events", job, taken)?;
        self.inner.append(job, batch, options, deadline)
    }

    fn scan(&self, job: &JobAddress, options: &ScanOptions, deadline: Deadline) -> Result<Box<dyn Scan>> {
        let _place = self.place("scan events", job, deadline)?;
        self.inner.scan(job, options, deadline)
    }

    fn log_summary(&self, job: &JobAddress, deadline: Deadline) -> Result<LogSummary> {
        let _place = self.place("summarise events", job, deadline)?;
        self.inner.log_summary(job, deadline)
    }

    fn seal(&self, job: &JobAddress, deadline: Deadline) -> Result<()> {
        let _place = self.place("seal events", job, deadline)?;
        self.inner.seal(job, deadline)
    }

    fn get(&self, document: &Document, deadline: Deadline) -> Result<Option<StoredDocument>> {
        let _place = self.place("get document", DocumentPath(document), deadline)?;
        self.inner.get(document, deadline)
    }

    fn revision(&self, document: &Document, deadline: Deadline) -> Result<Option<Revision>> {
        let _place = self.place("get revision", DocumentPath(document), deadline)?;
        self.inner.revision(document, deadline)
    }

    fn put(
        &self,
        document: &Document,
        body: Body<'_>,
        options: &PutOptions,
        deadline: Deadline,
    ) -> Result<Revision> {
        let _place = self.place("put document", DocumentPath(document), deadline)?;
        self.inner.put(document, body, options, deadline)
    }

    fn add(
        &self,
        job: &JobAddress,
        phase: Phase,
        body: Body<'_>,
        options: &PutOptions,
        deadline: Deadline,
    ) -> Result<Added> {
        let _place = self.place("add checkpoint", job, deadline)?;
        self.inner.add(job, phase, body, options, deadline)
    }

    fn delete(
        &self,
        document: &Document,
        expected: Expected,
        durability: Durability,
        deadline: Deadline,
    ) -> Result<bool> {
        let _place = self.place("delete document", DocumentPath(document), deadline)?;
        self.inner.delete(document, expected, durability, deadline)
    }

    fn list(&self, scope: &DocumentScope, deadline: Deadline) -> Result<Vec<DocumentEntry>> {
        let _place = self.place("list documents", "", deadline)?;
        self.inner.list(scope, deadline)
    }

    fn newest(
        &self,
        job: &JobAddress,
        phase: Phase,
        before: Option<&Document>,
        deadline: Deadline,
    ) -> Result<Option<DocumentEntry>> {
        let _place = self.place("find newest document", job, deadline)?;
        self.inner.newest(job, phase, before, deadline)
    }

    fn queue_put(
        &self,
        job: &JobAddress,
        items: &[QueueItem],
        durability: Durability,
        deadline: Deadline,
    ) -> Result<PutReport> {
        let _place = self.place("put items", job, deadline)?;
        self.inner.queue_put(job, items, durability, deadline)
    }

    fn queue_get(&self, job: &JobAddress, id: &ItemId, deadline: Deadline) -> Result<Option<QueueEntry>> {
        let _place = self.place("get item", job, deadline)?;
        self.inner.queue_get(job, id, deadline)
    }

    fn queue_scan(&self, job: &JobAddress, deadline: Deadline) -> Result<QueueScan<'static>> {
        let _place = self.place("read items", job, deadline)?;
        self.inner.queue_scan(job, deadline)
    }

    fn queue_take(
        &self,
        job: &JobAddress,
        select: &Select,
        limit: usize,
        lease: Duration,
        deadline: Deadline,
    ) -> Result<Vec<QueueEntry>> {
        let _place = self.place("take items", job, deadline)?;
        self.inner.queue_take(job, select, limit, lease, deadline)
    }

    fn queue_ack(
        &self,
        job: &JobAddress,
        tokens: &[LeaseToken],
        deadline: Deadline,
    ) -> Result<Settled<LeaseToken>> {
        let _place = self.place("acknowledge items", job, deadline)?;
        self.inner.queue_ack(job, tokens, deadline)
    }

    fn queue_nack(
        &self,
        job: &JobAddress,
        tokens: &[LeaseToken],
        deadline: Deadline,
    ) -> Result<Settled<LeaseToken>> {
        let _place = self.place("give items back", job, deadline)?;
        self.inner.queue_nack(job, tokens, deadline)
    }

    fn queue_remove(&self, job: &JobAddress, ids: &[ItemId], deadline: Deadline) -> Result<Settled<ItemId>> {
        let _place = self.place("remove items", job, deadline)?;
        self.inner.queue_remove(job, ids, deadline)
    }

    fn lock(&self, name: &LockName, options: &LockOptions, deadline: Deadline) -> Result<Box<dyn LockGuard>> {
        self.inner.lock(name, options, deadline)
    }

    fn locks(&self, deadline: Deadline) -> Result<Vec<LockInfo>> {
        let _place = self.place("list locks", "", deadline)?;
        self.inner.locks(deadline)
    }

    fn repositories(&self, deadline: Deadline) -> Result<Vec<RepoName>> {
        let _place = self.place("list repositories", "", deadline)?;
        self.inner.repositories(deadline)
    }

    fn jobs(&self, repo: &RepoName, deadline: Deadline) -> Result<Vec<JobId>> {
        let _place = self.place("list jobs", repo, deadline)?;
        self.inner.jobs(repo, deadline)
    }

    fn worktree_path(&self, repo: &RepoName, session: &SessionId) -> Result<PathBuf> {
        self.inner.worktree_path(repo, session)
    }

    fn worktrees(&self, repo: &RepoName, deadline: Deadline) -> Result<Vec<SessionId>> {
        let _place = self.place("list worktrees", repo, deadline)?;
        self.inner.worktrees(repo, deadline)
    }

    fn flush(&self, deadline: Deadline) -> Result<()> {
        let _place = self.place("flush", "", deadline)?;
        self.inner.flush(deadline)
    }

    fn health(&self, deadline: Deadline) -> Result<Health> {
        let _place = self.place("check health", "", deadline)?;
        self.inner.health(deadline)
    }

    fn usage(&self, deadline: Deadline) -> Result<Usage> {
        let _place = self.place("measure usage", "", deadline)?;
        self.inner.usage(deadline)
    }

    fn stats(&self, stats: &mut Stats) {
        let counts = self.counts();
        stats.add("limit.waits", counts.waits);
        stats.add("limit.timeouts", counts.timeouts);
        stats.add("limit.waited_ms", millis(counts.waited));
        self.inner.stats(stats);
    }
}
