//! The log, document, queue and lock stores of one root.

use std::sync::Arc;
use std::time::Duration;

use prodigy_storage_backend::{Deadline, Result, StorageError};
use prodigy_storage_layout::{
    DocumentOwner, JobAddress, checkpoints_folder, documents_folder, events_folder, queue_folder,
};

use crate::document::Documents;
use crate::fs::Place;
use crate::lock::{self, Locks};
use crate::log::{self, Logs};
use crate::queue::Queues;
use crate::root::{Root, TempFile};

/// The longest wait for another process's lock on a queue when a handle is opened or the last one is dropped.
const CLOSING: Duration = Duration::from_millis(200);

/// The stores of one root, which all handles of a process share.
#[derive(Debug)]
pub(crate) struct Stores {
    pub(crate) root: Arc<Root>,
    pub(super) logs: Logs,
    pub(crate) documents: Documents,
    pub(crate) queues: Queues,
    pub(crate) locks: Locks,
}

impl Stores {
    pub(crate) fn new(root: Arc<Root>) -> Arc<Self> {
        Arc::new(Self {
            logs: Logs::new(Arc::clone(&root)),
            documents: Documents::new(Arc::clone(&root)),
            queues: Queues::new(Arc::clone(&root)),
            locks: Locks::new(Arc::clone(&root)),
            root,
        })
    }

    /// Removes the temporary files that dead processes left in the folders of a job.
    pub(super) fn sweep(&self, job: &JobAddress) {
        let own = documents_folder(&DocumentOwner::Job(job.clone()));
        let kinds = self.root.fs.list(&own).unwrap_or_default();
        let kinds = kinds.into_iter().map(|kind| own.join(&kind.name));
        let folders = [events_folder(job), queue_folder(job), checkpoints_folder(job)];
        for folder in folders.into_iter().chain(kinds) {
            TempFile::sweep_all(&self.root, &folder);
        }
    }

    /// The monotonic time by which leases expire.
    pub(super) fn monotonic(&self) -> Duration {
        self.root.options.clock.monotonic()
    }

    /// The kind of thing that this process would lose with the folder, such as a held lock; `None` if it holds nothing.
    pub(super) fn held(&self) -> Option<&'static str> {
        if self.locks.is_any_held() {
            Some(lock::HELD)
        } else if self.queues.leases.last_at(self.monotonic()) {
            Some("a lease on a dead letter")
        } else if self.logs.is_writing() {
            Some(log::HELD)
        } else if self.root.has_unflushed() {
            Some("relaxed writes that were not flushed")
        } else {
            None
        }
    }

    /// Fails if the path of the root no longer leads to the open folder.
    pub(crate) fn still_here(&self, operation: &'static str) -> Result<()> {
        self.root.still_here(operation, || self.held())
    }

    /// The error if the path of the root leads to another folder.
    pub(super) fn leave(&self, operation: &'static str, place: Place) -> StorageError {
        self.root.leave(operation, place, self.held())
    }

    /// Rewrites small queues to hold only pending items, if a process died before it could do so.
    pub(super) fn tidy_what_was_left(&self) {
        self.queues.open(Deadline::after(CLOSING));
    }

    /// Syncs all relaxed writes, so that they survive a power loss.
    pub(super) fn flush(&self, deadline: Deadline) -> Result<()> {
        self.queues.tidy(deadline)?;
        self.root.flush_files(deadline)?;
        self.logs.flush(deadline)
    }
}

impl Drop for Stores {
    /// Rewrites small queues to hold only pending items, and completes the marks of sealed segments.
    fn drop(&mut self) {
        if self.still_here("close").is_ok() {
            self.queues.close(Deadline::after(CLOSING));
            self.logs.close(Deadline::after(CLOSING));
        }
    }
}
