//! Saves checkpoints.

use prodigy_storage_backend::{
    Body, BodyError, Cursor, Durability, Expected, Fence, PutOptions, Result, StorageError, setters,
};
use prodigy_storage_layout::{CheckpointKey, JobAddress, LockName, Phase, Timestamp};
use serde::Serialize;

use super::{SavedCheckpoint, order};
use crate::buffer::with_buffer;
use crate::call::operation::PERSIST;
use crate::storage::Inner;

/// The options of a save; `Default` sets no condition.
///
/// ```
/// use prodigy_storage::{Expected, SaveOptions};
///
/// let first = SaveOptions::new().expected_revision(Expected::Absent);
/// assert_eq!(first.schema_version, 1);
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SaveOptions {
    /// The position in the log at which the state was reached: a later read from it returns exactly the events
    /// that the state does not include. The events that it covers are synced before the checkpoint is stored,
    /// whatever the durability.
    pub cursor: Option<Cursor>,
    /// The condition on the latest valid checkpoint of the phase. If it is not met, the save fails as a conflict.
    pub expected_revision: Expected,
    /// The key by which [`find`](crate::Checkpoints::find) finds the checkpoint. It is part of the file's name.
    /// Several checkpoints may have the same key; the last one is found then.
    pub key: Option<CheckpointKey>,
    /// The version of the state's format, for the program that reads the state. Default: 1.
    pub schema_version: u32,
    /// The durability of this call, instead of the configured one.
    pub durability: Option<Durability>,
}

impl Default for SaveOptions {
    fn default() -> Self {
        Self {
            cursor: None,
            expected_revision: Expected::Any,
            key: None,
            schema_version: 1,
            durability: None,
        }
    }
}

impl SaveOptions {
    /// Options without a cursor, a condition or a key.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Options with the position in the log at which the state was reached.
    #[must_use]
    pub fn at(cursor: Cursor) -> Self {
        Self {
            cursor: Some(cursor),
            ..Self::default()
        }
    }

    setters! {
        /// Sets the position in the log at which the state was reached, if any.
        cursor: into Option<Cursor>,

        /// Sets the condition on the latest valid checkpoint of the phase.
        expected_revision: Expected,

        /// Sets the key by which the checkpoint is found.
        key: into Option<CheckpointKey>,

        /// Sets the version of the state's format.
        schema_version: u32,

        /// Sets the durability of this call, instead of the configured one.
        durability: into Option<Durability>,
    }
}

/// The stored form of a checkpoint. The state is its last field.
#[derive(Serialize)]
struct Saved<'a, T: ?Sized> {
    phase: Phase,
    saved_at: Timestamp,
    schema_version: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<&'a Cursor>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fencing: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fencing_lock: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a CheckpointKey>,
    data: &'a T,
}

/// The error for a state that can't be saved.
pub(crate) fn refused(job: &JobAddress, phase: Phase, fault: BodyError) -> StorageError {
    fault.refused("save checkpoint", format_args!("{job} {phase}"))
}

pub(crate) fn save<T: Serialize + ?Sized>(
    inner: &Inner,
    job: &JobAddress,
    fence: Option<&Fence>,
    phase: Phase,
    state: &T,
    options: &SaveOptions,
) -> Result<SavedCheckpoint> {
    let deadline = inner.deadline();
    let saved_at = order::time(inner, job, phase, deadline);
    let put = PutOptions::new(options.durability.unwrap_or(inner.config.durability))
        .expect(options.expected_revision)
        .fencing(fence.cloned())
        .not_before(Some(saved_at))
        .key(options.key.clone());
    let checkpoint = Saved {
        phase,
        saved_at,
        schema_version: options.schema_version,
        cursor: options.cursor.as_ref(),
        fencing: fence.map(Fence::token),
        fencing_lock: fence.and_then(Fence::lock).map(LockName::as_str),
        key: options.key.as_ref(),
        data: state,
    };
    with_buffer(|buffer| {
        let body =
            Body::write(buffer, &checkpoint).map_err(|fault| refused(job, phase, fault.below("data")))?;
        // Also for a relaxed save: otherwise, after a power loss, the checkpoint might exist without the events
        // that it covers.
        if let Some(cursor) = &options.cursor {
            inner.caller.call(PERSIST, job, deadline, |backend| {
                backend.persist(job, cursor, deadline)
            })?;
        }
        let added = inner.caller.add(job, phase, body, &put, deadline)?;
        order::saved(inner, job, phase, &added, saved_at);
        Ok(SavedCheckpoint::new(phase, added))
    })
}
