//! A backend that makes every call through a [`Caller`], as the facade does. The conformance suite and the tests
//! of failed calls use it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use prodigy_storage_backend::conformance::ManualClock;
use prodigy_storage_backend::{
    Activity, Added, AppendOptions, Appended, Backend, Batch, Body, Capabilities, Catalog, Compaction,
    Cursor, Deadline, DocumentEntry, DocumentStore, Durability, ErrorKind, EventId, Expected, Fence, Health,
    ItemId, JobSurvey, LockGuard, LockInfo, LockOptions, LockStore, LogReports, LogScope, LogStore,
    LogSummary, LogWatch, Moved, Page, PageOptions, PutOptions, PutReport, QueueEntry, QueueItem, QueueScan,
    QueueStep, QueueStore, QueueSummary, Result, Revision, Scan, ScanItem, ScanOptions, Select, Settled,
    Settlement, Stats, StorageError, StoredDocument, UnfinishedDeletion, Usage, WaitOptions,
};
use prodigy_storage_config::{BackendKind, RetrySettings, StorageConfig};
use prodigy_storage_layout::{
    Document, DocumentScope, JobAddress, JobId, LockName, Part, Phase, RepoName, Timestamp,
};

use crate::call::Caller;
use crate::call::operation::{self, Operation};

/// The percentage of calls that fail.
const FAILING: u64 = 30;
/// The percentage of failed appends that have an unknown outcome.
const UNCLEAR: u64 = 50;

/// A backend behind a [`Caller`]. If it is [`faulty`](Self::faulty), 30 % of its calls fail at random with a transient
/// error; half of the failing appends have an unknown outcome.
#[derive(Debug)]
pub(crate) struct Through {
    caller: Caller,
    faults: Option<Arc<Faults>>,
    /// True if the steps of scans fail, too.
    fails_in_scans: bool,
    hook: Option<Hook>,
}

/// A scan whose steps fail as the calls of its backend do.
struct FaultyScan<S> {
    scan: S,
    faults: Option<Arc<Faults>>,
}

impl<S> FaultyScan<S> {
    fn fail(&self) -> Result<()> {
        match self
            .faults
            .as_ref()
            .and_then(|faults| faults.draw(Deadline::never()))
        {
            Some(fault) => Err(error_of(fault, "scan")),
            None => Ok(()),
        }
    }
}

impl Scan for FaultyScan<Box<dyn Scan>> {
    fn fetch(&mut self) -> Result<()> {
        self.fail()
    }

    fn next(&mut self) -> Result<Option<ScanItem<'_>>> {
        self.scan.next()
    }

    fn cursor(&self) -> Cursor {
        self.scan.cursor()
    }
}

impl Iterator for FaultyScan<QueueScan<'static>> {
    type Item = Result<QueueStep>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.fail() {
            Ok(()) => self.scan.next(),
            Err(error) => Some(Err(error)),
        }
    }
}

/// Called right before each call of one operation, to simulate another process.
struct Hook {
    before: Operation,
    work: Box<dyn Fn() + Send + Sync>,
}

impl std::fmt::Debug for Hook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "before {}", self.before.name)
    }
}

/// The failures that a test has planned for the calls of a backend.
#[derive(Debug)]
struct Faults {
    source: Source,
    stores_given: bool,
    failed: AtomicU64,
}

#[derive(Debug)]
enum Source {
    /// Random failures, from the state of a random number generator.
    Random(AtomicU64),
    /// This number of calls succeeds, and then no call does anything.
    Death(AtomicU64),
    /// The first calls fail in these ways, in order; later calls succeed.
    Script(Mutex<VecDeque<Fault>>),
}

/// How a call fails.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    /// A transient error; the call changed nothing.
    Passing,
    /// A permanent error of this kind; the call changed nothing.
    Lasting(ErrorKind),
    /// An append fails with an unknown outcome.
    Unclear,
    /// An append fails with an unknown outcome, and the error does not have the ids.
    UnclearWithoutIds,
}

impl Faults {
    /// The next number of the generator (SplitMix64).
    fn roll(dice: &AtomicU64) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut n = dice.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        n ^ (n >> 31)
    }

    /// Decides whether and how the next call fails. If its deadline has passed, there is no random failure: the
    /// backend itself reports the deadline.
    fn draw(&self, deadline: Deadline) -> Option<Fault> {
        let fault = match &self.source {
            Source::Script(faults) => faults.lock().pop_front(),
            Source::Death(left) => {
                let lives = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
                lives.is_err().then_some(Fault::Lasting(ErrorKind::Io))
            }
            Source::Random(dice) => {
                let number = Self::roll(dice);
                let unclear = (number / 100) % 100 < UNCLEAR;
                (number % 100 < FAILING && !deadline.has_passed()).then_some(if unclear {
                    Fault::Unclear
                } else {
                    Fault::Passing
                })
            }
        }?;
        self.failed.fetch_add(1, Ordering::Relaxed);
        Some(fault)
    }
}

fn error_of(fault: Fault, operation: &'static str) -> StorageError {
    match fault {
        Fault::Lasting(kind) => StorageError::new(kind, operation, "", "a fault that lasts"),
        _ => StorageError::new(ErrorKind::Io, operation, "", "a fault that passes").transient(),
    }
}

/// Retry settings with very short delays, and enough retries for any number of random failures.
pub(super) fn patient() -> RetrySettings {
    RetrySettings::default()
        .max_retries(100)
        .initial_delay(Duration::from_nanos(1))
        .max_delay(Duration::from_nanos(1))
        .jitter(false)
}

/// A configuration with cache, limit and retries on.
pub(super) fn everything() -> StorageConfig {
    StorageConfig::default()
        // The tests pass a backend to the caller; this setting only avoids that a folder is needed.
        .backend(BackendKind::Memory)
        .enable_cache(true)
        .connection_pool_size(4)
        .retry_policy(patient())
}

impl Through {
    /// A backend behind a caller with this configuration.
    pub(super) fn new(backend: Arc<dyn Backend>, config: &StorageConfig) -> Self {
        Self {
            caller: Caller::new(backend, config, false),
            faults: None,
            fails_in_scans: false,
            hook: None,
        }
    }

    /// A backend that calls a closure right before each call of one operation, as if another process were faster.
    pub(crate) fn overtaken(
        backend: Arc<dyn Backend>,
        before: Operation,
        work: impl Fn() + Send + Sync + 'static,
    ) -> Self {
        let work = Box::new(work);
        Self {
            hook: Some(Hook { before, work }),
            ..Self::new(backend, &everything())
        }
    }

    /// A backend whose calls fail at random, without retries.
    ///
    /// If an append has an unknown outcome, its events are stored if the batch had no ids before. A batch that had
    /// ids is not stored, so that a later retry counts its events as stored and not as duplicates. With
    /// `stores_given` it is stored too.
    pub(super) fn faulty(backend: Arc<dyn Backend>, seed: u64, stores_given: bool) -> Self {
        Self::over_faults(backend, Source::Random(AtomicU64::new(seed)), stores_given)
    }

    /// A backend whose first calls fail in these ways, without retries. If an append has an unknown outcome, its
    /// events are stored.
    pub(super) fn scripted(backend: Arc<dyn Backend>, faults: impl IntoIterator<Item = Fault>) -> Self {
        let script = Source::Script(Mutex::new(faults.into_iter().collect()));
        Self::over_faults(backend, script, true)
    }

    /// A backend like that of a process that dies after this number of calls: later calls do nothing and fail.
    pub(crate) fn dying(backend: Arc<dyn Backend>, calls: u64) -> Self {
        Self::over_faults(backend, Source::Death(AtomicU64::new(calls)), true)
    }

    fn over_faults(backend: Arc<dyn Backend>, source: Source, stores_given: bool) -> Self {
        let mut config = everything();
        config.enable_cache = false;
        config.retry_policy.max_retries = 0;
        config.connection_pool_size = 1000;
        Self {
            caller: Caller::new(backend, &config, false),
            faults: Some(Arc::new(Faults {
                source,
                stores_given,
                failed: AtomicU64::new(0),
            })),
            fails_in_scans: false,
            hook: None,
        }
    }

    /// Lets the steps of scans fail, too.
    pub(super) fn also_in_scans(mut self) -> Self {
        self.fails_in_scans = true;
        self
    }

    /// The faults of a scan's steps.
    fn faults_of_steps(&self) -> Option<Arc<Faults>> {
        self.faults.clone().filter(|_| self.fails_in_scans)
    }

    /// Fails if the next call of this operation is to fail.
    fn fail(&self, operation: Operation, deadline: Deadline) -> Result<()> {
        match self.faults.as_ref().and_then(|faults| faults.draw(deadline)) {
            Some(fault) => Err(error_of(fault, operation.name)),
            None => Ok(()),
        }
    }

    fn run<T>(
        &self,
        operation: Operation,
        deadline: Deadline,
        mut call: impl FnMut(&dyn Backend) -> Result<T>,
    ) -> Result<T> {
        if let Some(hook) = self.hook.as_ref().filter(|hook| hook.before == operation) {
            (hook.work)();
        }
        self.caller.call(operation, &"", deadline, |backend| {
            self.fail(operation, deadline)?;
            call(backend)
        })
    }
}

impl LogStore for Through {
    fn append(
        &self,
        job: &JobAddress,
        batch: &mut Batch,
        options: &AppendOptions,
        deadline: Deadline,
    ) -> Result<Appended> {
        let fault = self.faults.as_ref().map(|faults| (faults, faults.draw(deadline)));
        let (faults, names_ids) = match fault {
            None | Some((_, None)) => return self.caller.append(job, batch, options, deadline),
            Some((faults, Some(Fault::Unclear))) => (faults, true),
            Some((faults, Some(Fault::UnclearWithoutIds))) => (faults, false),
            Some((_, Some(fault))) => return Err(error_of(fault, operation::APPEND.name)),
        };
        let why = "a fault that may have struck after the write";
        let unclear =
            StorageError::new(ErrorKind::OutcomeUnknown, operation::APPEND.name, job, why).transient();
        if !names_ids {
            return Err(unclear);
        }
        let given = batch.ids().len();
        // In these cases the batch is appended, so that the backend refuses it or stores it. Only a batch whose
        // given ids are valid is left unstored.
        let is_sound = |id: &EventId| id.is_v7() && !id.is_ahead_of(ManualClock::START);
        if faults.stores_given || given == 0 || given != batch.len() || !batch.ids().iter().all(is_sound) {
            self.caller.append(job, batch, options, deadline)?;
        }
        Err(unclear.with_ids(batch.ids()))
    }

    fn scan(&self, job: &JobAddress, options: &ScanOptions, deadline: Deadline) -> Result<Box<dyn Scan>> {
        let scan = self.run(operation::SCAN, deadline, |inner| {
            inner.scan(job, options, deadline)
        })?;
        let faults = self.faults_of_steps();
        Ok(Box::new(FaultyScan { scan, faults }))
    }

    fn tail(
        &self,
        job: &JobAddress,
        count: usize,
        step_timeout: Option<Duration>,
        deadline: Deadline,
    ) -> Result<Box<dyn Scan>> {
        let scan = self.run(operation::TAIL, deadline, |inner| {
            inner.tail(job, count, step_timeout, deadline)
        })?;
        let faults = self.faults_of_steps();
        Ok(Box::new(FaultyScan { scan, faults }))
    }

    fn end(&self, job: &JobAddress, deadline: Deadline) -> Result<Cursor> {
        self.run(operation::END, deadline, |inner| inner.end(job, deadline))
    }

    fn wait(
        &self,
        job: &JobAddress,
        cursor: &Cursor,
        options: &WaitOptions,
        deadline: Deadline,
    ) -> Result<bool> {
        self.run(operation::WAIT, deadline, |inner| {
            inner.wait(job, cursor, options, deadline)
        })
    }

    fn watch(&self, scope: &LogScope, reports: &LogReports) -> Result<Box<dyn LogWatch>> {
        self.run(operation::WATCH, Deadline::never(), |inner| {
            inner.watch(scope, reports)
        })
    }

    fn log_summary(&self, job: &JobAddress, deadline: Deadline) -> Result<LogSummary> {
        self.run(operation::SUMMARISE, deadline, |inner| {
            inner.log_summary(job, deadline)
        })
    }

    fn seal(&self, job: &JobAddress, deadline: Deadline) -> Result<()> {
        self.run(operation::SEAL, deadline, |inner| inner.seal(job, deadline))
    }

    fn removable_before(
        &self,
        job: &JobAddress,
        before: Timestamp,
        deadline: Deadline,
    ) -> Result<LogSummary> {
        self.run(operation::FIND_OLD, deadline, |inner| {
            inner.removable_before(job, before, deadline)
        })
    }

    fn remove_before(
        &self,
        job: &JobAddress,
        before: Timestamp,
        fence: Option<&Fence>,
        deadline: Deadline,
    ) -> Result<LogSummary> {
        self.run(operation::REMOVE_OLD, deadline, |inner| {
            inner.remove_before(job, before, fence, deadline)
        })
    }

    fn persist(&self, job: &JobAddress, cursor: &Cursor, deadline: Deadline) -> Result<()> {
        self.run(operation::PERSIST, deadline, |inner| {
            inner.persist(job, cursor, deadline)
        })
    }
}

impl DocumentStore for Through {
    fn get(&self, document: &Document, deadline: Deadline) -> Result<Option<StoredDocument>> {
        self.fail(operation::GET, deadline)?;
        self.caller.get(document, deadline)
    }

    fn revision(&self, document: &Document, deadline: Deadline) -> Result<Option<Revision>> {
        self.run(operation::REVISION, deadline, |inner| {
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
        self.fail(operation::PUT, deadline)?;
        self.caller.put(document, body, options, deadline)
    }

    fn add(
        &self,
        job: &JobAddress,
        phase: Phase,
        body: Body<'_>,
        options: &PutOptions,
        deadline: Deadline,
    ) -> Result<Added> {
        self.fail(operation::ADD, deadline)?;
        self.caller.add(job, phase, body, options, deadline)
    }

    fn delete(
        &self,
        document: &Document,
        expected: Expected,
        durability: Durability,
        fence: Option<&Fence>,
        deadline: Deadline,
    ) -> Result<bool> {
        self.fail(operation::DELETE, deadline)?;
        self.caller
            .delete(document, expected, durability, fence, deadline)
    }

    fn raise_mark(&self, job: &JobAddress, fence: &Fence, deadline: Deadline) -> Result<()> {
        self.run(operation::RAISE_MARK, deadline, |inner| {
            inner.raise_mark(job, fence, deadline)
        })
    }

    fn list(
        &self,
        scope: &DocumentScope,
        page: &PageOptions<Document>,
        deadline: Deadline,
    ) -> Result<Page<DocumentEntry, Document>> {
        self.run(operation::LIST, deadline, |inner| {
            inner.list(scope, page, deadline)
        })
    }

    fn newest(
        &self,
        job: &JobAddress,
        phase: Phase,
        before: Option<&Document>,
        deadline: Deadline,
    ) -> Result<Option<DocumentEntry>> {
        self.run(operation::NEWEST, deadline, |inner| {
            inner.newest(job, phase, before, deadline)
        })
    }
}

impl QueueStore for Through {
    fn queue_put(
        &self,
        job: &JobAddress,
        items: &[QueueItem],
        durability: Durability,
        fence: Option<&Fence>,
        deadline: Deadline,
    ) -> Result<PutReport> {
        self.run(operation::PUSH, deadline, |inner| {
            inner.queue_put(job, items, durability, fence, deadline)
        })
    }

    fn queue_get(&self, job: &JobAddress, id: &ItemId, deadline: Deadline) -> Result<Option<QueueEntry>> {
        self.run(operation::GET_ITEM, deadline, |inner| {
            inner.queue_get(job, id, deadline)
        })
    }

    fn queue_scan(
        &self,
        job: &JobAddress,
        select: &Select,
        deadline: Deadline,
    ) -> Result<QueueScan<'static>> {
        let scan = self.run(operation::SCAN_ITEMS, deadline, |inner| {
            inner.queue_scan(job, select, deadline)
        })?;
        let faults = self.faults_of_steps();
        Ok(Box::new(FaultyScan { scan, faults }))
    }

    fn queue_summary(&self, job: &JobAddress, deadline: Deadline) -> Result<QueueSummary> {
        self.run(operation::SUMMARISE_ITEMS, deadline, |inner| {
            inner.queue_summary(job, deadline)
        })
    }

    fn queue_take(
        &self,
        job: &JobAddress,
        select: &Select,
        limit: usize,
        lease: Duration,
        fence: Option<&Fence>,
        deadline: Deadline,
    ) -> Result<Vec<QueueEntry>> {
        self.run(operation::TAKE, deadline, |inner| {
            inner.queue_take(job, select, limit, lease, fence, deadline)
        })
    }

    fn queue_settle(
        &self,
        job: &JobAddress,
        settlements: &[Settlement],
        fence: Option<&Fence>,
        deadline: Deadline,
    ) -> Result<Vec<Settled>> {
        self.run(operation::SETTLE, deadline, |inner| {
            inner.queue_settle(job, settlements, fence, deadline)
        })
    }

    fn queue_compact(&self, job: &JobAddress, deadline: Deadline) -> Result<Compaction> {
        self.run(operation::COMPACT, deadline, |inner| {
            inner.queue_compact(job, deadline)
        })
    }
}

impl LockStore for Through {
    fn lock(&self, name: &LockName, options: &LockOptions, deadline: Deadline) -> Result<Box<dyn LockGuard>> {
        self.run(operation::LOCK, deadline, |inner| {
            inner.lock(name, options, deadline)
        })
    }

    fn locks(&self, page: &PageOptions<LockName>, deadline: Deadline) -> Result<Page<LockInfo, LockName>> {
        self.run(operation::LIST_LOCKS, deadline, |inner| {
            inner.locks(page, deadline)
        })
    }
}

impl Catalog for Through {
    fn capabilities(&self) -> Capabilities {
        self.caller.capabilities()
    }

    fn repositories(&self, page: &PageOptions<RepoName>, deadline: Deadline) -> Result<Page<RepoName>> {
        self.run(operation::LIST_REPOSITORIES, deadline, |inner| {
            inner.repositories(page, deadline)
        })
    }

    fn jobs(&self, repo: &RepoName, page: &PageOptions<JobId>, deadline: Deadline) -> Result<Page<JobId>> {
        self.run(operation::LIST_JOBS, deadline, |inner| {
            inner.jobs(repo, page, deadline)
        })
    }

    fn is_active(&self, repo: &RepoName, deadline: Deadline) -> Result<bool> {
        self.run(operation::FIND_WRITERS, deadline, |inner| {
            inner.is_active(repo, deadline)
        })
    }

    fn activity(&self, job: &JobAddress, deadline: Deadline) -> Result<Activity> {
        self.run(operation::ACTIVITY, deadline, |inner| {
            inner.activity(job, deadline)
        })
    }

    fn survey(
        &self,
        repo: &RepoName,
        page: &PageOptions<JobId>,
        deadline: Deadline,
    ) -> Result<Page<JobSurvey, JobId>> {
        self.run(operation::SURVEY, deadline, |inner| {
            inner.survey(repo, page, deadline)
        })
    }

    fn delete_job(&self, job: &JobAddress, fence: Option<&Fence>, deadline: Deadline) -> Result<bool> {
        self.run(operation::DELETE_JOB, deadline, |inner| {
            inner.delete_job(job, fence, deadline)
        })
    }

    fn delete_old_job(
        &self,
        job: &JobAddress,
        last: Timestamp,
        fence: Option<&Fence>,
        deadline: Deadline,
    ) -> Result<bool> {
        self.run(operation::DELETE_OLD_JOB, deadline, |inner| {
            inner.delete_old_job(job, last, fence, deadline)
        })
    }

    fn unfinished_deletions(
        &self,
        page: &PageOptions<JobAddress>,
        deadline: Deadline,
    ) -> Result<Page<UnfinishedDeletion, JobAddress>> {
        self.run(operation::LIST_UNFINISHED, deadline, |inner| {
            inner.unfinished_deletions(page, deadline)
        })
    }

    fn finish_deletion(&self, job: &JobAddress, deadline: Deadline) -> Result<bool> {
        self.run(operation::FINISH_DELETION, deadline, |inner| {
            inner.finish_deletion(job, deadline)
        })
    }

    fn mark_moved(&self, moved: &Moved, last: Option<Timestamp>, deadline: Deadline) -> Result<()> {
        self.run(operation::MARK_MOVED, deadline, |inner| {
            inner.mark_moved(moved, last, deadline)
        })
    }

    fn unmark_moved(&self, part: &Part, deadline: Deadline) -> Result<u64> {
        self.run(operation::UNMARK_MOVED, deadline, |inner| {
            inner.unmark_moved(part, deadline)
        })
    }

    fn moved(&self, part: &Part, page: &PageOptions<Part>, deadline: Deadline) -> Result<Page<Moved, Part>> {
        self.run(operation::LIST_MOVED, deadline, |inner| {
            inner.moved(part, page, deadline)
        })
    }

    fn flush(&self, deadline: Deadline) -> Result<()> {
        self.run(operation::FLUSH, deadline, |inner| inner.flush(deadline))
    }

    fn health(&self, deadline: Deadline) -> Result<Health> {
        self.caller.call(operation::HEALTH, &"", deadline, |backend| {
            backend.health(deadline)
        })
    }

    fn usage(&self, deadline: Deadline) -> Result<Usage> {
        self.run(operation::USAGE, deadline, |inner| inner.usage(deadline))
    }

    fn stats(&self, stats: &mut Stats) {
        if let Some(faults) = &self.faults {
            stats.add("faults.failed", faults.failed.load(Ordering::Relaxed));
        }
        for (name, count) in self.caller.stats().iter() {
            stats.add(name, count);
        }
    }
}
