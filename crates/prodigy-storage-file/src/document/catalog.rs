//! Which repositories, jobs and sessions there are, by the folders that are there.

use std::collections::BTreeSet;
use std::path::Path;

use prodigy_storage_backend::{Deadline, LockInfo, Result};
use prodigy_storage_layout::{
    DLQ, Document, EVENTS, Entry, JobAddress, JobId, ORPHANED, RepoName, STATE, WORKTREES, jobs_folder,
    orphans_folder, repo_events_folder, repo_queues_folder,
};

use crate::fs::FileKind;
use crate::store::Store;

impl Store {
    /// [`Catalog::repositories`](prodigy_storage_backend::Catalog::repositories).
    pub(crate) fn repositories(&self, deadline: Deadline) -> Result<Vec<RepoName>> {
        const REPOSITORIES: &str = "list repositories";
        let mut repos = BTreeSet::new();
        for area in [EVENTS, DLQ, STATE, WORKTREES, ORPHANED] {
            deadline.check(REPOSITORIES, &area, "the file system")?;
            for name in self.folders_in(REPOSITORIES, Path::new(area))? {
                repos.extend(RepoName::new(name).ok());
            }
        }
        Ok(repos.into_iter().collect())
    }

    /// [`Catalog::jobs`](prodigy_storage_backend::Catalog::jobs).
    pub(crate) fn jobs(&self, repo: &RepoName, deadline: Deadline) -> Result<Vec<JobId>> {
        const JOBS: &str = "list jobs";
        let mut jobs = BTreeSet::new();
        for folder in [
            repo_events_folder(repo),
            repo_queues_folder(repo),
            jobs_folder(repo),
        ] {
            deadline.check(JOBS, &repo, "the file system")?;
            for name in self.folders_in(JOBS, &folder)? {
                jobs.extend(JobId::new(name).ok());
            }
        }
        let folder = orphans_folder(repo);
        deadline.check(JOBS, &repo, "the file system")?;
        for entry in self.names_in(JOBS, &folder)? {
            if entry.kind == FileKind::File
                && let Some(Entry::Document(Document::Orphans(job))) = Entry::parse(&folder.join(&entry.name))
            {
                jobs.insert(job.job);
            }
        }
        Ok(jobs.into_iter().collect())
    }

    /// [`Catalog::is_active`](prodigy_storage_backend::Catalog::is_active).
    pub(crate) fn is_active(&self, repo: &RepoName, deadline: Deadline) -> Result<bool> {
        let is_ours = |lock: &LockInfo| lock.name.as_str().split('/').next() == Some(repo.as_str());
        if self
            .locks(deadline)?
            .iter()
            .any(|lock| lock.held && is_ours(lock))
        {
            return Ok(true);
        }
        for job in self.jobs(repo, deadline)? {
            if self.is_written_to(&JobAddress::new(repo.clone(), job), deadline)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn folders_in(&self, operation: &'static str, folder: &Path) -> Result<impl Iterator<Item = String>> {
        Ok(self
            .names_in(operation, folder)?
            .into_iter()
            .filter(|entry| entry.kind == FileKind::Folder)
            .map(|entry| entry.name))
    }
}
