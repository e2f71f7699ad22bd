//! The four stores on one root, put together.

use std::sync::Arc;
use std::time::Duration;

use prodigy_storage_backend::{Deadline, Result, StorageError};

use crate::document::Documents;
use crate::fs::Place;
use crate::lock::{self, Locks};
use crate::log::{self, Logs};
use crate::queue::Queues;
use crate::root::Root;

/// The longest wait for another process's turn when the last handle goes.
const CLOSING: Duration = Duration::from_millis(200);

/// One root, as all handles of one process on it share it.
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

    /// The time that leases are counted in.
    pub(super) fn monotonic(&self) -> Duration {
        self.root.options.clock.monotonic()
    }

    /// The things that would be lost with the folder, if this process holds any there.
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

    /// The error for a root whose path leads elsewhere.
    pub(super) fn leave(&self, operation: &'static str, place: Place) -> StorageError {
        self.root.leave(operation, place, self.held())
    }

    /// Small queues that a process left behind when it died show exactly their pending items.
    pub(super) fn tidy_what_was_left(&self) {
        self.queues.open(Deadline::after(CLOSING));
    }

    /// Makes everything that was written relaxed survive power loss.
    pub(super) fn flush(&self, deadline: Deadline) -> Result<()> {
        self.queues.tidy(deadline)?;
        self.root.flush_files(deadline)?;
        self.logs.flush(deadline)
    }
}

impl Drop for Stores {
    /// Small queues show exactly their pending items when the last handle goes.
    fn drop(&mut self) {
        if self.still_here("close").is_ok() {
            self.queues.close(Deadline::after(CLOSING));
            self.logs.close(Deadline::after(CLOSING));
        }
    }
}
