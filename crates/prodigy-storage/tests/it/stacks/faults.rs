//! A layer that fails at random, from a seed.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prodigy_storage::{
    Added, Appended, Backend, Batch, Capabilities, Deadline, Document, DocumentEntry, Durability, ErrorKind,
    Expected, Health, ItemId, JobAddress, JobId, LeaseToken, LockInfo, LockName, LogSummary, Phase,
    PutReport, RepoName, Result, Revision, Select, SessionId, Settled, Stats, StorageError, Usage,
};
use prodigy_storage_backend::{
    AppendOptions, Body, LockGuard, LockOptions, PutOptions, QueueEntry, QueueItem, QueueScan, Scan,
    ScanOptions, StoredDocument,
};
use prodigy_storage_layout::DocumentScope;

/// Of 100 calls so many fail.
const FAILING: u64 = 30;
/// Of 100 appends that fail so many are unclear.
const UNCLEAR: u64 = 50;

/// A backend of which 30 % of the calls fail with an error that passes, at random, and half of the failing appends
/// as unclear. Nothing of a call that fails is done, but for an unclear append.
///
/// An unclear append of events that brought no ids was done. Of events that brought ids it was not, so that an answer
/// of how many were stored is right also after a retry; unless [`stores_given`](Self::stores_given).
///
/// A call whose deadline has passed goes through: the backend is the one to say so.
#[derive(Debug)]
pub struct Faulty<B: ?Sized> {
    dice: AtomicU64,
    stores_given: bool,
    failed: AtomicU64,
    inner: Arc<B>,
}

enum Fault {
    Failed,
    Unclear,
}

impl<B: Backend + ?Sized> Faulty<B> {
    pub fn new(inner: Arc<B>, seed: u64) -> Self {
        Self {
            dice: AtomicU64::new(seed),
            stores_given: false,
            failed: AtomicU64::new(0),
            inner,
        }
    }

    /// An unclear append of events that brought ids is done too.
    pub fn stores_given(mut self) -> Self {
        self.stores_given = true;
        self
    }

    /// The next number of the stream (SplitMix64).
    fn roll(&self) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut n = self.dice.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        n ^ (n >> 31)
    }

    fn fault(&self, deadline: Deadline) -> Option<Fault> {
        let number = self.roll();
        if number % 100 >= FAILING || deadline.has_passed() {
            return None;
        }
        self.failed.fetch_add(1, Ordering::Relaxed);
        Some(if (number / 100) % 100 < UNCLEAR {
            Fault::Unclear
        } else {
            Fault::Failed
        })
    }

    fn run<T>(
        &self,
        operation: &'static str,
        deadline: Deadline,
        call: impl FnOnce(&B) -> Result<T>,
    ) -> Result<T> {
        match self.fault(deadline) {
            Some(_) => Err(failed(operation)),
            None => call(&self.inner),
        }
    }
}

fn failed(operation: &'static str) -> StorageError {
    StorageError::new(ErrorKind::Io, operation, "", "a fault that passes").transient()
}

#[deny(clippy::missing_trait_methods)]
impl<B: Backend + ?Sized> Backend for Faulty<B> {
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
        match self.fault(deadline) {
            None => return self.inner.append(job, batch, options, deadline),
            Some(Fault::Failed) => return Err(failed("append events")),
            Some(Fault::Unclear) => {}
        }
        let given = batch.ids().len();
        // Refused for what it is, or stored.
        if self.stores_given || given == 0 || given != batch.len() || !batch.ids().iter().all(|id| id.is_v7())
        {
            self.inner.append(job, batch, options, deadline)?;
        }
        let why = "a fault that may have struck after the write";
        Err(
            StorageError::new(ErrorKind::OutcomeUnknown, "append events", job, why)
                .with_ids(batch.ids())
                .transient(),
        )
    }

    fn scan(&self, job: &JobAddress, options: &ScanOptions, deadline: Deadline) -> Result<Box<dyn Scan>> {
        self.run("scan events", deadline, |inner| {
            inner.scan(job, options, deadline)
        })
    }

    fn log_summary(&self, job: &JobAddress, deadline: Deadline) -> Result<LogSummary> {
        self.run("summarise events", deadline, |inner| {
            inner.log_summary(job, deadline)
        })
    }

    fn seal(&self, job: &JobAddress, deadline: Deadline) -> Result<()> {
        self.run("seal events", deadline, |inner| inner.seal(job, deadline))
    }

    fn get(&self, document: &Document, deadline: Deadline) -> Result<Option<StoredDocument>> {
        self.run("get document", deadline, |inner| inner.get(document, deadline))
    }

    fn revision(&self, document: &Document, deadline: Deadline) -> Result<Option<Revision>> {
        self.run("get revision", deadline, |inner| {
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
        self.run("put document", deadline, |inner| {
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
        self.run("add checkpoint", deadline, |inner| {
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
        self.run("delete document", deadline, |inner| {
            inner.delete(document, expected, durability, deadline)
        })
    }

    fn list(&self, scope: &DocumentScope, deadline: Deadline) -> Result<Vec<DocumentEntry>> {
        self.run("list documents", deadline, |inner| inner.list(scope, deadline))
    }

    fn newest(
        &self,
        job: &JobAddress,
        phase: Phase,
        before: Option<&Document>,
        deadline: Deadline,
    ) -> Result<Option<DocumentEntry>> {
        self.run("find newest document", deadline, |inner| {
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
        self.run("put items", deadline, |inner| {
            inner.queue_put(job, items, durability, deadline)
        })
    }

    fn queue_get(&self, job: &JobAddress, id: &ItemId, deadline: Deadline) -> Result<Option<QueueEntry>> {
        self.run("get item", deadline, |inner| inner.queue_get(job, id, deadline))
    }

    fn queue_scan(&self, job: &JobAddress, deadline: Deadline) -> Result<QueueScan<'static>> {
        self.run("read items", deadline, |inner| inner.queue_scan(job, deadline))
    }

    fn queue_take(
        &self,
        job: &JobAddress,
        select: &Select,
        limit: usize,
        lease: Duration,
        deadline: Deadline,
    ) -> Result<Vec<QueueEntry>> {
        self.run("take items", deadline, |inner| {
            inner.queue_take(job, select, limit, lease, deadline)
        })
    }

    fn queue_ack(
        &self,
        job: &JobAddress,
        tokens: &[LeaseToken],
        deadline: Deadline,
    ) -> Result<Settled<LeaseToken>> {
        self.run("acknowledge items", deadline, |inner| {
            inner.queue_ack(job, tokens, deadline)
        })
    }

    fn queue_nack(
        &self,
        job: &JobAddress,
        tokens: &[LeaseToken],
        deadline: Deadline,
    ) -> Result<Settled<LeaseToken>> {
        self.run("give items back", deadline, |inner| {
            inner.queue_nack(job, tokens, deadline)
        })
    }

    fn queue_remove(&self, job: &JobAddress, ids: &[ItemId], deadline: Deadline) -> Result<Settled<ItemId>> {
        self.run("remove items", deadline, |inner| {
            inner.queue_remove(job, ids, deadline)
        })
    }

    fn lock(&self, name: &LockName, options: &LockOptions, deadline: Deadline) -> Result<Box<dyn LockGuard>> {
        self.run("acquire lock", deadline, |inner| {
            inner.lock(name, options, deadline)
        })
    }

    fn locks(&self, deadline: Deadline) -> Result<Vec<LockInfo>> {
        self.run("list locks", deadline, |inner| inner.locks(deadline))
    }

    fn repositories(&self, deadline: Deadline) -> Result<Vec<RepoName>> {
        self.run("list repositories", deadline, |inner| {
            inner.repositories(deadline)
        })
    }

    fn jobs(&self, repo: &RepoName, deadline: Deadline) -> Result<Vec<JobId>> {
        self.run("list jobs", deadline, |inner| inner.jobs(repo, deadline))
    }

    fn worktree_path(&self, repo: &RepoName, session: &SessionId) -> Result<PathBuf> {
        self.inner.worktree_path(repo, session)
    }

    fn worktrees(&self, repo: &RepoName, deadline: Deadline) -> Result<Vec<SessionId>> {
        self.run("list worktrees", deadline, |inner| {
            inner.worktrees(repo, deadline)
        })
    }

    fn flush(&self, deadline: Deadline) -> Result<()> {
        self.run("flush", deadline, |inner| inner.flush(deadline))
    }

    /// Never fails: trouble is what it shows, so no layer retries it.
    fn health(&self, deadline: Deadline) -> Result<Health> {
        self.inner.health(deadline)
    }

    fn usage(&self, deadline: Deadline) -> Result<Usage> {
        self.run("measure usage", deadline, |inner| inner.usage(deadline))
    }

    fn stats(&self, stats: &mut Stats) {
        stats.add("faults.failed", self.failed.load(Ordering::Relaxed));
        self.inner.stats(stats);
    }
}
