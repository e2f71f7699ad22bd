//! The file backend as a [`Backend`].

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use prodigy_storage_backend::{
    Added, AppendOptions, Appended, Backend, Batch, Body, Capabilities, Cursor, Deadline, DocumentEntry,
    Durability, ErrorKind, Expected, Health, ItemId, LeaseToken, LockGuard, LockInfo, LockOptions,
    LogSummary, PutOptions, PutReport, QueueEntry, QueueItem, QueueScan, Result, Revision, Scan, ScanOptions,
    Select, Settled, Stats, StorageError, StoredDocument, Usage,
};
use prodigy_storage_layout::{
    Document, DocumentScope, JobAddress, JobId, LockName, Phase, RepoName, SessionId,
};

use crate::fs::{FileSystem, RealFs};
use crate::options::FileOptions;
use crate::store::Store;
use crate::{root, usage};

/// The stores that are open in this process: all handles on one root share its writers.
static OPEN: LazyLock<Mutex<HashMap<String, Weak<Store>>>> = LazyLock::new(Mutex::default);

/// Files below one root, as `docs/on-disk-format.md` describes them.
///
/// Cheap to clone. All handles of a process that were opened on one root with the same options share one writer a
/// log, and so its syncs.
#[derive(Clone, Debug)]
pub struct FileBackend {
    store: Arc<Store>,
}

impl FileBackend {
    /// Opens a root. Nothing is created: the first write does that.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] for a root that any user may write to, one that is no folder, or one on a network file
    /// system; [`ErrorKind::NewerFormat`] for one that a newer version wrote.
    pub fn open(mut options: FileOptions) -> Result<Self> {
        if options.compression && !cfg!(feature = "compression") {
            return Err(StorageError::new(
                ErrorKind::Unsupported,
                "open storage",
                options.root.display(),
                "this build can't compress",
            )
            .with_hint("build with the feature `compression`, or set `enable_compression: false`"));
        }
        options.root = canonical(&options.root);
        let key = format!("{options:?}");
        let mut open = OPEN.lock();
        if let Some(store) = open.get(&key).and_then(Weak::upgrade) {
            root::check(&store)?;
            return Ok(Self { store });
        }
        open.retain(|_, store| store.strong_count() > 0);
        let store = Arc::new(Store::new(Arc::new(RealFs::new(&options.root)), options));
        root::check(&store)?;
        open.insert(key, Arc::downgrade(&store));
        Ok(Self { store })
    }

    /// Opens a root on another file system, sharing nothing with other handles: for tests.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_on(file_system: Arc<dyn FileSystem>, options: FileOptions) -> Result<Self> {
        let store = Arc::new(Store::new(file_system, options));
        root::check(&store)?;
        Ok(Self { store })
    }
}

/// The path without links, as far as it exists.
pub(crate) fn canonical(root: &std::path::Path) -> PathBuf {
    let absolute = std::path::absolute(root).unwrap_or_else(|_| root.to_owned());
    for folder in absolute.ancestors() {
        if let Ok(found) = folder.canonicalize() {
            return match absolute.strip_prefix(folder) {
                Ok(rest) if !rest.as_os_str().is_empty() => found.join(rest),
                _ => found,
            };
        }
    }
    absolute
}

#[deny(clippy::missing_trait_methods)]
impl Backend for FileBackend {
    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::new("file");
        capabilities.root = Some(self.store.options.root.clone());
        capabilities.persistent = true;
        capabilities.multi_process = self.store.options.file_locks;
        capabilities.read_only = self.store.options.read_only;
        capabilities
    }

    fn append(
        &self,
        job: &JobAddress,
        batch: &mut Batch,
        options: &AppendOptions,
        deadline: Deadline,
    ) -> Result<Appended> {
        self.store.append(job, batch, options, deadline)
    }

    fn scan(&self, job: &JobAddress, options: &ScanOptions, deadline: Deadline) -> Result<Box<dyn Scan>> {
        self.store.scan(job, options, deadline)
    }

    fn log_summary(&self, job: &JobAddress, deadline: Deadline) -> Result<LogSummary> {
        self.store.log_summary(job, deadline)
    }

    fn seal(&self, job: &JobAddress, deadline: Deadline) -> Result<()> {
        self.store.seal(job, deadline)
    }

    fn persist(&self, job: &JobAddress, cursor: &Cursor, deadline: Deadline) -> Result<()> {
        self.store.persist(job, cursor, deadline)
    }

    fn get(&self, document: &Document, deadline: Deadline) -> Result<Option<StoredDocument>> {
        self.store.get(document, deadline)
    }

    fn revision(&self, document: &Document, deadline: Deadline) -> Result<Option<Revision>> {
        self.store.revision(document, deadline)
    }

    fn put(
        &self,
        document: &Document,
        body: Body<'_>,
        options: &PutOptions,
        deadline: Deadline,
    ) -> Result<Revision> {
        self.store.put(document, body, options, deadline)
    }

    fn add(
        &self,
        job: &JobAddress,
        phase: Phase,
        body: Body<'_>,
        options: &PutOptions,
        deadline: Deadline,
    ) -> Result<Added> {
        self.store.add(job, phase, body, options, deadline)
    }

    fn delete(
        &self,
        document: &Document,
        expected: Expected,
        durability: Durability,
        deadline: Deadline,
    ) -> Result<bool> {
        self.store.delete(document, expected, durability, deadline)
    }

    fn list(&self, scope: &DocumentScope, deadline: Deadline) -> Result<Vec<DocumentEntry>> {
        self.store.list(scope, deadline)
    }

    fn newest(
        &self,
        job: &JobAddress,
        phase: Phase,
        before: Option<&Document>,
        deadline: Deadline,
    ) -> Result<Option<DocumentEntry>> {
        self.store.newest(job, phase, before, deadline)
    }

    fn queue_put(
        &self,
        job: &JobAddress,
        items: &[QueueItem],
        durability: Durability,
        deadline: Deadline,
    ) -> Result<PutReport> {
        self.store.queue_put(job, items, durability, deadline)
    }

    fn queue_get(&self, job: &JobAddress, id: &ItemId, deadline: Deadline) -> Result<Option<QueueEntry>> {
        self.store.queue_get(job, id, deadline)
    }

    fn queue_scan(&self, job: &JobAddress, deadline: Deadline) -> Result<QueueScan<'static>> {
        self.store.queue_scan(job, deadline)
    }

    fn queue_take(
        &self,
        job: &JobAddress,
        select: &Select,
        limit: usize,
        lease: Duration,
        deadline: Deadline,
    ) -> Result<Vec<QueueEntry>> {
        self.store.queue_take(job, select, limit, lease, deadline)
    }

    fn queue_ack(
        &self,
        job: &JobAddress,
        tokens: &[LeaseToken],
        deadline: Deadline,
    ) -> Result<Settled<LeaseToken>> {
        self.store.queue_ack(job, tokens, deadline)
    }

    fn queue_nack(
        &self,
        job: &JobAddress,
        tokens: &[LeaseToken],
        deadline: Deadline,
    ) -> Result<Settled<LeaseToken>> {
        self.store.queue_nack(job, tokens, deadline)
    }

    fn queue_remove(&self, job: &JobAddress, ids: &[ItemId], deadline: Deadline) -> Result<Settled<ItemId>> {
        self.store.queue_remove(job, ids, deadline)
    }

    fn lock(&self, name: &LockName, options: &LockOptions, deadline: Deadline) -> Result<Box<dyn LockGuard>> {
        self.store.lock(name, options, deadline)
    }

    fn locks(&self, deadline: Deadline) -> Result<Vec<LockInfo>> {
        self.store.locks(deadline)
    }

    fn repositories(&self, deadline: Deadline) -> Result<Vec<RepoName>> {
        self.store.repositories(deadline)
    }

    fn jobs(&self, repo: &RepoName, deadline: Deadline) -> Result<Vec<JobId>> {
        self.store.jobs(repo, deadline)
    }

    fn is_active(&self, repo: &RepoName, deadline: Deadline) -> Result<bool> {
        self.store.is_active(repo, deadline)
    }

    fn worktree_path(&self, repo: &RepoName, session: &SessionId) -> Result<PathBuf> {
        self.store.worktree_path(repo, session)
    }

    fn worktrees(&self, repo: &RepoName, deadline: Deadline) -> Result<Vec<SessionId>> {
        self.store.worktrees(repo, deadline)
    }

    fn flush(&self, deadline: Deadline) -> Result<()> {
        self.store.flush(deadline)
    }

    fn health(&self, _: Deadline) -> Result<Health> {
        Ok(Health {
            checks: root::health(&self.store),
        })
    }

    fn usage(&self, _: Deadline) -> Result<Usage> {
        Ok(usage::usage(&self.store))
    }

    fn stats(&self, stats: &mut Stats) {
        self.store.counters.add_to(stats);
    }
}
