//! The checkpoints of a job.

mod body;
mod prune;
mod save;

use std::sync::Arc;

use prodigy_storage_backend::{Added, DocumentEntry, ErrorKind, Result, StorageError};
use prodigy_storage_layout::{Document, DocumentScope, JobAddress, Phase};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

pub use body::{Checkpoint, Skipped};
pub use prune::PruneOptions;
pub use save::SaveOptions;

use crate::storage::Inner;

/// How often a listing is read again where all that it named was pruned meanwhile.
const LISTINGS: usize = 5;

/// The checkpoints of a job: a series a phase. Map and reduce keep every checkpoint until it is pruned, setup keeps
/// one.
#[derive(Clone, Debug)]
pub struct Checkpoints {
    inner: Arc<Inner>,
    job: JobAddress,
}

impl Checkpoints {
    pub(crate) fn new(inner: Arc<Inner>, job: JobAddress) -> Self {
        Self { inner, job }
    }

    /// Saves a checkpoint of a phase, whole or not at all. It becomes the latest, also where the clock stepped back.
    ///
    /// # Errors
    /// [`Conflict`](ErrorKind::Conflict) where the latest one is not the one expected;
    /// [`Fenced`](ErrorKind::Fenced) where the latest one was saved under a newer lock;
    /// [`InvalidInput`](ErrorKind::InvalidInput) for a state that does not serialise as JSON; what else the backend
    /// says.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "options are written where they are used"
    )]
    pub fn save<T: Serialize + ?Sized>(
        &self,
        phase: Phase,
        state: &T,
        options: SaveOptions,
    ) -> Result<Added> {
        save::save(&self.inner, &self.job, phase, state, &options)
    }

    /// Saves the checkpoint of the setup phase: it replaces the one before.
    ///
    /// # Errors
    /// As [`save`](Self::save).
    pub fn save_setup<T: Serialize + ?Sized>(&self, state: &T, options: SaveOptions) -> Result<Added> {
        self.save(Phase::Setup, state, options)
    }

    /// Saves a checkpoint of the map phase.
    ///
    /// # Errors
    /// As [`save`](Self::save).
    pub fn save_map<T: Serialize + ?Sized>(&self, state: &T, options: SaveOptions) -> Result<Added> {
        self.save(Phase::Map, state, options)
    }

    /// Saves a checkpoint of the reduce phase.
    ///
    /// # Errors
    /// As [`save`](Self::save).
    pub fn save_reduce<T: Serialize + ?Sized>(&self, state: &T, options: SaveOptions) -> Result<Added> {
        self.save(Phase::Reduce, state, options)
    }

    /// The latest valid checkpoint of a phase. A damaged one is skipped, with a warning in the log and in
    /// [`Checkpoint::skipped`], and the one before is used.
    ///
    /// # Errors
    /// [`Damaged`](ErrorKind::Damaged) where there are checkpoints and all of them are;
    /// [`InvalidInput`](ErrorKind::InvalidInput) where the latest valid one holds no `T`, which is never a reason to
    /// go back to an older one; what else the backend says.
    pub fn latest<T: DeserializeOwned>(&self, phase: Phase) -> Result<Option<Checkpoint<T>>> {
        let deadline = self.inner.deadline();
        for _ in 0..LISTINGS {
            let entries = self.list_phase(phase)?;
            let mut skipped = Vec::new();
            let mut gone = false;
            for entry in entries.into_iter().rev() {
                match self.inner.backend.get(&entry.document, deadline) {
                    Ok(Some(stored)) => {
                        return body::parse(&self.job, phase, entry, &stored, skipped).map(Some);
                    }
                    Ok(None) => gone = true,
                    Err(error) if error.kind() == ErrorKind::Damaged => {
                        tracing::warn!(job = %self.job, %phase, %error, "a damaged checkpoint is skipped");
                        skipped.push(Skipped {
                            document: entry.document,
                            error,
                        });
                    }
                    Err(error) => return Err(error),
                }
            }
            if let Some(newest) = skipped.into_iter().next() {
                return Err(newest.error);
            }
            if !gone {
                return Ok(None);
            }
        }
        let why = "its checkpoints are removed as fast as they are listed";
        Err(StorageError::new(
            ErrorKind::NotFound,
            "read checkpoint",
            &self.job,
            why,
        ))
    }

    /// The setup checkpoint.
    ///
    /// # Errors
    /// As [`latest`](Self::latest).
    pub fn latest_setup<T: DeserializeOwned>(&self) -> Result<Option<Checkpoint<T>>> {
        self.latest(Phase::Setup)
    }

    /// The latest valid checkpoint of the map phase.
    ///
    /// # Errors
    /// As [`latest`](Self::latest).
    pub fn latest_map<T: DeserializeOwned>(&self) -> Result<Option<Checkpoint<T>>> {
        self.latest(Phase::Map)
    }

    /// The latest valid checkpoint of the reduce phase.
    ///
    /// # Errors
    /// As [`latest`](Self::latest).
    pub fn latest_reduce<T: DeserializeOwned>(&self) -> Result<Option<Checkpoint<T>>> {
        self.latest(Phase::Reduce)
    }

    /// The latest valid checkpoint of a phase with its state as it is stored, byte for byte.
    ///
    /// # Errors
    /// As [`latest`](Self::latest).
    pub fn latest_raw(&self, phase: Phase) -> Result<Option<Checkpoint<Box<RawValue>>>> {
        self.latest(phase)
    }

    /// One checkpoint of this job; `None` if there is none, or it is not of this job.
    ///
    /// # Errors
    /// [`Damaged`](ErrorKind::Damaged); [`InvalidInput`](ErrorKind::InvalidInput) where it holds no `T`.
    pub fn get<T: DeserializeOwned>(&self, document: &Document) -> Result<Option<Checkpoint<T>>> {
        let Some(phase) = document.phase().filter(|_| document.job() == Some(&self.job)) else {
            return Ok(None);
        };
        let listed = self
            .list_phase(phase)?
            .into_iter()
            .find(|entry| entry.document == *document);
        let Some(entry) = listed else {
            return Ok(None);
        };
        let Some(stored) = self.inner.backend.get(document, self.inner.deadline())? else {
            return Ok(None);
        };
        body::parse(&self.job, phase, entry, &stored, Vec::new()).map(Some)
    }

    /// All checkpoints of the job, oldest first within a phase, without their states.
    ///
    /// # Errors
    /// What the backend says.
    pub fn list(&self) -> Result<Vec<DocumentEntry>> {
        self.inner
            .backend
            .list(&DocumentScope::Job(self.job.clone()), self.inner.deadline())
    }

    /// The checkpoints of a phase, oldest first, without their states.
    ///
    /// # Errors
    /// What the backend says.
    pub fn list_phase(&self, phase: Phase) -> Result<Vec<DocumentEntry>> {
        let scope = DocumentScope::Checkpoints(self.job.clone(), phase);
        self.inner.backend.list(&scope, self.inner.deadline())
    }

    /// Removes all but the newest `keep` checkpoints of each phase, and never the newest valid one: `keep` of 0 is 1.
    /// Gives what was removed, or would be in a dry run.
    ///
    /// # Errors
    /// What the backend says; some may be removed by then.
    pub fn prune(&self, keep: usize, options: PruneOptions) -> Result<Vec<DocumentEntry>> {
        prune::prune(self, &self.inner, keep, options)
    }
}
