//! The marks of jobs that were moved to another store.

use std::collections::BTreeMap;

use prodigy_storage::{JobAddress, Moved, Part, Storage};

use crate::errors::Result;

/// The marks of a store.
pub(super) struct Marks(BTreeMap<Part, Moved>);

impl Marks {
    pub(super) fn of(storage: &Storage) -> Result<Self> {
        let mut marks = BTreeMap::new();
        for moved in storage.moved() {
            let moved = moved?;
            marks.insert(moved.part.clone(), moved);
        }
        Ok(Self(marks))
    }

    /// The widest mark that covers a job.
    pub(super) fn covering(&self, job: &JobAddress) -> Option<&Moved> {
        let mut wholes = Part::Job(job.clone()).wholes();
        wholes.find_map(|part| self.0.get(&part))
    }
}
