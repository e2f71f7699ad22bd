//! Copies a store, or a part of it, into another one: see [`Storage::copy_to`].

mod clock;
mod compare;
mod job;
mod positions;
mod same;
#[cfg(all(test, feature = "file", feature = "memory"))]
mod tests;

use std::sync::Arc;

use prodigy_storage_backend::{Result, StorageError, setters};
use prodigy_storage_layout::{Document, DocumentOwner, DocumentScope, JobAddress, JobId, RepoName};

use crate::builder::StorageBuilder;
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
}

impl Storage {
    /// Copies everything, a repository or a job into another store, whatever the backends: events with their ids and times, checkpoints
    /// and documents byte for byte, dead letters, the records of orphaned worktrees, and the entries of the registry. Local worktrees,
    /// locks and fencing marks stay.
    ///
    /// The cursors of checkpoints are translated: a read from a copied checkpoint's cursor returns exactly the events that it returned before.
    /// Cursors within the caller's own documents are not known and stay as they are. A finished job is finished in the copy, at the time of the copy.
    ///
    /// The copy can be killed and made again: what is stored already is compared and not stored again. At the end each job is read from both
    /// stores and compared.
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
    /// The errors of opening the target and of listing the jobs; [`InvalidInput`](crate::ErrorKind::InvalidInput) for a copy of a store to itself. A job
    /// that can't be copied is in [`CopyReport::refused`]: because it is [active](crate::JobState::Active) or has a dead letter under a
    /// lease ([`LockUnavailable`](crate::ErrorKind::LockUnavailable)), because the target holds something under its name that the source
    /// lacks ([`Conflict`](crate::ErrorKind::Conflict)), or because a part of it is damaged.
    pub fn copy_to(&self, target: StorageBuilder, options: CopyOptions) -> Result<CopyReport> {
        let (target, clock) = clock::open(target)?;
        same::refuse(self, &target)?;
        let mut report = CopyReport::default();
        let CopyOptions { repo, job: only } = options;
        let repos = match repo {
            Some(repo) => vec![repo],
            None => self.repositories().all()?,
        };
        for name in repos {
            for id in self.repo(&name)?.jobs() {
                let id = id?;
                if only.as_ref().is_some_and(|job| *job != id) {
                    continue;
                }
                let address = JobAddress::new(name.clone(), id);
                match job::copy(self, &target, &clock, &address) {
                    Ok(copied) => report.jobs.push(copied),
                    Err(error) => report.refused.push((address, error)),
                }
            }
            if only.is_none() {
                report.documents += copy_documents(self, &target, &name)?;
            }
        }
        Ok(report)
    }
}

/// Copies the documents that belong to a repository, and returns their number.
fn copy_documents(source: &Storage, target: &Storage, repo: &RepoName) -> Result<u64> {
    let scope = DocumentScope::Own(DocumentOwner::Repo(repo.clone()), None);
    let own = Listing::documents(source.inner(), scope).map(|entry| entry.map(|entry| entry.document));
    let mut count = 0;
    for document in own.chain([Ok(Document::Repository(repo.clone()))]) {
        count += u64::from(job::copy_document(source, target, &document?)?);
    }
    Ok(count)
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
