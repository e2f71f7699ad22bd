//! Things of another kind than a write needs at their path: a file at the path of a folder, or a link or folder at the
//! path of a file.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use prodigy_storage_layout::{Entry, Folder, JobAddress, RepoName};

use super::is_misplaced;
use crate::fs::FileKind;

/// Collects paths during a walk. A file whose name could be a repository's or a job's is in the way only if another
/// area has a folder of that repository or job.
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

    /// True if a path should be a folder, because another area has one of the same repository or job.
    fn is_needed(&self, path: &Path) -> bool {
        match Folder::parse(path) {
            Some(Folder::Repo(repo)) => self.repos.contains(&repo),
            Some(Folder::Job(job)) => self.jobs.contains(&job),
            _ => false,
        }
    }

    /// The paths that should be folders, followed by the paths that should be files.
    pub(super) fn paths(mut self) -> Vec<PathBuf> {
        let mut no_folders = std::mem::take(&mut self.no_folders);
        no_folders.retain(|path| self.is_needed(path) || is_misplaced(path, FileKind::File));
        no_folders.into_iter().chain(self.no_files).collect()
    }

    /// The files with the name of a repository or a job that has a folder in another area. [`is_misplaced`] does not know them.
    pub(crate) fn files(mut self) -> Vec<PathBuf> {
        let mut no_folders = std::mem::take(&mut self.no_folders);
        no_folders.retain(|path| self.is_needed(path) && !is_misplaced(path, FileKind::File));
        no_folders.into_iter().collect()
    }
}
