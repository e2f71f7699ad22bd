//! Prunes checkpoints: removes old ones.

use std::collections::BTreeMap;

use prodigy_storage_backend::{ErrorKind, Expected, Result, StorageError, newest_valid, setters};
use prodigy_storage_layout::Phase;

use super::{CheckpointEntry, Checkpoints};
use crate::storage::Inner;

/// The options of a prune; `Default` removes checkpoints of every phase.
///
/// ```
/// # use prodigy_storage::{Phase, PruneOptions, SaveOptions, Storage};
/// # let job = Storage::in_memory()?.repo("shop")?.job("mapreduce-7")?;
/// for state in 0..3 {
///     job.checkpoints().save_map(&state, SaveOptions::new())?;
/// }
/// let options = PruneOptions::new().phase(Phase::Map).dry_run(true);
/// assert_eq!(job.checkpoints().prune(1, options)?.len(), 2);
/// assert_eq!(job.checkpoints().list().count(), 3);
/// # Ok::<(), prodigy_storage::StorageError>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct PruneOptions {
    /// Removes nothing, and returns the checkpoints that would be removed.
    pub dry_run: bool,
    /// The phase to prune; all phases if `None`.
    pub phase: Option<Phase>,
}

impl PruneOptions {
    /// Removes checkpoints of every phase.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    setters! {
        /// Removes nothing if true, and returns the checkpoints that would be removed.
        dry_run: bool,

        /// Sets the phase to prune.
        phase: into Option<Phase>,
    }
}

pub(crate) fn prune(
    checkpoints: &Checkpoints,
    inner: &Inner,
    keep: usize,
    options: PruneOptions,
) -> Result<Vec<CheckpointEntry>> {
    let mut series: BTreeMap<Phase, Vec<CheckpointEntry>> = BTreeMap::new();
    let listed = match options.phase {
        Some(phase) => checkpoints.list_phase(phase),
        None => checkpoints.list(),
    };
    for entry in listed {
        let entry = entry?;
        if is_ours(inner, &entry)? {
            series.entry(entry.id.phase()).or_default().push(entry);
        }
    }
    let mut removed = Vec::new();
    for mut old in series.into_values() {
        let kept = old.split_off(old.len().saturating_sub(keep.max(1)));
        if old.is_empty() {
            continue;
        }
        if newest_place(inner, &kept)?.is_none() {
            // No newest checkpoint is valid. The newest valid one among the old ones is kept, since a
            // resume needs it.
            match newest_place(inner, &old)? {
                Some(at) => drop(old.remove(at)),
                None => continue,
            }
        }
        for entry in old {
            let gone = options.dry_run
                || inner.caller.delete(
                    entry.id.document(),
                    Expected::Any,
                    inner.config.durability,
                    checkpoints.fence.as_ref(),
                    inner.deadline(),
                )?;
            if gone {
                removed.push(entry);
            }
        }
    }
    Ok(removed)
}

/// False for a checkpoint of another program, which is never removed. If only this program gives such names, the
/// document is not read.
fn is_ours(inner: &Inner, entry: &CheckpointEntry) -> Result<bool> {
    if entry
        .id
        .document()
        .stamp()
        .is_some_and(|stamp| stamp.is_canonical())
    {
        return Ok(true);
    }
    match inner.caller.get(entry.id.document(), inner.deadline()) {
        Ok(found) => Ok(found.is_some_and(|found| found.is_verified())),
        Err(error) if error.kind() == ErrorKind::Damaged => Ok(true),
        // A document over the size limit may be another program's. It is neither counted nor removed.
        Err(error) if matches!(error.kind(), ErrorKind::Foreign | ErrorKind::TooLarge) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The position of the newest valid checkpoint among the entries.
fn newest_place(inner: &Inner, entries: &[CheckpointEntry]) -> Result<Option<usize>> {
    let newest = newest_valid(
        |last: Option<&usize>| Ok(last.map_or(entries.len(), |at| *at).checked_sub(1)),
        |at| {
            let stored = entries
                .get(*at)
                .map(|entry| inner.caller.get(entry.id.document(), inner.deadline()));
            stored.transpose()?.flatten().ok_or_else(|| {
                StorageError::new(
                    ErrorKind::NotFound,
                    "prune checkpoints",
                    at,
                    "it was removed since",
                )
            })
        },
    )?;
    Ok(newest.found.map(|(at, _)| at))
}
