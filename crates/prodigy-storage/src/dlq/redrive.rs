//! Redrives: work through the items of a queue.
//!
//! All workers share a list of taken items. One worker at a time takes more items, and each worker settles its own
//! item when its work ends. Another thread extends the leases of all taken items, and checks whether the run has
//! to stop.

mod options;
mod report;
mod run;

pub use options::{Outcome, RedriveOptions};
pub use report::{PassedOver, RedriveError, RedriveReport};
pub(crate) use run::redrive;
