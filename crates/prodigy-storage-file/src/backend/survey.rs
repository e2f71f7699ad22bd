//! Counts and times of many jobs, one page per call.

use std::num::NonZero;
use std::panic::resume_unwind;
use std::thread;
use std::time::Duration;

use prodigy_storage_backend::{
    Activity, Deadline, ErrorKind, JobFacts, JobSurvey, Page, PageOptions, QueueSummary, Result,
};
use prodigy_storage_layout::{Document, JobAddress, JobId, RepoName};

use super::parts::{Parts, may_have};
use super::stores::Stores;
use crate::kernel::KernelLocks;
use crate::log::LogSurvey;

const SURVEY: &str = "survey jobs";
/// The number of jobs that are examined before the deadline is checked again.
const CHUNK: usize = 512;
/// The largest number of threads that examine jobs, and the smallest number of jobs per thread.
const THREADS: usize = 8;
const SHARE: usize = 32;
/// A page that takes longer than this ends early, with a cursor to the next page.
const PAGE: Duration = Duration::from_secs(1);

impl Stores {
    /// Implements [`Catalog::survey`](prodigy_storage_backend::Catalog::survey).
    pub(super) fn survey(
        &self,
        repo: &RepoName,
        page: &PageOptions<JobId>,
        deadline: Deadline,
    ) -> Result<Page<JobSurvey, JobId>> {
        let listed = self.listed_jobs(repo, page, deadline)?;
        let locks = self.locks.jobs_with_locks(repo, page)?;
        let parts_of = |job: &JobId| Parts {
            locks: may_have(&locks, job),
            ..listed.parts(job)
        };
        let enough = deadline.min(Deadline::after(PAGE));
        let mut entries: Vec<JobSurvey> = Vec::with_capacity(listed.jobs.entries.len());
        for chunk in listed.jobs.entries.chunks(CHUNK) {
            if let Some(last) = entries.last().filter(|_| enough.has_passed()) {
                let next = last.job.clone();
                return Ok(Page::new(entries, Some(next)));
            }
            self.survey_into(&mut entries, repo, chunk, &parts_of, deadline)?;
        }
        Ok(Page::new(entries, listed.jobs.next))
    }

    /// Examines a chunk of jobs, on several threads if it is large.
    fn survey_into(
        &self,
        entries: &mut Vec<JobSurvey>,
        repo: &RepoName,
        jobs: &[JobId],
        parts_of: &(dyn Fn(&JobId) -> Parts + Sync),
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
                .map(|job| self.facts(&mut kernel, &address(job), parts_of(job), deadline));
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
                // The job was deleted after it was listed.
                None => {}
                Some(Err(error)) if error.kind() == ErrorKind::Timeout => return Err(error),
                Some(facts) => entries.push(JobSurvey::new(job.clone(), facts)),
            }
        }
        Ok(())
    }

    /// The counts and times of one job; `None` if it is being deleted.
    fn facts(
        &self,
        kernel: &mut KernelLocks,
        job: &JobAddress,
        parts: Parts,
        deadline: Deadline,
    ) -> Result<Option<JobFacts>> {
        deadline.check(SURVEY, job, "the file system")?;
        let log = match parts.log {
            true => self.logs.survey(job, deadline)?,
            false => LogSurvey::default(),
        };
        let active = log.writer.is_some() || (parts.locks && self.holds_lock(kernel, job, deadline)?);
        let beside = self.beside_log(job, parts, deadline)?;
        let (finished, damage) = match beside.may_be_finished {
            true => JobFacts::mark(self.documents.get(&Document::Finished(job.clone()), deadline))?,
            false => (None, None),
        };
        let facts = JobFacts {
            activity: Activity::new(active, log.last_write.max(beside.last_write)),
            finished,
            damage,
            log: log.summary,
            queue: match parts.queue {
                true => self.queues.queue_summary(job, deadline)?,
                false => QueueSummary::default(),
            },
            checkpoints: beside.checkpoints,
            documents: beside.documents,
        };
        Ok((!self.root.is_deleted(SURVEY, job)?).then_some(facts))
    }
}
