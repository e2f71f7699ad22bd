//! The meaning of a path in a storage root.

use std::fmt;
use std::path::{Component, Path, PathBuf};

use crate::address::{JobAddress, Part};
use crate::document::{Document, DocumentOwner};
use crate::folder::{
    DELETIONS, DLQ, DOCUMENTS, EVENTS, LOCKS, MOVED, MOVED_JOBS, MOVED_REPOSITORIES, ORPHANED, STATE,
    WORKTREES, checkpoints_folder, documents_folder, events_folder, locks_folder, moved_jobs_folder,
    moved_repositories_folder, orphans_folder, repo_of_tombstones, state_folder, state_locks_folder,
    tombstones_folder, worktrees_folder,
};
use crate::name::{DocumentKind, DocumentName, JobId, LockName, RepoName, SessionId};
use crate::phase::{Phase, PhaseName};
use crate::segment::{SegmentForm, SegmentName};
use crate::stamp::Stamp;

const FORMAT: &str = "format.json";
const STORE: &str = "store.json";
const ITEMS: &str = "items.json";
const ITEMS_JOURNAL: &str = "items.journal";
const ITEMS_LOCK: &str = "items.lock";
const REPOSITORY: &str = "repository.json";
const REGISTRY_LOCK: &str = "registry.lock";
const SETUP: &str = "setup-checkpoint.json";
const MAP: &str = "map-checkpoint-";
const REDUCE: &str = "reduce-checkpoint-v1-";
const CHECKPOINT: &str = "-checkpoint-";
const FINISHED: &str = "finished.json";
const FENCING: &str = "fencing.json";
const JSON: &str = ".json";
const LOCK: &str = ".lock";
const ZST: &str = ".zst";

/// A file or folder with a fixed path in a storage root.
///
/// [`Entry::path`] and [`Entry::parse`] are inverse: parsing the path of an entry gives the same entry. Any other path, such
/// as another spelling, a temporary file or a file in quarantine, is not an entry.
///
/// ```
/// use std::path::Path;
/// use prodigy_storage_layout::{Entry, JobAddress, JobId, RepoName};
///
/// let job = JobAddress::new(RepoName::new("shop")?, JobId::new("mapreduce-7")?);
/// let queue = Entry::Queue(job);
/// assert_eq!(queue.path(), Path::new("dlq/shop/mapreduce-7/items.json"));
/// assert_eq!(Entry::parse(&queue.path()), Some(queue));
/// # Ok::<(), prodigy_storage_layout::NameError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Entry {
    /// `events/{repo}/{job}/events-{timestamp}.jsonl`, or compressed.
    Segment(JobAddress, SegmentName, SegmentForm),
    /// `dlq/{repo}/{job}/items.json`.
    Queue(JobAddress),
    /// `dlq/{repo}/{job}/items.journal`: the changes of items since `items.json` was last rewritten.
    QueueJournal(JobAddress),
    /// `dlq/{repo}/{job}/items.lock`: guards a job's queue.
    QueueLock(JobAddress),
    /// A document: a checkpoint, the mark of a finished job, a list of orphans, a registry entry, or a caller-defined
    /// document.
    Document(Document),
    /// A superseded checkpoint in compressed form: its name with `.zst` appended.
    Compressed(Document),
    /// `worktrees/{repo}/session-{id}`: a folder whose contents git writes.
    Worktree(RepoName, SessionId),
    /// `locks/{n}/a/b.lock`, where n is the number of parts of the name. So the file of a lock never has the path of a
    /// folder that another lock needs.
    Lock(LockName),
    /// `locks/state/{repo}/{job}.lock`: guards a job's documents.
    StateLock(JobAddress),
    /// `locks/documents/{repo}.lock`: guards the caller-defined documents of a repository.
    DocumentsLock(RepoName),
    /// `locks/registry.lock`: guards the registry of repositories.
    RegistryLock,
    /// `deletions/{repo}/{job}.json`: exists while the job is being deleted.
    Tombstone(JobAddress),
    /// `deletions/{repo}.json`: the creation time of the newest segment in the repository's deleted logs.
    DeletedLogs(RepoName),
    /// `moved/store.json`, `moved/repositories/{repo}.json` or `moved/jobs/{repo}/{job}.json`: marks a part of the
    /// store that was moved to another store.
    Moved(Part),
    /// `format.json`: the version of the whole layout.
    Format,
}

impl Entry {
    /// The path of the entry, relative to the root. It never leads out of the root: every component is a plain name.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        match self {
            Self::Segment(job, segment, form) => events_folder(job).join(segment.file_name(*form)),
            Self::Queue(job) => queue_file(job, ITEMS),
            Self::QueueJournal(job) => queue_file(job, ITEMS_JOURNAL),
            Self::QueueLock(job) => queue_file(job, ITEMS_LOCK),
            Self::Document(document) => document.path(),
            Self::Compressed(document) => document.packed_path(),
            Self::Worktree(repo, session) => worktrees_folder(repo).join(session.folder_name()),
            Self::Lock(name) => {
                let mut path = locks_folder().join(name.parts().count().to_string());
                path.extend(name.parts());
                path.as_mut_os_string().push(LOCK);
                path
            }
            Self::StateLock(job) => state_locks_folder(&job.repo).join(format!("{}{LOCK}", job.job)),
            Self::DocumentsLock(repo) => locks_folder().join(DOCUMENTS).join(format!("{repo}{LOCK}")),
            Self::RegistryLock => locks_folder().join(REGISTRY_LOCK),
            Self::DeletedLogs(repo) => Path::new(DELETIONS).join(format!("{repo}{JSON}")),
            Self::Tombstone(job) => tombstones_folder(&job.repo).join(format!("{}{JSON}", job.job)),
            Self::Moved(Part::Store) => Path::new(MOVED).join(STORE),
            Self::Moved(Part::Repository(repo)) => moved_repositories_folder().join(format!("{repo}{JSON}")),
            Self::Moved(Part::Job(job)) => moved_jobs_folder(&job.repo).join(format!("{}{JSON}", job.job)),
            Self::Format => PathBuf::from(FORMAT),
        }
    }

    /// Parses a path relative to the root. `None` if it is not the path of an entry.
    #[must_use]
    pub fn parse(path: &Path) -> Option<Self> {
        let parts = path
            .components()
            .map(|component| match component {
                Component::Normal(part) => part.to_str(),
                _ => None,
            })
            .collect::<Option<Vec<_>>>()?;
        let entry = match parts.as_slice() {
            [FORMAT] => Self::Format,
            [EVENTS, repo, job, file] => {
                let (segment, form) = SegmentName::parse(file)?;
                Self::Segment(address(repo, job)?, segment, form)
            }
            [DLQ, repo, job, ITEMS] => Self::Queue(address(repo, job)?),
            [DLQ, repo, job, ITEMS_JOURNAL] => Self::QueueJournal(address(repo, job)?),
            [DLQ, repo, job, ITEMS_LOCK] => Self::QueueLock(address(repo, job)?),
            [STATE, repo, REPOSITORY] => Self::Document(Document::Repository(RepoName::new(repo).ok()?)),
            [STATE, repo, "mapreduce", "jobs", job, file] => {
                let job = address(repo, job)?;
                match file.strip_suffix(ZST) {
                    Some(file) => Self::Compressed(
                        Document::in_checkpoints(&job, file).filter(Document::may_be_packed)?,
                    ),
                    None => Self::Document(Document::in_checkpoints(&job, file)?),
                }
            }
            [STATE, repo, DOCUMENTS, kind, file] => {
                let owner = DocumentOwner::Repo(RepoName::new(repo).ok()?);
                Self::Document(own_document(owner, kind, file)?)
            }
            [STATE, repo, "mapreduce", "jobs", job, DOCUMENTS, kind, file] => {
                let owner = DocumentOwner::Job(address(repo, job)?);
                Self::Document(own_document(owner, kind, file)?)
            }
            [ORPHANED, repo, file] => {
                Self::Document(Document::Orphans(address(repo, file.strip_suffix(JSON)?)?))
            }
            [WORKTREES, repo, folder] => {
                let id = folder.strip_prefix(SessionId::PREFIX)?;
                Self::Worktree(RepoName::new(repo).ok()?, SessionId::without_prefix(id).ok()?)
            }
            [DELETIONS, file] => Self::DeletedLogs(RepoName::new(file.strip_suffix(JSON)?).ok()?),
            [DELETIONS, folder, file] => {
                let job = JobId::new(file.strip_suffix(JSON)?).ok()?;
                Self::Tombstone(JobAddress::new(repo_of_tombstones(folder)?, job))
            }
            [MOVED, STORE] => Self::Moved(Part::Store),
            [MOVED, MOVED_REPOSITORIES, file] => {
                Self::Moved(Part::Repository(RepoName::new(file.strip_suffix(JSON)?).ok()?))
            }
            [MOVED, MOVED_JOBS, repo, file] => {
                Self::Moved(Part::Job(address(repo, file.strip_suffix(JSON)?)?))
            }
            [LOCKS, REGISTRY_LOCK] => Self::RegistryLock,
            [LOCKS, DOCUMENTS, file] => Self::DocumentsLock(RepoName::new(file.strip_suffix(LOCK)?).ok()?),
            [LOCKS, STATE, repo, file] => Self::StateLock(address(repo, file.strip_suffix(LOCK)?)?),
            [LOCKS, depth, parts @ ..] if *depth == parts.len().to_string() => {
                Self::Lock(LockName::new(parts.join("/").strip_suffix(LOCK)?).ok()?)
            }
            _ => return None,
        };
        // `components` ignores doubled and trailing slashes and `.`, so other spellings of the path are refused here.
        (entry.path().as_os_str() == path.as_os_str()).then_some(entry)
    }
}

/// The path of a file of a job's queue. It is needed at each call for the queue, so it is built in one step.
fn queue_file(job: &JobAddress, name: &str) -> PathBuf {
    [DLQ, job.repo.as_str(), job.job.as_str(), name].join("/").into()
}

fn address(repo: &str, job: &str) -> Option<JobAddress> {
    Some(JobAddress::new(RepoName::new(repo).ok()?, JobId::new(job).ok()?))
}

fn own_document(owner: DocumentOwner, kind: &str, file: &str) -> Option<Document> {
    let name = DocumentName::new(file.strip_suffix(JSON)?).ok()?;
    Some(Document::Own(owner, DocumentKind::new(kind).ok()?, name))
}

impl Document {
    /// The path of the document, relative to the root: the same as from [`Entry::path`].
    #[must_use]
    pub fn path(&self) -> PathBuf {
        match self {
            Self::Setup(job) => checkpoints_folder(job).join(SETUP),
            Self::Map(job, stamp) => checkpoints_folder(job).join(format!("{MAP}{stamp}{JSON}")),
            Self::Reduce(job, stamp) => checkpoints_folder(job).join(format!("{REDUCE}{stamp}{JSON}")),
            Self::OwnPhase(job, phase, stamp) => {
                checkpoints_folder(job).join(format!("{phase}{CHECKPOINT}{stamp}{JSON}"))
            }
            Self::Orphans(job) => orphans_folder(&job.repo).join(format!("{}{JSON}", job.job)),
            Self::Finished(job) => checkpoints_folder(job).join(FINISHED),
            Self::Fencing(job) => checkpoints_folder(job).join(FENCING),
            Self::Repository(repo) => state_folder(repo).join(REPOSITORY),
            Self::Own(owner, kind, name) => documents_folder(owner)
                .join(kind.as_str())
                .join(format!("{name}{JSON}")),
        }
    }

    /// True if the document may be stored in compressed form: it is a checkpoint with a canonical stamp in its name.
    #[must_use]
    pub fn may_be_packed(&self) -> bool {
        self.stamp().is_some_and(Stamp::is_canonical)
    }

    /// The path of the document's compressed form.
    #[must_use]
    pub fn packed_path(&self) -> PathBuf {
        let mut path = self.path();
        path.as_mut_os_string().push(ZST);
        path
    }

    /// Parses a file name in the folder of a job's checkpoints, like [`in_checkpoints`](Self::in_checkpoints), and also the
    /// name of a compressed form.
    #[must_use]
    pub fn in_checkpoints_or_packed(job: &JobAddress, file: &str) -> Option<Self> {
        match file.strip_suffix(ZST) {
            Some(file) => Self::in_checkpoints(job, file).filter(Self::may_be_packed),
            None => Self::in_checkpoints(job, file),
        }
    }

    /// Parses a file name in the folder of a job's checkpoints ([`checkpoints_folder`](crate::checkpoints_folder)).
    /// [`Entry::parse`] returns the same for the whole path.
    #[must_use]
    pub fn in_checkpoints(job: &JobAddress, file: &str) -> Option<Self> {
        match file {
            SETUP => return Some(Self::Setup(job.clone())),
            FINISHED => return Some(Self::Finished(job.clone())),
            FENCING => return Some(Self::Fencing(job.clone())),
            _ => {}
        }
        let (phase, stamp) = Phase::in_file(file)?;
        Some(Self::checkpoint(job, phase, Stamp::parse_keyed(stamp)?))
    }
}

/// Writes the path of the document.
impl fmt::Display for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path().display().fmt(f)
    }
}

impl Phase {
    /// Parses the file name of a checkpoint. Returns its phase, and the text of its stamp. `None` for the setup
    /// checkpoint, which has no stamp.
    #[must_use]
    pub fn in_file(file: &str) -> Option<(Self, &str)> {
        let text = file.strip_suffix(JSON)?;
        if let Some(stamp) = text.strip_prefix(MAP) {
            return Some((Self::Map, stamp));
        }
        if let Some(stamp) = text.strip_prefix(REDUCE) {
            return Some((Self::Reduce, stamp));
        }
        // Splits at the first occurrence: a key after the stamp may contain this text, but the name of a phase can't.
        let (name, stamp) = text.split_once(CHECKPOINT)?;
        Some((Self::Own(PhaseName::new(name).ok()?), stamp))
    }
}
