//! The folders of a storage root. All paths are relative to the root.

use std::path::{Path, PathBuf};

use crate::address::JobAddress;
use crate::document::DocumentOwner;
use crate::name::{JobId, LockName, RepoName};

/// The folder of the event logs.
pub const EVENTS: &str = "events";
/// The folder of the dead-letter queues.
pub const DLQ: &str = "dlq";
/// The folder of checkpoints and registry entries.
pub const STATE: &str = "state";
/// The folder of the sessions' worktrees.
pub const WORKTREES: &str = "worktrees";
/// The folder of the lists of orphaned worktrees.
pub const ORPHANED: &str = "orphaned_worktrees";
/// The folder of the lock files.
pub const LOCKS: &str = "locks";
/// The folder of the tombstones, which mark jobs that are being deleted.
pub const DELETIONS: &str = "deletions";
/// The folder of the marks of jobs and repositories that were moved to another store.
pub const MOVED: &str = "moved";
/// The folder of damaged data that repairs moved away.
pub const QUARANTINE: &str = "quarantine";

/// The folder of the records about files of other programs whose contents were imported.
pub const IMPORTED: &str = "imported";

/// The folder of the caller-defined documents, below the state of a repository or of a job.
pub const DOCUMENTS: &str = "documents";

/// A folder of the layout, with the part of the store that needs it.
///
/// ```
/// use std::path::Path;
/// use prodigy_storage_layout::{Folder, RepoName};
///
/// let shop = RepoName::new("shop")?;
/// assert_eq!(Folder::parse(Path::new("events/shop")), Some(Folder::Repo(shop)));
/// assert_eq!(Folder::parse(Path::new("notes")), None);
/// # Ok::<(), prodigy_storage_layout::NameError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Folder {
    /// The store itself needs the folder, and no other program has a file at its path.
    Store,
    /// A repository needs the folder.
    Repo(RepoName),
    /// A job needs the folder.
    Job(JobAddress),
    /// Something smaller or larger needs the folder: a kind of documents, a lock, the worktrees of a repository, or an
    /// import.
    Part,
}

impl Folder {
    /// The folder at a path relative to the root; `None` if the layout has no folder there.
    #[must_use]
    pub fn parse(path: &Path) -> Option<Self> {
        let parts: Vec<&str> = path.iter().map(|part| part.to_str()).collect::<Option<_>>()?;
        let repo = |name: &str| RepoName::new(name).ok();
        let job = |name: &str, job: &str| Some(JobAddress::new(repo(name)?, JobId::new(job).ok()?));
        match parts[..] {
            [
                EVENTS | DLQ | STATE | LOCKS | DELETIONS | MOVED | IMPORTED | QUARANTINE | ORPHANED
                | WORKTREES,
            ]
            | [LOCKS, STATE]
            | [MOVED, MOVED_REPOSITORIES | MOVED_JOBS] => Some(Self::Store),
            [LOCKS, STATE, name] => repo(name).map(|_| Self::Store),
            // The file of a lock whose name has several parts is in folders named after all parts but the last.
            [LOCKS, count, ref parts @ ..] => {
                let count = count
                    .parse()
                    .ok()
                    .filter(|count| (1..=LockName::MAX_PARTS).contains(count))?;
                match parts.len() {
                    0 => Some(Self::Store),
                    depth => (depth < count).then_some(Self::Part),
                }
            }
            [IMPORTED, _, ..] => Some(Self::Part),
            [EVENTS | DLQ | STATE | DELETIONS | ORPHANED, name]
            | [STATE, name, "mapreduce" | DOCUMENTS]
            | [MOVED, MOVED_JOBS, name]
            | [STATE, name, "mapreduce", "jobs"] => repo(name).map(Self::Repo),
            [WORKTREES, name] | [STATE, name, DOCUMENTS, _] => repo(name).map(|_| Self::Part),
            [EVENTS | DLQ, name, id]
            | [STATE, name, "mapreduce", "jobs", id]
            | [STATE, name, "mapreduce", "jobs", id, DOCUMENTS] => job(name, id).map(Self::Job),
            [STATE, name, "mapreduce", "jobs", id, DOCUMENTS, _] => job(name, id).map(|_| Self::Part),
            _ => None,
        }
    }
}

/// `events/{repo}`: one folder per job.
#[must_use]
pub fn repo_events_folder(repo: &RepoName) -> PathBuf {
    Path::new(EVENTS).join(repo.as_str())
}

/// `events/{repo}/{job}`: the segments of a job's event log.
#[must_use]
pub fn events_folder(job: &JobAddress) -> PathBuf {
    repo_events_folder(&job.repo).join(job.job.as_str())
}

/// `dlq/{repo}`: one folder per job.
#[must_use]
pub fn repo_queues_folder(repo: &RepoName) -> PathBuf {
    Path::new(DLQ).join(repo.as_str())
}

/// `dlq/{repo}/{job}`: a job's dead-letter queue.
#[must_use]
pub fn queue_folder(job: &JobAddress) -> PathBuf {
    repo_queues_folder(&job.repo).join(job.job.as_str())
}

/// `state/{repo}`: a repository's registry entry and the checkpoints of its jobs.
#[must_use]
pub fn state_folder(repo: &RepoName) -> PathBuf {
    Path::new(STATE).join(repo.as_str())
}

/// `state/{repo}/mapreduce/jobs`: one folder per job.
#[must_use]
pub fn jobs_folder(repo: &RepoName) -> PathBuf {
    state_folder(repo).join("mapreduce").join("jobs")
}

/// `state/{repo}/mapreduce/jobs/{job}`: a job's checkpoints.
#[must_use]
pub fn checkpoints_folder(job: &JobAddress) -> PathBuf {
    jobs_folder(&job.repo).join(job.job.as_str())
}

/// `documents`, below the state of a repository or of a job: one folder per kind of caller-defined documents.
#[must_use]
pub fn documents_folder(owner: &DocumentOwner) -> PathBuf {
    let state = match owner {
        DocumentOwner::Job(job) => checkpoints_folder(job),
        DocumentOwner::Repo(repo) => state_folder(repo),
    };
    state.join(DOCUMENTS)
}

/// `orphaned_worktrees/{repo}`: one document per job.
#[must_use]
pub fn orphans_folder(repo: &RepoName) -> PathBuf {
    Path::new(ORPHANED).join(repo.as_str())
}

/// `worktrees/{repo}`: one folder per session.
#[must_use]
pub fn worktrees_folder(repo: &RepoName) -> PathBuf {
    Path::new(WORKTREES).join(repo.as_str())
}

/// `deletions/{repo}`: one tombstone for each job that is being deleted.
///
/// The name of the folder begins with a dot if the repository's name ends with `.json`: otherwise `deletions/shop.json`
/// could be both the folder of a repository `shop.json` and the file about the deleted logs of `shop`.
#[must_use]
pub fn tombstones_folder(repo: &RepoName) -> PathBuf {
    let dot = if looks_like_a_file(repo) { "." } else { "" };
    Path::new(DELETIONS).join(format!("{dot}{repo}"))
}

/// The repository whose tombstones are in this folder below `deletions`.
pub(crate) fn repo_of_tombstones(folder: &str) -> Option<RepoName> {
    let repo = RepoName::new(folder.strip_prefix('.').unwrap_or(folder)).ok()?;
    (looks_like_a_file(&repo) == folder.starts_with('.')).then_some(repo)
}

fn looks_like_a_file(repo: &RepoName) -> bool {
    Path::new(repo.as_str())
        .extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("json"))
}

/// The folder below [`MOVED`] for the marks of repositories.
pub(crate) const MOVED_REPOSITORIES: &str = "repositories";
/// The folder below [`MOVED`] for the marks of jobs.
pub(crate) const MOVED_JOBS: &str = "jobs";

/// `moved/repositories`: one mark for each repository that was moved to another store.
#[must_use]
pub fn moved_repositories_folder() -> PathBuf {
    Path::new(MOVED).join(MOVED_REPOSITORIES)
}

/// `moved/jobs`: one folder for each repository of which jobs were moved to another store.
#[must_use]
pub fn all_moved_jobs_folder() -> PathBuf {
    Path::new(MOVED).join(MOVED_JOBS)
}

/// `moved/jobs/{repo}`: one mark for each job that was moved to another store.
#[must_use]
pub fn moved_jobs_folder(repo: &RepoName) -> PathBuf {
    all_moved_jobs_folder().join(repo.as_str())
}

/// `locks`: all lock files except those of queues.
#[must_use]
pub fn locks_folder() -> PathBuf {
    PathBuf::from(LOCKS)
}

/// `locks/state/{repo}`: one lock file per job.
#[must_use]
pub fn state_locks_folder(repo: &RepoName) -> PathBuf {
    locks_folder().join(STATE).join(repo.as_str())
}

/// `quarantine`: damaged data that repairs moved there.
#[must_use]
pub fn quarantine_folder() -> PathBuf {
    PathBuf::from(QUARANTINE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_folder_is_recognised_by_its_path() {
        let job = JobAddress::new(RepoName::new("shop").unwrap(), JobId::new("j").unwrap());
        let repo = &job.repo;
        let jobs = jobs_folder(repo);
        for folder in [
            repo_events_folder(repo),
            repo_queues_folder(repo),
            state_folder(repo),
            jobs.parent().unwrap().to_owned(),
            jobs,
            documents_folder(&DocumentOwner::Repo(repo.clone())),
            orphans_folder(repo),
            tombstones_folder(repo),
            moved_jobs_folder(repo),
        ] {
            assert_eq!(
                Folder::parse(&folder),
                Some(Folder::Repo(repo.clone())),
                "{folder:?}"
            );
        }
        for folder in [
            events_folder(&job),
            queue_folder(&job),
            checkpoints_folder(&job),
            documents_folder(&DocumentOwner::Job(job.clone())),
        ] {
            assert_eq!(
                Folder::parse(&folder),
                Some(Folder::Job(job.clone())),
                "{folder:?}"
            );
        }
        for folder in [
            locks_folder(),
            quarantine_folder(),
            locks_folder().join("4"),
            locks_folder().join(STATE),
            moved_repositories_folder(),
            all_moved_jobs_folder(),
        ] {
            assert_eq!(Folder::parse(&folder), Some(Folder::Store), "{folder:?}");
        }
        for folder in ["locks/5", "locks/1/a", "events/..", "state/shop/other", "notes"] {
            assert_eq!(Folder::parse(Path::new(folder)), None, "{folder}");
        }
    }
}
