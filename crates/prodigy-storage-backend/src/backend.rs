//! The traits that every backend implements.

use std::fmt;
use std::time::Duration;

use prodigy_storage_layout::{Document, DocumentScope, JobAddress, JobId, LockName, Phase, RepoName};

use crate::batch::Batch;
use crate::body::Body;
use crate::deadline::Deadline;
use crate::document::{Added, DocumentEntry, Expected, PutOptions, Revision, StoredDocument};
use crate::error::Result;
use crate::fence::Fence;
use crate::lock::{LockGuard, LockInfo, LockOptions};
use crate::log::{AppendOptions, Appended, Cursor, Durability, LogSummary, Scan, ScanOptions};
use crate::page::{Page, PageOptions};
use crate::queue::{
    Compaction, ItemId, PutReport, QueueEntry, QueueItem, QueueScan, QueueSummary, Select, Settled,
    Settlement,
};
use crate::report::{Activity, Capabilities, Health, Stats, Usage};
use crate::survey::JobSurvey;
use crate::wait::WaitOptions;
use crate::watch::{LogReports, LogScope, LogWatch};

/// A place that keeps logs, documents, queues and locks: one value with the five storage traits.
///
/// Each of them is object-safe, and a `&dyn Backend` is also a `&dyn LogStore`, and so on. Implement the five; this trait
/// follows from them.
///
/// A backend knows nothing of checkpoints or dead letters beyond what the signatures say: the typed stores of the facade
/// give these primitives their meaning. The conformance suite tests the promise of each method. No method mentions
/// files: local worktrees, the doctor and a lock's descriptor are outside of the traits.
///
/// All errors are [`StorageError`](crate::StorageError)s. Every method ends by its deadline, except for a system call
/// that is under way, with [`Timeout`](crate::ErrorKind::Timeout) or
/// [`LockUnavailable`](crate::ErrorKind::LockUnavailable).
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
    /// Appends a batch of events. Acknowledged is stored, by the durability asked for.
    ///
    /// Ids are assigned, ascending and above the newest that the writer finds in the log, unless the batch brings
    /// them; then what is stored already under an id is acknowledged and not stored again. On return the batch holds
    /// its ids, unless nothing of it was stored.
    ///
    /// Not atomic: a prefix of whole records may be stored after a crash. On
    /// [`OutcomeUnknown`](crate::ErrorKind::OutcomeUnknown) any of the events may be stored: appending the same batch
    /// again stores each once.
    ///
    /// The batch may carry a fencing token ([`Batch::set_fence`]). It is checked before the events are written, and again before
    /// they are acknowledged: an overtaken append is [`Fenced`](crate::ErrorKind::Fenced), and may be stored; its records
    /// carry the token.
    fn append(
        &self,
        job: &JobAddress,
        batch: &mut Batch,
        options: &AppendOptions,
        deadline: Deadline,
    ) -> Result<Appended>;

    /// Reads what is stored now, merged by id, each id once. A log that does not exist is empty.
    fn scan(&self, job: &JobAddress, options: &ScanOptions, deadline: Deadline) -> Result<Box<dyn Scan>>;

    /// Reads the newest `count` events of what is stored now, merged by id, oldest first, and finds them without reading the
    /// rest. Its cursor says that everything before them was read. Events that are appended between the search for the
    /// first one and the beginning of the scan come as well.
    fn tail(
        &self,
        job: &JobAddress,
        count: usize,
        step_timeout: Option<Duration>,
        deadline: Deadline,
    ) -> Result<Box<dyn Scan>>;

    /// The cursor behind everything that is stored now, without reading it: a scan from it gives what is stored later,
    /// also under older ids.
    fn end(&self, job: &JobAddress, deadline: Deadline) -> Result<Cursor>;

    /// Waits until something is stored behind a cursor: true. False at the deadline, which is no error, and when the
    /// [interrupt](WaitOptions::interrupt) is raised. It looks once at least. True also when the job is finished, if the
    /// options [say so](WaitOptions::until_finished).
    ///
    /// A writer of the same process ends the wait at once. A writer of another process does so where the backend is
    /// notified of its appends; otherwise the next look finds them.
    fn wait(
        &self,
        job: &JobAddress,
        cursor: &Cursor,
        options: &WaitOptions,
        deadline: Deadline,
    ) -> Result<bool>;

    /// Watches the logs of a scope from now on, to follow many jobs. `reports` gets each job of the scope to which this
    /// process appends, also of jobs that are new. What other processes append is reported for the jobs that the watch
    /// [includes](LogWatch::include).
    fn watch(&self, scope: &LogScope, reports: &LogReports) -> Result<Box<dyn LogWatch>>;

    /// The size of the log, without reading it.
    fn log_summary(&self, job: &JobAddress, deadline: Deadline) -> Result<LogSummary>;

    /// Closes the segment that this process appends to: the next append begins a new one. Harmless without a segment.
    fn seal(&self, job: &JobAddress, deadline: Deadline) -> Result<()>;

    /// Makes every event before the cursor survive power loss, whichever process appended it and however
    /// durably. A checkpoint that is saved with the cursor then never covers a lost event.
    fn persist(&self, job: &JobAddress, cursor: &Cursor, deadline: Deadline) -> Result<()>;
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
    /// A document with a verified checksum; `None` if it does not exist.
    fn get(&self, document: &Document, deadline: Deadline) -> Result<Option<StoredDocument>>;

    /// The revision of a document, at less cost than getting it; `None` if it does not exist. Not verified.
    fn revision(&self, document: &Document, deadline: Deadline) -> Result<Option<Revision>>;

    /// Puts a document, whole or not at all. What is got later is the body's own bytes.
    fn put(
        &self,
        document: &Document,
        body: Body<'_>,
        options: &PutOptions,
        deadline: Deadline,
    ) -> Result<Revision>;

    /// Adds a document to the checkpoint series of a job under a new name. Its stamp is the greatest of now,
    /// [`PutOptions::not_before`], the newest of the series + 1 ns, and the newest of the job's other series + 1 ns where
    /// this project made that name: stamps ascend over all series of a job, also when the clock steps back. [`Phase::Setup`] has
    /// one name and is replaced.
    fn add(
        &self,
        job: &JobAddress,
        phase: Phase,
        body: Body<'_>,
        options: &PutOptions,
        deadline: Deadline,
    ) -> Result<Added>;

    /// Deletes a document; false if there was none. A token is checked as in a [put](PutOptions::fencing).
    fn delete(
        &self,
        document: &Document,
        expected: Expected,
        durability: Durability,
        fence: Option<&Fence>,
        deadline: Deadline,
    ) -> Result<bool>;

    /// A page of the documents of a scope, oldest first by stamp, without their bodies. Documents without a stamp come
    /// first; those of one stamp are ordered by their address.
    fn list(
        &self,
        scope: &DocumentScope,
        page: &PageOptions<Document>,
        deadline: Deadline,
    ) -> Result<Page<DocumentEntry, Document>>;

    /// The newest document of a checkpoint series, or with `before` the newest that comes before that one: what
    /// [`list`](Self::list) gives last, or last before it, at less cost than listing. `None` if no such document exists.
    ///
    /// `before` need not exist. Nothing is before a document of another series.
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
/// A queue has one counter: each change takes the next number ([`QueueMark`](crate::QueueMark)). An item that is taken gets a new place
/// behind all others, so a run that is bounded by the counter at its start ([`Select::until`]) never gets one item
/// twice.
///
/// A write that carries a fencing token is refused as [`Fenced`](crate::ErrorKind::Fenced) if the job was written to under a
/// greater token of the same lock; otherwise it raises the job's mark. The check and the write are one critical section.
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
    /// Puts items: one with a new key goes to the end, one with a known key is merged into it
    /// ([`dead_letter::merge`](crate::dead_letter::merge)), its place, its delay and a lease on it kept. A push that was
    /// made before changes nothing.
    ///
    /// # Errors
    /// [`ErrorKind::QueueFull`](crate::ErrorKind::QueueFull) if the queue would be larger than its cap; nothing is stored
    /// then.
    fn queue_put(
        &self,
        job: &JobAddress,
        items: &[QueueItem],
        durability: Durability,
        fence: Option<&Fence>,
        deadline: Deadline,
    ) -> Result<PutReport>;

    /// One item.
    fn queue_get(&self, job: &JobAddress, id: &ItemId, deadline: Deadline) -> Result<Option<QueueEntry>>;

    /// The items that are selected, as they are stored now, whether taken or not. An item whose facts can't be read is
    /// among them.
    fn queue_scan(&self, job: &JobAddress, select: &Select, deadline: Deadline)
    -> Result<QueueScan<'static>>;

    /// The queue in numbers. All zero if the queue does not exist.
    fn queue_summary(&self, job: &JobAddress, deadline: Deadline) -> Result<QueueSummary>;

    /// Takes up to `limit` of the selected items that are pending, for `lease`, in the order of their places. The leases
    /// are stored before the call returns, and the items stay stored: one that is not settled is pending again when its
    /// lease ends. An item whose facts can't be read is taken only by its id.
    fn queue_take(
        &self,
        job: &JobAddress,
        select: &Select,
        limit: usize,
        lease: Duration,
        fence: Option<&Fence>,
        deadline: Deadline,
    ) -> Result<Vec<QueueEntry>>;

    /// Changes stored items, all in one write, in their order: each sees the changes before it. Returns the outcome of
    /// each.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) for an edit or a failure that is no item or names
    /// another id, and for an extension without a token; [`ErrorKind::TooLarge`](crate::ErrorKind::TooLarge) for contents over the limit.
    /// Nothing is changed then.
    fn queue_settle(
        &self,
        job: &JobAddress,
        settlements: &[Settlement],
        fence: Option<&Fence>,
        deadline: Deadline,
    ) -> Result<Vec<Settled>>;

    /// Frees the room of settled items, whatever it costs. A backend does so by itself in time.
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

    /// A page of all locks that were ever taken, held or not, sorted by name.
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

    /// A page of the repositories that hold anything, sorted.
    fn repositories(&self, page: &PageOptions<RepoName>, deadline: Deadline) -> Result<Page<RepoName>>;

    /// A page of the jobs of a repository that hold anything, sorted.
    fn jobs(&self, repo: &RepoName, page: &PageOptions<JobId>, deadline: Deadline) -> Result<Page<JobId>>;

    /// True if a live process works on a job of a repository: it holds a part of a log that it appends to, or a named
    /// lock whose first part is the repository's name. A process between two calls on a queue or a document holds
    /// nothing. A backend may try locks for the answer, which is no more than a reader may do to another writer: no
    /// call of another process fails or waits for it.
    fn is_active(&self, repo: &RepoName, deadline: Deadline) -> Result<bool>;

    /// Whether a live process works on a job, and when the job was last written to.
    fn activity(&self, job: &JobAddress, deadline: Deadline) -> Result<Activity>;

    /// A page of the jobs of a repository, as [`jobs`](Self::jobs) lists them, each with its numbers. No event and no document
    /// is read for them, except the mark of a finished job.
    ///
    /// A job that can't be read is an entry with the error. A page that would take too long ends early: it is short, and
    /// the next one continues behind it.
    fn survey(
        &self,
        repo: &RepoName,
        page: &PageOptions<JobId>,
        deadline: Deadline,
    ) -> Result<Page<JobSurvey, JobId>>;

    /// Removes all that is stored of a job: events, documents, dead letters. False if nothing was.
    ///
    /// The job is gone at one moment: a read before it finds everything, a read after it nothing, also if the process
    /// dies in between. What is left is then removed by the next write to the job, or the next call of this. A scan that is
    /// under way ends with [`Deleted`](crate::ErrorKind::Deleted), a cursor into the deleted log gets
    /// [`CursorGap`](crate::ErrorKind::CursorGap), and a later write begins the job again. The fencing marks of the job stay.
    ///
    /// # Errors
    /// [`LockUnavailable`](crate::ErrorKind::LockUnavailable) if the job is [active](Activity::active): nothing was removed.
    fn delete_job(&self, job: &JobAddress, deadline: Deadline) -> Result<bool>;

    /// Ends background work and makes relaxed writes of this handle survive power loss.
    fn flush(&self, deadline: Deadline) -> Result<()>;

    /// Checks what can be checked without writing to it.
    fn health(&self, deadline: Deadline) -> Result<Health>;

    /// The use of space.
    fn usage(&self, deadline: Deadline) -> Result<Usage>;

    /// Adds its counters.
    fn stats(&self, stats: &mut Stats);
}
