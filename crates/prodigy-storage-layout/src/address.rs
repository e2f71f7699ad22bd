//! The address of a job.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::name::{JobId, LockName, RepoName};

/// A job within its repository.
///
/// ```
/// use prodigy_storage_layout::{JobAddress, JobId, RepoName};
///
/// let job = JobAddress::new(RepoName::new("shop")?, JobId::new("mapreduce-7")?);
/// assert_eq!(job.to_string(), "shop/mapreduce-7");
/// # Ok::<(), prodigy_storage_layout::NameError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[expect(
    clippy::exhaustive_structs,
    reason = "it is complete: every path is made of these two"
)]
pub struct JobAddress {
    /// The repository's namespace.
    pub repo: RepoName,
    /// The job's id, which is unique within the repository.
    pub job: JobId,
}

impl JobAddress {
    /// The address of `job` in `repo`.
    #[must_use]
    pub fn new(repo: RepoName, job: JobId) -> Self {
        Self { repo, job }
    }

    /// True if a named lock belongs to the job: the first two parts of its name are the repository and the job.
    ///
    /// ```
    /// use prodigy_storage_layout::{JobAddress, JobId, LockName, RepoName};
    ///
    /// let job = JobAddress::new(RepoName::new("shop")?, JobId::new("job-7")?);
    /// assert!(job.owns(&LockName::new("shop/job-7/coordinator")?));
    /// assert!(!job.owns(&LockName::new("shop/job-70")?));
    /// # Ok::<(), prodigy_storage_layout::NameError>(())
    /// ```
    #[must_use]
    pub fn owns(&self, lock: &LockName) -> bool {
        let mut parts = lock.parts();
        parts.next() == Some(self.repo.as_str()) && parts.next() == Some(self.job.as_str())
    }
}

impl fmt::Display for JobAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.repo, self.job)
    }
}

/// A part of a store: the whole store, a repository, or a job.
///
/// Parts are ordered by their names; a larger part comes before the parts that it contains.
///
/// ```
/// use prodigy_storage_layout::{JobAddress, JobId, Part, RepoName};
///
/// let shop = RepoName::new("shop")?;
/// let job = Part::Job(JobAddress::new(shop.clone(), JobId::new("mapreduce-7")?));
/// assert!(Part::Store.contains(&job) && Part::Repository(shop).contains(&job));
/// assert!(!job.contains(&Part::Store));
/// # Ok::<(), prodigy_storage_layout::NameError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[expect(
    clippy::exhaustive_enums,
    reason = "it is complete: a store has no other parts"
)]
pub enum Part {
    /// The whole store.
    Store,
    /// A repository, with its jobs and its own documents.
    Repository(RepoName),
    /// A job.
    Job(JobAddress),
}

impl Part {
    /// The part that a named lock belongs to, by the first two parts of its name.
    ///
    /// ```
    /// use prodigy_storage_layout::{LockName, Part};
    ///
    /// let of = |lock: &str| Ok::<_, prodigy_storage_layout::NameError>(Part::of_lock(&LockName::new(lock)?).to_string());
    /// assert_eq!(of("shop/job-7/coordinator")?, "the job shop/job-7");
    /// assert_eq!(of("shop")?, "the repository shop");
    /// # Ok::<(), prodigy_storage_layout::NameError>(())
    /// ```
    #[must_use]
    pub fn of_lock(lock: &LockName) -> Self {
        let mut parts = lock.parts();
        let repo = parts.next().and_then(|name| RepoName::new(name).ok());
        let job = parts.next().and_then(|name| JobId::new(name).ok());
        match (repo, job) {
            (None, _) => Self::Store,
            (Some(repo), None) => Self::Repository(repo),
            (Some(repo), Some(job)) => Self::Job(JobAddress::new(repo, job)),
        }
    }

    /// The repository of this part, or that contains it; `None` for the whole store.
    #[must_use]
    pub fn repo(&self) -> Option<&RepoName> {
        match self {
            Self::Store => None,
            Self::Repository(repo) => Some(repo),
            Self::Job(job) => Some(&job.repo),
        }
    }

    /// The job; `None` for a larger part.
    #[must_use]
    pub fn job(&self) -> Option<&JobId> {
        match self {
            Self::Job(job) => Some(&job.job),
            _ => None,
        }
    }

    /// True if the other part is the same as this one, or within it.
    #[must_use]
    pub fn contains(&self, other: &Self) -> bool {
        match self {
            Self::Store => true,
            Self::Repository(repo) => other.repo() == Some(repo),
            Self::Job(_) => self == other,
        }
    }

    /// This part and the larger parts that contain it, the largest first. The audit log remains in a store from which
    /// everything else was moved, so the whole store is not among them for the audit log.
    pub fn wholes(&self) -> impl Iterator<Item = Self> + use<> {
        let is_audit = self.repo().is_some_and(|repo| repo.as_str() == RepoName::AUDIT);
        let store = (!is_audit).then_some(Self::Store);
        let repo = self.repo().cloned().map(Self::Repository);
        let job = matches!(self, Self::Job(_)).then(|| self.clone());
        [store, repo, job].into_iter().flatten()
    }
}

impl Ord for Part {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.repo(), self.job()).cmp(&(other.repo(), other.job()))
    }
}

impl PartialOrd for Part {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// Writes the kind and the name of the part, such as `the job shop/job-7`.
impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store => f.write_str("the whole store"),
            Self::Repository(repo) => write!(f, "the repository {repo}"),
            Self::Job(job) => write!(f, "the job {job}"),
        }
    }
}
