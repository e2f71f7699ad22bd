//! Implements the backend's traits on the store that all handles share.

mod catalog;

use std::sync::Arc;
use std::time::Duration;

use prodigy_storage_backend::{
    Added, AppendOptions, Appended, Batch, Body, Compaction, Cursor, Deadline, DocumentEntry, DocumentStore,
    Durability, Expected, Fence, ItemId, LockGuard, LockInfo, LockOptions, LockStore, LogReports, LogScope,
    LogStore, LogSummary, LogWatch, Page, PageOptions, PutOptions, PutReport, QueueEntry, QueueItem,
    QueueScan, QueueStep, QueueStore, QueueSummary, Reporting, Result, Revision, Scan, ScanOptions, Select,
    Settled, Settlement, StoredDocument, WaitOptions, time_to_store,
};
use prodigy_storage_layout::{
    Document, DocumentOwner, DocumentScope, JobAddress, LockName, Phase, Stamp, Timestamp,
};

use crate::cursor::Position;
use crate::document::Documents;
use crate::named_lock::LockTable;
use crate::options::MemoryOptions;
use crate::queue::{Queue, Rules};
use crate::scan::{EmptyScan, MemoryScan};
use crate::store::{Store, count};

/// A backend that keeps all data in memory and behaves like the file backend.
///
/// A clone is another handle on the same data. The data is dropped with the last handle, lock guard or scan. If a
/// [persistence file](MemoryOptions::persistence) is set, the data is saved to it at that time, and on
/// [`flush`](prodigy_storage_backend::Catalog::flush).
///
/// ```
/// use prodigy_storage_backend::{Catalog, Deadline};
/// use prodigy_storage_memory::{MemoryBackend, MemoryOptions};
///
/// let backend = MemoryBackend::new(MemoryOptions::new().max_memory(10 << 20))?;
/// let other = backend.clone(); // another handle on the same data
/// assert_eq!(other.usage(Deadline::never())?.bytes(), 0);
/// # Ok::<(), prodigy_storage_backend::StorageError>(())
/// ```
#[derive(Clone, Debug)]
pub struct MemoryBackend {
    store: Arc<Store>,
}

impl MemoryBackend {
    /// Opens a new store, with the data of the persistence file if that exists. The loaded data may exceed
    /// [`max_memory`](MemoryOptions::max_memory): it can then be read, but writes that add data are refused.
    ///
    /// # Errors
    /// [`LockUnavailable`](prodigy_storage_backend::ErrorKind::LockUnavailable) if another store has the snapshot open
    /// for writing, unless this one only reads it; [`Damaged`](prodigy_storage_backend::ErrorKind::Damaged) if the
    /// snapshot is not whole; [`NewerFormat`](prodigy_storage_backend::ErrorKind::NewerFormat) if a newer version wrote
    /// it; and errors of the operating system. The file is never changed.
    pub fn new(options: MemoryOptions) -> Result<Self> {
        let mut store = Store::new(options);
        if let Err(error) = store.lock_snapshot().and_then(|()| store.load()) {
            // Otherwise, the drop of the store would overwrite the snapshot with the part of it that was loaded.
            store.options.persistence = None;
            return Err(error);
        }
        Ok(Self {
            store: Arc::new(store),
        })
    }
}

impl LogStore for MemoryBackend {
    fn append(
        &self,
        job: &JobAddress,
        batch: &mut Batch,
        _options: &AppendOptions,
        deadline: Deadline,
    ) -> Result<Appended> {
        const APPEND: &str = "append event";
        Store::check(deadline, APPEND, job)?;
        if batch.is_empty() {
            return Ok(Appended::default());
        }
        let store = &self.store;
        let held = store.job_or_new(job, APPEND)?;
        let max = store.options.max_record_size;
        let now = time_to_store(&*store.options.clock, APPEND, job)?;
        let mut data = held.data.lock();
        data.documents
            .raise_mark(APPEND, job, batch.fence(), now, &store.budget)?;
        let appended = data.log.append(job, batch, now, max, &store.budget)?;
        drop(data);
        store.waiters.notify(job);
        store.touch();
        count(&store.counters.appends, 1);
        count(&store.counters.events, appended.stored as u64);
        count(&store.counters.duplicates, appended.duplicates as u64);
        tracing::trace!(%job, events = appended.stored, duplicates = appended.duplicates, "appended");
        Ok(appended)
    }

    fn scan(&self, job: &JobAddress, options: &ScanOptions, deadline: Deadline) -> Result<Box<dyn Scan>> {
        Store::check(deadline, "read events", job)?;
        Ok(match self.store.job(job) {
            Some(held) => Box::new(MemoryScan::open(held, job, options)?),
            None => Box::new(EmptyScan::open(job, options)?),
        })
    }

    fn tail(
        &self,
        job: &JobAddress,
        count: usize,
        _step_timeout: Option<Duration>,
        deadline: Deadline,
    ) -> Result<Box<dyn Scan>> {
        Store::check(deadline, "read last events", job)?;
        Ok(match self.store.job(job) {
            Some(held) => Box::new(MemoryScan::tail(held, job, count)?),
            None => Box::new(EmptyScan::open(job, &ScanOptions::all())?),
        })
    }

    fn end(&self, job: &JobAddress, deadline: Deadline) -> Result<Cursor> {
        Store::check(deadline, "find end of events", job)?;
        match self.store.job(job) {
            Some(held) => Position::end_of(&held.data.lock().log),
            None => Ok(EmptyScan::open(job, &ScanOptions::all())?.cursor()),
        }
    }

    fn wait(
        &self,
        job: &JobAddress,
        cursor: &Cursor,
        options: &WaitOptions,
        deadline: Deadline,
    ) -> Result<bool> {
        let scan = ScanOptions::after(cursor.clone());
        let finished = Document::Finished(job.clone());
        self.store.waiters.wait(job, options, deadline, |_| {
            let is_finished =
                options.until_finished && options.ends_at(self.revision(&finished, Deadline::never())?);
            Ok(is_finished || self.scan(job, &scan, Deadline::never())?.next()?.is_some())
        })
    }

    fn watch(&self, scope: &LogScope, reports: &LogReports) -> Result<Box<dyn LogWatch>> {
        let reporting = self.store.waiters.report(scope.clone(), reports.clone());
        Ok(Box::new(Watching {
            _reporting: reporting,
        }))
    }

    fn log_summary(&self, job: &JobAddress, deadline: Deadline) -> Result<LogSummary> {
        Store::check(deadline, "summarise events", job)?;
        let held = self.store.job(job);
        Ok(held
            .map(|held| held.data.lock().log.summary())
            .unwrap_or_default())
    }

    fn seal(&self, job: &JobAddress, deadline: Deadline) -> Result<()> {
        Store::check(deadline, "seal events", job)?;
        if let Some(held) = self.store.job(job) {
            held.data.lock().log.seal();
            self.store.touch();
        }
        Ok(())
    }

    fn removable_before(
        &self,
        job: &JobAddress,
        before: Timestamp,
        deadline: Deadline,
    ) -> Result<LogSummary> {
        Store::check(deadline, "find old events", job)?;
        let held = self.store.job(job);
        Ok(held
            .map(|held| held.data.lock().log.removable_before(before))
            .unwrap_or_default())
    }

    fn remove_before(
        &self,
        job: &JobAddress,
        before: Timestamp,
        fence: Option<&Fence>,
        deadline: Deadline,
    ) -> Result<LogSummary> {
        const REMOVE: &str = "remove events";
        Store::check(deadline, REMOVE, job)?;
        let Some(held) = self.store.job(job) else {
            return Ok(LogSummary::default());
        };
        let now = time_to_store(&*self.store.options.clock, REMOVE, job)?;
        let mut data = held.data.lock();
        data.documents
            .raise_mark(REMOVE, job, fence, now, &self.store.budget)?;
        let removed = data.log.remove_before(before, &self.store.budget);
        drop(data);
        self.store.touch();
        Ok(removed)
    }

    fn persist(&self, job: &JobAddress, cursor: &Cursor, deadline: Deadline) -> Result<()> {
        // No event outlives the process, so there is nothing to sync. Only the cursor is checked, as by a read.
        self.scan(job, &ScanOptions::after(cursor.clone()), deadline)
            .map(drop)
    }
}

impl DocumentStore for MemoryBackend {
    fn get(&self, document: &Document, deadline: Deadline) -> Result<Option<StoredDocument>> {
        Store::check(deadline, "get document", document)?;
        Ok(self
            .store
            .read_documents(document, |documents| documents.get(document)))
    }

    fn revision(&self, document: &Document, deadline: Deadline) -> Result<Option<Revision>> {
        Store::check(deadline, "get revision", document)?;
        Ok(self
            .store
            .read_documents(document, |documents| documents.revision(document)))
    }

    fn put(
        &self,
        document: &Document,
        body: Body<'_>,
        options: &PutOptions,
        deadline: Deadline,
    ) -> Result<Revision> {
        const PUT: &str = "put document";
        Store::check(deadline, PUT, document)?;
        let store = &self.store;
        body.check_size(store.options.max_document_size, PUT, document)?;
        let now = time_to_store(&*store.options.clock, PUT, document)?;
        let revision = store.write_documents(document, PUT, |documents| {
            documents.put(document, body, options, now, &store.budget)
        })?;
        if let Document::Finished(job) = document {
            store.waiters.notify(job);
        }
        count(&store.counters.documents, 1);
        tracing::debug!(path = %document, bytes = body.as_bytes().len(), "document written");
        Ok(revision)
    }

    fn add(
        &self,
        job: &JobAddress,
        phase: Phase,
        body: Body<'_>,
        options: &PutOptions,
        deadline: Deadline,
    ) -> Result<Added> {
        const ADD: &str = "add document";
        Store::check(deadline, ADD, job)?;
        let store = &self.store;
        body.check_size(store.options.max_document_size, ADD, job)?;
        let now = time_to_store(&*store.options.clock, ADD, job)?;
        let series = Document::checkpoint(job, phase, Stamp::from(now));
        let added = store.write_documents(&series, ADD, |documents| {
            documents.add(job, phase, body, options, now, &store.budget)
        })?;
        count(&store.counters.documents, 1);
        tracing::debug!(%job, %phase, bytes = body.as_bytes().len(), "document written");
        Ok(added)
    }

    fn delete(
        &self,
        document: &Document,
        expected: Expected,
        _durability: Durability,
        fence: Option<&Fence>,
        deadline: Deadline,
    ) -> Result<bool> {
        const DELETE: &str = "delete document";
        Store::check(deadline, DELETE, document)?;
        let store = &self.store;
        let now = time_to_store(&*store.options.clock, DELETE, document)?;
        let is_unknown = document.job().is_some_and(|job| store.job(job).is_none());
        if is_unknown && fence.is_none() {
            return Documents::default().delete(document, expected, None, now, &store.budget);
        }
        let deleted = store.write_documents(document, DELETE, |documents| {
            documents.delete(document, expected, fence, now, &store.budget)
        })?;
        if deleted {
            count(&store.counters.documents, 1);
            tracing::debug!(path = %document, "document removed");
        }
        Ok(deleted)
    }

    fn raise_mark(&self, job: &JobAddress, fence: &Fence, deadline: Deadline) -> Result<()> {
        const RAISE: &str = "raise fencing mark";
        Store::check(deadline, RAISE, job)?;
        let store = &self.store;
        let now = time_to_store(&*store.options.clock, RAISE, job)?;
        let marks = Document::Fencing(job.clone());
        store.write_documents(&marks, RAISE, |documents| {
            documents.raise_mark(RAISE, job, Some(fence), now, &store.budget)
        })
    }

    fn list(
        &self,
        scope: &DocumentScope,
        page: &PageOptions<Document>,
        deadline: Deadline,
    ) -> Result<Page<DocumentEntry, Document>> {
        Store::check(deadline, "list documents", &"")?;
        let mut entries = Vec::new();
        match scope {
            DocumentScope::Checkpoints(job, _)
            | DocumentScope::Job(job)
            | DocumentScope::Keyed(job, _)
            | DocumentScope::Own(DocumentOwner::Job(job), _) => {
                if let Some(held) = self.store.job(job) {
                    held.data.lock().documents.list(scope, &mut entries);
                }
            }
            DocumentScope::Orphans(repo) => {
                for (address, held) in self.store.all_jobs() {
                    if address.repo == *repo {
                        held.data.lock().documents.list(scope, &mut entries);
                    }
                }
            }
            _ => self.store.registry.lock().list(scope, &mut entries),
        }
        let order = |document: &Document| (document.stamp().cloned(), document.clone());
        entries.sort_by_cached_key(|entry| order(&entry.document));
        if let Some(after) = page.after.as_ref().map(order) {
            entries.retain(|entry| order(&entry.document) > after);
        }
        Ok(Page::up_to(page.limit.max(1), entries, |last| {
            last.document.clone()
        }))
    }

    fn newest(
        &self,
        job: &JobAddress,
        phase: Phase,
        before: Option<&Document>,
        deadline: Deadline,
    ) -> Result<Option<DocumentEntry>> {
        Store::check(deadline, "find newest document", job)?;
        let held = self.store.job(job);
        Ok(held.and_then(|held| held.data.lock().documents.newest(job, phase, before)))
    }
}

impl MemoryBackend {
    fn rules<'a>(&'a self, job: &'a JobAddress, now: Timestamp) -> Rules<'a> {
        let options = &self.store.options;
        Rules {
            job,
            now,
            clock: &*options.clock,
            max_record_size: options.max_record_size,
            max_queue_size: options.max_queue_size,
            budget: &self.store.budget,
        }
    }
}

impl QueueStore for MemoryBackend {
    fn queue_put(
        &self,
        job: &JobAddress,
        items: &[QueueItem],
        _durability: Durability,
        fence: Option<&Fence>,
        deadline: Deadline,
    ) -> Result<PutReport> {
        const PUT: &str = "put items";
        Store::check(deadline, PUT, job)?;
        if items.is_empty() {
            return Ok(PutReport::default());
        }
        let store = &self.store;
        let held = store.job_or_new(job, PUT)?;
        let rules = self.rules(job, time_to_store(&*store.options.clock, PUT, job)?);
        let mut data = held.data.lock();
        data.documents
            .raise_mark(PUT, job, fence, rules.now, &store.budget)?;
        let report = data.queue.put(items, &rules)?;
        drop(data);
        store.touch();
        count(&store.counters.items, items.len() as u64);
        tracing::trace!(%job, items = items.len(), "items put");
        Ok(report)
    }

    fn queue_get(&self, job: &JobAddress, id: &ItemId, deadline: Deadline) -> Result<Option<QueueEntry>> {
        Store::check(deadline, "get item", id)?;
        Ok(self
            .store
            .job(job)
            .and_then(|held| held.data.lock().queue.get(id)))
    }

    fn queue_scan(
        &self,
        job: &JobAddress,
        select: &Select,
        deadline: Deadline,
    ) -> Result<QueueScan<'static>> {
        Store::check(deadline, "read items", job)?;
        let items = match self.store.job(job) {
            Some(held) => held.data.lock().queue.select(select),
            None => Vec::new(),
        };
        Ok(Box::new(
            items.into_iter().map(|item| Ok(QueueStep::Entry(item.entry()))),
        ))
    }

    fn queue_summary(&self, job: &JobAddress, deadline: Deadline) -> Result<QueueSummary> {
        Store::check(deadline, "summarise items", job)?;
        let clock = &*self.store.options.clock;
        let held = self.store.job(job);
        Ok(held
            .map(|held| held.data.lock().queue.summary(clock))
            .unwrap_or_default())
    }

    /// Takes items. Unlike on files, there are no dead letters of other programs to count first.
    fn queue_take(
        &self,
        job: &JobAddress,
        select: &Select,
        limit: usize,
        lease: Duration,
        fence: Option<&Fence>,
        deadline: Deadline,
    ) -> Result<Vec<QueueEntry>> {
        const TAKE: &str = "take items";
        Store::check(deadline, TAKE, job)?;
        let Some(held) = self.store.job(job) else {
            return Ok(Vec::new());
        };
        let clock = &*self.store.options.clock;
        let now = time_to_store(clock, TAKE, job)?;
        let mut data = held.data.lock();
        data.documents
            .raise_mark(TAKE, job, fence, now, &self.store.budget)?;
        let taken = data.queue.take(select, limit, lease, clock);
        drop(data);
        self.store.touch();
        Ok(taken)
    }

    fn queue_settle(
        &self,
        job: &JobAddress,
        settlements: &[Settlement],
        fence: Option<&Fence>,
        deadline: Deadline,
    ) -> Result<Vec<Settled>> {
        const SETTLE: &str = "settle items";
        Store::check(deadline, SETTLE, job)?;
        let store = &self.store;
        let now = time_to_store(&*store.options.clock, SETTLE, job)?;
        let rules = self.rules(job, now);
        let Some(held) = store.job(job) else {
            return Queue::default().settle(settlements, &rules);
        };
        let mut data = held.data.lock();
        data.documents
            .raise_mark(SETTLE, job, fence, now, &store.budget)?;
        let settled = data.queue.settle(settlements, &rules)?;
        drop(data);
        store.touch();
        tracing::trace!(%job, items = settlements.len(), "items settled");
        Ok(settled)
    }

    /// Returns the size twice: settled items take no space in memory, so nothing can be freed.
    fn queue_compact(&self, job: &JobAddress, deadline: Deadline) -> Result<Compaction> {
        let bytes = self.queue_summary(job, deadline)?.bytes;
        Ok(Compaction::new(bytes, bytes))
    }
}

impl LockStore for MemoryBackend {
    fn lock(&self, name: &LockName, options: &LockOptions, deadline: Deadline) -> Result<Box<dyn LockGuard>> {
        LockTable::lock(&self.store, name, options, deadline)
    }

    fn locks(&self, page: &PageOptions<LockName>, deadline: Deadline) -> Result<Page<LockInfo, LockName>> {
        Store::check(deadline, "list locks", &"")?;
        Ok(self.store.locks.page(page))
    }
}

/// A watch on logs. All appends are made by this process, so all of them are reported.
#[derive(Debug)]
struct Watching {
    _reporting: Reporting,
}

impl LogWatch for Watching {
    fn include(&mut self, _job: &JobAddress) -> Result<bool> {
        Ok(true)
    }
}
