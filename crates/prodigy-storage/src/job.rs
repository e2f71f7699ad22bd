//! A job.

use std::sync::Arc;

use prodigy_storage_backend::{
    Activity, Body, Cursor, DocumentCount, ErrorKind, Expected, Fence, JobFacts, LogSummary, Moved,
    PageOptions, PutOptions, QueueSummary, Result, StorageError, StoredDocument,
};
use prodigy_storage_layout::{Document, DocumentOwner, JobAddress, Part, Timestamp};
use serde::{Deserialize, Serialize};

use crate::call::operation::{ACTIVITY, DELETE_JOB, DELETE_OLD_JOB, LIST_MOVED, RAISE_MARK, SEAL, SURVEY};
use crate::checkpoints::Checkpoints;
use crate::dlq::Dlq;
use crate::documents::{self, DocumentInfo, Documents};
use crate::events::Events;
use crate::listing::Listing;
use crate::lock::StorageLock;
use crate::orphans::Orphans;
use crate::storage::Inner;

/// A job: its events, checkpoints, documents, dead letters and orphaned worktrees.
///
/// It is cheap to clone, and so are the objects that its methods return.
///
/// ```
/// # use prodigy_storage::{SaveOptions, Storage};
/// # let storage = Storage::in_memory()?;
/// let job = storage.repo("shop")?.job("mapreduce-7")?;
/// job.events().append(&"started")?;
/// job.checkpoints().save_setup(&"3 items", SaveOptions::new())?;
/// job.finish()?;
/// assert!(job.finished_at()?.is_some());
/// # Ok::<(), prodigy_storage::StorageError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Job {
    inner: Arc<Inner>,
    address: JobAddress,
    /// The fencing token that each write carries.
    fence: Option<Fence>,
}

#[derive(Serialize, Deserialize)]
struct Finished {
    finished_at: Timestamp,
    /// The cursor at the end of the log when the job was finished: an event that it does not cover reopens the
    /// job. Marks of earlier versions may lack it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    end: Option<Cursor>,
    /// The time of the last write when the job was finished, by the clock of the store, which may differ from that
    /// of the finishing process. A later write reopens the job. Marks of earlier versions may lack it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_write: Option<Timestamp>,
}

impl Finished {
    /// True if the last write was before the mark, by its time.
    fn covers(&self, activity: &Activity) -> bool {
        let until = self.last_write.unwrap_or(self.finished_at);
        activity.last_write.is_none_or(|last| last <= until)
    }
}

/// The state of a job.
///
/// ```
/// use prodigy_storage::{JobState, Storage};
///
/// let storage = Storage::in_memory()?;
/// let job = storage.repo("shop")?.job("job-7")?;
/// job.events().append(&serde_json::json!({"event": "started"}))?;
/// assert_eq!(job.status()?.state, JobState::Active);
/// job.finish()?;
/// assert_eq!(job.status()?.state, JobState::Finished);
/// # Ok::<(), prodigy_storage::StorageError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum JobState {
    /// A live process appends to the job's log, or holds a lock whose name begins with the job's repository and
    /// id.
    Active,
    /// No process works on the job, and it is not finished: it will be resumed, or it crashed.
    Open,
    /// The job was [finished](Job::finish), and nothing was written to it after that.
    Finished,
}

/// The state of a job and its times: the result of [`Job::status`].
///
/// ```
/// use prodigy_storage::{JobState, Storage};
///
/// let storage = Storage::in_memory()?;
/// let status = storage.repo("shop")?.job("job-7")?.status()?;
/// assert_eq!(status.state, JobState::Open);
/// assert!(status.last_activity.is_none() && status.finished_at.is_none());
/// # Ok::<(), prodigy_storage::StorageError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct JobStatus {
    /// The state of the job.
    pub state: JobState,
    /// The time of the last write of an event, a checkpoint, a document or a dead letter; `None` if nothing is
    /// stored.
    pub last_activity: Option<Timestamp>,
    /// The time at which the job was last finished, if it ever was.
    pub finished_at: Option<Timestamp>,
}

impl JobStatus {
    fn new(activity: &Activity, mark: Option<&Finished>) -> Self {
        Self {
            state: match (activity.active, mark.is_some_and(|mark| mark.covers(activity))) {
                (true, _) => JobState::Active,
                (false, true) => JobState::Finished,
                (false, false) => JobState::Open,
            },
            last_activity: activity.last_write,
            finished_at: mark.map(|mark| mark.finished_at),
        }
    }
}

/// The counts and sizes of a job, for which no event or document is read: the result of [`Job::overview`], and an
/// entry of [`Repo::survey`](crate::Repo::survey).
///
/// ```
/// use prodigy_storage::Storage;
///
/// let repo = Storage::in_memory()?.repo("shop")?;
/// repo.job("job-7")?.events().append(&"started")?;
/// for job in repo.survey() {
///     let job = job??;
///     println!("{}: {:?}, {} bytes", job.address, job.status.state, job.bytes());
///     assert_eq!((job.log.segments, job.letters.items), (1, 0));
/// }
/// # Ok::<(), prodigy_storage::StorageError>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct JobOverview {
    /// The repository and id of the job.
    pub address: JobAddress,
    /// The result of [`Job::status`].
    pub status: JobStatus,
    /// The size of the job's log.
    pub log: LogSummary,
    /// The counts of the job's dead letters.
    pub letters: QueueSummary,
    /// The number and size of the job's checkpoints, of all phases.
    pub checkpoints: DocumentCount,
    /// The number and size of the job's documents of kinds that the caller defines.
    pub documents: DocumentCount,
    /// The reason why the mark that the job is [finished](Job::finish) can't be read, if it is damaged. The job then
    /// counts as not finished.
    pub damage: Option<StorageError>,
    /// The end of the log when the job was last [finished](Job::finish), if it ever was.
    pub finished_end: Option<Cursor>,
}

impl JobOverview {
    pub(crate) fn new(address: JobAddress, facts: JobFacts) -> Self {
        let mark = facts.finished.map(|mark| read_mark(&address, &mark));
        let (mark, damage) = match mark.transpose() {
            Ok(mark) => (mark, facts.damage),
            Err(error) => (None, Some(error)),
        };
        Self {
            address,
            status: JobStatus::new(&facts.activity, mark.as_ref()),
            log: facts.log,
            letters: facts.queue,
            checkpoints: facts.checkpoints,
            documents: facts.documents,
            damage,
            finished_end: mark.and_then(|mark| mark.end),
        }
    }

    /// The stored size of the job's log, dead letters, checkpoints and documents in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.log.bytes + self.letters.bytes + self.checkpoints.bytes + self.documents.bytes
    }
}

fn read_mark(job: &JobAddress, mark: &StoredDocument) -> Result<Finished> {
    serde_json::from_slice(mark.body()).map_err(|error| {
        let why = "its `finished.json` does not hold the time at which the job was finished";
        StorageError::new(ErrorKind::Damaged, "read finished mark", job, why)
            .with_hint("run `prodigy-storage doctor --repair`, which moves it to the quarantine; if the job is finished, finish it again")
            .with_source(error)
    })
}

impl Job {
    pub(crate) fn new(inner: Arc<Inner>, address: JobAddress) -> Self {
        let fence = inner.fence.clone();
        Self {
            inner,
            address,
            fence,
        }
    }

    /// The same job, with the fencing token of a held lock on all writes: appends, saves, pushes, takes, settlements,
    /// and puts and deletions of documents. A write is refused as [`Fenced`](ErrorKind::Fenced) once this was called, or the
    /// job was written to, with a newer token of that lock.
    ///
    /// So a new holder calls this first, and then reads: no save, put or acknowledged append of an earlier holder comes
    /// after what it reads. The call stores the token, with a sync. A push or settlement of an earlier holder that was under way
    /// may still be accepted; the first take sees it.
    ///
    /// For each lock, the job remembers the greatest token. An append is checked before it is written and again
    /// before it is acknowledged. So an append under an overtaken token may be stored; its events carry the token
    /// ([`Event::fence`](crate::Event::fence)).
    ///
    /// ```
    /// use prodigy_storage::{ErrorKind, Storage};
    ///
    /// # let storage = Storage::in_memory()?;
    /// let job = storage.repo("shop")?.job("mapreduce-7")?;
    /// let lock = storage.lock("shop/mapreduce-7/coordinator")?;
    /// let old = job.fenced(&lock)?;
    /// old.events().append(&"planned")?;
    /// lock.release()?;
    ///
    /// let lock = storage.lock("shop/mapreduce-7/coordinator")?;
    /// let new = job.fenced(&lock)?;
    /// assert_eq!(new.events().read::<String>()?.count(), 1);
    /// assert_eq!(old.events().append(&"planned again").unwrap_err().kind(), ErrorKind::Fenced);
    /// # Ok::<(), prodigy_storage::StorageError>(())
    /// ```
    ///
    /// # Errors
    /// [`Refused`](ErrorKind::Refused) for an inert guard, which has no token; [`Replaced`](ErrorKind::Replaced) for a lock that
    /// is lost; [`Fenced`](ErrorKind::Fenced) if a newer holder has called this; other errors of the backend.
    pub fn fenced(&self, guard: &StorageLock) -> Result<Self> {
        self.under(guard.fencing()?)
    }

    /// The same job under a token, which the store knows from now on.
    pub(crate) fn under(&self, fence: Fence) -> Result<Self> {
        let deadline = self.inner.deadline();
        self.inner
            .caller
            .call(RAISE_MARK, &self.address, deadline, |backend| {
                backend.raise_mark(&self.address, &fence, deadline)
            })?;
        Ok(self.with_fence(fence))
    }

    /// The same job, with this token on all writes: for a token that another process took and passed on as text. Unlike
    /// [`fenced`](Self::fenced), it stores nothing: the first write under the token overtakes earlier holders.
    #[must_use]
    pub fn with_fence(&self, fence: impl Into<Option<Fence>>) -> Job {
        Self {
            fence: fence.into(),
            ..self.clone()
        }
    }

    /// The fencing token that each write of this handle carries. [`Storage::open`](crate::Storage::open) takes it
    /// from `PRODIGY_STORAGE_FENCE`, which `prodigy-storage lock run` sets for its command.
    #[must_use]
    pub fn fence(&self) -> Option<&Fence> {
        self.fence.as_ref()
    }

    /// The repository and id of the job.
    #[must_use]
    pub fn address(&self) -> &JobAddress {
        &self.address
    }

    /// The log of the job, which every worktree and process shares.
    #[must_use]
    pub fn events(&self) -> Events {
        Events::new(Arc::clone(&self.inner), self.address.clone(), self.fence.clone())
    }

    /// The checkpoints of the job.
    #[must_use]
    pub fn checkpoints(&self) -> Checkpoints {
        Checkpoints::new(Arc::clone(&self.inner), self.address.clone(), self.fence.clone())
    }

    /// The documents of the job of one kind that the caller defines, such as `sessions`.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) for a text that is not a valid name.
    pub fn documents(&self, kind: impl AsRef<str>) -> Result<Documents> {
        Documents::new(Arc::clone(&self.inner), self.owner(), kind, self.fence.clone())
    }

    /// The documents of the job of all kinds that the caller defines, sorted by kind and name.
    pub fn all_documents(&self) -> Listing<DocumentInfo> {
        documents::list(&self.inner, self.owner(), None)
    }

    fn owner(&self) -> DocumentOwner {
        DocumentOwner::Job(self.address.clone())
    }

    /// The dead letters of the job.
    #[must_use]
    pub fn dlq(&self) -> Dlq {
        Dlq::new(Arc::clone(&self.inner), self.address.clone(), self.fence.clone())
    }

    /// The worktrees of the job that could not be removed.
    #[must_use]
    pub fn orphans(&self) -> Orphans {
        Orphans::new(Arc::clone(&self.inner), self.address.clone(), self.fence.clone())
    }

    /// Closes the segment that this process appends to, and marks the job as finished, in one write. A second call changes
    /// nothing: the first mark stays, unless something was written since. If its log has lost events meanwhile, the mark names the end
    /// that the log has now, and keeps its time. Later writes are not refused: they reopen the job,
    /// and so does a write that another thread or process makes during the call.
    ///
    /// # Errors
    /// The errors of the backend.
    pub fn finish(&self) -> Result<()> {
        let deadline = self.inner.deadline();
        self.inner.caller.call(SEAL, &self.address, deadline, |backend| {
            backend.seal(&self.address, deadline)
        })?;
        let document = Document::Finished(self.address.clone());
        let options = PutOptions::new(self.inner.config.durability).fencing(self.fence.clone());
        loop {
            let mut finished_at = None;
            let expected = match self.inner.caller.get(&document, deadline) {
                Ok(None) => Expected::Absent,
                Ok(Some(stored)) => {
                    match read_mark(&self.address, &stored) {
                        Ok(mark) if self.is_covered(&mark)? => {
                            if mark.end.is_none() || mark.end == Some(self.events().end()?) {
                                return Ok(());
                            }
                            finished_at = Some(mark.finished_at);
                        }
                        // A mark without its time is replaced.
                        _ => {}
                    }
                    Expected::Revision(stored.revision())
                }
                Err(error) if error.kind() == ErrorKind::Damaged => Expected::Any,
                Err(error) => return Err(error),
            };
            // Before the mark is written: what is written later is found to be behind it.
            let mark = Finished {
                finished_at: finished_at.unwrap_or_else(|| self.inner.clock.now()),
                end: Some(self.events().end()?),
                last_write: self.activity()?.last_write,
            };
            let mut buffer = Vec::new();
            let body = Body::write(&mut buffer, &mark)
                .map_err(|fault| fault.refused("finish job", &self.address))?;
            match self
                .inner
                .caller
                .put(&document, body, &options.clone().expect(expected), deadline)
            {
                // Another process finished it meanwhile.
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                put => return put.map(drop),
            }
        }
    }

    /// True if an event was appended after the job was finished. A mark without the end of the log goes by times.
    pub(crate) fn is_reopened(&self) -> Result<bool> {
        let Some(mark) = self.mark()? else {
            return Ok(false);
        };
        match mark.end {
            Some(end) => self.events().are_any_behind(end),
            None => Ok(!mark.covers(&self.activity()?)),
        }
    }

    /// True if nothing was written after the job was finished.
    fn is_covered(&self, mark: &Finished) -> Result<bool> {
        let end = mark.end.clone();
        let is_behind = |end| self.events().are_any_behind(end);
        Ok(mark.covers(&self.activity()?) && !end.map_or(Ok(false), is_behind)?)
    }

    fn mark(&self) -> Result<Option<Finished>> {
        let document = Document::Finished(self.address.clone());
        let stored = self.inner.caller.get(&document, self.inner.deadline())?;
        stored.map(|mark| read_mark(&self.address, &mark)).transpose()
    }

    /// The state of the job, the time at which it was finished, and the time of its last write. Both times are
    /// those of the wall clock at the write. A job without stored data is open, and has no last write.
    ///
    /// # Errors
    /// The errors of the backend.
    pub fn status(&self) -> Result<JobStatus> {
        let mark = self.mark()?;
        Ok(JobStatus::new(&self.activity()?, mark.as_ref()))
    }

    /// Describes a process that makes the job [active](JobState::Active): its id, its host, and what it holds. `None` if no process
    /// does, or if the backend does not know which.
    ///
    /// ```
    /// use prodigy_storage::Storage;
    ///
    /// let job = Storage::in_memory()?.repo("shop")?.job("job-7")?;
    /// assert_eq!(job.active_by()?, None);
    /// # Ok::<(), prodigy_storage::StorageError>(())
    /// ```
    ///
    /// # Errors
    /// The errors of the backend.
    pub fn active_by(&self) -> Result<Option<String>> {
        Ok(self.activity()?.by)
    }

    /// The reason why the job is in use, for an error message.
    pub(crate) fn why_active(&self) -> Result<String> {
        Ok(match self.active_by()? {
            Some(by) => format!("the job is active: {by}"),
            None => "the job was active a moment ago".to_owned(),
        })
    }

    fn activity(&self) -> Result<Activity> {
        let deadline = self.inner.deadline();
        self.inner
            .caller
            .call(ACTIVITY, &self.address, deadline, |backend| {
                backend.activity(&self.address, deadline)
            })
    }

    /// The counts and sizes of the job, for which no event or document is read.
    /// [`Repo::survey`](crate::Repo::survey) returns them for many jobs at less cost.
    ///
    /// # Errors
    /// The errors of the backend.
    pub fn overview(&self) -> Result<JobOverview> {
        let deadline = self.inner.deadline();
        let facts = self
            .inner
            .caller
            .call(SURVEY, &self.address, deadline, |backend| {
                JobFacts::by_calls(backend, &self.address, deadline)
            })?;
        Ok(JobOverview::new(self.address.clone(), facts))
    }

    /// The mark that says that the job was [moved](crate::Storage::copy_to) to another store: its own mark, or
    /// that of its repository or of the whole store. A job with a mark can't be written to.
    ///
    /// # Errors
    /// The errors of the backend.
    pub fn moved(&self) -> Result<Option<Moved>> {
        let (part, deadline) = (Part::Job(self.address.clone()), self.inner.deadline());
        let first = PageOptions::default().limit(1);
        let page = self
            .inner
            .caller
            .call(LIST_MOVED, &self.address, deadline, |backend| {
                backend.moved(&part, &first, deadline)
            })?;
        Ok(page.entries.into_iter().next())
    }

    /// Removes all stored data of the job: events, checkpoints, documents, dead letters, and the record of its
    /// orphaned worktrees. Returns false if nothing was stored, or another process removed it first.
    ///
    /// The job disappears at one moment, even if this process dies: a reader finds everything or nothing. A
    /// running scan ends with [`Deleted`](ErrorKind::Deleted), a cursor of the job gets
    /// [`CursorGap`](ErrorKind::CursorGap), and a later write begins the job again. Worktrees are not removed, and
    /// writes of earlier holders of a lock are still refused.
    ///
    /// ```
    /// use prodigy_storage::Storage;
    ///
    /// let storage = Storage::in_memory()?;
    /// let job = storage.repo("shop")?.job("job-7")?;
    /// job.events().append(&serde_json::json!({"event": "started"}))?;
    /// assert!(job.delete().is_err(), "it is active");
    /// job.finish()?;
    /// assert!(job.delete()?);
    /// assert!(!job.delete()?, "nothing is left");
    /// # Ok::<(), prodigy_storage::StorageError>(())
    /// ```
    ///
    /// # Errors
    /// [`LockUnavailable`](ErrorKind::LockUnavailable) if the job is [active](JobState::Active);
    /// [`Fenced`](ErrorKind::Fenced) on a [fenced](Self::fenced) job whose token was overtaken. In both cases
    /// nothing was removed.
    pub fn delete(&self) -> Result<bool> {
        let deadline = self.inner.deadline();
        self.inner
            .caller
            .call(DELETE_JOB, &self.address, deadline, |backend| {
                backend.delete_job(&self.address, self.fence.as_ref(), deadline)
            })
    }

    /// Deletes the job like [`delete`](Self::delete), but only if nothing was written to it after `last`, the time of the last
    /// write that the caller knows. Returns false if there was a later write, or if nothing is stored.
    ///
    /// # Errors
    /// As [`delete`](Self::delete).
    pub fn delete_unless_written(&self, last: Timestamp) -> Result<bool> {
        let deadline = self.inner.deadline();
        self.inner
            .caller
            .call(DELETE_OLD_JOB, &self.address, deadline, |backend| {
                backend.delete_old_job(&self.address, last, self.fence.as_ref(), deadline)
            })
    }

    /// The time at which the job was last finished, even if it was written to since; `None` if it never was.
    ///
    /// # Errors
    /// The errors of the backend.
    pub fn finished_at(&self) -> Result<Option<Timestamp>> {
        Ok(self.mark()?.map(|mark| mark.finished_at))
    }
}
