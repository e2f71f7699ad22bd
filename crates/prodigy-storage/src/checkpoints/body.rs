//! A checkpoint as it is read.

use std::borrow::Cow;

use prodigy_storage_backend::{Cursor, Fence, Result, Revision, StorageError, StoredDocument};
use prodigy_storage_layout::{Document, Entry, JobAddress, LockName, Phase, Timestamp};
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use crate::error::{other_shape, refused_name};
use crate::json;

/// A checkpoint, as it was saved.
#[derive(Debug)]
#[non_exhaustive]
pub struct Checkpoint<T> {
    /// Which one.
    pub document: Document,
    /// Its revision: for [`SaveOptions::expected_revision`](crate::SaveOptions::expected_revision).
    pub revision: Revision,
    /// Whether it carried a checksum that held. A bare document of another program has none.
    pub verified: bool,
    /// Of which phase it is.
    pub phase: Phase,
    /// When it was saved, by the clock of its writer, which may have stepped: [`order`](Self::order) says which checkpoint
    /// of a job came last. For a bare document, what its name says, else when its file was changed.
    pub saved_at: Timestamp,
    /// The version of the state's own shape; `None` for a bare document.
    pub schema_version: Option<u32>,
    /// The position in the log up to which events led to this state.
    pub cursor: Option<Cursor>,
    /// The token of the lock that it was saved under.
    pub fencing: Option<Fence>,
    /// The state; for a bare document, all of it.
    pub data: T,
    /// Newer ones that are damaged, the newest first.
    pub skipped: Vec<Skipped>,
}

impl<T> Checkpoint<T> {
    /// The place of this checkpoint among all checkpoints of its job: a save that began when another one had ended has
    /// the greater place, whatever their phases are and whatever the clock did. It is a time that the clock gave, lifted
    /// where that is needed.
    ///
    /// Two saves of different phases that run at the same moment have no order that is promised. A bare document of
    /// another program has the place of its [`saved_at`](Self::saved_at).
    ///
    /// ```
    /// # use prodigy_storage::{Phase, SaveOptions, Storage, config::MapEnvironment};
    /// # let storage = Storage::builder().environment(MapEnvironment::new()).set("backend", "memory").open()?;
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
        let stamp = self.document.stamp().filter(|stamp| stamp.is_canonical());
        stamp.map_or(self.saved_at, |stamp| stamp.time())
    }
}

/// A damaged checkpoint that was skipped.
#[derive(Debug)]
#[non_exhaustive]
pub struct Skipped {
    /// Which one.
    pub document: Document,
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
    data: T,
}

/// When a checkpoint was saved; `None` for a document of another program, and for one that is not a checkpoint.
pub(crate) fn saved_at(stored: &StoredDocument) -> Option<Timestamp> {
    let body: Option<Body<'_, IgnoredAny>> = stored.is_verified().then(|| json::parse(stored.body()).ok())?;
    body.map(|body| body.saved_at)
}

/// `modified` returns the mtime of its file. It is called only for a bare document whose name has no time.
pub(crate) fn parse<T: DeserializeOwned>(
    job: &JobAddress,
    phase: Phase,
    document: Document,
    modified: Option<Timestamp>,
    stored: &StoredDocument,
    skipped: Vec<Skipped>,
) -> Result<Checkpoint<T>> {
    let refuse = |error| {
        let path = Entry::Document(document.clone()).path();
        other_shape("read checkpoint", format_args!("{job} {phase} ({})", path.display()), error).with_hint(
            "`latest_before` reads the checkpoint before it; read this one as `serde_json::Value` to see what it is",
        )
    };
    if !stored.is_verified() {
        let named = document.stamp().map(|stamp| stamp.time());
        return Ok(Checkpoint {
            revision: stored.revision(),
            verified: false,
            phase,
            saved_at: named.or(modified).unwrap_or_default(),
            schema_version: None,
            cursor: None,
            fencing: None,
            data: json::parse(stored.body()).map_err(refuse)?,
            document,
            skipped,
        });
    }
    let body: Body<'_, T> = json::parse(stored.body()).map_err(refuse)?;
    Ok(Checkpoint {
        document,
        revision: stored.revision(),
        verified: true,
        phase,
        saved_at: body.saved_at,
        schema_version: Some(body.schema_version),
        cursor: body.cursor.map(Cursor::new).transpose()?,
        fencing: fence(body.fencing, body.fencing_lock)?,
        data: body.data,
        skipped,
    })
}

fn fence(token: Option<u64>, lock: Option<String>) -> Result<Option<Fence>> {
    // An earlier version stored a token of 0, which no lock has.
    let Some(token) = token.filter(|token| *token > 0) else {
        return Ok(None);
    };
    let fence = match lock {
        Some(lock) => Fence::new(LockName::new(lock).map_err(refused_name)?, token),
        None => Fence::unnamed(token),
    };
    fence.map(Some)
}
