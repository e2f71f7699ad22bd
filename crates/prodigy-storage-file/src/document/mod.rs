//! Documents: atomic, checksummed JSON files.
//!
//! A file is an [`envelope`] and is only ever replaced whole. Readers take no lock and change nothing. Every write,
//! one without a condition included, holds one lock file: that of the job's state, or the registry's. So a condition
//! that was found true is still true when the new file gets its name.

mod body;
mod envelope;
mod fence;
mod listing;
mod newest;
mod ours;
mod packed;
mod read;
mod series;
mod write;

use std::sync::Arc;

use crate::root::Root;
use fence::DurableMarks;
pub(crate) use read::DocumentRead;

/// The documents of a root.
#[derive(Debug)]
pub(crate) struct Documents {
    root: Arc<Root>,
    /// The fencing marks that are known to be durable.
    durable_marks: DurableMarks,
}

impl Documents {
    pub(crate) fn new(root: Arc<Root>) -> Self {
        Self {
            root,
            durable_marks: DurableMarks::default(),
        }
    }
}

#[cfg(test)]
mod tests;
