//! The traits that every backend implements.

use std::fmt;
use std::time::Duration;

use prodigy_storage_layout::{
    Document, DocumentScope, JobAddress, JobId, LockName, Part, Phase, RepoName, Timestamp,
};

use crate::batch::Batch;
use crate::body::Body;
use crate::deadline::Deadline;
use crate::document::{Added, DocumentEntry, Expected, PutOptions, Revision, StoredDocument};
use crate::error::{ErrorKind, Result, StorageError};
use crate::fence::Fence;
use crate::lock::{LockGuard, LockInfo, LockOptions};
use crate::log::{AppendOptions, Appended, Cursor, Durability, LogSummary, Scan, ScanOptions};
use crate::moved::Moved;
use crate::page::{Page, PageOptions};
use crate::queue::{
    Compaction, ItemId, PutReport, QueueEntry, QueueItem, QueueScan, QueueSummary, Select, Settled,
    Settlement,
};
use crate::report::{Activity, Capabilities, Health, Stats, UnfinishedDeletion, Usage};
use crate::survey::JobSurvey;
use crate::wait::WaitOptions;
use crate::watch::{LogReports, LogScope, LogWatch};

/// A place that stores logs, documents, queues and locks: a type with the five storage traits.
///
/// The traits are object-safe, and a `&dyn Backend` is also a `&dyn LogStore`, and so on. Implement the five
/// traits for a type, and the type is a `Backend`.
///
/// A backend does not know what a checkpoint or a dead letter means: the typed stores of the facade give these
/// primitives their meaning. The conformance suite tests the promise of each method. No method mentions files:
/// local worktrees, the doctor and the file descriptor of a lock are not part of the traits.
///
/// All errors are [`StorageError`](crate::StorageError)s. A method that is not done by its deadline fails with
/// [`Timeout`](crate::ErrorKind::Timeout) or [`LockUnavailable`](crate::ErrorKind::LockUnavailable). It may fail
/// later than that, since a running system call can't be interrupted.
///
/// ```
/// use prodigy_storage_backend::{Backend, Deadline, PageOptions, Result};
///
/// fn count_repositories(backend: &dyn Backend) -> Result<usize> {
///     let page = backend.repositories(&PageOptions::default(), Deadline::never())?;
///     Ok(page.entries.len())
/// }
/// # let _ = count_repositories;
/// ```
pub trait Backend: LogStore + DocumentStore + QueueStore + LockStore + Catalog {}

impl<B: LogStore + DocumentStore + QueueStore + LockStore + Catalog + ?Sized> Backend for B {}

/// The events of jobs: append-only logs.
///
/// The conformance suite tests the promise of each method.
///
/// ```
/// use prodigy_storage_backend::{AppendOptions, Batch, Deadline, LogStore, Result, ScanItem, ScanOptions};
/// use prodigy_storage_layout::JobAddress;
///
/// fn append_and_count(log: &dyn LogStore, job: &JobAddress) -> Result<usize> {
///     let mut batch = Batch::new();
///     batch.push("agent started")?;
///     log.append(job, &mut batch, &AppendOptions::default(), Deadline::never())?;
///
///     let mut scan = log.scan(job, &ScanOptions::all(), Deadline::never())?;
///     let mut events = 0;
///     while let Some(item) = scan.next()? {
///         events += usize::from(matches!(item, ScanItem::Record(_)));
///     }
///     Ok(events)
/// }
/// # let _ = append_and_count;
/// ```
pub trait LogStore: fmt::Debug + Send + Sync {
    /// Appends a batch of events. When the call returns, they are stored with the requested durability.
    ///
    /// The log assigns ids that ascend and are above the newest id that the writer finds. If the batch has ids
    /// already, these are used, and an event whose id is already stored is acknowledged and not stored again. When
    /// the call returns, the batch has its ids, unless none of its events was stored.
    ///
    /// An append is not atomic: after a crash the first records of the batch may be stored without the rest. After
    /// [`OutcomeUnknown`](crate::ErrorKind::OutcomeUnknown) any of the events may be stored; appending the same
    /// batch again stores each event once.
    ///
    /// The batch may carry a fencing token ([`Batch::set_fence`]). The token is checked before the events are written,
    /// and again before they are acknowledged. An append with an overtaken token fails with
    /// [`Fenced`](crate::ErrorKind::Fenced); its events may be stored, and their records then carry the token.
    fn append(
        &self,
        job: &JobAddress,
        batch: &mut Batch,
        options: &AppendOptions,
        deadline: Deadline,
    ) -> Result<Appended>;

    /// Reads the events that are stored now, merged by id, each id once. A log that does not exist is empty.
    fn scan(&self, job: &JobAddress, options: &ScanOptions, deadline: Deadline) -> Result<Box<dyn Scan>>;

    /// Reads the newest `count` events that are stored now, merged by id, oldest first, without reading older
    /// events. The cursor of the scan covers all older events. Events that are appended while the call searches
    /// for the first event to return are returned as well.
    fn tail(
        &self,
        job: &JobAddress,
        count: usize,
        step_timeout: Option<Duration>,
        deadline: Deadline,
    ) -> Result<Box<dyn Scan>>;

    /// The cursor at the end of the log, which covers all events that are stored now; no event is read. A scan
    /// from it returns the events that are stored later, even those with older ids.
    fn end(&self, job: &JobAddress, deadline: Deadline) -> Result<Cursor>;

    /// Waits until the log has an event that the cursor does not cover, and returns true. Returns false when the
    /// deadline passes, which is no error, and when the [interrupt](WaitOptions::interrupt) is raised. The log is
    /// checked at least once. With [`until_finished`](WaitOptions::until_finished) the call also returns true when
    /// the job is finished.
    ///
    /// An append by the same process ends the wait at once. So does an append by another process, if the backend is
    /// notified of it; otherwise the next poll finds it.
    fn wait(
        &self,
        job: &JobAddress,
        cursor: &Cursor,
        options: &WaitOptions,
        deadline: Deadline,
    ) -> Result<bool>;

    /// Watches the logs of a scope from now on, to follow many jobs. `reports` gets each job of the scope to which this
    /// process appends, including new jobs. Appends by other processes are reported for the jobs that the watch
    /// [includes](LogWatch::include).
    fn watch(&self, scope: &LogScope, reports: &LogReports) -> Result<Box<dyn LogWatch>>;

    /// The number of segments and bytes of the log; no event is read.
    fn log_summary(&self, job: &JobAddress, deadline: Deadline) -> Result<LogSummary>;

    /// Seals the segment to which this process appends, so that the next append begins a new one. Does nothing without
    /// a segment.
    fn seal(&self, job: &JobAddress, deadline: Deadline) -> Result<()>;

    /// The size of what [`remove_before`](Self::remove_before) would remove now.
    fn removable_before(
        &self,
        job: &JobAddress,
        before: Timestamp,
        deadline: Deadline,
    ) -> Result<LogSummary> {
        let _ = (before, deadline);
        Err(cannot_remove("find old events", job))
    }

    /// Removes the oldest sealed segments: all before the first segment that holds an event with a time of
    /// `before` or later. Returns their size. The segment with the newest event stays, so ids and cursors never begin
    /// again.
    ///
    /// A backend removes the segments all at one moment, or one by one from the oldest. So during the removal a
    /// reader may miss the oldest events, but never events between others. If a removal is cut short, the next
    /// call finishes it. A cursor that does not cover the removed events gets
    /// [`CursorGap`](crate::ErrorKind::CursorGap), and so does a running scan that has not read them yet. The ids
    /// of removed events are forgotten: an append that brings one of them stores it again.
    ///
    /// # Errors
    /// [`Unsupported`](crate::ErrorKind::Unsupported) from a backend that can't remove events, and
    /// [`Fenced`](crate::ErrorKind::Fenced) for an overtaken `fence`. In both cases nothing was removed.
    fn remove_before(
        &self,
        job: &JobAddress,
        before: Timestamp,
        fence: Option<&Fence>,
        deadline: Deadline,
    ) -> Result<LogSummary> {
        let _ = (before, fence, deadline);
        Err(cannot_remove("remove events", job))
    }

    /// Makes every event that the cursor covers survive power loss, whichever process appended it and with
    /// whichever durability. So a checkpoint that is saved with the cursor never covers a lost event.
    fn persist(&self, job: &JobAddress, cursor: &Cursor, deadline: Deadline) -> Result<()>;
}

fn cannot_remove(operation: &'static str, job: &JobAddress) -> StorageError {
    StorageError::new(
        ErrorKind::Unsupported,
        operation,
        job,
        "this backend removes no events of a job that stays",
    )
    .with_hint("delete the whole job instead")
}

/// Documents: whole JSON objects, stored and replaced in one step.
///
/// ```
/// use prodigy_storage_backend::{Body, Deadline, DocumentStore, Expected, PutOptions, Result};
/// use prodigy_storage_layout::{Document, JobAddress};
///
/// /// Stores the setup checkpoint of a job unless the job has one.
/// fn store_once(documents: &dyn DocumentStore, job: &JobAddress) -> Result<()> {
///     let setup = Document::Setup(job.clone());
///     let body = Body::parse(br#"{"items":3}"#).map_err(|fault| fault.refused("store setup", job))?;
///     documents.put(&setup, body, &PutOptions::default().expect(Expected::Absent), Deadline::never())?;
///     Ok(())
/// }
/// # let _ = store_once;
/// ```
pub trait DocumentStore: fmt::Debug + Send + Sync {
    /// Reads a document and verifies its checksum; `None` if the document does not exist.
    fn get(&self, document: &Document, deadline: Deadline) -> Result<Option<StoredDocument>>;

    /// The revision of a document, at less cost than reading it; `None` if the document does not exist. The checksum is
    /// not verified.
    fn revision(&self, document: &Document, deadline: Deadline) -> Result<Option<Revision>>;

    /// Stores a document, whole or not at all. A later read returns exactly the bytes of the body.
    fn put(
        &self,
        document: &Document,
        body: Body<'_>,
        options: &PutOptions,
        deadline: Deadline,
    ) -> Result<Revision>;

    /// Adds a document to a checkpoint series of a job under a new name. Its stamp is the greatest of: the present
    /// time; [`PutOptions::not_before`]; 1 ns after the newest stamp of the series; and 1 ns after the newest stamp
    /// that this project gave in the job's other series. So stamps ascend over all series of a job, even if the clock
    /// steps back. [`Phase::Setup`] has only one name, and its document is replaced.
    fn add(
        &self,
        job: &JobAddress,
        phase: Phase,
        body: Body<'_>,
        options: &PutOptions,
        deadline: Deadline,
    ) -> Result<Added>;

    /// Deletes a document; false if it did not exist. A token is checked as in a [put](PutOptions::fencing).
    fn delete(
        &self,
        document: &Document,
        expected: Expected,
        durability: Durability,
        fence: Option<&Fence>,
        deadline: Deadline,
    ) -> Result<bool>;

    /// Raises the mark of a lock in a job to a token, and writes nothing else. So a new holder reads the job after the last
    /// write of an earlier one: a document that is written and an append that is acknowledged after the call are refused
    /// under an older token of that lock. A write to the queue that was under way may still be accepted; the next take or
    /// settlement sees it. The mark is durable when the call returns. A job of which only marks are stored is not listed.
    ///
    /// # Errors
    /// [`Fenced`](crate::ErrorKind::Fenced) if the token is overtaken itself.
    fn raise_mark(&self, job: &JobAddress, fence: &Fence, deadline: Deadline) -> Result<()>;

    /// A page of the documents of a scope, oldest first by stamp, without their bodies. Documents without a stamp come
    /// first; those of one stamp are ordered by their address.
    fn list(
        &self,
        scope: &DocumentScope,
        page: &PageOptions<Document>,
        deadline: Deadline,
    ) -> Result<Page<DocumentEntry, Document>>;

    /// The newest document of a checkpoint series, or the newest one before `before`. This is the last entry of
    /// [`list`](Self::list), or the last one before `before`, at less cost than listing. `None` if no such document
    /// exists.
    ///
    /// `before` need not exist. If it belongs to another series, the result is `None`.
    fn newest(
        &self,
        job: &JobAddress,
        phase: Phase,
        before: Option<&Document>,
        deadline: Deadline,
    ) -> Result<Option<DocumentEntry>>;
}

/// The dead letters of jobs: keyed items, taken under a lease.
///
/// A queue has a counter: each change takes the next number ([`QueueMark`](crate::QueueMark)), and an item that is
/// taken gets a new place after all other items. So a run that takes only items up to the counter's value at its
/// start ([`Select::until`]) never gets an item twice.
///
/// A job remembers the greatest fencing token of each lock under which it was written to. A write under a smaller
/// token of the same lock fails with [`Fenced`](crate::ErrorKind::Fenced). The check and the write are one
/// critical section.
///
/// ```
/// use std::time::Duration;
/// use prodigy_storage_backend::{Deadline, QueueStore, Result, Select};
/// use prodigy_storage_layout::JobAddress;
///
/// /// Takes what is pending, for five minutes. Settle each item before they are over.
/// fn take(queue: &dyn QueueStore, job: &JobAddress) -> Result<usize> {
///     let lease = Duration::from_secs(300);
///     Ok(queue.queue_take(job, &Select::eligible(), 10, lease, None, Deadline::never())?.len())
/// }
/// # let _ = take;
/// ```
pub trait QueueStore: fmt::Debug + Send + Sync {
    /// Pushes items. An item with a new key is added at the end. An item with a known key is merged into the stored one
    /// ([`dead_letter::merge`](crate::dead_letter::merge)), which keeps its place, its delay and its lease. A repeated
    /// push changes nothing.
    ///
    /// # Errors
    /// [`ErrorKind::QueueFull`](crate::ErrorKind::QueueFull) if the queue would exceed its maximum size. Nothing is
    /// stored then.
    fn queue_put(
        &self,
        job: &JobAddress,
        items: &[QueueItem],
        durability: Durability,
        fence: Option<&Fence>,
        deadline: Deadline,
    ) -> Result<PutReport>;

    /// Reads one item; `None` if the queue does not have it.
    fn queue_get(&self, job: &JobAddress, id: &ItemId, deadline: Deadline) -> Result<Option<QueueEntry>>;

    /// The selected items in their present state, whether taken or not. An item whose fields can't be read is returned
    /// too.
    fn queue_scan(&self, job: &JobAddress, select: &Select, deadline: Deadline)
    -> Result<QueueScan<'static>>;

    /// The counts of the queue's items. All are zero if the queue does not exist.
    fn queue_summary(&self, job: &JobAddress, deadline: Deadline) -> Result<QueueSummary>;

    /// Takes up to `limit` of the selected pending items for `lease`, in the order of their places. The leases are
    /// stored before the call returns. The items stay stored: an item that is not settled is pending again when its
    /// lease ends. An item whose fields can't be read is taken only by its id.
    fn queue_take(
        &self,
        job: &JobAddress,
        select: &Select,
        limit: usize,
        lease: Duration,
        fence: Option<&Fence>,
        deadline: Deadline,
    ) -> Result<Vec<QueueEntry>>;

    /// Changes stored items in one write, in the given order: each change sees those before it. Returns the outcome of
    /// each.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) for an edit or a failure that is not an item or has
    /// another id, and for an extension without a token; [`ErrorKind::TooLarge`](crate::ErrorKind::TooLarge) for
    /// contents over the limit. Nothing is changed then.
    fn queue_settle(
        &self,
        job: &JobAddress,
        settlements: &[Settlement],
        fence: Option<&Fence>,
        deadline: Deadline,
    ) -> Result<Vec<Settled>>;

    /// Frees the space of settled items, whatever the cost. A backend also does so by itself from time to time.
    fn queue_compact(&self, job: &JobAddress, deadline: Deadline) -> Result<Compaction>;
}

/// Named locks between processes, with fencing tokens.
///
/// ```
/// use prodigy_storage_backend::{Deadline, LockOptions, LockStore, Result};
/// use prodigy_storage_layout::LockName;
///
/// fn guarded(locks: &dyn LockStore, name: &LockName) -> Result<u64> {
///     let guard = locks.lock(name, &LockOptions::new("resume the job"), Deadline::never())?;
///     let token = guard.fencing(); // hand it to what the lock protects
///     guard.release()?;
///     Ok(token)
/// }
/// # let _ = guarded;
/// ```
pub trait LockStore: fmt::Debug + Send + Sync {
    /// Takes a named lock, waiting for it until the deadline.
    fn lock(&self, name: &LockName, options: &LockOptions, deadline: Deadline) -> Result<Box<dyn LockGuard>>;

    /// A page of all locks that were ever taken, sorted by name, whether they are held now or not.
    fn locks(&self, page: &PageOptions<LockName>, deadline: Deadline) -> Result<Page<LockInfo, LockName>>;
}

/// The contents of a store, and its maintenance.
///
/// ```
/// use prodigy_storage_backend::{Catalog, Deadline, Result, Severity};
///
/// fn is_well(catalog: &dyn Catalog) -> Result<bool> {
///     Ok(catalog.health(Deadline::never())?.severity() < Severity::Failure)
/// }
/// # let _ = is_well;
/// ```
pub trait Catalog: fmt::Debug + Send + Sync {
    /// The capabilities of the backend.
    fn capabilities(&self) -> Capabilities;

    /// A page of the repositories that have stored data, sorted.
    fn repositories(&self, page: &PageOptions<RepoName>, deadline: Deadline) -> Result<Page<RepoName>>;

    /// A page of the jobs of a repository that have stored data, sorted.
    fn jobs(&self, repo: &RepoName, page: &PageOptions<JobId>, deadline: Deadline) -> Result<Page<JobId>>;

    /// True if a live process works on a job of a repository: it holds an unsealed segment of a log, or a named
    /// lock whose first part is the repository's name. A process between two calls on a queue or a document is not
    /// noticed. To find the answer, a backend may try to take locks, but no call of another process fails or waits
    /// because of it.
    fn is_active(&self, repo: &RepoName, deadline: Deadline) -> Result<bool>;

    /// Returns whether a live process works on a job, and when the job was last written to.
    fn activity(&self, job: &JobAddress, deadline: Deadline) -> Result<Activity>;

    /// A page of the jobs of a repository, in the order of [`jobs`](Self::jobs), each with its counts. No event is
    /// read, and no document except the one that marks a job as finished.
    ///
    /// The entry of a job that can't be read holds the error. A page that would take too long ends early; the next
    /// page continues after its last job.
    fn survey(
        &self,
        repo: &RepoName,
        page: &PageOptions<JobId>,
        deadline: Deadline,
    ) -> Result<Page<JobSurvey, JobId>>;

    /// Deletes all stored data of a job: events, documents, dead letters. False if there was none.
    ///
    /// The job is deleted at one moment, even if the process dies during the call: a read before that moment finds
    /// everything, a read after it nothing. The next write to the job, the next call of this method, or
    /// [`finish_deletion`](Self::finish_deletion) then removes the remains on disk. A running scan ends with [`Deleted`](crate::ErrorKind::Deleted), a cursor into
    /// the deleted log gets [`CursorGap`](crate::ErrorKind::CursorGap), and a later write begins the job again.
    /// The fencing marks of the job ([`FenceMarks`](crate::FenceMarks)) are kept.
    ///
    /// # Errors
    /// [`LockUnavailable`](crate::ErrorKind::LockUnavailable) if the job is [active](Activity::active), and
    /// [`Fenced`](crate::ErrorKind::Fenced) for an overtaken `fence`. In both cases nothing was removed.
    fn delete_job(&self, job: &JobAddress, fence: Option<&Fence>, deadline: Deadline) -> Result<bool>;

    /// Deletes a job like [`delete_job`](Self::delete_job), but only if nothing was written to it after `last`,
    /// the time of the last write that the caller knows. Returns false if there was a later write, or if nothing
    /// is stored.
    ///
    /// A backend that can exclude writers from a job checks for a later write while it does. This default checks
    /// before the deletion, so it may miss a write in between.
    ///
    /// # Errors
    /// As [`delete_job`](Self::delete_job).
    fn delete_old_job(
        &self,
        job: &JobAddress,
        last: Timestamp,
        fence: Option<&Fence>,
        deadline: Deadline,
    ) -> Result<bool> {
        let written = self.activity(job, deadline)?.last_write;
        match written.is_none_or(|written| written <= last) {
            true => self.delete_job(job, fence, deadline),
            false => Ok(false),
        }
    }

    /// A page of the jobs whose deletion, or restore, was cut short. No other listing has these jobs, and each read of
    /// them finds nothing. A deletion that a live process is making may be among them.
    ///
    /// Empty for a backend whose deletions can't be cut short.
    fn unfinished_deletions(
        &self,
        page: &PageOptions<JobAddress>,
        deadline: Deadline,
    ) -> Result<Page<UnfinishedDeletion, JobAddress>> {
        let _ = (page, deadline);
        Ok(Page::new(Vec::new(), None))
    }

    /// Removes what an [unfinished deletion](Self::unfinished_deletions) of a job left. Returns false, and changes
    /// nothing, if the job has no such deletion: data of a job that began again after its deletion is never removed.
    ///
    /// # Errors
    /// [`LockUnavailable`](crate::ErrorKind::LockUnavailable) if a process still works on the deletion at the deadline.
    fn finish_deletion(&self, job: &JobAddress, deadline: Deadline) -> Result<bool> {
        let _ = (job, deadline);
        Ok(false)
    }

    /// Marks a part of the store as moved to another store. After this call, every process that writes to the
    /// part, or takes one of its named locks, gets [`ReadOnly`](crate::ErrorKind::ReadOnly) with the new place.
    /// Reads still work, and so do [`delete_job`](Self::delete_job) and [`delete_old_job`](Self::delete_old_job),
    /// which keep the mark. A part that has a mark already keeps that mark unchanged.
    ///
    /// # Errors
    /// [`LockUnavailable`](crate::ErrorKind::LockUnavailable) for a job that is [active](Activity::active);
    /// [`Conflict`](crate::ErrorKind::Conflict) for a job that was written to after `last`, and for a repository
    /// or a store that has a job without a mark; [`NotFound`](crate::ErrorKind::NotFound) for a job without data; [`Unsupported`](crate::ErrorKind::Unsupported) from a backend
    /// that keeps no marks. In each case nothing was marked.
    fn mark_moved(&self, moved: &Moved, last: Option<Timestamp>, deadline: Deadline) -> Result<()> {
        let _ = (last, deadline);
        let why = "this backend keeps no marks of what was moved";
        Err(StorageError::new(
            ErrorKind::Unsupported,
            "mark as moved",
            &moved.part,
            why,
        ))
    }

    /// Removes the marks of a part and of all parts within it, and returns their number. For a job, a mark of its
    /// repository or of the store stays.
    fn unmark_moved(&self, part: &Part, deadline: Deadline) -> Result<u64> {
        let _ = (part, deadline);
        Ok(0)
    }

    /// A page of the marks that concern a part: its own, those of the parts that contain it, and those of the
    /// parts within it.
    fn moved(&self, part: &Part, page: &PageOptions<Part>, deadline: Deadline) -> Result<Page<Moved, Part>> {
        let _ = (part, page, deadline);
        Ok(Page::new(Vec::new(), None))
    }

    /// Ends background work, and makes relaxed writes of this handle survive power loss.
    fn flush(&self, deadline: Deadline) -> Result<()>;

    /// Checks the state of the store as far as that is possible without writing.
    fn health(&self, deadline: Deadline) -> Result<Health>;

    /// The space that the store uses, by area and repository.
    fn usage(&self, deadline: Deadline) -> Result<Usage>;

    /// Adds the counters of this backend to `stats`.
    fn stats(&self, stats: &mut Stats);
}
