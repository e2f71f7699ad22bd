//! Deletes a job.

use std::collections::HashSet;
use std::io;
use std::path::Path;
use std::thread;
use std::time::Duration;

use prodigy_storage_backend::{
    Activity, Deadline, DocumentCount, DocumentEntry, Entries, ErrorKind, Fence, LockInfo, Page, PageOptions,
    Result, StorageError,
};
use prodigy_storage_layout::{
    Document, DocumentOwner, DocumentScope, Entry, JobAddress, JobId, RepoName, SegmentName, Timestamp,
    checkpoints_folder, documents_folder, events_folder, queue_folder, tombstones_folder,
};

use super::parts::Parts;
use super::remove::remove_folder;
use super::stores::Stores;
use crate::fs::{DirEntry, FileKind, FsFile, Metadata, OpenMode, SEALED_MODE};
use crate::kernel::KernelLocks;
use crate::log::LockedLog;
use crate::root::{LockNow, LockedFile, Replace, Root, TempFile};

pub(super) const DELETE: &str = "delete job";
const LOOK: &str = "look at job";
/// The longest wait for a lock that writers hold only briefly.
const MOMENT: Duration = Duration::from_secs(5);
/// The pause before another attempt to end a deletion.
const PAUSE: Duration = Duration::from_millis(5);
/// The name of the document that keeps the fencing marks.
const MARKS: &str = "fencing.json";
const HINT: &str = "end the process, or let it finish the job; then try again";

/// The parts of a job other than its log, in numbers.
#[derive(Default)]
pub(super) struct Beside {
    pub(super) checkpoints: DocumentCount,
    pub(super) documents: DocumentCount,
    pub(super) last_write: Option<Timestamp>,
    /// False if the document that marks a job as finished is certainly absent.
    pub(super) may_be_finished: bool,
}

impl Beside {
    /// Raises `last_write` to the mtime of a file or folder, if it exists.
    fn written(&mut self, root: &Root, path: &Path, found: io::Result<Metadata>) -> Result<()> {
        match found {
            Ok(found) => self.last_write = self.last_write.max(Some(found.modified)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(root.read_fault(LOOK, path, error)),
        }
        Ok(())
    }
}

impl Stores {
    /// True if the job is being deleted, so that reads of it find nothing.
    pub(super) fn is_gone(&self, operation: &'static str, job: Option<&JobAddress>) -> Result<bool> {
        job.map_or(Ok(false), |job| self.root.is_deleted(operation, job))
    }

    /// Runs a write to a job. If a deletion of the job was interrupted, completes the deletion first.
    pub(super) fn past_deletion<T>(
        &self,
        job: Option<&JobAddress>,
        deadline: Deadline,
        mut write: impl FnMut() -> Result<T>,
    ) -> Result<T> {
        loop {
            match (write(), job) {
                (Err(gone), Some(job)) if gone.kind() == ErrorKind::Deleted => {
                    self.finish_deletion(job, deadline)
                        .map_err(|error| still_deleted(&gone, error))?;
                }
                (answer, _) => return answer,
            }
        }
    }

    /// Implements [`DocumentStore::list`](prodigy_storage_backend::DocumentStore::list), and leaves out documents of
    /// jobs that are being deleted.
    pub(super) fn documents_of(
        &self,
        scope: &DocumentScope,
        page: &PageOptions<Document>,
        deadline: Deadline,
    ) -> Result<Page<DocumentEntry, Document>> {
        const LIST: &str = "list documents";
        let job = match scope {
            DocumentScope::Job(job)
            | DocumentScope::Checkpoints(job, _)
            | DocumentScope::Keyed(job, _)
            | DocumentScope::Own(DocumentOwner::Job(job), _) => Some(job),
            _ => None,
        };
        if self.is_gone(LIST, job)? {
            return Ok(Page::new(Vec::new(), None));
        }
        let mut found = self.documents.list(scope, page, deadline)?;
        if let DocumentScope::Orphans(repo) = scope {
            let deleted = self.deleted_jobs(LIST, repo)?;
            found
                .entries
                .retain(|entry| entry.document.job().is_none_or(|job| !deleted.contains(&job.job)));
        }
        Ok(found)
    }

    /// The jobs of a repository that are being deleted.
    pub(super) fn deleted_jobs(&self, operation: &'static str, repo: &RepoName) -> Result<HashSet<JobId>> {
        let folder = tombstones_folder(repo);
        let mut deleted = HashSet::new();
        for entry in self.root.names_in(operation, &folder)? {
            let path = folder.join(entry.name);
            let Some(Entry::Tombstone(job)) = Entry::parse(&path) else {
                continue;
            };
            match self.root.is_deleted(operation, &job) {
                Ok(false) => {}
                Ok(true) => drop(deleted.insert(job.job)),
                // The tombstone can't be read. The job stays in the listing, and each call for it fails with the
                // reason.
                Err(_) => self.root.pass_over(&path, entry.kind),
            }
        }
        Ok(deleted)
    }
}

/// The locks of a job: until this is dropped, no other process can write to the job.
pub(crate) struct HeldJob<'s> {
    documents: LockedFile<'s>,
    queue: LockedFile<'s>,
    _log: LockedLog,
    _named: Vec<Box<dyn FsFile>>,
}

impl HeldJob<'_> {
    /// Empties the lock files to free a block or two on a full disk. They hold only a line about the holder.
    fn make_room(&self) {
        self.documents.empty();
        self.queue.empty();
    }
}

impl Stores {
    /// Implements [`Catalog::delete_job`](prodigy_storage_backend::Catalog::delete_job). Deletes nothing if the job was
    /// written to after `last`.
    pub(super) fn delete_job(
        &self,
        job: &JobAddress,
        fence: Option<&Fence>,
        last: Option<Timestamp>,
        deadline: Deadline,
    ) -> Result<bool> {
        match self.delete_marked(job, fence, last, deadline) {
            Err(full) if full.kind() == ErrorKind::DiskFull && fence.is_none() => {
                self.delete_small(job, last, deadline)?.ok_or(full)
            }
            answer => answer,
        }
    }

    /// Deletes a job on a full disk, without the new file that a tombstone needs. Works only for a job that has one
    /// segment and at most the mark of a finished job, and returns `None` for any other. The segment is removed last:
    /// if the process dies earlier, all events remain, in a job that is unfinished.
    fn delete_small(
        &self,
        job: &JobAddress,
        last: Option<Timestamp>,
        deadline: Deadline,
    ) -> Result<Option<bool>> {
        let (root, state, log) = (&*self.root, checkpoints_folder(job), events_folder(job));
        if root.is_deleted(DELETE, job)? {
            return Ok(None);
        }
        let locks = self.locks.of_job(job, &mut KernelLocks::new(), deadline)?;
        if let Some(lock) = locks.iter().find(|lock| lock.held) {
            return Err(active(DELETE, job, &lock.held_by()));
        }
        let named = locks.into_iter().map(|lock| Entry::Lock(lock.name).path());
        // An absent lock file is not created, since that needs an inode. Without it, either the part that it guards is
        // absent, too, or the job is not small.
        let state_lock = Entry::StateLock(job.clone()).path();
        let has_state_lock = root.fs.metadata(&state_lock).is_ok();
        let mut held = Vec::new();
        for path in named.chain([state_lock]) {
            let tried = root.lock_now(&path, OpenMode::Write);
            match tried.map_err(|error| root.write_fault(DELETE, &path, error))? {
                LockNow::Taken(file, _) => held.push(file),
                LockNow::Absent => {}
                LockNow::Held | LockNow::Replaced => {
                    return Err(active(
                        DELETE,
                        job,
                        &format!("a process holds {}", path.display()),
                    ));
                }
            }
        }
        let moment = deadline.min(Deadline::after(MOMENT));
        let _log = self.hold_log(DELETE, job, moment)?;
        let marks = root.names_in(DELETE, &state)?;
        let finished = Document::Finished(job.clone()).path();
        let is_finished = |entry: &DirEntry| has_state_lock && finished.ends_with(&entry.name);
        let segments = root.names_in(DELETE, &log)?;
        let is_segment = |entry: &DirEntry| {
            entry.kind == FileKind::File
                && SegmentName::parse(&entry.name).is_some_and(|(name, _)| name.is_canonical())
        };
        let others = [queue_folder(job), Document::Orphans(job.clone()).path()];
        let is_small = segments.len() == 1
            && segments.iter().all(is_segment)
            && marks.iter().all(is_finished)
            && others.iter().all(|path| root.fs.metadata(path).is_err());
        if !is_small {
            return Ok(None);
        }
        if self.last_write(job, deadline)? > last.or(Some(Timestamp::MAX)) {
            return Ok(Some(false));
        }
        self.documents.keep_tokens(job, deadline)?;
        let made = self.logs.newest_made(job, deadline)?;
        remove_folder(root, &state, &|_| Ok(true))?;
        remove_folder(root, &log, &|_| Ok(true))?;
        // The note keeps later ids above the deleted ones if the clock steps back. The removed files have made room for
        // it.
        if let Some(made) = made
            && let Err(error) = root.note_deleted(DELETE, &job.repo, made, deadline)
        {
            tracing::warn!(%job, %error, "the newest segment of a deleted log could not be noted");
        }
        tracing::info!(%job, "deleted without a tombstone");
        Ok(Some(true))
    }

    /// Deletes a job: writes a tombstone, and then removes the files.
    fn delete_marked(
        &self,
        job: &JobAddress,
        fence: Option<&Fence>,
        last: Option<Timestamp>,
        deadline: Deadline,
    ) -> Result<bool> {
        self.root.prepare_write(DELETE, job)?;
        if self.finish_deletion(job, deadline)? {
            return Ok(true);
        }
        if !self.is_anything_of(DELETE, job)? {
            return Ok(false);
        }
        // The caller that was overtaken learns this, and not that its successor works on the job.
        if let Some(fence) = fence {
            self.documents.check_mark(DELETE, job, fence)?;
        }
        let held = self.hold(DELETE, job, deadline)?;
        // While this call waited for the locks, another process may have deleted the job: only the folders with the locks are there.
        if !self.root.has_data_of(DELETE, job)? {
            self.remove_files(job, deadline)?;
            return Ok(false);
        }
        if let Some(last) = last
            && self
                .last_write(job, deadline)?
                .is_some_and(|written| written > last)
        {
            return Ok(false);
        }
        if let Some(fence) = fence {
            let folder = checkpoints_folder(job);
            self.documents.pass_fence(DELETE, job, fence, &folder, deadline)?;
        }
        self.documents.keep_tokens(job, deadline)?;
        let text = format!("{{\"deleted_at\":\"{}\"}}\n", self.root.now().to_rfc3339());
        let tombstone = Entry::Tombstone(job.clone()).path();
        let folder = tombstone.parent().unwrap_or(Path::new(""));
        let write = |text: &str| {
            let mut temp = TempFile::create(&self.root, DELETE, folder)?;
            let written = match text {
                // An empty tombstone with this mode is complete; with another mode, its text is missing.
                "" => temp.file().set_mode(SEALED_MODE),
                _ => temp.append(text.as_bytes()),
            };
            written.map_err(|error| temp.fault(error))?;
            temp.publish(&tombstone, Replace::Over)?;
            self.root.sync_folder(folder)
        };
        TempFile::sweep_all(&self.root, folder);
        match write(&text) {
            Err(error) if error.kind() == ErrorKind::DiskFull => {
                held.make_room();
                // An empty file needs no space.
                write("")?;
            }
            written => written?,
        }
        self.remove(job, deadline)?;
        tracing::info!(%job, "deleted");
        Ok(true)
    }

    /// Ends a deletion whose process died, or waits until a living process has ended it. Returns true if this call removed what
    /// was left.
    ///
    /// Named locks do not matter here: it is decided that the job goes, and their holders may be about to begin it again.
    pub(crate) fn finish_deletion(&self, job: &JobAddress, deadline: Deadline) -> Result<bool> {
        while self.root.is_deleted(DELETE, job)? {
            match self.hold_parts(DELETE, job, Vec::new(), deadline) {
                Ok(_held) => {
                    // While this call waited for the locks, the process that held them may have finished the deletion.
                    let is_left = self.root.is_deleted(DELETE, job)?;
                    if is_left {
                        self.remove(job, deadline)?;
                    }
                    return Ok(is_left);
                }
                // The deletion may have ended at this moment, and a writer begun the job again.
                Err(error) if error.kind() == ErrorKind::LockUnavailable && !deadline.has_passed() => {
                    thread::sleep(PAUSE);
                }
                Err(error) if self.root.is_deleted(DELETE, job)? => return Err(error),
                Err(_) => return Ok(false),
            }
        }
        Ok(false)
    }

    /// Implements [`Catalog::activity`](prodigy_storage_backend::Catalog::activity).
    pub(super) fn activity(&self, job: &JobAddress, deadline: Deadline) -> Result<Activity> {
        if self.root.is_deleted(LOOK, job)? {
            return Ok(Activity::default());
        }
        let log = self.logs.survey(job, deadline)?;
        let by = match log.writer {
            Some(open) => Some(self.logs.describe(job, &open)),
            None => {
                let locks = self.locks.of_job(job, &mut KernelLocks::new(), deadline)?;
                locks.iter().find(|lock| lock.held).map(LockInfo::held_by)
            }
        };
        let beside = self.beside_log(job, Parts::ANY, deadline)?;
        Ok(Activity::new(by.is_some(), log.last_write.max(beside.last_write)).by(by))
    }

    /// The time of the last write to any part of a job.
    pub(super) fn last_write(&self, job: &JobAddress, deadline: Deadline) -> Result<Option<Timestamp>> {
        let last = self.logs.last_write(job, deadline)?;
        Ok(last.max(self.beside_log(job, Parts::ANY, deadline)?.last_write))
    }

    /// Counts the checkpoints of a job and its documents of the caller's own kinds, and finds the time of the last
    /// write outside its log.
    pub(super) fn beside_log(&self, job: &JobAddress, parts: Parts, deadline: Deadline) -> Result<Beside> {
        let mut beside = Beside::default();
        if parts.state {
            let state = self.documents.survey(job, deadline)?;
            beside.checkpoints = state.checkpoints;
            beside.may_be_finished = state.may_be_finished;
            beside.last_write = state.last_write;
            if state.may_have_documents {
                self.add_documents(job, &mut beside, deadline)?;
            }
        }
        if parts.orphans {
            let path = Document::Orphans(job.clone()).path();
            beside.written(&self.root, &path, self.root.fs.metadata(&path))?;
        }
        if parts.queue
            && let Some(folder) = self.root.open_folder(LOOK, &queue_folder(job))?
        {
            for path in [
                Entry::Queue(job.clone()).path(),
                Entry::QueueJournal(job.clone()).path(),
            ] {
                let found = folder.metadata_of(path.file_name().unwrap_or_default());
                beside.written(&self.root, &path, found)?;
            }
        }
        Ok(beside)
    }

    /// Counts the documents of the caller's own kinds. The mtime of the folder of a kind is the time of its last write.
    fn add_documents(&self, job: &JobAddress, beside: &mut Beside, deadline: Deadline) -> Result<()> {
        let owner = DocumentOwner::Job(job.clone());
        let own = documents_folder(&owner);
        let kinds = self.root.names_in(LOOK, &own)?;
        for kind in &kinds {
            let path = own.join(&kind.name);
            beside.written(&self.root, &path, self.root.fs.metadata(&path))?;
        }
        let scope = DocumentScope::Own(owner, None);
        for entry in Entries::new(|page| self.documents.list(&scope, page, deadline)) {
            beside.documents.add(entry?.bytes);
        }
        Ok(())
    }

    /// True if a process holds a named lock of the job.
    pub(super) fn holds_lock(
        &self,
        kernel: &mut KernelLocks,
        job: &JobAddress,
        deadline: Deadline,
    ) -> Result<bool> {
        Ok(self
            .locks
            .of_job(job, kernel, deadline)?
            .iter()
            .any(|lock| lock.held))
    }

    /// True if any data of the job is stored. What remains after a deletion does not count.
    pub(crate) fn is_anything_of(&self, operation: &'static str, job: &JobAddress) -> Result<bool> {
        let orphans = Document::Orphans(job.clone()).path();
        for path in [events_folder(job), queue_folder(job), orphans] {
            match self.root.fs.metadata(&path) {
                Ok(_) => return Ok(true),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(self.root.read_fault(operation, &path, error)),
            }
        }
        match self.root.fs.list(&checkpoints_folder(job)) {
            Ok(names) => Ok(names.is_empty() || names.iter().any(|entry| entry.name != MARKS)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(self.root.read_fault(operation, &checkpoints_folder(job), error)),
        }
    }

    /// Takes all locks of the job, always in the same order, so that two callers can't deadlock.
    pub(crate) fn hold(
        &self,
        operation: &'static str,
        job: &JobAddress,
        deadline: Deadline,
    ) -> Result<HeldJob<'_>> {
        let mut named = Vec::new();
        for lock in self.locks.of_job(job, &mut KernelLocks::new(), deadline)? {
            let path = Entry::Lock(lock.name.clone()).path();
            let tried = self.root.lock_now(&path, OpenMode::Write);
            match tried.map_err(|error| self.root.write_fault(operation, &path, error))? {
                LockNow::Taken(file, _) => named.push(file),
                LockNow::Absent => {}
                LockNow::Held | LockNow::Replaced => {
                    return Err(active(operation, job, &lock.held_by()));
                }
            }
        }
        self.hold_parts(operation, job, named, deadline)
    }

    /// Takes the locks of the job's documents, queue and log. `named` are its named locks, which come before them.
    fn hold_parts(
        &self,
        operation: &'static str,
        job: &JobAddress,
        named: Vec<Box<dyn FsFile>>,
        deadline: Deadline,
    ) -> Result<HeldJob<'_>> {
        let moment = deadline.min(Deadline::after(MOMENT));
        let lock = |entry: Entry| LockedFile::take(&self.root, &entry.path(), operation, operation, moment);
        let documents = lock(Entry::StateLock(job.clone()))?;
        let queue = lock(Entry::QueueLock(job.clone()))?;
        let log = self.hold_log(operation, job, moment)?;
        Ok(HeldJob {
            documents,
            queue,
            _log: log,
            _named: named,
        })
    }

    fn hold_log(&self, operation: &'static str, job: &JobAddress, deadline: Deadline) -> Result<LockedLog> {
        let held = self.logs.hold(job, deadline)?;
        held.map_err(|open| active(operation, job, &self.logs.describe(job, &open)))
    }
}

/// The error of a write to a job that is being deleted, if the deletion can't be ended before the deadline.
fn still_deleted(gone: &StorageError, error: StorageError) -> StorageError {
    if !matches!(error.kind(), ErrorKind::LockUnavailable | ErrorKind::Timeout) {
        return error;
    }
    let why = "the job is being deleted, and this did not end in time; nothing of this call is stored";
    StorageError::new(error.kind(), gone.operation(), gone.target(), why)
        .with_hint("try again: what is written after the deletion begins the job again")
        .with_source(error)
}

fn active(operation: &'static str, job: &JobAddress, why: &str) -> StorageError {
    StorageError::new(
        ErrorKind::LockUnavailable,
        operation,
        job,
        format!("the job is active: {why}"),
    )
    .with_hint(HINT)
}
