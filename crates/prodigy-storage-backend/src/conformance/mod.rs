//! The meaning of the [`Backend`] trait, as tests for any backend, including your own.
//!
//! A *property* is one named promise, checked on a fresh store. [`properties`] lists them, [`run_all`] runs each, and
//! [`run_sequences`] drives two handles through random sequences of calls against a naive model.
//!
//! # A backend of your own
//!
//! Implement [`HarnessFactory`], which makes a store, and [`Harness`], which opens another handle on it. The
//! backend has to read the harness's [`ManualClock`]. Then two tests are enough:
//!
//! ```no_run
//! use std::sync::Arc;
//! use prodigy_storage_backend::Backend;
//! use prodigy_storage_backend::conformance::{Harness, HarnessFactory, ManualClock, run_all, run_sequences};
//!
//! # fn open_mine(_: &Arc<ManualClock>) -> Arc<dyn Backend> { unimplemented!() }
//! struct Mine {
//!     clock: Arc<ManualClock>,
//!     data: Arc<dyn Backend>,
//! }
//!
//! impl Harness for Mine {
//!     fn open(&self) -> Arc<dyn Backend> {
//!         Arc::clone(&self.data)
//!     }
//!     fn clock(&self) -> &ManualClock {
//!         &self.clock
//!     }
//! }
//!
//! struct MyFactory;
//!
//! impl HarnessFactory for MyFactory {
//!     fn name(&self) -> &str {
//!         "mine"
//!     }
//!     fn fresh(&self) -> Box<dyn Harness> {
//!         let clock = Arc::new(ManualClock::new());
//!         Box::new(Mine { data: open_mine(&clock), clock })
//!     }
//! }
//!
//! // Each in its own test:
//! run_all(&MyFactory);
//! run_sequences(&MyFactory, 256);
//! ```
//!
//! # Limitations
//!
//! The suite does not test crashes, damage on disk, or races between processes. Each backend tests these itself,
//! as far as it can cause them.
//!
//! [`Backend`]: crate::Backend

mod clock;
mod contents;
mod cursor;
mod deletion;
mod document;
mod errors;
mod failure;
mod fence;
mod fenced;
mod harness;
mod limits;
mod listing;
mod lock;
mod log;
mod machine;
mod model;
mod moved;
mod own;
mod pages;
mod property;
mod queue;
mod removal;
mod restart;
mod select;
mod series;
mod settle;
mod subject;
mod take;
mod tools;
mod wait;

pub use clock::ManualClock;
pub use failure::Failure;
pub use harness::{Harness, HarnessFactory};
pub use machine::{run_sequences, sequences};
pub use property::{Need, Outcome, Property, properties, run_all};
