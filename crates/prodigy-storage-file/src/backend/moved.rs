//! Marks parts of a store as moved to another store.

use prodigy_storage_backend::{Deadline, Entries, ErrorKind, Moved, Result, StorageError};
use prodigy_storage_layout::{
    Entry, JobAddress, JobId, Part, RepoName, Timestamp, repo_queues_folder, state_locks_folder,
};

use super::stores::Stores;
use crate::root::LockedFile;

const MARK: &str = "mark as moved";

impl Stores {
    /// Implements [`Catalog::mark_moved`](prodigy_storage_backend::Catalog::mark_moved).
    pub(super) fn mark_moved(
        &self,
        moved: &Moved,
        last: Option<Timestamp>,
        deadline: Deadline,
    ) -> Result<()> {
        self.root.prepare_write(MARK, &moved.part)?;
        let repos = match &moved.part {
            Part::Job(job) => {
                let _held = self.hold(MARK, job, deadline)?;
                // Taking the locks made the folders of a job that is gone.
                if !self.root.has_data_of(MARK, job)? {
                    self.remove_files(job, deadline)?;
                    let why = "nothing is stored of it";
                    return Err(StorageError::new(ErrorKind::NotFound, MARK, job, why));
                }
                if self.last_write(job, deadline)? > last {
                    let why = "it was written to after it was copied";
                    return Err(StorageError::new(ErrorKind::Conflict, MARK, job, why)
                        .with_hint("end the process that writes to it, then copy again"));
                }
                return self.root.write_moved(MARK, moved);
            }
            Part::Repository(repo) => vec![repo.clone()],
            Part::Store => {
                let repos = Entries::new(|page| self.repositories(page, deadline));
                repos.collect::<Result<_>>()?
            }
        };
        if self.root.move_mark(&moved.part)?.is_some() {
            return Ok(());
        }
        self.root.write_moved(MARK, moved)?;
        let checked = repos
            .iter()
            .filter(|repo| repo.as_str() != RepoName::AUDIT)
            .try_for_each(|repo| self.all_jobs_are_moved(repo, deadline));
        if checked.is_err() {
            self.root.remove_moved(&moved.part)?;
        }
        checked
    }

    /// Fails if a job of a repository is not marked as moved. New writers already see the mark of the repository; this
    /// method waits for the locks of earlier ones, and then checks each job.
    fn all_jobs_are_moved(&self, repo: &RepoName, deadline: Deadline) -> Result<()> {
        let mut locks = vec![
            Entry::DocumentsLock(repo.clone()).path(),
            Entry::RegistryLock.path(),
        ];
        let folder = state_locks_folder(repo);
        locks.extend(
            self.root
                .names_in(MARK, &folder)?
                .into_iter()
                .map(|entry| folder.join(entry.name)),
        );
        for name in self.root.folders_in(MARK, &repo_queues_folder(repo))? {
            if let Ok(job) = JobId::new(name) {
                locks.push(Entry::QueueLock(JobAddress::new(repo.clone(), job)).path());
            }
        }
        for lock in locks.iter().filter(|lock| Entry::parse(lock).is_some()) {
            drop(LockedFile::take(&self.root, lock, MARK, MARK, deadline)?);
        }
        for job in Entries::new(|page| self.jobs(repo, page, deadline)) {
            let job = JobAddress::new(repo.clone(), job?);
            // No copy marks a job without data, such as one whose folder has a lock file alone.
            if self.root.move_mark(&Part::Job(job.clone()))?.is_none()
                && self.last_write(&job, deadline)?.is_some()
            {
                let why = "it was not copied, or begun after the copy";
                return Err(StorageError::new(ErrorKind::Conflict, MARK, job, why).with_hint("copy again"));
            }
        }
        Ok(())
    }
}
