//! Things of another kind than a write needs at their path: a file where a folder belongs, a link or a folder where a file
//! belongs.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use prodigy_storage_layout::{
    DocumentOwner, Entry, JobAddress, JobId, LockName, RepoName, STATE, checkpoints_folder, documents_folder,
    events_folder, jobs_folder, locks_folder, queue_folder, repo_events_folder, repo_queues_folder,
    state_folder, tombstones_folder,
};

use super::AREAS;
use crate::fs::FileKind;
use crate::root::is_misplaced;

/// Collects the paths of a walk. A file with a name that could be a repository's or a job's is in the way only if another
/// area has a folder of that repository or job.
#[derive(Debug, Default)]
pub(super) struct InTheWay {
    repos: BTreeSet<RepoName>,
    jobs: BTreeSet<JobAddress>,
    no_folders: BTreeSet<PathBuf>,
    no_files: Vec<PathBuf>,
}

impl InTheWay {
    pub(super) fn add(&mut self, path: &Path, kind: FileKind) {
        let is_entry = Entry::parse(path).is_some();
        match kind {
            FileKind::File if is_entry => {}
            _ if is_entry => self.no_files.push(path.to_owned()),
            FileKind::Folder => self.add_owner(path),
            FileKind::File => drop(self.no_folders.insert(path.to_owned())),
            // A link may lead to the data of the repository or job.
            FileKind::Other => {
                self.add_owner(path);
                self.no_folders.insert(path.to_owned());
            }
        }
    }

    /// Adds the repository and the job that a folder belongs to.
    fn add_owner(&mut self, folder: &Path) {
        let mut names = folder.iter().skip(1).filter_map(|name| name.to_str());
        let Some(repo) = names.next().and_then(|name| RepoName::new(name).ok()) else {
            return;
        };
        if repo_folders(&repo).iter().any(|known| folder.starts_with(known)) {
            self.repos.insert(repo.clone());
        }
        if let Some(job) = names.last().and_then(|name| JobId::new(name).ok()) {
            let job = JobAddress::new(repo, job);
            if job_folders(&job).iter().any(|known| known == folder) {
                self.jobs.insert(job);
            }
        }
    }

    /// The paths that are no folder, then those that are no file.
    pub(super) fn paths(mut self) -> Vec<PathBuf> {
        let locks = locks_folder();
        let state_locks = locks.join(STATE);
        let mut needed: BTreeSet<PathBuf> = AREAS.iter().map(PathBuf::from).collect();
        needed.extend((1..=LockName::MAX_PARTS).map(|parts| locks.join(parts.to_string())));
        for repo in &self.repos {
            needed.extend(repo_folders(repo));
            needed.extend(jobs_folder(repo).ancestors().take(2).map(Path::to_owned));
            needed.insert(documents_folder(&DocumentOwner::Repo(repo.clone())));
        }
        for job in &self.jobs {
            needed.extend(job_folders(job));
            needed.insert(documents_folder(&DocumentOwner::Job(job.clone())));
        }
        let is_state_lock = |path: &Path| {
            let name = path.file_name().and_then(|name| name.to_str());
            path.parent() == Some(&state_locks) && name.is_some_and(|name| RepoName::new(name).is_ok())
        };
        // No other program has files there.
        let is_only_ours = |path: &Path| is_misplaced(path, FileKind::File);
        needed.insert(state_locks.clone());
        self.no_folders
            .retain(|path| needed.contains(path) || is_state_lock(path) || is_only_ours(path));
        self.no_folders.into_iter().chain(self.no_files).collect()
    }
}

/// The folders of a repository directly below an area.
fn repo_folders(repo: &RepoName) -> [PathBuf; 4] {
    [
        tombstones_folder(repo),
        repo_events_folder(repo),
        repo_queues_folder(repo),
        state_folder(repo),
    ]
}

fn job_folders(job: &JobAddress) -> [PathBuf; 3] {
    [events_folder(job), queue_folder(job), checkpoints_folder(job)]
}
