//! The locks that concurrency models check: `parking_lot`'s, and those of a model in this crate's tests with the feature
//! `model`.

#[cfg(not(all(test, feature = "model")))]
pub(crate) use parking_lot::{Condvar, Mutex};
#[cfg(all(test, feature = "model"))]
pub(crate) use prodigy_storage_model::{Condvar, Mutex, yield_now};
#[cfg(not(all(test, feature = "model")))]
pub(crate) use std::thread::yield_now;
