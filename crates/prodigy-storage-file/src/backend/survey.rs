//! Jobs in numbers, a page of them at once.

use std::num::NonZero;
use std::panic::resume_unwind;
use std::thread;
use std::time::Duration;

use prodigy_storage_backend::{
    Activity, Deadline, ErrorKind, JobFacts, JobSurvey, Page, PageOptions, Result,
};
use prodigy_storage_layout::{Document, JobAddress, JobId, RepoName};

use super::stores::Stores;
use crate::kernel::KernelLocks;

const SURVEY: &str = "survey jobs";
/// Jobs that are examined between two looks at the clock.
const CHUNK: usize = 512;
/// The most threads that examine jobs, and the fewest jobs that are worth one.
const THREADS: usize = 8;
const SHARE: usize = 32;
/// A page ends early after this time: its reader sees that the survey continues.
const PAGE: Duration = Duration::from_secs(1);

impl Stores {
    /// [`Catalog::survey`](prodigy_storage_backend::Catalog::survey).
    pub(super) fn survey(
        &self,
        repo: &RepoName,
        page: &PageOptions<JobId>,
        deadline: Deadline,
    ) -> Result<Page<JobSurvey, JobId>> {
        let listed = self.jobs(repo, page, deadline)?;
        let enough = deadline.min(Deadline::after(PAGE));
        let mut entries: Vec<JobSurvey> = Vec::with_capacity(listed.entries.len());
        for chunk in listed.entries.chunks(CHUNK) {
            if let Some(last) = entries.last().filter(|_| enough.has_passed()) {
                let next = last.job.clone();
                return Ok(Page::new(entries, Some(next)));
            }
            self.survey_into(&mut entries, repo, chunk, deadline)?;
        }
        Ok(Page::new(entries, listed.next))
    }

    /// Adds a chunk of jobs, which threads share.
    fn survey_into(
        &self,
        entries: &mut Vec<JobSurvey>,
        repo: &RepoName,
        jobs: &[JobId],
        deadline: Deadline,
    ) -> Result<()> {
        let threads = thread::available_parallelism()
            .map_or(1, NonZero::get)
            .min(THREADS);
        let share = jobs.len().div_ceil(threads).max(SHARE);
        let survey = |jobs: &[JobId]| {
            let mut kernel = KernelLocks::new();
            let address = |job: &JobId| JobAddress::new(repo.clone(), job.clone());
            let jobs = jobs
                .iter()
                .map(|job| self.facts(&mut kernel, &address(job), deadline));
            jobs.collect::<Vec<_>>()
        };
        let survey = &survey;
        let found: Vec<_> = thread::scope(|scope| {
            let mut shares = jobs.chunks(share);
            let own = shares.next().unwrap_or_default();
            let others: Vec<_> = shares.map(|jobs| scope.spawn(move || survey(jobs))).collect();
            let mut found = survey(own);
            for other in others {
                found.extend(other.join().unwrap_or_else(|panic| resume_unwind(panic)));
            }
            found
        });
        for (job, facts) in jobs.iter().zip(found) {
            match facts.transpose() {
                // Deleted since it was listed.
                None => {}
                Some(Err(error)) if error.kind() == ErrorKind::Timeout => return Err(error),
                Some(facts) => entries.push(JobSurvey::new(job.clone(), facts)),
            }
        }
        Ok(())
    }

    /// The numbers of a job; `None` if it is being deleted.
    fn facts(
        &self,
        kernel: &mut KernelLocks,
        job: &JobAddress,
        deadline: Deadline,
    ) -> Result<Option<JobFacts>> {
        deadline.check(SURVEY, job, "the file system")?;
        let (log, is_written_to, last_write) = self.logs.survey(job, deadline)?;
        let active = is_written_to || self.holds_lock(kernel, job, deadline)?;
        let beside = self.beside_log(job, deadline)?;
        let facts = JobFacts {
            activity: Activity::new(active, last_write.max(beside.last_write)),
            finished: self.documents.get(&Document::Finished(job.clone()), deadline)?,
            log,
            queue: self.queues.queue_summary(job, deadline)?,
            checkpoints: beside.checkpoints,
            documents: beside.documents,
        };
        Ok((!self.root.is_deleted(SURVEY, job)?).then_some(facts))
    }
}
