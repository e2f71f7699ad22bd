//! Working through the items of a queue.
//!
//! Workers share a hand of taken items. One of them at a time takes more; each settles its own item as its work ends. A
//! keeper extends the leases of all items in hand, and looks whether the run has to stop.

mod options;
mod report;
mod run;

pub use options::{Outcome, RedriveOptions};
pub use report::{PassedOver, RedriveError, RedriveReport};
pub(crate) use run::redrive;
