//! The layer that refuses every write.

use std::path::PathBuf;
use std::sync::Arc;
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

/// A backend for reading only, for one that can't be opened so itself.
#[derive(Debug)]
pub(crate) struct ReadOnly(pub(crate) Arc<dyn Backend>);

fn refuse<T>(operation: &'static str, target: impl std::fmt::Display) -> Result<T> {
    let why = "the handle was opened for reading only";
    Err(StorageError::new(ErrorKind::ReadOnly, operation, target, why)
        .with_hint("open it without `read_only`"))
}

#[deny(clippy::missing_trait_methods)]
impl Backend for ReadOnly {
    fn capabilities(&self) -> Capabilities {
        let mut capabilities = self.0.capabilities();
        capabilities.read_only = true;
        capabilities
    }

    fn append(&self, job: &JobAddress, _: &mut Batch, _: &AppendOptions, _: Deadline) -> Result<Appended> {
        refuse("append events", job)
    }

    fn scan(&self, job: &JobAddress, options: &ScanOptions, deadline: Deadline) -> Result<Box<dyn Scan>> {
        self.0.scan(job, options, deadline)
    }

    fn log_summary(&self, job: &JobAddress, deadline: Deadline) -> Result<LogSummary> {
        self.0.log_summary(job, deadline)
    }

    fn seal(&self, job: &JobAddress, _: Deadline) -> Result<()> {
        refuse("seal events", job)
    }

    fn get(&self, document: &Document, deadline: Deadline) -> Result<Option<StoredDocument>> {
        self.0.get(document, deadline)
    }

    fn revision(&self, document: &Document, deadline: Deadline) -> Result<Option<Revision>> {
        self.0.revision(document, deadline)
    }

    fn put(&self, document: &Document, _: Body<'_>, _: &PutOptions, _: Deadline) -> Result<Revision> {
        refuse("put document", document.repo())
    }

    fn add(&self, job: &JobAddress, _: Phase, _: Body<'_>, _: &PutOptions, _: Deadline) -> Result<Added> {
        refuse("add checkpoint", job)
    }

    fn delete(&self, document: &Document, _: Expected, _: Durability, _: Deadline) -> Result<bool> {
        refuse("delete document", document.repo())
    }

    fn list(&self, scope: &DocumentScope, deadline: Deadline) -> Result<Vec<DocumentEntry>> {
        self.0.list(scope, deadline)
    }

    fn newest(
        &self,
        job: &JobAddress,
        phase: Phase,
        before: Option<&Document>,
        deadline: Deadline,
    ) -> Result<Option<DocumentEntry>> {
        self.0.newest(job, phase, before, deadline)
    }

    fn queue_put(&self, job: &JobAddress, _: &[QueueItem], _: Durability, _: Deadline) -> Result<PutReport> {
        refuse("put items", job)
    }

    fn queue_get(&self, job: &JobAddress, id: &ItemId, deadline: Deadline) -> Result<Option<QueueEntry>> {
        self.0.queue_get(job, id, deadline)
    }

    fn queue_scan(&self, job: &JobAddress, deadline: Deadline) -> Result<QueueScan<'static>> {
        self.0.queue_scan(job, deadline)
    }

    fn queue_take(
        &self,
        job: &JobAddress,
        _: &Select,
        _: usize,
        _: Duration,
        _: Deadline,
    ) -> Result<Vec<QueueEntry>> {
        refuse("take items", job)
    }

    fn queue_ack(&self, job: &JobAddress, _: &[LeaseToken], _: Deadline) -> Result<Settled<LeaseToken>> {
        refuse("acknowledge items", job)
    }

    fn queue_nack(&self, job: &JobAddress, _: &[LeaseToken], _: Deadline) -> Result<Settled<LeaseToken>> {
        refuse("give items back", job)
    }

    fn queue_remove(&self, job: &JobAddress, _: &[ItemId], _: Deadline) -> Result<Settled<ItemId>> {
        refuse("remove items", job)
    }

    fn lock(&self, name: &LockName, _: &LockOptions, _: Deadline) -> Result<Box<dyn LockGuard>> {
        refuse("acquire lock", name)
    }

    fn locks(&self, deadline: Deadline) -> Result<Vec<LockInfo>> {
        self.0.locks(deadline)
    }

    fn repositories(&self, deadline: Deadline) -> Result<Vec<RepoName>> {
        self.0.repositories(deadline)
    }

    fn jobs(&self, repo: &RepoName, deadline: Deadline) -> Result<Vec<JobId>> {
        self.0.jobs(repo, deadline)
    }

    fn worktree_path(&self, repo: &RepoName, session: &SessionId) -> Result<PathBuf> {
        self.0.worktree_path(repo, session)
    }

    fn worktrees(&self, repo: &RepoName, deadline: Deadline) -> Result<Vec<SessionId>> {
        self.0.worktrees(repo, deadline)
    }

    /// There is nothing of this handle to flush.
    fn flush(&self, _: Deadline) -> Result<()> {
        Ok(())
    }

    fn health(&self, deadline: Deadline) -> Result<Health> {
        self.0.health(deadline)
    }

    fn usage(&self, deadline: Deadline) -> Result<Usage> {
        self.0.usage(deadline)
    }

    fn stats(&self, stats: &mut Stats) {
        self.0.stats(stats);
    }
}
