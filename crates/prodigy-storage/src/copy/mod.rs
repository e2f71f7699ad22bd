//! Copies a store, or a part of it, into another one: [`Storage::copy_to`].

pub(crate) mod begun;
mod clock;
mod compare;
mod job;
mod plan;
mod positions;
mod same;
#[cfg(all(test, feature = "file", feature = "memory"))]
mod tests;

use std::cell::Cell;
use std::collections::HashSet;
use std::sync::Arc;

use prodigy_storage_backend::{ErrorKind, Moved, Result, StorageError, setters};
use prodigy_storage_config::BackendKind;
use prodigy_storage_layout::{
    Document, DocumentOwner, DocumentScope, JobAddress, JobId, Part, RepoName, Timestamp,
};

use self::begun::Begun;
use crate::builder::StorageBuilder;
use crate::call::operation::MARK_MOVED;
use crate::job::JobOverview;
use crate::listing::Listing;
use crate::storage::Storage;

const COPY: &str = "copy job";

/// Selects the part of a store to copy; `Default` is the whole store, as a move.
///
/// ```
/// use prodigy_storage::{CopyOptions, RepoName};
///
/// let options = CopyOptions::new().repo(RepoName::new("shop")?);
/// assert!(options.job.is_none());
/// # Ok::<(), prodigy_storage::NameError>(())
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct CopyOptions {
    /// Only the data of this repository.
    pub repo: Option<RepoName>,
    /// Only the data of this job; if `repo` is `None`, of the job with this id in each repository.
    pub job: Option<JobId>,
    /// If true, the source gets no mark, and can be written to as before. Default: false.
    pub keep_source: bool,
    /// If true, copies nothing and writes nothing, and returns the jobs that would be copied. Default: false.
    pub dry_run: bool,
}

impl CopyOptions {
    /// The whole store, as a move.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    setters! {
        /// Sets the repository whose data is copied; all if `None`.
        repo: into Option<RepoName>,

        /// Sets the job whose data is copied; all if `None`.
        job: into Option<JobId>,

        /// Sets whether the source gets no mark. Use this for a copy that is not a move.
        keep_source: bool,

        /// If true, copies nothing and writes nothing, and returns the jobs that would be copied
        /// ([`CopyReport::planned`]).
        dry_run: bool,
    }
}

/// A job that was copied and compared.
///
/// ```
/// use prodigy_storage::CopiedJob;
///
/// fn describe(job: &CopiedJob) -> String {
///     format!("{}: {} events, checksum {:08x}", job.address, job.events, job.checksum)
/// }
/// # let _ = describe;
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CopiedJob {
    /// The repository and id of the job.
    pub address: JobAddress,
    /// The number of the job's events.
    pub events: u64,
    /// The number of events that this call stored. The other events were stored by an earlier call.
    pub stored: u64,
    /// The number of the job's checkpoints and documents.
    pub documents: u64,
    /// The number of the job's dead letters.
    pub letters: u64,
    /// The CRC-32C of the ids and contents of all events, in the order of their ids: the same in both stores.
    pub checksum: u32,
}

/// The result of a copy.
///
/// ```
/// use prodigy_storage::CopyReport;
///
/// fn is_complete(report: &CopyReport) -> bool {
///     report.refused.is_empty()
/// }
/// # let _ = is_complete;
/// ```
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct CopyReport {
    /// The jobs that would be copied, if this is the result of a [dry run](CopyOptions::dry_run), sorted by repository
    /// and id. That a job is damaged or differs in the target is found only by the copy.
    pub planned: Vec<JobOverview>,
    /// The jobs that were copied, sorted by repository and id.
    pub jobs: Vec<CopiedJob>,
    /// The number of documents that belong to repositories and not to jobs. Registry entries are among them.
    pub documents: u64,
    /// The jobs that were not copied, or only in part, each with the reason. All other jobs were copied.
    pub refused: Vec<(JobAddress, StorageError)>,
    /// The jobs that are left out: they were deleted before their turn came or during it, or have no data. Nothing of them is in the
    /// target, unless an earlier call copied it.
    pub gone: Vec<JobAddress>,
    /// The parts of the source that this call marked as moved; they can't be written to any more.
    pub marked: Vec<Part>,
}

impl Storage {
    /// Copies the whole store, a repository or a job into another store, with any backend: events with their ids
    /// and times, checkpoints and documents byte for byte, dead letters, records of orphaned worktrees, and
    /// registry entries. Local worktrees, locks and fencing marks are not copied.
    ///
    /// The cursors of checkpoints are translated: a read from the cursor of a copied checkpoint returns exactly
    /// the events that it returned in the source. Cursors within the caller's own documents can't be recognised
    /// and are copied unchanged. If a job is finished, its copy is finished too, at the time of the copy.
    ///
    /// Until the copy has ended, [`health`](Self::health) of the target warns of it. If a copy is cut short, or refuses a job, make it
    /// again: data that is stored already is compared and not stored again. A copy with [`CopyOptions::keep_source`] can also be made
    /// again after more work in the source, which adds to the copy. Nothing that an earlier copy stored is removed from the target: it may
    /// be the only good copy. So a job of which something was removed in the source is refused. A job
    /// that was moved to this target before is only compared, so that nothing returns that was settled in the
    /// target since. If the oldest events of a job are removed during its copy, the copy of the job begins again. At the end each job is read from both stores and compared.
    ///
    /// A copied job is marked as moved in the source: from then on, reads of it still work there, but each write
    /// fails with [`ReadOnly`](crate::ErrorKind::ReadOnly) and the name of the new place. The job is compared
    /// after it was marked, so that no write is missed; if the copy differs, the mark is removed again. If a whole
    /// repository or store was copied and no job was refused, it is marked too, so that no new job begins there.
    /// The audit log gets no mark, and is copied also while removals are recorded in it.
    /// With [`CopyOptions::keep_source`] nothing is marked; [`reopen`](Self::reopen) removes marks. What was moved to
    /// one target is not moved to another one, since two stores would then take its writes.
    ///
    /// ```
    /// use prodigy_storage::{CopyOptions, Storage};
    ///
    /// let folder = tempfile::tempdir()?;
    /// let at = |name: &str| Storage::builder().flag("backend_config.base_dir", folder.path().join(name));
    /// let source = at("old").open()?;
    /// let job = source.repo("shop")?.job("mapreduce-7")?;
    /// job.events().append(&"started")?;
    /// job.finish()?;
    ///
    /// let report = source.copy_to(at("new"), CopyOptions::new())?;
    /// assert_eq!((report.jobs[0].events, report.refused.len()), (1, 0));
    /// let copy = at("new").open()?.repo("shop")?.job("mapreduce-7")?;
    /// assert_eq!(copy.events().read::<String>()?.count(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// The errors of opening the target and of listing the jobs; [`InvalidInput`](crate::ErrorKind::InvalidInput)
    /// for a copy of a store to itself; [`Refused`](crate::ErrorKind::Refused) for a folder that has files, and none of a
    /// store; [`ReadOnly`](crate::ErrorKind::ReadOnly) if a job is to be marked through
    /// a read-only handle, or if the store or the repository was moved to another place; [`Conflict`](crate::ErrorKind::Conflict) if a job was created in the repository or
    /// store meanwhile. A job that can't be copied is in [`CopyReport::refused`]: because it is
    /// [active](crate::JobState::Active) or has a dead letter under a lease
    /// ([`LockUnavailable`](crate::ErrorKind::LockUnavailable)), because it was moved to another place
    /// ([`ReadOnly`](crate::ErrorKind::ReadOnly)), because the target has data under its name that
    /// the source lacks ([`Conflict`](crate::ErrorKind::Conflict)), or because a part of it is damaged.
    pub fn copy_to(&self, target: StorageBuilder, options: CopyOptions) -> Result<CopyReport> {
        let CopyOptions {
            repo,
            job: only,
            keep_source,
            dry_run,
        } = options;
        let whole = repo.clone().map_or(Part::Store, Part::Repository);
        if dry_run {
            return plan::plan(self, target, &whole, only.as_ref(), keep_source);
        }
        if !keep_source {
            self.check_writable("copy")?;
        }
        let (target, clock) = clock::open(target)?;
        same::refuse_inside(self, &target)?;
        same::refuse_folder_of_others(&target)?;
        let place = place(&target);
        if !keep_source {
            same::refuse_moved(self, &whole, &place)?;
        }
        same::refuse(self, &target)?;
        let begun = Begun {
            from: self::place(self),
            repo: repo.clone(),
            job: only.clone(),
            keep_source,
            since: self.now(),
            is_put: Cell::new(false),
        };
        let is_continued = begun.is_there(&target)?;
        let mut report = CopyReport::default();
        let (mut own, mut with_documents) = (HashSet::new(), Vec::new());
        let mut repos = match repo {
            Some(repo) => vec![repo],
            None => self.repositories().all()?,
        };
        // The mark of an earlier copy in the source is not data.
        repos.retain(|name| name.as_str() != RepoName::PROBE);
        for name in &repos {
            for id in self.repo(name)?.jobs() {
                let id = id?;
                if only.as_ref().is_some_and(|job| *job != id) {
                    continue;
                }
                let address = JobAddress::new(name.clone(), id);
                // The audit log gets no mark, since later removals from this store are recorded in it.
                let is_kept = keep_source || name.as_str() == RepoName::AUDIT;
                match job::copy(self, &target, &clock, &address, (&place, is_kept), &begun) {
                    Ok(None) => report.gone.push(address),
                    Ok(Some((copied, is_marked))) => {
                        report.jobs.push(copied);
                        report.marked.extend(is_marked.then_some(Part::Job(address)));
                    }
                    Err(error) => report.refused.push((address, error)),
                }
            }
            // A repository that was moved before may have been changed in the target since. Only a move that was killed continues.
            let is_moved = same::is_moved(self, &Part::Repository(name.clone()), &place)?;
            if only.is_none() && (is_continued || !is_moved) {
                own.extend(copy_documents(self, &target, name, &begun)?);
                with_documents.push(name);
            }
        }
        if !keep_source
            && only.is_none()
            && report.refused.is_empty()
            && !(own.is_empty() && report.jobs.is_empty())
            && mark(self, &Moved::new(whole.clone(), place.as_str(), self.now()), None)?
        {
            same::refuse_moved(self, &whole, &place)?;
            report.marked.push(whole);
            // Documents of repositories may have been written or deleted after their copy and before the mark.
            // They are copied again.
            let mut last = HashSet::new();
            for name in with_documents {
                last.extend(copy_documents(self, &target, name, &begun)?);
            }
            for gone in own.difference(&last) {
                job::delete_document(&target, gone)?;
            }
            own = last;
        }
        report.documents = own.len() as u64;
        if report.refused.is_empty() && (is_continued || begun.is_put.get()) {
            begun.remove(&target)?;
        }
        Ok(report)
    }
}

/// Marks a part of the source as moved, unless the part was written to after `last`. Returns false if the backend
/// keeps no marks.
pub(crate) fn mark(source: &Storage, moved: &Moved, last: Option<Timestamp>) -> Result<bool> {
    let inner = source.inner();
    let deadline = inner.deadline();
    let marked = inner.caller.call(MARK_MOVED, &moved.part, deadline, |backend| {
        backend.mark_moved(moved, last, deadline)
    });
    match marked {
        Err(error) if error.kind() == ErrorKind::Unsupported => Ok(false),
        marked => marked.map(|()| true),
    }
}

/// Describes the place of a store for a person, as a mark states it.
pub(crate) fn place(target: &Storage) -> String {
    let capabilities = target.capabilities();
    match capabilities.root {
        Some(root) => root.display().to_string(),
        None if target.config().backend == BackendKind::Postgres => target.config().postgres.shown(),
        None => format!("a store of the {} backend", capabilities.backend),
    }
}

/// Copies the documents that belong to a repository and not to a job. Returns them.
fn copy_documents(
    source: &Storage,
    target: &Storage,
    repo: &RepoName,
    begun: &Begun,
) -> Result<Vec<Document>> {
    let scope = DocumentScope::Own(DocumentOwner::Repo(repo.clone()), None);
    let own = Listing::documents(source.inner(), scope).map(|entry| entry.map(|entry| entry.document));
    let mut copied = Vec::new();
    for document in own.chain([Ok(Document::Repository(repo.clone()))]) {
        let document = document?;
        if job::copy_document(source, target, &document, begun)? {
            copied.push(document);
        }
    }
    Ok(copied)
}

/// The records of a job's log that the cursor does not cover; all without a cursor.
fn lines(
    storage: &Storage,
    job: &JobAddress,
    after: Option<&prodigy_storage_backend::Cursor>,
) -> Result<crate::events::EventLines> {
    let job = crate::job::Job::new(Arc::clone(storage.inner()), job.clone());
    job.events()
        .read_lines(crate::events::ReadOptions::new().from(after.cloned()))
}
