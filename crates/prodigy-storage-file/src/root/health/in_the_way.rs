//! Things of another kind than a write needs at their path: a file at the path of a folder, or a link or folder at the
//! path of a file.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use prodigy_storage_layout::{Entry, Folder, JobAddress, RepoName};

use crate::fs::FileKind;
use crate::root::is_misplaced;

/// Collects paths during a walk. A file whose name could be a repository's or a job's is in the way only if another
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
            // A link may lead to the data of a repository or job.
            FileKind::Other => {
                self.add_owner(path);
                self.no_folders.insert(path.to_owned());
            }
        }
    }

    /// Adds the repository and the job of a folder.
    fn add_owner(&mut self, folder: &Path) {
        match Folder::parse(folder) {
            Some(Folder::Repo(repo)) => drop(self.repos.insert(repo)),
            Some(Folder::Job(job)) => {
                self.repos.insert(job.repo.clone());
                self.jobs.insert(job);
            }
            _ => {}
        }
    }

    /// The paths that should be folders, followed by the paths that should be files.
    pub(super) fn paths(mut self) -> Vec<PathBuf> {
        self.no_folders.retain(|path| match Folder::parse(path) {
            Some(Folder::Repo(repo)) if self.repos.contains(&repo) => true,
            Some(Folder::Job(job)) if self.jobs.contains(&job) => true,
            _ => is_misplaced(path, FileKind::File),
        });
        self.no_folders.into_iter().chain(self.no_files).collect()
    }
}
