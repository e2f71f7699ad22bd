//! The jobs of a store that were moved to another store: each has a mark, which names the new place and refuses
//! writes.

use std::collections::BTreeMap;

use prodigy_storage::{JobAddress, Moved, Part, Storage};

use crate::app::App;
use crate::errors::Result;

/// The place in the mark of a job whose mark can't be read: it refuses writes even so.
const UNKNOWN: &str = "an unknown place: the mark can't be read";

/// The largest number of marks whose jobs are examined.
const EXAMINED: usize = 1000;

/// The marks of moved jobs in a store, by the part (job, repository or whole store) that was moved.
pub(crate) struct Marks {
    storage: Storage,
    /// `None` if one of them can't be read. The marks that cover a job are then read for each job.
    marks: Option<BTreeMap<Part, Moved>>,
}

impl Marks {
    /// Reads the marks. One that is damaged or can't be read is reported.
    pub(crate) fn of(app: &mut App<'_>, storage: &Storage) -> Result<Self> {
        let read = storage.moved().all();
        let marks = match read {
            Ok(marks) => Some(
                marks
                    .into_iter()
                    .map(|moved| (moved.part.clone(), moved))
                    .collect(),
            ),
            Err(error) => {
                app.pass_over(error)?;
                None
            }
        };
        Ok(Self {
            storage: storage.clone(),
            marks,
        })
    }

    /// The marks of what is still here, without the jobs of a repository that was moved as a whole; of the first [`EXAMINED`] marks.
    /// Empty if one of them can't be read.
    pub(crate) fn of_data(&self) -> impl Iterator<Item = &Moved> {
        let marks = self.marks.iter().flat_map(BTreeMap::values).take(EXAMINED);
        marks.filter(|moved| match &moved.part {
            Part::Job(job) => self.is_of_its_own(&moved.part) && self.is_here(job),
            part => self.is_of_its_own(part),
        })
    }

    /// True if no mark of a whole covers this part.
    fn is_of_its_own(&self, part: &Part) -> bool {
        let is_marked = |whole: &Part| self.marks.iter().any(|marks| marks.contains_key(whole));
        !part
            .clone()
            .wholes()
            .any(|whole| whole != *part && is_marked(&whole))
    }

    /// True if the job has data here, or may have.
    fn is_here(&self, job: &JobAddress) -> bool {
        let status = self
            .storage
            .repo(job.repo.as_str())
            .and_then(|repo| repo.job(job.job.as_str())?.status());
        status.map_or(true, |status| status.last_activity.is_some())
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
