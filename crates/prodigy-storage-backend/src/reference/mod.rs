//! The reference model: the contents that a log, a document, a queue and a lock may have after operations, some of
//! which a crash may have undone.
//!
//! The conformance suite, the simulator and the crash tests compare a store with the model. Each operation has a
//! [`Certainty`]. Without crashes each operation is durable, and the model knows the exact contents.

mod calls;
mod content;
mod log;
mod queue;
mod reading;
mod tokens;

use std::fmt;

pub use calls::{Calls, Counts, Span, Stored};
pub use content::Content;
pub use log::Log;
pub use queue::{Change, Claim, Item, Put, Queue};
pub use reading::Reading;
pub use tokens::Tokens;

/// Whether an operation has an effect after a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certainty {
    /// The operation was acknowledged, and its effect survives the crash.
    Durable,
    /// An operation of the process with this number was acknowledged. A power loss undoes it unless the process
    /// flushes first.
    Relaxed(u32),
    /// The operation was not acknowledged: it may or may not have had an effect.
    Unclear,
}

/// A difference between the model and a store, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch(String);

impl Mismatch {
    fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Mismatch {}
