//! Listings, deletion and maintenance of the memory backend.

use prodigy_storage_backend::{
    Activity, Capabilities, Catalog, Deadline, ErrorKind, Fence, Health, JobSurvey, LockInfo, Page,
    PageBuilder, PageOptions, Result, Stats, StorageError, Usage, time_to_store,
};
use prodigy_storage_layout::{JobAddress, JobId, RepoName, Timestamp};

use super::MemoryBackend;
use crate::job::JobData;
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
        if data.is_empty() {
            return Ok(false);
        }
        data.documents.check_mark(DELETE, job, fence)?;
        let Some(by) = worker(&data, self.store.held_lock_of(job).as_ref()) else {
            if last.is_some_and(|last| data.last_write().is_some_and(|written| written > last)) {
                return Ok(false);
            }
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
            format!("the job is active: {by}"),
        )
        .with_hint("finish the job, or release the lock; then delete it"))
    }
}

/// Describes who works on a job, for an error message. No other process can.
fn worker(data: &JobData, lock: Option<&LockInfo>) -> Option<String> {
    let open = || {
        format!(
            "this process ({}) has its log open for writing",
            std::process::id()
        )
    };
    lock.map(LockInfo::held_by)
        .or_else(|| data.log.is_open().then(open))
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
        let (lock, held) = (self.store.held_lock_of(job), self.store.job(job));
        let data = held.as_ref().map(|held| held.data.lock());
        let by = match &data {
            Some(data) => worker(data, lock.as_ref()),
            None => lock.map(|lock| lock.held_by()),
        };
        let last = data.and_then(|data| data.last_write());
        Ok(Activity::new(by.is_some(), last).by(by))
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
