//! The addresses of documents, and the scopes of their listings.

use std::fmt;

use crate::address::JobAddress;
use crate::name::{CheckpointKey, DocumentKind, DocumentName, RepoName};
use crate::phase::{Phase, PhaseName};
use crate::stamp::Stamp;

/// The owner of a caller-defined document.
///
/// ```
/// use prodigy_storage_layout::{DocumentOwner, JobAddress, JobId, RepoName, documents_folder};
///
/// let job = JobAddress::new(RepoName::new("shop")?, JobId::new("mapreduce-7")?);
/// let owner = DocumentOwner::Job(job);
/// assert_eq!(owner.repo().as_str(), "shop");
/// assert!(documents_folder(&owner).ends_with("mapreduce-7/documents"));
/// # Ok::<(), prodigy_storage_layout::NameError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(clippy::exhaustive_enums, reason = "each has a folder of its own on disk")]
pub enum DocumentOwner {
    /// A job.
    Job(JobAddress),
    /// A repository.
    Repo(RepoName),
}

impl DocumentOwner {
    /// The job; `None` if the owner is a repository.
    #[must_use]
    pub fn job(&self) -> Option<&JobAddress> {
        match self {
            Self::Job(job) => Some(job),
            Self::Repo(_) => None,
        }
    }

    /// The repository that is the owner, or to which the owning job belongs.
    #[must_use]
    pub fn repo(&self) -> &RepoName {
        match self {
            Self::Job(job) => &job.repo,
            Self::Repo(repo) => repo,
        }
    }
}

/// Writes `shop` for a repository, and `shop/mapreduce-7` for a job.
impl fmt::Display for DocumentOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Job(job) => job.fmt(f),
            Self::Repo(repo) => repo.fmt(f),
        }
    }
}

/// The address of a document.
///
/// ```
/// use prodigy_storage_layout::{Document, JobAddress, JobId, Phase, RepoName};
///
/// let job = JobAddress::new(RepoName::new("shop")?, JobId::new("mapreduce-7")?);
/// let setup = Document::Setup(job);
/// assert_eq!(setup.phase(), Some(Phase::Setup));
/// assert_eq!(setup.path().to_str(), Some("state/shop/mapreduce/jobs/mapreduce-7/setup-checkpoint.json"));
/// # Ok::<(), prodigy_storage_layout::NameError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Document {
    /// The setup checkpoint of a job.
    Setup(JobAddress),
    /// A map checkpoint of a job.
    Map(JobAddress, Stamp),
    /// A reduce checkpoint of a job.
    Reduce(JobAddress, Stamp),
    /// A checkpoint of a job in a caller-defined phase.
    OwnPhase(JobAddress, PhaseName, Stamp),
    /// The list of the orphaned worktrees of a job.
    Orphans(JobAddress),
    /// The document that marks a job as finished.
    Finished(JobAddress),
    /// The fencing marks of a job: the greatest token of each lock. Only the store writes this document.
    Fencing(JobAddress),
    /// The registry entry of a name, which identifies the repository that has this name.
    Repository(RepoName),
    /// A caller-defined document of a job or of a repository.
    Own(DocumentOwner, DocumentKind, DocumentName),
}

impl Document {
    /// The address of a checkpoint in a phase. A job has only one setup checkpoint, so for that phase the stamp is
    /// ignored.
    #[must_use]
    pub fn checkpoint(job: &JobAddress, phase: Phase, stamp: Stamp) -> Self {
        match phase {
            Phase::Setup => Self::Setup(job.clone()),
            Phase::Map => Self::Map(job.clone(), stamp),
            Phase::Reduce => Self::Reduce(job.clone(), stamp),
            Phase::Own(name) => Self::OwnPhase(job.clone(), name, stamp),
        }
    }

    /// The job of the document; `None` for a registry entry and for a document of a repository.
    #[must_use]
    pub fn job(&self) -> Option<&JobAddress> {
        match self {
            Self::Setup(job)
            | Self::Map(job, _)
            | Self::Reduce(job, _)
            | Self::OwnPhase(job, ..)
            | Self::Orphans(job)
            | Self::Finished(job)
            | Self::Fencing(job) => Some(job),
            Self::Own(owner, ..) => owner.job(),
            Self::Repository(_) => None,
        }
    }

    /// The repository of the document.
    #[must_use]
    pub fn repo(&self) -> &RepoName {
        match self {
            Self::Setup(job)
            | Self::Map(job, _)
            | Self::Reduce(job, _)
            | Self::OwnPhase(job, ..)
            | Self::Orphans(job)
            | Self::Finished(job)
            | Self::Fencing(job) => &job.repo,
            Self::Repository(repo) => repo,
            Self::Own(owner, ..) => owner.repo(),
        }
    }

    /// The name of a caller-defined document; `None` for any other.
    #[must_use]
    pub fn name(&self) -> Option<&DocumentName> {
        match self {
            Self::Own(_, _, name) => Some(name),
            _ => None,
        }
    }

    /// The timestamp in the document's name, if it has one.
    #[must_use]
    pub fn stamp(&self) -> Option<&Stamp> {
        match self {
            Self::Map(_, stamp) | Self::Reduce(_, stamp) | Self::OwnPhase(_, _, stamp) => Some(stamp),
            _ => None,
        }
    }

    /// The phase of a checkpoint; `None` for any other document.
    #[must_use]
    pub fn phase(&self) -> Option<Phase> {
        match self {
            Self::Setup(_) => Some(Phase::Setup),
            Self::Map(..) => Some(Phase::Map),
            Self::Reduce(..) => Some(Phase::Reduce),
            Self::OwnPhase(_, name, _) => Some(Phase::Own(*name)),
            _ => None,
        }
    }
}

/// The scope of a listing of documents.
///
/// ```
/// use prodigy_storage_layout::{Document, DocumentScope, JobAddress, JobId, RepoName};
///
/// let job = JobAddress::new(RepoName::new("shop")?, JobId::new("mapreduce-7")?);
/// let checkpoints = DocumentScope::Job(job.clone());
/// assert!(checkpoints.contains(&Document::Setup(job.clone())));
/// assert!(!checkpoints.contains(&Document::Orphans(job)));
/// # Ok::<(), prodigy_storage_layout::NameError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum DocumentScope {
    /// The checkpoints of one phase of a job.
    Checkpoints(JobAddress, Phase),
    /// The checkpoints of a job, of every phase.
    Job(JobAddress),
    /// The checkpoints of a job whose names contain this key.
    Keyed(JobAddress, CheckpointKey),
    /// The lists of orphaned worktrees of a repository's jobs.
    Orphans(RepoName),
    /// The registry entries of all repositories.
    Repositories,
    /// The caller-defined documents of a job or a repository, of one kind or of every kind.
    Own(DocumentOwner, Option<DocumentKind>),
}

impl DocumentScope {
    /// True if a listing of this scope contains the document.
    #[must_use]
    pub fn contains(&self, document: &Document) -> bool {
        match self {
            Self::Checkpoints(job, phase) => document.phase() == Some(*phase) && document.job() == Some(job),
            Self::Job(job) => document.phase().is_some() && document.job() == Some(job),
            Self::Keyed(job, key) => {
                let found = document.stamp().and_then(Stamp::key);
                found == Some(key) && document.job() == Some(job)
            }
            Self::Orphans(repo) => matches!(document, Document::Orphans(job) if job.repo == *repo),
            Self::Repositories => matches!(document, Document::Repository(_)),
            Self::Own(owner, kind) => matches!(document, Document::Own(of, other, _)
                if of == owner && kind.as_ref().is_none_or(|kind| kind == other)),
        }
    }
}
