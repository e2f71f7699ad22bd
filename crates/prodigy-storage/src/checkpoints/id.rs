//! Identifiers of checkpoints, and entries of listings.

use std::fmt;
use std::path::PathBuf;

use prodigy_storage_backend::{Added, DocumentEntry, Revision};
use prodigy_storage_layout::{Document, Phase, Timestamp};

/// Identifies a checkpoint of a job. [`Checkpoints::get`](crate::Checkpoints::get) reads the checkpoint with this id.
///
/// [`Display`](fmt::Display) writes the name of the checkpoint's file.
///
/// ```
/// # use prodigy_storage::{Phase, SaveOptions, Storage};
/// # let checkpoints = Storage::in_memory()?.repo("shop")?.job("mapreduce-7")?.checkpoints();
/// let id = checkpoints.save_map(&"half done", SaveOptions::new())?.id;
/// assert_eq!(id.phase(), Phase::Map);
/// assert!(id.to_string().starts_with("map-checkpoint-"));
/// assert!(id.path().starts_with("state/shop/mapreduce/jobs/mapreduce-7"));
/// assert_eq!(checkpoints.get::<String>(&id)?.expect("it was saved").data, "half done");
/// # Ok::<(), prodigy_storage::StorageError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CheckpointId {
    document: Document,
    phase: Phase,
}

impl CheckpointId {
    /// The id of a document that is a checkpoint of this phase.
    pub(crate) fn new(phase: Phase, document: Document) -> Self {
        Self { document, phase }
    }

    pub(crate) fn document(&self) -> &Document {
        &self.document
    }

    /// The phase of the checkpoint.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// The time in the checkpoint's name; `None` for the setup checkpoint.
    #[must_use]
    pub fn time(&self) -> Option<Timestamp> {
        self.document.stamp().map(|stamp| stamp.time())
    }

    /// The path of the checkpoint's file, relative to the root of the file backend.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.document.path()
    }
}

impl fmt::Display for CheckpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path();
        path.file_name().unwrap_or_default().display().fmt(f)
    }
}

/// A checkpoint in a listing, without its state.
///
/// ```
/// # use prodigy_storage::{SaveOptions, Storage};
/// # let checkpoints = Storage::in_memory()?.repo("shop")?.job("mapreduce-7")?.checkpoints();
/// checkpoints.save_map(&[1, 2, 3], SaveOptions::new())?;
/// for entry in checkpoints.list() {
///     let entry = entry?;
///     println!("{} {} {} bytes", entry.modified.to_rfc3339(), entry.id, entry.bytes);
/// }
/// # Ok::<(), prodigy_storage::StorageError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CheckpointEntry {
    /// The id of the checkpoint.
    pub id: CheckpointId,
    /// The stored size in bytes.
    pub bytes: u64,
    /// The time at which it was written, by the backend's clock.
    pub modified: Timestamp,
}

impl CheckpointEntry {
    /// The entry of a checkpoint; `None` if the document is not a checkpoint.
    pub(crate) fn of(entry: DocumentEntry) -> Option<Self> {
        Some(Self {
            id: CheckpointId::new(entry.document.phase()?, entry.document),
            bytes: entry.bytes,
            modified: entry.modified,
        })
    }
}

/// The result of a save.
///
/// ```
/// # use prodigy_storage::{Expected, SaveOptions, Storage};
/// # let checkpoints = Storage::in_memory()?.repo("shop")?.job("mapreduce-7")?.checkpoints();
/// let first = checkpoints.save_map(&1, SaveOptions::new())?;
/// // Saved only if no other process has saved a checkpoint since.
/// let next = SaveOptions::new().expected_revision(Expected::Revision(first.revision));
/// checkpoints.save_map(&2, next)?;
/// # Ok::<(), prodigy_storage::StorageError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SavedCheckpoint {
    /// The id of the new checkpoint.
    pub id: CheckpointId,
    /// The revision of the new checkpoint. If it is the condition of the next save, that save fails if another
    /// process has saved in between.
    pub revision: Revision,
}

impl SavedCheckpoint {
    pub(crate) fn new(phase: Phase, added: Added) -> Self {
        Self {
            id: CheckpointId::new(phase, added.document),
            revision: added.revision,
        }
    }
}
