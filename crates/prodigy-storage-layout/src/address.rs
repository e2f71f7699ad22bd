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
