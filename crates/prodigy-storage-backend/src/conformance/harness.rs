//! How the suite makes and opens the stores of a backend.

use std::sync::Arc;

use super::clock::ManualClock;
use crate::backend::Backend;

/// One store under test, which is empty at first.
pub trait Harness: Send + Sync {
    /// Opens another handle on the same store: in the same process, or in another way that shares the data.
    fn open(&self) -> Arc<dyn Backend>;

    /// The clock that all handles of the store read.
    fn clock(&self) -> &ManualClock;

    /// Simulates the end of the process, after every handle was dropped: the next [`open`](Self::open) finds only
    /// the data that outlives the process. Returns false if no data does; the properties that need a restart are
    /// then skipped.
    fn restart(&self) -> bool {
        false
    }

    /// True if the store has named locks. Otherwise the properties of locks are skipped.
    fn named_locks(&self) -> bool {
        true
    }

    /// The `max_record_size` of the store, at most 1 MiB; `None` if a test can't exceed it.
    fn record_limit(&self) -> Option<usize> {
        None
    }

    /// The `max_document_size` of the store, from 3 to 4 MiB; `None` if a test can't exceed it.
    fn document_limit(&self) -> Option<usize> {
        None
    }
}

/// Makes stores for the suite.
pub trait HarnessFactory: Sync {
    /// The name of the tested backend and of the layers over it, for messages.
    fn name(&self) -> &str;

    /// Makes a new, empty store.
    fn fresh(&self) -> Box<dyn Harness>;

    /// Makes a new, empty store that is full after at most 4 MiB; `None` if the backend cannot make such a store.
    fn small(&self) -> Option<Box<dyn Harness>> {
        None
    }

    /// Makes a new, empty store with a `max_queue_size` of 32 KiB; `None` if the backend has no such limit.
    fn capped(&self) -> Option<Box<dyn Harness>> {
        None
    }
}
