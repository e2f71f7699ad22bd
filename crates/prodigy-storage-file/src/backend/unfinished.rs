//! Deletions whose process died: finds them, and ends them.

use std::path::Path;

use prodigy_storage_backend::{Check, Deadline, Page, PageBuilder, PageOptions, Result, UnfinishedDeletion};
use prodigy_storage_layout::{
    DELETIONS, Document, Entry, JobAddress, checkpoints_folder, events_folder, queue_folder,
};

use super::stores::Stores;
use crate::fs::{FileKind, OpenMode};
use crate::kernel::KernelLocks;
use crate::root;
use crate::root::holder::{Who, who_holds};

const FIND: &str = "find deletions";
const FINISH: &str = "finish deletion";

impl Stores {
    /// Implements [`Catalog::unfinished_deletions`](prodigy_storage_backend::Catalog::unfinished_deletions).
    pub(super) fn unfinished_deletions(
        &self,
        page: &PageOptions<JobAddress>,
    ) -> Result<Page<UnfinishedDeletion, JobAddress>> {
        let mut jobs = PageBuilder::new(page.clone());
        self.each_unfinished(&mut |job| jobs.offer(job))?;
        let jobs = jobs.finish();
        let found = jobs.entries.into_iter().map(|job| {
            let bytes = self.bytes_left(&job);
            UnfinishedDeletion::new(job, bytes)
        });
        Ok(Page::new(found.collect(), jobs.next))
    }

    /// Implements [`Catalog::finish_deletion`](prodigy_storage_backend::Catalog::finish_deletion).
    pub(super) fn end_deletion(&self, job: &JobAddress, deadline: Deadline) -> Result<bool> {
        self.root.prepare_write(FINISH, job)?;
        self.finish_deletion(job, deadline)
    }

    /// The check of unfinished deletions. If they can't be listed, another check gives the reason.
    pub(super) fn check_deletions(&self) -> Option<Check> {
        let (mut jobs, mut first) = (0, None);
        self.each_unfinished(&mut |job| {
            jobs += 1;
            first.get_or_insert(job);
        })
        .ok()?;
        match first {
            Some(job) if self.root.is_restored(&job) => Some(Check::unfinished_restore(jobs, &job)),
            first => Check::unfinished_deletions(jobs, first.as_ref()),
        }
    }

    /// Calls a function with each job that has the tombstone of a process that is no longer at work.
    fn each_unfinished(&self, found: &mut dyn FnMut(JobAddress)) -> Result<()> {
        let mut kernel = None;
        for folder in self.root.names_in(FIND, Path::new(DELETIONS))? {
            let kind = folder.kind;
            let folder = Path::new(DELETIONS).join(folder.name);
            match kind {
                FileKind::Folder => {}
                // Beside the folders are the notes about deleted logs, and temporary files of writers that died.
                FileKind::File => continue,
                FileKind::Other => {
                    self.root.pass_over(&folder, kind);
                    continue;
                }
            }
            for entry in self.root.names_in(FIND, &folder)? {
                let path = folder.join(entry.name);
                let Some(Entry::Tombstone(job)) = Entry::parse(&path) else {
                    continue;
                };
                match self.root.is_deleted(FIND, &job) {
                    Ok(true) if self.is_held(&job, kernel.get_or_insert_with(KernelLocks::new)) => {}
                    Ok(true) => found(job),
                    Ok(false) => {}
                    // The file at the path is no tombstone: the doctor reports it.
                    Err(_) => self.root.pass_over(&path, entry.kind),
                }
            }
        }
        Ok(())
    }

    /// True if a process holds the lock of the job's documents, as a process does that deletes or restores the job.
    fn is_held(&self, job: &JobAddress, kernel: &mut KernelLocks) -> bool {
        let path = Entry::StateLock(job.clone()).path();
        let opened = self.root.fs.open(&path, OpenMode::Read);
        opened
            .and_then(|file| who_holds(&*file, None, false, kernel))
            .is_ok_and(|who| who != Who::Nobody)
    }

    /// The size of the files of a job. Files that can't be read are not counted.
    fn bytes_left(&self, job: &JobAddress) -> u64 {
        let folders = [events_folder(job), queue_folder(job), checkpoints_folder(job)];
        let orphans = self.root.fs.metadata(&Document::Orphans(job.clone()).path());
        root::bytes_below(&self.root, &folders) + orphans.map_or(0, |orphans| orphans.len)
    }
}
