//! A checkpoint that was read.

use std::borrow::Cow;

use prodigy_storage_backend::{Cursor, Fence, Result, Revision, StorageError, StoredDocument};
use prodigy_storage_layout::{CheckpointKey, JobAddress, LockName, Phase, Timestamp};
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Value;

use super::CheckpointId;
use crate::error::other_shape;
use crate::json;

/// A checkpoint that was read.
///
/// ```
/// # use prodigy_storage::{ReadOptions, SaveOptions, Storage};
/// # let job = Storage::in_memory()?.repo("shop")?.job("mapreduce-7")?;
/// job.events().append(&"agent 1 finished")?;
/// let cursor = job.events().end()?;
/// job.checkpoints().save_map(&1, SaveOptions::at(cursor))?;
/// job.events().append(&"agent 2 finished")?;
///
/// // After a restart: the state, and the events that came after it.
/// let checkpoint = job.checkpoints().latest_map::<u32>()?.expect("it was saved");
/// let rest = ReadOptions::new().from(checkpoint.cursor);
/// let done = checkpoint.data + u32::try_from(job.events().read_with::<String>(rest)?.count()).unwrap_or(0);
/// assert_eq!(done, 2);
/// # Ok::<(), prodigy_storage::StorageError>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct Checkpoint<T> {
    /// The id of the checkpoint.
    pub id: CheckpointId,
    /// The revision, for [`SaveOptions::expected_revision`](crate::SaveOptions::expected_revision).
    pub revision: Revision,
    /// True if the document has a checksum that matches. A document of another program has none.
    pub verified: bool,
    /// The phase of the checkpoint.
    pub phase: Phase,
    /// The time of the save, by the writer's clock, which may have stepped: [`order`](Self::order) shows which
    /// checkpoint of a job was saved last. For a document of another program it is the time in the document
    /// (`timestamp`, or `created_at` in its `metadata`), else the time in its name, else the mtime of its file.
    pub saved_at: Timestamp,
    /// The version of the state's format, which the caller sets; `None` for a document of another program.
    pub schema_version: Option<u32>,
    /// The position in the log at which this state was reached: the state includes all events that the cursor
    /// covers.
    pub cursor: Option<Cursor>,
    /// The fencing token under which the checkpoint was saved, without the token's origin.
    pub fencing: Option<Fence>,
    /// The key of the checkpoint, by which [`Checkpoints::find`](crate::Checkpoints::find) finds it.
    pub key: Option<CheckpointKey>,
    /// The state; for a document of another program, the whole document.
    pub data: T,
    /// Newer checkpoints that can't be read, the newest first.
    pub skipped: Vec<Skipped>,
    order: Timestamp,
}

impl<T> Checkpoint<T> {
    /// A time that orders the checkpoints of a job. If a save starts after another one has ended, its checkpoint
    /// has the greater time, whatever their phases, and even if the clock stepped back. It is the clock's time,
    /// raised if necessary.
    ///
    /// Two saves of different phases at the same moment have no defined order. For a document of another program,
    /// the time is the one that the document states, else the one in its name. Without either, the document comes
    /// before all others: its mtime is not used, since a copy changes it.
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

/// A checkpoint that a search for the newest one skipped: it is damaged, or another program wrote it in an unknown
/// form.
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
    /// The id of the checkpoint.
    pub id: CheckpointId,
    /// The reason why it can't be read.
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

/// The time at which a checkpoint was saved; `None` for a document that this project did not write, or that is not
/// a checkpoint.
pub(crate) fn saved_at(stored: &StoredDocument) -> Option<Timestamp> {
    let body: Option<Body<'_, IgnoredAny>> = stored.is_verified().then(|| json::parse(stored.body()).ok())?;
    body.map(|body| body.saved_at)
}

/// The key that a checkpoint was saved with, if any.
pub(crate) fn key(stored: &StoredDocument) -> Option<CheckpointKey> {
    let body: Option<Body<'_, IgnoredAny>> = stored.is_verified().then(|| json::parse(stored.body()).ok())?;
    body?.key
}

/// Parses a checkpoint. `modified` returns the mtime of its file; it is called only for a document of another
/// program that has no time in its name.
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

/// The time stated in a checkpoint that another program wrote.
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

/// The fencing token under which a document was written, without the token's origin.
pub(crate) fn stored_fence(token: Option<u64>, lock: Option<String>) -> Result<Option<Fence>> {
    // An earlier version stored 0 for a write without a token.
    let Some(token) = token.filter(|token| *token > 0) else {
        return Ok(None);
    };
    let lock = lock.map(LockName::new).transpose()?;
    Fence::stored(lock, token).map(Some)
}
