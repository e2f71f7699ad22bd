//! The checkpoints of a job.

mod body;
mod id;
mod order;
mod prune;
mod save;

use std::collections::BTreeSet;
use std::sync::Arc;

#[cfg(feature = "tokio")]
use prodigy_storage_backend::BodyError;
use prodigy_storage_backend::{
    Deadline, DocumentEntry, ErrorKind, Expected, Fence, Result, StorageError, StoredDocument, newest_valid,
};
use prodigy_storage_layout::{CheckpointKey, Document, DocumentScope, JobAddress, Phase};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

pub(crate) use body::stored_fence;
pub use body::{Checkpoint, Skipped};
pub use id::{CheckpointEntry, CheckpointId, SavedCheckpoint};
pub(crate) use order::Setups;
pub use prune::PruneOptions;
pub use save::SaveOptions;

use crate::call::operation::NEWEST;
use crate::listing::Listing;
use crate::storage::Inner;

/// A checkpoint that was found may be removed before it is read. The search for the newest one is then repeated,
/// up to this number of searches.
const SEARCHES: usize = 5;
/// The number of damaged checkpoints that are skipped one by one. After that, the rest of the series is listed at
/// once.
const STEPS: usize = 4;

/// The checkpoints of a job, in a series for each phase. The setup phase has only one checkpoint; all other phases
/// keep each checkpoint until it is pruned. A program makes a phase of its own from a name:
/// `"review".parse::<Phase>()?`.
///
/// ```
/// # use prodigy_storage::{SaveOptions, Storage};
/// # let storage = Storage::in_memory()?;
/// let checkpoints = storage.repo("shop")?.job("mapreduce-7")?.checkpoints();
/// for done in [10, 20] {
///     checkpoints.save_map(&done, SaveOptions::new())?;
/// }
/// let latest = checkpoints.latest_map::<u32>()?.expect("two were saved");
/// assert_eq!((latest.data, checkpoints.list().count()), (20, 2));
/// # Ok::<(), prodigy_storage::StorageError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Checkpoints {
    inner: Arc<Inner>,
    pub(crate) job: JobAddress,
    /// The fencing token that each write carries.
    fence: Option<Fence>,
}

impl Checkpoints {
    pub(crate) fn new(inner: Arc<Inner>, job: JobAddress, fence: Option<Fence>) -> Self {
        Self { inner, job, fence }
    }

    /// Saves a checkpoint of a phase, whole or not at all. It becomes the latest of its phase and, by
    /// [`Checkpoint::order`], of its job, even if the clock stepped back.
    ///
    /// # Errors
    /// [`Conflict`](ErrorKind::Conflict) if the latest checkpoint is not the expected one;
    /// [`Fenced`](ErrorKind::Fenced) if the job handle is [fenced](crate::Job::fenced) and a newer holder of the
    /// lock has written to the job; [`InvalidInput`](ErrorKind::InvalidInput) for a state that does not serialise
    /// as JSON, is nested deeper than 127, or contains malformed raw JSON; other errors of the backend.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "options are written where they are used"
    )]
    pub fn save<T: Serialize + ?Sized>(
        &self,
        phase: Phase,
        state: &T,
        options: SaveOptions,
    ) -> Result<SavedCheckpoint> {
        save::save(
            &self.inner,
            &self.job,
            self.fence.as_ref(),
            phase,
            state,
            &options,
        )
    }

    /// The error for a state that can't be saved.
    #[cfg(feature = "tokio")]
    pub(crate) fn refused(&self, phase: Phase, fault: BodyError) -> StorageError {
        save::refused(&self.job, phase, fault)
    }

    /// Saves the checkpoint of the setup phase, which replaces the earlier one.
    ///
    /// # Errors
    /// As [`save`](Self::save).
    pub fn save_setup<T: Serialize + ?Sized>(
        &self,
        state: &T,
        options: SaveOptions,
    ) -> Result<SavedCheckpoint> {
        self.save(Phase::Setup, state, options)
    }

    /// Saves a checkpoint of the map phase.
    ///
    /// # Errors
    /// As [`save`](Self::save).
    pub fn save_map<T: Serialize + ?Sized>(
        &self,
        state: &T,
        options: SaveOptions,
    ) -> Result<SavedCheckpoint> {
        self.save(Phase::Map, state, options)
    }

    /// Saves a checkpoint of the reduce phase.
    ///
    /// # Errors
    /// As [`save`](Self::save).
    pub fn save_reduce<T: Serialize + ?Sized>(
        &self,
        state: &T,
        options: SaveOptions,
    ) -> Result<SavedCheckpoint> {
        self.save(Phase::Reduce, state, options)
    }

    /// The latest valid checkpoint of a phase. A damaged checkpoint, or a file of another program that can't be read,
    /// is skipped, with a warning in the log and an entry in [`Checkpoint::skipped`]; the checkpoint before it is used.
    ///
    /// # Errors
    /// [`Damaged`](ErrorKind::Damaged) or [`Foreign`](ErrorKind::Foreign) if checkpoints exist but none can be read;
    /// [`InvalidInput`](ErrorKind::InvalidInput) if the state of the latest valid checkpoint is not a `T`. An older
    /// checkpoint is never returned silently in that case: the error names the checkpoint, and
    /// [`latest_before`](Self::latest_before) reads the one before it. Other errors of the backend.
    pub fn latest<T: DeserializeOwned>(&self, phase: Phase) -> Result<Option<Checkpoint<T>>> {
        self.newest_of(phase, None)
    }

    /// The latest valid checkpoint of the same phase that is older than this one; `None` without one. So a
    /// program can step back from a checkpoint whose state has another type:
    ///
    /// ```no_run
    /// # use prodigy_storage::{Checkpoint, Checkpoints, ErrorKind, Phase, Result};
    /// # type State = u32;
    /// fn resume(checkpoints: &Checkpoints) -> Result<Option<Checkpoint<State>>> {
    ///     let mut latest = checkpoints.latest_raw(Phase::Map)?;
    ///     while let Some(raw) = latest {
    ///         match checkpoints.get(&raw.id) {
    ///             Err(error) if error.kind() == ErrorKind::InvalidInput => eprintln!("{error}"),
    ///             other => return other,
    ///         }
    ///         latest = checkpoints.latest_before(&raw.id)?;
    ///     }
    ///     Ok(None)
    /// }
    /// ```
    ///
    /// # Errors
    /// As [`latest`](Self::latest).
    pub fn latest_before<T: DeserializeOwned>(&self, id: &CheckpointId) -> Result<Option<Checkpoint<T>>> {
        if !self.has(id) {
            return Ok(None);
        }
        self.newest_of(id.phase(), Some(id.document()))
    }

    /// False if the checkpoint belongs to another job.
    fn has(&self, id: &CheckpointId) -> bool {
        id.document().job() == Some(&self.job)
    }

    fn newest_of<T: DeserializeOwned>(
        &self,
        phase: Phase,
        before: Option<&Document>,
    ) -> Result<Option<Checkpoint<T>>> {
        let deadline = self.inner.deadline();
        for _ in 0..SEARCHES {
            let (mut steps, mut listed, mut is_gone) = (0, None, false);
            let newest = newest_valid(
                |last: Option<&DocumentEntry>| {
                    steps += 1;
                    let last = last.map(|last| &last.document).or(before);
                    self.next_older(phase, last, steps > STEPS, &mut listed, deadline)
                },
                |entry| match self.inner.caller.get(&entry.document, deadline)? {
                    Some(stored) => Ok(stored),
                    None => {
                        is_gone = true;
                        Err(self.gone("it was removed after it was found"))
                    }
                },
            )?;
            if is_gone {
                // The checkpoint was removed before it was read. The search starts again, since a newer one may
                // exist by now.
                continue;
            }
            let skipped = newest.skipped.into_iter().map(|(entry, error)| {
                if error.kind() == ErrorKind::Damaged {
                    tracing::warn!(job = %self.job, %phase, error = &error as &dyn std::error::Error, "a damaged checkpoint is skipped");
                }
                let id = CheckpointId::new(phase, entry.document);
                Skipped { id, error }
            });
            let mut skipped: Vec<Skipped> = skipped.collect();
            return match newest.found {
                Some((entry, stored)) => {
                    let modified = Some(entry.modified);
                    let id = CheckpointId::new(phase, entry.document);
                    body::parse(&self.job, id, modified, &stored, skipped).map(Some)
                }
                None if skipped.is_empty() => Ok(None),
                None => Err(skipped.swap_remove(0).error),
            };
        }
        Err(self.gone("its checkpoints are removed as fast as they are found"))
    }

    fn gone(&self, why: &'static str) -> StorageError {
        StorageError::new(ErrorKind::NotFound, "read checkpoint", &self.job, why)
    }

    /// The newest checkpoint that is older than `last`. With `list`, the rest of the series is listed once, into
    /// `listed`.
    fn next_older(
        &self,
        phase: Phase,
        last: Option<&Document>,
        list: bool,
        listed: &mut Option<Vec<DocumentEntry>>,
        deadline: Deadline,
    ) -> Result<Option<DocumentEntry>> {
        if listed.is_none() && list {
            let scope = DocumentScope::Checkpoints(self.job.clone(), phase);
            let mut entries = Listing::documents(&self.inner, scope).all()?;
            entries.retain(|entry| entry.document.stamp() < last.and_then(Document::stamp));
            *listed = Some(entries);
        }
        match listed {
            Some(entries) => Ok(entries.pop()),
            None => self.newest(phase, last, deadline),
        }
    }

    /// The checkpoint of the setup phase.
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

    /// Reads a checkpoint of this job; `None` if it does not exist or belongs to another job.
    ///
    /// # Errors
    /// [`Damaged`](ErrorKind::Damaged); [`InvalidInput`](ErrorKind::InvalidInput) if its state is not a `T`.
    pub fn get<T: DeserializeOwned>(&self, id: &CheckpointId) -> Result<Option<Checkpoint<T>>> {
        if !self.has(id) {
            return Ok(None);
        }
        let document = id.document();
        let deadline = self.inner.deadline();
        let Some(stored) = self.inner.caller.get(document, deadline)? else {
            return Ok(None);
        };
        let mut modified = None;
        if !stored.is_verified() && document.stamp().is_none() {
            // To get the time of the setup checkpoint, its series is searched, which has at most one checkpoint.
            match self.newest(id.phase(), None, deadline)? {
                Some(entry) => modified = Some(entry.modified),
                None => return Ok(None),
            }
        }
        body::parse(&self.job, id.clone(), modified, &stored, Vec::new()).map(Some)
    }

    /// The newest valid checkpoint, of any phase, that was [saved with this key](crate::SaveOptions::key). A
    /// damaged checkpoint is skipped, as in [`latest`](Self::latest).
    ///
    /// ```
    /// # use prodigy_storage::{CheckpointKey, SaveOptions, Storage};
    /// # let checkpoints = Storage::in_memory()?.repo("shop")?.job("mapreduce-7")?.checkpoints();
    /// let before = SaveOptions::new().key(CheckpointKey::new("before-merge")?);
    /// checkpoints.save_map(&"all is well", before)?;
    /// checkpoints.save_map(&"too late", SaveOptions::new())?;
    /// let found = checkpoints.find::<String>("before-merge")?.expect("it was saved");
    /// assert_eq!(found.data, "all is well");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) for a text that is not a valid key; otherwise as
    /// [`latest`](Self::latest).
    pub fn find<T: DeserializeOwned>(&self, key: impl AsRef<str>) -> Result<Option<Checkpoint<T>>> {
        let key = CheckpointKey::new(key)?;
        let scope = DocumentScope::Keyed(self.job.clone(), key.clone());
        let mut entries = self.list_scope(scope).all()?;
        let (mut found, mut skipped) = (None, Vec::new());
        while let Some(entry) = entries.pop() {
            match self.get::<T>(&entry.id) {
                Ok(Some(checkpoint)) => {
                    found = Some(checkpoint);
                    break;
                }
                // The checkpoint was removed meanwhile.
                Ok(None) => {}
                Err(error) if is_skipped(&error) => skipped.push(Skipped { id: entry.id, error }),
                Err(error) => return Err(error),
            }
        }
        // The name of the setup checkpoint does not have its key, so the document is read.
        let document = Document::Setup(self.job.clone());
        let setup = match self.inner.caller.get(&document, self.inner.deadline()) {
            Err(error) if is_skipped(&error) => None,
            other => other?,
        };
        if setup.is_some_and(|setup| body::key(&setup) == Some(key)) {
            let setup = self.get::<T>(&CheckpointId::new(Phase::Setup, document))?;
            let order = found.as_ref().map(Checkpoint::order);
            found = match setup {
                Some(setup) if order.is_none_or(|order| order <= setup.order()) => Some(setup),
                _ => found,
            };
        }
        match found {
            Some(mut found) => {
                found.skipped = skipped;
                Ok(Some(found))
            }
            None if skipped.is_empty() => Ok(None),
            None => Err(skipped.swap_remove(0).error),
        }
    }

    /// The phases that have a checkpoint.
    ///
    /// # Errors
    /// The errors of the backend.
    pub fn phases(&self) -> Result<Vec<Phase>> {
        let mut phases = BTreeSet::new();
        for entry in self.list() {
            phases.insert(entry?.id.phase());
        }
        Ok(phases.into_iter().collect())
    }

    /// All checkpoints of the job, oldest first within a phase, without their states.
    pub fn list(&self) -> Listing<CheckpointEntry> {
        self.list_scope(DocumentScope::Job(self.job.clone()))
    }

    /// The checkpoints of a phase, oldest first, without their states.
    pub fn list_phase(&self, phase: Phase) -> Listing<CheckpointEntry> {
        self.list_scope(DocumentScope::Checkpoints(self.job.clone(), phase))
    }

    fn list_scope(&self, scope: DocumentScope) -> Listing<CheckpointEntry> {
        Listing::documents(&self.inner, scope).keep(CheckpointEntry::of)
    }

    /// The stored document of a checkpoint: one JSON object with the checkpoint's own fields, verified but not parsed.
    /// With `enable_cache` its bytes are shared with the cache, so reading it again costs no copy. `None` if the
    /// document does not exist.
    ///
    /// ```
    /// # use prodigy_storage::{SaveOptions, Storage};
    /// # let storage = Storage::in_memory()?;
    /// let checkpoints = storage.repo("shop")?.job("mapreduce-7")?.checkpoints();
    /// let saved = checkpoints.save_map(&[1, 2, 3], SaveOptions::default())?;
    /// let stored = checkpoints.stored(&saved.id)?.expect("it was saved");
    /// assert!(stored.is_verified() && stored.body().ends_with(br#""data":[1,2,3]}"#));
    /// # Ok::<(), prodigy_storage::StorageError>(())
    /// ```
    ///
    /// # Errors
    /// [`Damaged`](crate::ErrorKind::Damaged) for a document whose checksum does not match; other errors of the backend.
    pub fn stored(&self, id: &CheckpointId) -> Result<Option<StoredDocument>> {
        self.inner.caller.get(id.document(), self.inner.deadline())
    }

    fn newest(
        &self,
        phase: Phase,
        before: Option<&Document>,
        deadline: Deadline,
    ) -> Result<Option<DocumentEntry>> {
        self.inner.caller.call(NEWEST, &self.job, deadline, |backend| {
            backend.newest(&self.job, phase, before, deadline)
        })
    }

    /// Deletes a checkpoint; false if it does not exist or belongs to another job. Unlike [`prune`](Self::prune), this
    /// also deletes the newest checkpoint.
    ///
    /// ```
    /// # use prodigy_storage::{SaveOptions, Storage};
    /// # let checkpoints = Storage::in_memory()?.repo("shop")?.job("mapreduce-7")?.checkpoints();
    /// checkpoints.save_map(&1, SaveOptions::new())?;
    /// let mistaken = checkpoints.save_map(&2, SaveOptions::new())?;
    /// assert!(checkpoints.delete(&mistaken.id)?);
    /// assert_eq!(checkpoints.latest_map::<u32>()?.expect("one is left").data, 1);
    /// # Ok::<(), prodigy_storage::StorageError>(())
    /// ```
    ///
    /// # Errors
    /// [`Unsupported`](ErrorKind::Unsupported) for a checkpoint of another program, which is kept. Other errors of the
    /// backend.
    pub fn delete(&self, id: &CheckpointId) -> Result<bool> {
        if !self.has(id) {
            return Ok(false);
        }
        let (document, durability) = (id.document(), self.inner.config.durability);
        let (fence, deadline) = (self.fence.as_ref(), self.inner.deadline());
        self.inner
            .caller
            .delete(document, Expected::Any, durability, fence, deadline)
    }

    /// Removes the checkpoints of each phase except the newest `keep` ones; 0 counts as 1. The newest valid
    /// checkpoint is never removed. Checkpoints of another program are neither counted nor removed. Returns the
    /// checkpoints that were removed or, in a dry run, that would be removed.
    ///
    /// # Errors
    /// The errors of the backend. Some checkpoints may then be removed already.
    pub fn prune(&self, keep: usize, options: PruneOptions) -> Result<Vec<CheckpointEntry>> {
        prune::prune(self, &self.inner, keep, options)
    }
}

/// True for the error of a checkpoint that is skipped in a search: it is damaged, or another program wrote it in
/// an unknown form.
fn is_skipped(error: &StorageError) -> bool {
    matches!(error.kind(), ErrorKind::Damaged | ErrorKind::Foreign)
}
