//! The locks of this crate: those of `parking_lot` or, in tests with the feature `model`, those of the model
//! tests.

#[cfg(not(all(test, feature = "model")))]
pub(crate) use parking_lot::{Condvar, Mutex};
#[cfg(all(test, feature = "model"))]
pub(crate) use prodigy_storage_model::{Condvar, Mutex, ThreadId, this_thread};
#[cfg(not(all(test, feature = "model")))]
pub(crate) use std::thread::ThreadId;

/// The id of the calling thread.
#[cfg(not(all(test, feature = "model")))]
pub(crate) fn this_thread() -> ThreadId {
    std::thread::current().id()
}
