//! Access of the suite to a backend.

use std::sync::Arc;

use super::clock::ManualClock;
use crate::backend::Backend;

/// One store, with nothing in it at first.
pub trait Harness: Send + Sync {
    /// A handle on the store, beside those that are open: another one of the same process, or one that shares data
    /// with them in whatever way the backend has.
    fn open(&self) -> Arc<dyn Backend>;

    /// The clock that the store's handles read.
    fn clock(&self) -> &ManualClock;

    /// Ends the process as far as the store can tell, after every handle was dropped: the next
    /// [`open`](Self::open) begins from what outlives it. False where nothing does: what needs it is skipped.
    fn restart(&self) -> bool {
        false
    }

    /// Whether the store has named locks; without them the properties about locks are skipped.
    fn named_locks(&self) -> bool {
        true
    }

    /// The `max_record_size` of the store, where it has one that a test can go past: at most 1 MiB.
    fn record_limit(&self) -> Option<usize> {
        None
    }

    /// The `max_document_size` of the store, if it has one that a test can exceed: 3 to 4 MiB.
    fn document_limit(&self) -> Option<usize> {
        None
    }
}

/// Makes stores.
pub trait HarnessFactory: Sync {
    /// The name of the tested backend, with the layers over it, for messages.
    fn name(&self) -> &str;

    /// A new, empty store.
    fn fresh(&self) -> Box<dyn Harness>;

    /// A new, empty store that is full after at most 4 MiB; `None` if the backend cannot make one.
    fn small(&self) -> Option<Box<dyn Harness>> {
        None
    }

    /// A new, empty store whose queues may have 32 KiB (`max_queue_size`); `None` if the backend has no such cap.
    fn capped(&self) -> Option<Box<dyn Harness>> {
        None
    }
}
