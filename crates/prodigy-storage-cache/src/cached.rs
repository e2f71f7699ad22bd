//! The layer that keeps documents.

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
    Document, DocumentScope, Entry, JobAddress, JobId, LockName, Phase, RepoName, SessionId,
};

use crate::cache::{Cache, Loaded};
use crate::error::LoadError;
use crate::lru_ttl::Clock;
use crate::settings::CacheSettings;
use crate::stats::{CacheStats, Step};

/// What an entry takes beside its document: key, links and table, about.
const OVERHEAD: u64 = 512;

/// A backend whose documents are kept in memory, and never served when they are out of date.
///
/// - Each hit is compared with the backend's revision of the document ([`Backend::revision`]), so that what another
///   process wrote is never hidden: a hit saves reading and verifying a document, not asking for it. Nothing is
///   copied: who gets a document shares its bytes with the cache.
/// - Which document is the **latest** of a series is the backend's answer every time: listings are not kept.
/// - A write through this layer forgets its document, whatever came of it; the next read loads it. So a read sees
///   the own write at once.
/// - Threads that miss one document at the same time load it once; one that waits does so until its deadline.
/// - A document that does not exist is not kept, nor is a failed load, nor a document heavier than the whole cache.
///
/// Logs, queues and locks pass through.
///
/// Put it outside of the retry layer, so that the check of a hit is retried too.
#[derive(Debug)]
pub struct Cached<B: ?Sized> {
    cache: Cache<Document, Option<StoredDocument>>,
    max_bytes: u64,
    inner: Arc<B>,
}

impl<B: Backend + ?Sized> Cached<B> {
    /// The backend with an empty cache, whose entries age on the system's clock.
    #[must_use]
    pub fn new(inner: Arc<B>, settings: &CacheSettings) -> Self {
        Self {
            cache: Cache::new(settings),
            max_bytes: settings.max_bytes,
            inner,
        }
    }

    /// The same, with entries that age on a clock of the caller's.
    #[must_use]
    pub fn with_clock(inner: Arc<B>, settings: &CacheSettings, clock: Clock) -> Self {
        Self {
            cache: Cache::with_clock(settings, clock),
            max_bytes: settings.max_bytes,
            inner,
        }
    }

    /// The backend that is wrapped.
    #[must_use]
    pub fn inner(&self) -> &Arc<B> {
        &self.inner
    }

    /// What it did, and its size now.
    #[must_use]
    pub fn counts(&self) -> CacheStats {
        self.cache.stats()
    }

    /// Forgets every document.
    pub fn clear(&self) {
        self.cache.clear();
    }

    fn is_current(
        &self,
        document: &Document,
        found: Option<&StoredDocument>,
        deadline: Deadline,
    ) -> Result<bool> {
        Ok(self.inner.revision(document, deadline)? == found.map(StoredDocument::revision))
    }

    fn load(&self, document: &Document, deadline: Deadline) -> Result<Loaded<Option<StoredDocument>>> {
        let Some(stored) = self.inner.get(document, deadline)? else {
            return Ok(Loaded::pass(None));
        };
        let weight = u64::try_from(stored.weight())
            .unwrap_or(u64::MAX)
            .saturating_add(OVERHEAD);
        Ok(if weight > self.max_bytes {
            Loaded::pass(Some(stored))
        } else {
            Loaded::keep(Some(stored), weight)
        })
    }
}

/// Tells `tracing` of a counter that was raised. What is evicted is another document than this one, which took its
/// place.
fn tell(document: &Document, step: Step) {
    let path = DocumentPath(document);
    match step {
        Step::Hit => tracing::trace!(document = %path, "cache hit"),
        Step::Miss => tracing::trace!(document = %path, "cache miss"),
        Step::Shared => tracing::trace!(document = %path, "cache load shared"),
        Step::Stale => tracing::trace!(document = %path, "cache entry stale"),
        Step::FailedLoad => tracing::debug!(document = %path, "cache load failed"),
        Step::Evicted => tracing::trace!(replaced_by = %path, "cache entry evicted"),
    }
}

/// Shows the path of a document; made only when it is shown.
struct DocumentPath<'a>(&'a Document);

impl fmt::Display for DocumentPath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Entry::Document(self.0.clone()).path().display())
    }
}

#[deny(clippy::missing_trait_methods)]
impl<B: Backend + ?Sized> Backend for Cached<B> {
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
        self.inner.append(job, batch, options, deadline)
    }

    fn scan(&self, job: &JobAddress, options: &ScanOptions, deadline: Deadline) -> Result<Box<dyn Scan>> {
        self.inner.scan(job, options, deadline)
    }

    fn log_summary(&self, job: &JobAddress, deadline: Deadline) -> Result<LogSummary> {
        self.inner.log_summary(job, deadline)
    }

    fn seal(&self, job: &JobAddress, deadline: Deadline) -> Result<()> {
        self.inner.seal(job, deadline)
    }

    fn get(&self, document: &Document, deadline: Deadline) -> Result<Option<StoredDocument>> {
        let found = self.cache.get_or_load_told(
            document,
            deadline.instant(),
            |found| self.is_current(document, found.as_ref(), deadline),
            || self.load(document, deadline),
            &|step| tell(document, step),
        );
        match found {
            Ok(found) => Ok(found),
            Err(LoadError::Failed(error)) => Err(error),
            Err(LoadError::WaitTimedOut { .. }) => {
                let path = Entry::Document(document.clone()).path();
                Err(StorageError::timeout(
                    "get document",
                    path.display(),
                    "another thread that loads the same document into the cache",
                ))
            }
        }
    }

    fn revision(&self, document: &Document, deadline: Deadline) -> Result<Option<Revision>> {
        self.inner.revision(document, deadline)
    }

    fn put(
        &self,
        document: &Document,
        body: Body<'_>,
        options: &PutOptions,
        deadline: Deadline,
    ) -> Result<Revision> {
        let result = self.inner.put(document, body, options, deadline);
        self.cache.remove(document);
        result
    }

    fn add(
        &self,
        job: &JobAddress,
        phase: Phase,
        body: Body<'_>,
        options: &PutOptions,
        deadline: Deadline,
    ) -> Result<Added> {
        let result = self.inner.add(job, phase, body, options, deadline);
        // Every other phase gets a new name at each addition.
        if phase == Phase::Setup {
            self.cache.remove(&Document::Setup(job.clone()));
        }
        result
    }

    fn delete(
        &self,
        document: &Document,
        expected: Expected,
        durability: Durability,
        deadline: Deadline,
    ) -> Result<bool> {
        let result = self.inner.delete(document, expected, durability, deadline);
        self.cache.remove(document);
        result
    }

    fn list(&self, scope: &DocumentScope, deadline: Deadline) -> Result<Vec<DocumentEntry>> {
        self.inner.list(scope, deadline)
    }

    fn newest(
        &self,
        job: &JobAddress,
        phase: Phase,
        before: Option<&Document>,
        deadline: Deadline,
    ) -> Result<Option<DocumentEntry>> {
        self.inner.newest(job, phase, before, deadline)
    }

    fn queue_put(
        &self,
        job: &JobAddress,
        items: &[QueueItem],
        durability: Durability,
        deadline: Deadline,
    ) -> Result<PutReport> {
        self.inner.queue_put(job, items, durability, deadline)
    }

    fn queue_get(&self, job: &JobAddress, id: &ItemId, deadline: Deadline) -> Result<Option<QueueEntry>> {
        self.inner.queue_get(job, id, deadline)
    }

    fn queue_scan(&self, job: &JobAddress, deadline: Deadline) -> Result<QueueScan<'static>> {
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
        self.inner.queue_take(job, select, limit, lease, deadline)
    }

    fn queue_ack(
        &self,
        job: &JobAddress,
        tokens: &[LeaseToken],
        deadline: Deadline,
    ) -> Result<Settled<LeaseToken>> {
        self.inner.queue_ack(job, tokens, deadline)
    }

    fn queue_nack(
        &self,
        job: &JobAddress,
        tokens: &[LeaseToken],
        deadline: Deadline,
    ) -> Result<Settled<LeaseToken>> {
        self.inner.queue_nack(job, tokens, deadline)
    }

    fn queue_remove(&self, job: &JobAddress, ids: &[ItemId], deadline: Deadline) -> Result<Settled<ItemId>> {
        self.inner.queue_remove(job, ids, deadline)
    }

    fn lock(&self, name: &LockName, options: &LockOptions, deadline: Deadline) -> Result<Box<dyn LockGuard>> {
        self.inner.lock(name, options, deadline)
    }

    fn locks(&self, deadline: Deadline) -> Result<Vec<LockInfo>> {
        self.inner.locks(deadline)
    }

    fn repositories(&self, deadline: Deadline) -> Result<Vec<RepoName>> {
        self.inner.repositories(deadline)
    }

    fn jobs(&self, repo: &RepoName, deadline: Deadline) -> Result<Vec<JobId>> {
        self.inner.jobs(repo, deadline)
    }

    fn worktree_path(&self, repo: &RepoName, session: &SessionId) -> Result<PathBuf> {
        self.inner.worktree_path(repo, session)
    }

    fn worktrees(&self, repo: &RepoName, deadline: Deadline) -> Result<Vec<SessionId>> {
        self.inner.worktrees(repo, deadline)
    }

    fn flush(&self, deadline: Deadline) -> Result<()> {
        self.inner.flush(deadline)
    }

    fn health(&self, deadline: Deadline) -> Result<Health> {
        self.inner.health(deadline)
    }

    fn usage(&self, deadline: Deadline) -> Result<Usage> {
        self.inner.usage(deadline)
    }

    fn stats(&self, stats: &mut Stats) {
        let counts = self.counts();
        stats.add("cache.hits", counts.hits);
        stats.add("cache.misses", counts.misses);
        stats.add("cache.shared", counts.shared);
        stats.add("cache.stale", counts.stale);
        stats.add("cache.failed_loads", counts.failed_loads);
        stats.add("cache.evicted", counts.evicted);
        stats.add("cache.expired", counts.expired);
        stats.add("cache.entries", u64::try_from(counts.entries).unwrap_or(u64::MAX));
        stats.add("cache.bytes", counts.bytes);
        self.inner.stats(stats);
    }
}
