//! The jobs of a store that were moved to another store: each has a mark, which names the new place and refuses
//! writes.

use std::collections::BTreeMap;

use prodigy_storage::{ErrorKind, JobAddress, Moved, Part, Storage};

use crate::app::App;
use crate::errors::Result;

/// The place in the mark of a job whose mark is damaged: it refuses writes even so.
const UNKNOWN: &str = "an unknown place: the mark is damaged";

/// The marks of moved jobs in a store, by the part (job, repository or whole store) that was moved.
pub(crate) struct Marks {
    storage: Storage,
    /// `None` if one of them is damaged. The marks that cover a job are then read for each job.
    marks: Option<BTreeMap<Part, Moved>>,
}

impl Marks {
    /// Reads the marks. A damaged one is reported.
    pub(crate) fn of(app: &mut App<'_>, storage: &Storage) -> Result<Self> {
        let read = storage.moved().all();
        let marks = match read {
            Ok(marks) => Some(
                marks
                    .into_iter()
                    .map(|moved| (moved.part.clone(), moved))
                    .collect(),
            ),
            Err(error) if error.kind() == ErrorKind::Damaged => {
                app.damaged_by(&error);
                None
            }
            Err(error) => return Err(error.into()),
        };
        Ok(Self {
            storage: storage.clone(),
            marks,
        })
    }

    /// All marks, by repository and job. Empty if one of them is damaged.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Moved> {
        self.marks.iter().flat_map(BTreeMap::values)
    }

    /// The place that a job was moved to, by the mark of the whole store, of the job's repository, or of the job itself,
    /// in this order.
    pub(crate) fn place_of(&self, job: &JobAddress) -> Option<String> {
        let Some(marks) = &self.marks else {
            let repo = self.storage.repo(job.repo.as_str()).ok()?;
            let moved = repo.job(job.job.as_str()).ok()?.moved();
            return moved.map_or_else(|_| Some(UNKNOWN.to_owned()), |moved| Some(moved?.to));
        };
        if marks.is_empty() {
            return None;
        }
        let mut wholes = Part::Job(job.clone()).wholes();
        wholes
            .find_map(|part| marks.get(&part))
            .map(|moved| moved.to.clone())
    }
}
