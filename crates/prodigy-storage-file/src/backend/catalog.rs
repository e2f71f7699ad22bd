//! Lists repositories, jobs and sessions by the folders that exist.

use std::path::Path;

use prodigy_storage_backend::{
    Deadline, Entries, ForeignKind, LockInfo, Page, PageBuilder, PageOptions, Result,
};
use prodigy_storage_layout::{DLQ, EVENTS, JobAddress, JobId, ORPHANED, RepoName, STATE, WORKTREES};

use super::stores::Stores;
use crate::fs::{FileKind, Metadata};

/// The names in the folder of the state of a repository.
const OWN: [&str; 3] = ["mapreduce", "documents", "repository.json"];

impl Stores {
    /// Implements [`Catalog::repositories`](prodigy_storage_backend::Catalog::repositories).
    pub(super) fn repositories(
        &self,
        page: &PageOptions<RepoName>,
        deadline: Deadline,
    ) -> Result<Page<RepoName>> {
        const REPOSITORIES: &str = "list repositories";
        let mut repos = PageBuilder::new(page.clone());
        for area in [EVENTS, DLQ, STATE, WORKTREES, ORPHANED] {
            deadline.check(REPOSITORIES, &area, "the file system")?;
            let area = Path::new(area);
            let is_in_the_way = |found: Metadata| found.kind != FileKind::Folder;
            let names = match self.root.folders_in(REPOSITORIES, area) {
                Ok(names) => names,
                // The other areas are listed. Each read and write of the data that belongs here fails.
                Err(_) if self.root.fs.metadata(area).is_ok_and(is_in_the_way) => {
                    self.root.foreign.skip(ForeignKind::OtherThings, area, 1);
                    continue;
                }
                Err(error) => return Err(error),
            };
            // The real program keeps the states of its jobs there, and no repository.
            let is_foreign = |name: &str| {
                let has = |part: &str| self.root.fs.metadata(&area.join(name).join(part)).is_ok();
                area == Path::new(STATE) && name == "reduce_checkpoints" && !OWN.iter().any(|part| has(part))
            };
            let names = names.filter(|name| !is_foreign(name.as_ref()));
            repos.extend(names.filter_map(|name| RepoName::new(name).ok()));
        }
        Ok(repos.finish())
    }

    /// Implements [`Catalog::jobs`](prodigy_storage_backend::Catalog::jobs).
    pub(super) fn jobs(
        &self,
        repo: &RepoName,
        page: &PageOptions<JobId>,
        deadline: Deadline,
    ) -> Result<Page<JobId>> {
        Ok(self.listed_jobs(repo, page, deadline)?.jobs)
    }

    /// Implements [`Catalog::is_active`](prodigy_storage_backend::Catalog::is_active).
    pub(super) fn is_active(&self, repo: &RepoName, deadline: Deadline) -> Result<bool> {
        let is_ours = |lock: &LockInfo| lock.name.as_str().split('/').next() == Some(repo.as_str());
        for lock in Entries::new(|page| self.locks.list(page, deadline)) {
            let lock = lock?;
            if lock.held && is_ours(&lock) {
                return Ok(true);
            }
        }
        for job in Entries::new(|page| self.jobs(repo, page, deadline)) {
            let job = JobAddress::new(repo.clone(), job?);
            if self.logs.survey(&job, deadline)?.writer.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use prodigy_storage_backend::{Body, PutOptions};
    use prodigy_storage_layout::{Document, DocumentScope};

    use super::*;
    use crate::root::{FileOptions, Root};

    const NEVER: Deadline = Deadline::never();

    #[test]
    fn repositories_jobs_and_sessions_are_told_by_what_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let root = &folder.path().join("root");
        let stores = Stores::new(Root::open(FileOptions::new(root)));
        let none = stores
            .repositories(&PageOptions::default(), NEVER)
            .unwrap()
            .entries;
        assert!(
            none.is_empty()
                && stores
                    .jobs(&RepoName::new("a").unwrap(), &PageOptions::default(), NEVER)
                    .unwrap()
                    .is_nothing()
        );
        assert!(!root.exists(), "a listing makes nothing");
        let put = |document: Document| {
            let body = Body::parse(b"{}").unwrap();
            let put = stores
                .documents
                .put(&document, body, &PutOptions::default(), NEVER);
            put.unwrap();
        };
        let make = |folder: &str| std::fs::create_dir_all(root.join(folder)).unwrap();
        for folder in [
            "events/a/job-e",
            "dlq/b/job-d",
            "state/c/mapreduce/jobs/job-s",
            "state/reduce_checkpoints/job-r",
            "worktrees/d/session-1",
            "worktrees/d/other",
            "events/.hidden",
            "locks/state/z",
        ] {
            make(folder);
        }
        std::fs::write(root.join("events/file"), "").unwrap();
        std::fs::write(root.join("worktrees/d/session-2"), "").unwrap();
        let e = JobAddress::new(RepoName::new("e").unwrap(), JobId::new("job-o").unwrap());
        put(Document::Orphans(e.clone()));
        put(Document::Repository(e.repo.clone()));
        let repos = stores
            .repositories(&PageOptions::default(), NEVER)
            .unwrap()
            .entries;
        let names: Vec<_> = repos.iter().map(RepoName::as_str).collect();
        assert_eq!(names, ["a", "b", "c", "d", "e"]);
        for (repo, job) in
            repos
                .iter()
                .zip([Some("job-e"), Some("job-d"), Some("job-s"), None, Some("job-o")])
        {
            let jobs = stores.jobs(repo, &PageOptions::default(), NEVER).unwrap().entries;
            assert_eq!(jobs.first().map(JobId::as_str), job);
            assert!(jobs.len() <= 1);
        }
        let listed = stores
            .documents
            .list(&DocumentScope::Repositories, &PageOptions::default(), NEVER)
            .unwrap()
            .entries;
        assert_eq!(listed.len(), 1);
        assert_eq!(listed[0].document, Document::Repository(e.repo.clone()));
        assert_eq!(
            listed[0].bytes,
            std::fs::metadata(root.join(listed[0].document.path()))
                .unwrap()
                .len()
        );
        let orphans = stores
            .documents
            .list(
                &DocumentScope::Orphans(e.repo.clone()),
                &PageOptions::default(),
                NEVER,
            )
            .unwrap()
            .entries;
        assert_eq!(orphans[0].document, Document::Orphans(e));
    }
}
