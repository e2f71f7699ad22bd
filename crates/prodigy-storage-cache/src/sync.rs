//! The locks that concurrency models check: `parking_lot`'s, and those of a model in this crate's tests with the feature
//! `model`.

#[cfg(not(all(test, feature = "model")))]
pub(crate) use parking_lot::{Condvar, Mutex};
#[cfg(all(test, feature = "model"))]
pub(crate) use prodigy_storage_model::{Condvar, Mutex, ThreadId, this_thread};
#[cfg(not(all(test, feature = "model")))]
pub(crate) use std::thread::ThreadId;

/// The thread that runs this.
#[cfg(not(all(test, feature = "model")))]
pub(crate) fn this_thread() -> ThreadId {
    std::thread::current().id()
}
