//! The jobs of a store that were moved to another store: each has a mark, which names the new place and refuses
//! writes.

use std::collections::BTreeMap;

use prodigy_storage::{JobAddress, Moved, Part, Storage};

use crate::errors::Result;

/// The marks of moved jobs in a store, by the part (job, repository or whole store) that was moved.
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

    /// The mark that covers a job: of the whole store, of the job's repository, or of the job itself, in this order.
    pub(super) fn covering(&self, job: &JobAddress) -> Option<&Moved> {
        let mut wholes = Part::Job(job.clone()).wholes();
        wholes.find_map(|part| self.0.get(&part))
    }
}
