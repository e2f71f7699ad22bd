//! A checkpoint as it is read.

use std::borrow::Cow;

use prodigy_storage_backend::{Cursor, Fence, Result, Revision, StorageError, StoredDocument};
use prodigy_storage_layout::{Document, Entry, JobAddress, LockName, Phase, Timestamp};
use serde::Deserialize;
use serde::de::DeserializeOwned;

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
    /// When it was saved; for a bare document, what its name says, else when its file was changed.
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

/// A damaged checkpoint that was skipped.
#[derive(Debug)]
#[non_exhaustive]
pub struct Skipped {
    /// Which one.
    pub document: Document,
    /// What is wrong with it.
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

/// `modified` is when its file was changed: asked for only of a bare document whose name tells no time.
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
