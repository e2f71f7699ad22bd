//! Listings, deletion and maintenance of the memory backend.

use prodigy_storage_backend::{
    Activity, Capabilities, Catalog, Deadline, ErrorKind, Fence, Health, JobSurvey, LockInfo, Page,
    PageBuilder, PageOptions, Result, Stats, StorageError, Usage, time_to_store,
};
use prodigy_storage_layout::{JobAddress, JobId, RepoName, Timestamp};

use super::MemoryBackend;
use crate::store::Store;

impl MemoryBackend {
    /// Deletes a job, unless something was written to it after `last`.
    fn delete(
        &self,
        job: &JobAddress,
        fence: Option<&Fence>,
        last: Option<Timestamp>,
        deadline: Deadline,
    ) -> Result<bool> {
        const DELETE: &str = "delete job";
        Store::check(deadline, DELETE, job)?;
        let Some(held) = self.store.job(job) else {
            return Ok(false);
        };
        let mut data = held.data.lock();
        let is_newer = last.is_some_and(|last| data.last_write().is_some_and(|written| written > last));
        if data.is_empty() || is_newer {
            return Ok(false);
        }
        let why = if data.log.is_open() {
            "its log is open for writing"
        } else if self.store.holds_lock_of(job) {
            "a lock whose name begins with repository and job is held"
        } else {
            let now = time_to_store(&*self.store.options.clock, DELETE, job)?;
            data.documents
                .raise_mark(DELETE, job, fence, now, &self.store.budget)?;
            self.store.budget.release(data.clear());
            drop(data);
            self.store.waiters.notify(job);
            self.store.touch();
            return Ok(true);
        };
        Err(StorageError::new(
            ErrorKind::LockUnavailable,
            DELETE,
            job,
            format!("the job is active: {why}"),
        )
        .with_hint("finish the job, or release the lock; then delete it"))
    }
}

impl Catalog for MemoryBackend {
    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::new("memory");
        capabilities.persistent = self.store.options.persistence.is_some();
        capabilities
    }

    fn repositories(&self, page: &PageOptions<RepoName>, deadline: Deadline) -> Result<Page<RepoName>> {
        Store::check(deadline, "list repositories", &"")?;
        let mut names = PageBuilder::new(page.clone());
        let jobs = self.store.all_jobs().into_iter();
        names.extend(
            jobs.filter(|(_, held)| !held.data.lock().is_empty())
                .map(|(address, _)| address.repo),
        );
        let registry = self.store.registry.lock();
        names.extend(registry.iter().map(|(document, _)| document.repo().clone()));
        Ok(names.finish())
    }

    fn jobs(&self, repo: &RepoName, page: &PageOptions<JobId>, deadline: Deadline) -> Result<Page<JobId>> {
        Store::check(deadline, "list jobs", repo)?;
        let mut names = PageBuilder::new(page.clone());
        let jobs = self.store.all_jobs().into_iter();
        names.extend(
            jobs.filter(|(address, held)| address.repo == *repo && !held.data.lock().is_empty())
                .map(|(address, _)| address.job),
        );
        Ok(names.finish())
    }

    fn is_active(&self, repo: &RepoName, deadline: Deadline) -> Result<bool> {
        Store::check(deadline, "find active jobs", repo)?;
        let is_ours = |lock: &LockInfo| lock.name.as_str().split('/').next() == Some(repo.as_str());
        let locks = self.store.locks.list();
        let mut jobs = self.store.all_jobs().into_iter();
        Ok(locks.iter().any(|lock| lock.held && is_ours(lock))
            || jobs.any(|(address, held)| address.repo == *repo && held.data.lock().log.is_open()))
    }

    fn activity(&self, job: &JobAddress, deadline: Deadline) -> Result<Activity> {
        Store::check(deadline, "look at job", job)?;
        let is_locked = self.store.holds_lock_of(job);
        Ok(self.store.job(job).map_or_else(
            || Activity::new(is_locked, None),
            |held| {
                let data = held.data.lock();
                Activity::new(is_locked || data.log.is_open(), data.last_write())
            },
        ))
    }

    fn survey(
        &self,
        repo: &RepoName,
        page: &PageOptions<JobId>,
        deadline: Deadline,
    ) -> Result<Page<JobSurvey, JobId>> {
        JobSurvey::by_calls(self, repo, page, deadline)
    }

    fn delete_job(&self, job: &JobAddress, fence: Option<&Fence>, deadline: Deadline) -> Result<bool> {
        self.delete(job, fence, None, deadline)
    }

    fn delete_old_job(
        &self,
        job: &JobAddress,
        last: Timestamp,
        fence: Option<&Fence>,
        deadline: Deadline,
    ) -> Result<bool> {
        self.delete(job, fence, Some(last), deadline)
    }

    fn flush(&self, deadline: Deadline) -> Result<()> {
        Store::check(deadline, "flush", &"")?;
        self.store.save()
    }

    fn health(&self, deadline: Deadline) -> Result<Health> {
        Store::check(deadline, "check health", &"")?;
        Ok(self.store.health())
    }

    fn usage(&self, deadline: Deadline) -> Result<Usage> {
        Store::check(deadline, "measure usage", &"")?;
        Ok(self.store.usage())
    }

    fn stats(&self, stats: &mut Stats) {
        self.store.stats(stats);
    }
}
