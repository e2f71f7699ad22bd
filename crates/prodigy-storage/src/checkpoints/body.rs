//! A checkpoint as it is read.

use std::borrow::Cow;

use prodigy_storage_backend::{Cursor, Fence, Result, Revision, StorageError, StoredDocument};
use prodigy_storage_layout::{CheckpointKey, JobAddress, LockName, Phase, Timestamp};
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Value;

use super::CheckpointId;
use crate::error::{other_shape, refused_name};
use crate::json;

/// A checkpoint, as it was saved.
///
/// ```
/// # use prodigy_storage::{ReadOptions, SaveOptions, Storage};
/// # let job = Storage::in_memory()?.repo("shop")?.job("mapreduce-7")?;
/// job.events().append(&"agent 1 finished")?;
/// let cursor = job.events().end()?;
/// job.checkpoints().save_map(&1, SaveOptions::at(cursor))?;
/// job.events().append(&"agent 2 finished")?;
///
/// // After a restart: the state, and the events that it does not contain yet.
/// let checkpoint = job.checkpoints().latest_map::<u32>()?.expect("it was saved");
/// let rest = ReadOptions::new().from(checkpoint.cursor);
/// let done = checkpoint.data + u32::try_from(job.events().read_with::<String>(rest)?.count()).unwrap_or(0);
/// assert_eq!(done, 2);
/// # Ok::<(), prodigy_storage::StorageError>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct Checkpoint<T> {
    /// Which one.
    pub id: CheckpointId,
    /// Its revision: for [`SaveOptions::expected_revision`](crate::SaveOptions::expected_revision).
    pub revision: Revision,
    /// Whether it carried a checksum that held. A bare document of another program has none.
    pub verified: bool,
    /// Of which phase it is.
    pub phase: Phase,
    /// When it was saved, by the clock of its writer, which may have stepped: [`order`](Self::order) says which checkpoint
    /// of a job came last. For a bare document, the time that it states (`timestamp`, or `created_at` in its `metadata`),
    /// else the time in its name, else when its file was changed.
    pub saved_at: Timestamp,
    /// The version of the state's own shape; `None` for a bare document.
    pub schema_version: Option<u32>,
    /// The position in the log up to which events led to this state.
    pub cursor: Option<Cursor>,
    /// The fencing token under which the checkpoint was saved, without the token's origin.
    pub fencing: Option<Fence>,
    /// The key that it was saved under: [`Checkpoints::find`](crate::Checkpoints::find) finds it.
    pub key: Option<CheckpointKey>,
    /// The state; for a bare document, all of it.
    pub data: T,
    /// Newer ones that were skipped, the newest first.
    pub skipped: Vec<Skipped>,
    order: Timestamp,
}

impl<T> Checkpoint<T> {
    /// The place of this checkpoint among all checkpoints of its job: a save that began when another one had ended has
    /// the greater place, whatever their phases are and whatever the clock did. It is a time that the clock gave, lifted
    /// where that is needed.
    ///
    /// Two saves of different phases that run at the same moment have no order that is promised. A bare document of
    /// another program has the place of the time that it states, else of the time in its name. One without either comes
    /// before all others: a copy of the file changes the time of the file.
    ///
    /// ```
    /// # use prodigy_storage::{Phase, SaveOptions, Storage};
    /// # let storage = Storage::in_memory()?;
    /// let checkpoints = storage.repo("shop")?.job("mapreduce-7")?.checkpoints();
    /// for phase in [Phase::Setup, Phase::Reduce, Phase::Map] {
    ///     checkpoints.save(phase, &1, SaveOptions::default())?;
    /// }
    /// let mut latest = Vec::new();
    /// for phase in Phase::ALL {
    ///     latest.extend(checkpoints.latest::<u32>(phase)?);
    /// }
    /// let last = latest.iter().max_by_key(|checkpoint| checkpoint.order());
    /// assert_eq!(last.map(|checkpoint| checkpoint.phase), Some(Phase::Map));
    /// # Ok::<(), prodigy_storage::StorageError>(())
    /// ```
    #[must_use]
    pub fn order(&self) -> Timestamp {
        self.order
    }
}

/// A checkpoint that was skipped: it is damaged, or a file of another program that is not read.
///
/// ```
/// use prodigy_storage::{Checkpoints, StorageError};
///
/// fn print_skipped(checkpoints: &Checkpoints) -> Result<(), StorageError> {
///     if let Some(latest) = checkpoints.latest_map::<u32>()? {
///         for skipped in &latest.skipped {
///             println!("{}: {}", skipped.id, skipped.error);
///         }
///     }
///     Ok(())
/// }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct Skipped {
    /// Which one.
    pub id: CheckpointId,
    /// The problem.
    pub error: StorageError,
}

#[derive(Deserialize)]
#[serde(bound(deserialize = "T: Deserialize<'de>"))]
struct Body<'a, T> {
    saved_at: Timestamp,
    schema_version: u32,
    #[serde(default, borrow)]
    cursor: Option<Cow<'a, str>>,
    #[serde(default)]
    fencing: Option<u64>,
    #[serde(default)]
    fencing_lock: Option<String>,
    #[serde(default)]
    key: Option<CheckpointKey>,
    data: T,
}

/// When a checkpoint was saved; `None` for a document of another program, and for one that is not a checkpoint.
pub(crate) fn saved_at(stored: &StoredDocument) -> Option<Timestamp> {
    let body: Option<Body<'_, IgnoredAny>> = stored.is_verified().then(|| json::parse(stored.body()).ok())?;
    body.map(|body| body.saved_at)
}

/// The key of a checkpoint.
pub(crate) fn key(stored: &StoredDocument) -> Option<CheckpointKey> {
    let body: Option<Body<'_, IgnoredAny>> = stored.is_verified().then(|| json::parse(stored.body()).ok())?;
    body?.key
}

/// `modified` returns the mtime of its file. It is called only for a bare document whose name has no time.
pub(crate) fn parse<T: DeserializeOwned>(
    job: &JobAddress,
    id: CheckpointId,
    modified: Option<Timestamp>,
    stored: &StoredDocument,
    skipped: Vec<Skipped>,
) -> Result<Checkpoint<T>> {
    let refuse = |error| {
        let (phase, path) = (id.phase(), id.path());
        other_shape("read checkpoint", format_args!("{job} {phase} ({})", path.display()), error).with_hint(
            "look at the stored state, or read it as any JSON value; the checkpoint before it may be of the type asked for",
        )
    };
    if !stored.is_verified() {
        let stated = stated_time(stored.body()).or(id.time());
        return Ok(Checkpoint {
            order: stated.unwrap_or(Timestamp::MIN),
            revision: stored.revision(),
            verified: false,
            phase: id.phase(),
            saved_at: stated.or(modified).unwrap_or_default(),
            schema_version: None,
            cursor: None,
            fencing: None,
            key: None,
            data: json::parse(stored.body()).map_err(refuse)?,
            id,
            skipped,
        });
    }
    let body: Body<'_, T> = json::parse(stored.body()).map_err(refuse)?;
    let stamp = id.document().stamp().filter(|stamp| stamp.is_canonical());
    Ok(Checkpoint {
        order: stamp.map_or(body.saved_at, |stamp| stamp.time()),
        phase: id.phase(),
        id,
        revision: stored.revision(),
        verified: true,
        saved_at: body.saved_at,
        schema_version: Some(body.schema_version),
        cursor: body.cursor.map(Cursor::new).transpose()?,
        fencing: stored_fence(body.fencing, body.fencing_lock)?,
        key: body.key,
        data: body.data,
        skipped,
    })
}

/// The time that a checkpoint of another program states.
fn stated_time(body: &[u8]) -> Option<Timestamp> {
    #[derive(Deserialize)]
    struct Bare {
        #[serde(default)]
        timestamp: Option<Value>,
        #[serde(default)]
        metadata: Option<Value>,
    }
    let bare: Bare = json::parse(body).ok()?;
    let created = || bare.metadata.as_ref()?.get("created_at");
    bare.timestamp.as_ref().or_else(created)?.as_str()?.parse().ok()
}

/// The token that a document was written under, without its origin.
pub(crate) fn stored_fence(token: Option<u64>, lock: Option<String>) -> Result<Option<Fence>> {
    // An earlier version stored a token of 0, which no lock has.
    let Some(token) = token.filter(|token| *token > 0) else {
        return Ok(None);
    };
    let lock = lock.map(LockName::new).transpose().map_err(refused_name)?;
    Fence::stored(lock, token).map(Some)
}
