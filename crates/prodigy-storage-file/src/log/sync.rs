//! The locks of code whose concurrency is tested with a model. They come from `parking_lot`; with the feature `model`,
//! tests use locks whose scheduling the model controls.

#[cfg(not(all(test, feature = "model")))]
pub(crate) use parking_lot::{Condvar, Mutex};
#[cfg(all(test, feature = "model"))]
pub(crate) use prodigy_storage_model::{Condvar, Mutex, yield_now};
#[cfg(not(all(test, feature = "model")))]
pub(crate) use std::thread::yield_now;
