//! A repository's namespace.

use std::sync::Arc;

use prodigy_storage_backend::{DocumentEntry, Expected, JobSurvey, LogScope, Result};
use prodigy_storage_layout::{Document, DocumentOwner, DocumentScope, Identity, JobAddress, JobId, RepoName};
use serde::de::DeserializeOwned;

use crate::call::operation::{LIST_JOBS, SURVEY};
use crate::documents::{self, DocumentInfo, DocumentOptions, Documents};
use crate::events::{FollowAll, FollowAllLines, FollowOptions};
use crate::job::{Job, JobOverview};
use crate::listing::Listing;
use crate::notice::StorageNotice;
use crate::orphans::{JobOrphans, read_orphans};
use crate::registry::{self, Registration};
use crate::storage::Inner;
use crate::worktrees::Worktrees;

/// The namespace of one repository: its jobs, and the worktrees of its sessions.
///
/// ```
/// # use prodigy_storage::Storage;
/// # let storage = Storage::in_memory()?;
/// # #[cfg(any())]
/// let repo = storage.repo_at(".")?; // the git repository that contains the current folder
/// let repo = storage.repo("shop")?; // or a repository by its name
/// repo.job("mapreduce-7")?.events().append(&"started")?;
/// let jobs = repo.jobs().all()?;
/// assert_eq!(jobs[0].as_str(), "mapreduce-7");
/// # Ok::<(), prodigy_storage::StorageError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Repo {
    inner: Arc<Inner>,
    name: RepoName,
    identity: Option<Arc<Identity>>,
    notices: Arc<[StorageNotice]>,
}

impl Repo {
    pub(crate) fn new(inner: Arc<Inner>, name: RepoName, identity: Option<Identity>) -> Self {
        Self {
            inner,
            name,
            identity: identity.map(Arc::new),
            notices: Arc::default(),
        }
    }

    pub(crate) fn with_notice(mut self, notice: Option<StorageNotice>) -> Self {
        self.notices = notice.into_iter().collect();
        self
    }

    /// The name of the repository.
    #[must_use]
    pub fn name(&self) -> &RepoName {
        &self.name
    }

    /// The git repository, if it was found by a path; `None` if only its name was given.
    #[must_use]
    pub fn identity(&self) -> Option<&Identity> {
        self.identity.as_deref()
    }

    /// Warnings about how the repository was found: a fresh clone continues under the name of the repository that
    /// it replaced, or a new repository gets a name under which data is stored already.
    #[must_use]
    pub fn notices(&self) -> &[StorageNotice] {
        &self.notices
    }

    /// The registry entry of the repository's name. `None` if no repository is registered under the name: its data
    /// was then written by name, imported or restored.
    ///
    /// # Errors
    /// [`Damaged`](crate::ErrorKind::Damaged) for an entry that can't be read.
    pub fn registration(&self) -> Result<Option<Registration>> {
        registry::registration(&self.inner, &self.name)
    }

    /// True if anything is stored under the repository's name, except a registry entry.
    pub(crate) fn is_anything_stored(&self) -> Result<bool> {
        Ok(self.jobs().next().transpose()?.is_some()
            || self.all_documents().next().transpose()?.is_some()
            || self.worktrees().is_any()?)
    }

    /// The job with this id. Nothing is created before the first write.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for a text that is not a valid job id.
    pub fn job(&self, id: impl AsRef<str>) -> Result<Job> {
        let id = JobId::new(id)?;
        Ok(Job::new(
            Arc::clone(&self.inner),
            JobAddress::new(self.name.clone(), id),
        ))
    }

    /// Deletes all jobs of the repository, its documents, and its registry entry. Returns the number of deleted
    /// jobs.
    ///
    /// The jobs are deleted one after the other, each as by [`Job::delete`]: after an error, some are deleted and
    /// the others are untouched. Worktrees are not removed.
    ///
    /// ```
    /// use prodigy_storage::Storage;
    ///
    /// let storage = Storage::in_memory()?;
    /// let shop = storage.repo("shop")?;
    /// shop.job("job-7")?.checkpoints().save_setup(&serde_json::json!({"items": 3}), Default::default())?;
    /// assert_eq!(shop.delete()?, 1);
    /// assert_eq!(shop.jobs().count(), 0);
    /// # Ok::<(), prodigy_storage::StorageError>(())
    /// ```
    ///
    /// # Errors
    /// [`LockUnavailable`](crate::ErrorKind::LockUnavailable) if a job is [active](crate::JobState::Active); the
    /// error names the first one.
    pub fn delete(&self) -> Result<usize> {
        let mut deleted = 0;
        for id in self.jobs() {
            deleted += usize::from(self.job(id?)?.delete()?);
        }
        for document in self.all_documents() {
            let document = document?;
            self.documents(document.kind)?
                .delete(document.name, DocumentOptions::new())?;
        }
        let entry = Document::Repository(self.name.clone());
        let deadline = self.inner.deadline();
        let caller = &self.inner.caller;
        caller.delete(
            &entry,
            Expected::Any,
            self.inner.config.durability,
            None,
            deadline,
        )?;
        Ok(deleted)
    }

    /// The jobs of the repository that have stored data, sorted.
    pub fn jobs(&self) -> Listing<JobId> {
        let (inner, repo) = (Arc::clone(&self.inner), self.name.clone());
        Listing::new(inner, LIST_JOBS, repo.clone(), move |backend, page, deadline| {
            backend.jobs(&repo, page, deadline)
        })
    }

    /// The jobs of the repository that have stored data, sorted, with their counts and sizes. No event and no
    /// document is read, so this costs much less than a call for each job. If a job can't be read, its entry is an
    /// error, and the iteration continues.
    ///
    /// ```
    /// # use prodigy_storage::Storage;
    /// # let storage = Storage::in_memory()?;
    /// let repo = storage.repo("shop")?;
    /// repo.job("mapreduce-7")?.events().append(&"started")?;
    /// let bytes: u64 = repo.survey().all()?.iter().flatten().map(|job| job.bytes()).sum();
    /// assert!(bytes > 0);
    /// # Ok::<(), prodigy_storage::StorageError>(())
    /// ```
    pub fn survey(&self) -> Listing<Result<JobOverview>> {
        let (inner, repo) = (Arc::clone(&self.inner), self.name.clone());
        let survey = Listing::new(inner, SURVEY, repo.clone(), move |backend, page, deadline| {
            backend.survey(&repo, page, deadline)
        });
        let repo = self.name.clone();
        survey.keep(move |JobSurvey { job, facts, .. }| {
            let address = JobAddress::new(repo.clone(), job);
            Some(facts.map(|facts| JobOverview::new(address, facts)))
        })
    }

    /// The documents of one kind that the caller defines, such as `workflows`. They belong to the repository and
    /// not to a job.
    ///
    /// ```
    /// # use prodigy_storage::{DocumentOptions, Storage};
    /// # let storage = Storage::in_memory()?;
    /// let workflows = storage.repo("shop")?.documents("workflows")?;
    /// workflows.put("nightly", &["build", "test"], DocumentOptions::new())?;
    /// assert_eq!(workflows.get::<Vec<String>>("nightly")?.expect("it was put").data, ["build", "test"]);
    /// # Ok::<(), prodigy_storage::StorageError>(())
    /// ```
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for a text that is not a valid name.
    pub fn documents(&self, kind: impl AsRef<str>) -> Result<Documents> {
        Documents::new(Arc::clone(&self.inner), self.owner(), kind, None)
    }

    /// The repository's documents of all kinds that the caller defines, sorted by kind and name.
    pub fn all_documents(&self) -> Listing<DocumentInfo> {
        documents::list(&self.inner, self.owner(), None)
    }

    fn owner(&self) -> DocumentOwner {
        DocumentOwner::Repo(self.name.clone())
    }

    /// Reads the events of all jobs of the repository as they are appended, including jobs that are created later.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for options with a cursor or with `until_finished`, which
    /// apply to a single job; otherwise as [`Events::follow_with`](crate::Events::follow_with).
    pub fn follow<T: DeserializeOwned>(&self, options: FollowOptions) -> Result<FollowAll<T>> {
        Ok(FollowAll::new(self.follow_lines(options)?))
    }

    /// Reads the events of all jobs of the repository as they are appended, line by line, without parsing them.
    ///
    /// # Errors
    /// As [`follow`](Self::follow).
    pub fn follow_lines(&self, options: FollowOptions) -> Result<FollowAllLines> {
        FollowAllLines::begin(&self.inner, LogScope::Repository(self.name.clone()), options)
    }

    /// The worktrees of the repository's sessions.
    #[must_use]
    pub fn worktrees(&self) -> Worktrees {
        Worktrees::new(Arc::clone(&self.inner), self.name.clone())
    }

    /// The orphaned worktrees of all jobs of the repository, job by job. If the list of a job can't be read, there
    /// is an `Err` item for it, and the iteration continues. If the jobs can't be listed, the iterator ends with
    /// an `Err` item.
    pub fn orphans(&self) -> impl Iterator<Item = Result<JobOrphans>> + use<> {
        let inner = Arc::clone(&self.inner);
        let scope = DocumentScope::Orphans(self.name.clone());
        Listing::documents(&self.inner, scope).filter_map(move |entry| match entry {
            Ok(DocumentEntry {
                document: Document::Orphans(address),
                ..
            }) => match read_orphans(&inner, &address) {
                Ok(Some((orphans, _))) => Some(Ok(JobOrphans {
                    job: address.job,
                    orphans: orphans.orphaned_worktrees,
                })),
                // The list was removed after it was found.
                Ok(None) => None,
                Err(error) => Some(Err(error)),
            },
            Ok(_) => None,
            Err(error) => Some(Err(error)),
        })
    }
}
