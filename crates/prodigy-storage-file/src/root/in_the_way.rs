//! Finds entries of the wrong kind for their path, with which writes would fail: a file at the path of a folder, or a
//! link or folder at the path of a file.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use prodigy_storage_layout::{Entry, Folder, JobAddress, RepoName};

use super::is_misplaced;
use crate::fs::FileKind;

/// Collects the paths of such entries during a walk. A file that has the name of a repository or a job counts only if
/// another area of the store has a folder for it; otherwise it may be a file of another program.
#[derive(Debug, Default)]
pub(crate) struct InTheWay {
    repos: BTreeSet<RepoName>,
    jobs: BTreeSet<JobAddress>,
    no_folders: BTreeSet<PathBuf>,
    no_files: Vec<PathBuf>,
}

impl InTheWay {
    pub(crate) fn add(&mut self, path: &Path, kind: FileKind) {
        let is_entry = Entry::parse(path).is_some();
        match kind {
            FileKind::File if is_entry => {}
            _ if is_entry => self.no_files.push(path.to_owned()),
            FileKind::Folder => self.add_owner(path),
            FileKind::File if Folder::parse(path).is_none() => {}
            FileKind::File => drop(self.no_folders.insert(path.to_owned())),
            // The link may lead to the folder of a repository or a job.
            FileKind::Other => {
                self.add_owner(path);
                self.no_folders.insert(path.to_owned());
            }
        }
    }

    /// Adds the repository and the job that a folder belongs to.
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

    /// True if a folder belongs at this path, because another area has a folder of the same repository or job.
    fn is_needed(&self, path: &Path) -> bool {
        match Folder::parse(path) {
            Some(Folder::Repo(repo)) => self.repos.contains(&repo),
            Some(Folder::Job(job)) => self.jobs.contains(&job),
            _ => false,
        }
    }

    /// The paths where folders belong, followed by the paths where files belong.
    pub(super) fn paths(mut self) -> Vec<PathBuf> {
        let mut no_folders = std::mem::take(&mut self.no_folders);
        no_folders.retain(|path| self.is_needed(path) || is_misplaced(path, FileKind::File));
        no_folders.into_iter().chain(self.no_files).collect()
    }

    /// The files that have the name of a repository or a job with a folder in another area. [`is_misplaced`] does not
    /// find these.
    pub(crate) fn files(mut self) -> Vec<PathBuf> {
        let mut no_folders = std::mem::take(&mut self.no_folders);
        no_folders.retain(|path| self.is_needed(path) && !is_misplaced(path, FileKind::File));
        no_folders.into_iter().collect()
    }
}
