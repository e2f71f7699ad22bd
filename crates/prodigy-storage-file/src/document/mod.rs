//! Documents: atomic, checksummed JSON files.
//!
//! Each file is an [`envelope`], and is only ever replaced as a whole. Readers take no lock and change nothing. Every
//! write, even one without a condition, holds a lock that all writers of the document take (`lock_documents`). So a
//! condition that was checked under the lock still holds when the new file is renamed to its path.

mod body;
mod envelope;
mod fence;
mod health;
mod listing;
mod newest;
mod ours;
mod packed;
mod read;
mod series;
mod shape;
mod write;

use std::sync::Arc;

use crate::root::Root;
use fence::DurableMarks;
pub(crate) use read::DocumentRead;
pub(crate) use shape::misshapen;

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
