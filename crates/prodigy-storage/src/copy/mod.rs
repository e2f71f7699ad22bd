//! Copies a store, or a part of it, into another one: see [`Storage::copy_to`].

mod clock;
mod compare;
mod job;
mod positions;
mod same;
#[cfg(all(test, feature = "file", feature = "memory"))]
mod tests;

use std::collections::HashSet;
use std::sync::Arc;

use prodigy_storage_backend::{ErrorKind, Moved, Result, StorageError, setters};
use prodigy_storage_config::BackendKind;
use prodigy_storage_layout::{
    Document, DocumentOwner, DocumentScope, JobAddress, JobId, Part, RepoName, Timestamp,
};

use crate::builder::StorageBuilder;
use crate::call::operation::MARK_MOVED;
use crate::listing::Listing;
use crate::storage::Storage;

const COPY: &str = "copy job";

/// The part of a store to copy; `Default` is everything.
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
    /// Only this repository's data.
    pub repo: Option<RepoName>,
    /// Only this job's data, of the repository or of each.
    pub job: Option<JobId>,
    /// Leaves the source without a mark, so that it takes writes as before. Default: false.
    pub keep_source: bool,
}

impl CopyOptions {
    /// Everything.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    setters! {
        /// Only this repository's data.
        repo: into Option<RepoName>,

        /// Only this job's data.
        job: into Option<JobId>,

        /// Leaves the source without a mark: for a copy that is no move.
        keep_source: bool,
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
    /// The number of its events.
    pub events: u64,
    /// The number of events that this call stored. The others were stored by an earlier one.
    pub stored: u64,
    /// The number of its checkpoints and documents.
    pub documents: u64,
    /// The number of its dead letters.
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
    /// The jobs that were copied, by repository and id.
    pub jobs: Vec<CopiedJob>,
    /// The number of documents that belong to repositories and not to a job, registry entries among them.
    pub documents: u64,
    /// The jobs that were not copied, or not whole, each with the reason. The others were copied.
    pub refused: Vec<(JobAddress, StorageError)>,
    /// The parts of the source that have a mark now, and take no more writes.
    pub marked: Vec<Part>,
}

impl Storage {
    /// Copies everything, a repository or a job into another store, whatever the backends: events with their ids and times, checkpoints
    /// and documents byte for byte, dead letters, the records of orphaned worktrees, and the entries of the registry. Local worktrees,
    /// locks and fencing marks stay.
    ///
    /// The cursors of checkpoints are translated: a read from a copied checkpoint's cursor returns exactly the events that it returned before.
    /// Cursors within the caller's own documents are not known and stay as they are. A finished job is finished in the copy, at the time of the copy.
    ///
    /// The copy can be killed and made again: what is stored already is compared and not stored again. A job that was moved to this target
    /// before is compared only, so that nothing that was settled there since comes back. At the end each job is read from both
    /// stores and compared.
    ///
    /// A job that is copied gets a mark in the source: from then on each write to it there fails with
    /// [`ReadOnly`](crate::ErrorKind::ReadOnly) and the name of the new place, and reads still work. It is compared behind the mark, so that no
    /// write comes in between; where the two differ, the mark is taken away again. A whole repository or store that was copied without a refusal gets a mark,
    /// too, so that no job begins there. [`CopyOptions::keep_source`] makes no marks, [`reopen`](Self::reopen) takes them away.
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
    /// The errors of opening the target and of listing the jobs; [`InvalidInput`](crate::ErrorKind::InvalidInput) for a copy of a store to itself;
    /// [`ReadOnly`](crate::ErrorKind::ReadOnly) for a mark through a handle for reading; [`Conflict`](crate::ErrorKind::Conflict) for a whole in which a job began meanwhile. A job
    /// that can't be copied is in [`CopyReport::refused`]: because it is [active](crate::JobState::Active) or has a dead letter under a
    /// lease ([`LockUnavailable`](crate::ErrorKind::LockUnavailable)), because the target holds something under its name that the source
    /// lacks ([`Conflict`](crate::ErrorKind::Conflict)), or because a part of it is damaged.
    pub fn copy_to(&self, target: StorageBuilder, options: CopyOptions) -> Result<CopyReport> {
        let CopyOptions {
            repo,
            job: only,
            keep_source,
        } = options;
        if !keep_source {
            self.check_writable("copy")?;
        }
        let (target, clock) = clock::open(target)?;
        same::refuse(self, &target)?;
        let mut report = CopyReport::default();
        let place = place(&target);
        let mut own = HashSet::new();
        let whole = repo.clone().map_or(Part::Store, Part::Repository);
        let repos = match repo {
            Some(repo) => vec![repo],
            None => self.repositories().all()?,
        };
        for name in &repos {
            for id in self.repo(name)?.jobs() {
                let id = id?;
                if only.as_ref().is_some_and(|job| *job != id) {
                    continue;
                }
                let address = JobAddress::new(name.clone(), id);
                // Removals from here are recorded here.
                let is_kept = keep_source || name.as_str() == RepoName::AUDIT;
                match job::copy(self, &target, &clock, &address, (&place, is_kept)) {
                    Ok((copied, is_marked)) => {
                        report.jobs.push(copied);
                        report.marked.extend(is_marked.then_some(Part::Job(address)));
                    }
                    Err(error) => report.refused.push((address, error)),
                }
            }
            if only.is_none() {
                own.extend(copy_documents(self, &target, name)?);
            }
        }
        if !keep_source
            && only.is_none()
            && report.refused.is_empty()
            && !(own.is_empty() && report.jobs.is_empty())
            && mark(self, &Moved::new(whole.clone(), place, self.now()), None)?
        {
            report.marked.push(whole);
            // Documents of repositories may have been written or deleted between the copy and the mark.
            let mut last = HashSet::new();
            for name in &repos {
                last.extend(copy_documents(self, &target, name)?);
            }
            for gone in own.difference(&last) {
                job::delete_document(&target, gone)?;
            }
            own = last;
        }
        report.documents = own.len() as u64;
        Ok(report)
    }
}

/// Stores a mark in the source, unless something was written to the job after `last`. False if its backend keeps no marks.
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

/// The place of a store, in words for a person.
pub(crate) fn place(target: &Storage) -> String {
    let capabilities = target.capabilities();
    match capabilities.root {
        Some(root) => root.display().to_string(),
        None if target.config().backend == BackendKind::Postgres => target.config().postgres.shown(),
        None => format!("a store of the {} backend", capabilities.backend),
    }
}

/// Copies the documents that belong to a repository, and returns them.
fn copy_documents(source: &Storage, target: &Storage, repo: &RepoName) -> Result<Vec<Document>> {
    let scope = DocumentScope::Own(DocumentOwner::Repo(repo.clone()), None);
    let own = Listing::documents(source.inner(), scope).map(|entry| entry.map(|entry| entry.document));
    let mut copied = Vec::new();
    for document in own.chain([Ok(Document::Repository(repo.clone()))]) {
        let document = document?;
        if job::copy_document(source, target, &document)? {
            copied.push(document);
        }
    }
    Ok(copied)
}

/// The events of a job behind a cursor, or all of them.
fn lines(
    storage: &Storage,
    job: &JobAddress,
    after: Option<&prodigy_storage_backend::Cursor>,
) -> Result<crate::events::EventLines> {
    let job = crate::job::Job::new(Arc::clone(storage.inner()), job.clone());
    job.events()
        .read_lines(crate::events::ReadOptions::new().from(after.cloned()))
}
