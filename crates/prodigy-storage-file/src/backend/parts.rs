//! Which parts the jobs of a page have, by one listing of each folder that contains parts of many jobs.
//!
//! A survey then examines only the parts that a job has. A part whose folder is created after the listing is missing
//! from the survey, as is a job that is created after it.

use std::path::Path;

use prodigy_storage_backend::{Deadline, Page, PageBuilder, PageOptions, Result};
use prodigy_storage_layout::{
    Document, Entry, JobAddress, JobId, RepoName, jobs_folder, orphans_folder, repo_events_folder,
    repo_queues_folder, state_folder,
};

use super::stores::Stores;
use crate::fs::FileKind;
use crate::queue::EARLIER_QUEUES;

const LIST: &str = "list jobs";

/// The parts that a job may have. All are true if no folder was listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Parts {
    pub(super) log: bool,
    pub(super) queue: bool,
    pub(super) state: bool,
    pub(super) orphans: bool,
    pub(super) locks: bool,
}

impl Parts {
    pub(super) const ANY: Self = Self {
        log: true,
        queue: true,
        state: true,
        orphans: true,
        locks: true,
    };
}

/// A page of jobs, and for each part the jobs that have an entry in its folder.
#[derive(Debug)]
pub(super) struct ListedJobs {
    pub(super) jobs: Page<JobId>,
    log: Page<JobId>,
    queue: Page<JobId>,
    /// Queues in the layout of earlier programs; they are counted, but make no job.
    earlier_queue: Page<JobId>,
    state: Page<JobId>,
    orphans: Page<JobId>,
}

impl ListedJobs {
    /// The parts that a job of this page may have, except for its locks.
    pub(super) fn parts(&self, job: &JobId) -> Parts {
        Parts {
            log: may_have(&self.log, job),
            queue: may_have(&self.queue, job) || may_have(&self.earlier_queue, job),
            state: may_have(&self.state, job),
            orphans: may_have(&self.orphans, job),
            locks: true,
        }
    }
}

/// True unless the listing of a folder shows that it has nothing with this name.
pub(super) fn may_have(names: &Page<JobId>, job: &JobId) -> bool {
    let is_behind = names.next.as_ref().is_some_and(|last| job > last);
    is_behind || names.entries.binary_search(job).is_ok()
}

/// Maps the name and kind of a folder's entry to its job, and to true if such an entry makes the job exist.
type JobOf<'a> = &'a dyn Fn(&str, FileKind) -> Option<(JobId, bool)>;

impl Stores {
    /// A page of the jobs of a repository, with their parts.
    pub(super) fn listed_jobs(
        &self,
        repo: &RepoName,
        page: &PageOptions<JobId>,
        deadline: Deadline,
    ) -> Result<ListedJobs> {
        let mut jobs = PageBuilder::new(page.clone());
        let mut names_of = |folder: &Path, job_of: JobOf<'_>| -> Result<Page<JobId>> {
            deadline.check(LIST, &repo, "the file system")?;
            let mut names = PageBuilder::new(page.clone());
            self.root.each_name(LIST, folder, &mut |name, kind| {
                // Skips the folders of earlier pages, which are most of the names in a large store.
                let is_before = page.after.as_ref().is_some_and(|after| name <= after.as_str());
                if is_before && kind == FileKind::Folder {
                    return;
                }
                let found = job_of(name, kind);
                if !found.as_ref().is_some_and(|(_, is_part)| *is_part) {
                    self.root.pass_over(&folder.join(name), kind);
                }
                if let Some((job, is_part)) = found {
                    if is_part {
                        jobs.offer(job.clone());
                    }
                    names.offer(job);
                }
            })?;
            Ok(names.finish())
        };
        // A link at the path of a folder makes no job. It counts as a part, so that a survey of the job reports it.
        let folder = |name: &str, kind| Some((JobId::new(name).ok()?, kind == FileKind::Folder));
        let log = names_of(&repo_events_folder(repo), &folder)?;
        let queue = names_of(&repo_queues_folder(repo), &folder)?;
        let state = names_of(&jobs_folder(repo), &folder)?;
        let lists = orphans_folder(repo);
        let orphans = names_of(&lists, &|name, kind| match Entry::parse(&lists.join(name))? {
            Entry::Document(Document::Orphans(job)) => Some((job.job, kind == FileKind::File)),
            _ => None,
        })?;
        let mut earlier_queue = PageBuilder::new(page.clone());
        let folder = state_folder(repo).join(EARLIER_QUEUES);
        self.root.each_name(LIST, &folder, &mut |name, _| {
            earlier_queue.extend(JobId::new(name).ok());
        })?;
        let mut listed = ListedJobs {
            jobs: jobs.finish(),
            log,
            queue,
            earlier_queue: earlier_queue.finish(),
            state,
            orphans,
        };
        let deleted = self.deleted_jobs(LIST, repo)?;
        let mut present = Vec::with_capacity(listed.jobs.entries.len());
        for job in std::mem::take(&mut listed.jobs.entries) {
            // The folder of the state may hold only fencing marks that a deletion left; they make no job.
            let is_whole = [&listed.log, &listed.queue, &listed.orphans]
                .iter()
                .any(|names| may_have(names, &job));
            if !deleted.contains(&job)
                && (is_whole || self.is_anything_of(LIST, &JobAddress::new(repo.clone(), job.clone()))?)
            {
                present.push(job);
            }
        }
        listed.jobs.entries = present;
        Ok(listed)
    }
}
