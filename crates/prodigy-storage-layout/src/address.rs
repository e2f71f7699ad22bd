//! Where the things of a job belong.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::name::{JobId, LockName, RepoName};

/// A job, in the repository that it belongs to.
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
    /// The job's id, unique within it.
    pub job: JobId,
}

impl JobAddress {
    /// The address of `job` in `repo`.
    #[must_use]
    pub fn new(repo: RepoName, job: JobId) -> Self {
        Self { repo, job }
    }

    /// Whether a named lock belongs to the job: its name is, or begins with, the repository and the job.
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

/// The phase of a job that a checkpoint was saved in. Each is a series of checkpoints of its own.
///
/// ```
/// use prodigy_storage_layout::Phase;
///
/// assert_eq!("map".parse(), Ok(Phase::Map));
/// assert_eq!(Phase::ALL.map(Phase::as_str), ["setup", "map", "reduce"]);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(clippy::exhaustive_enums, reason = "each phase has a form of its own on disk")]
pub enum Phase {
    /// Before the items are known. Its one checkpoint is replaced by the next.
    Setup,
    /// While agents work on items.
    Map,
    /// While the results of the items are put together.
    Reduce,
}

impl Phase {
    /// All of them, in the order that a job goes through them.
    pub const ALL: [Self; 3] = [Self::Setup, Self::Map, Self::Reduce];

    /// `setup`, `map` or `reduce`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Setup => "setup",
            Self::Map => "map",
            Self::Reduce => "reduce",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A text that names no phase.
///
/// ```
/// use prodigy_storage_layout::Phase;
///
/// let error = "shuffle".parse::<Phase>().unwrap_err();
/// assert!(error.to_string().contains("setup, map or reduce"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a phase of a job: expected setup, map or reduce")]
#[non_exhaustive]
pub struct PhaseError {}

impl FromStr for Phase {
    type Err = PhaseError;

    fn from_str(text: &str) -> Result<Self, PhaseError> {
        Self::ALL
            .into_iter()
            .find(|phase| phase.as_str() == text)
            .ok_or(PhaseError {})
    }
}
