//! Translates the cursors of checkpoints during a copy.
//!
//! A cursor is valid only in its own store. So the copy repeats the history of the log. It appends the events that
//! the earliest cursor covers, takes the end of the new log as the new cursor, and stores the checkpoints that had
//! the old one. Then it continues with the next cursor. No later event is stored before these checkpoints are, so
//! a copy that was cut short can continue exactly.

use std::borrow::Cow;
use std::collections::BTreeMap;

use prodigy_storage_backend::{
    Cursor, ErrorKind, EventId, Record, Result, ScanItem, StorageError, StoredDocument,
};
use prodigy_storage_layout::{Document, JobAddress};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::{COPY, lines};
use crate::events::EventLines;
use crate::storage::Storage;

/// A cursor, with the checkpoints that were saved with it.
#[derive(Debug)]
pub(super) struct Position {
    pub(super) cursor: Cursor,
    pub(super) documents: Vec<Document>,
    /// The number of events that the cursor does not cover.
    behind: u64,
}

/// The different cursors of these checkpoints, from the earliest to the latest. A checkpoint without a cursor, or
/// with one whose events were removed, is left out.
pub(super) fn find(source: &Storage, job: &JobAddress, checkpoints: &[Document]) -> Result<Vec<Position>> {
    let mut found: BTreeMap<String, Vec<Document>> = BTreeMap::new();
    for document in checkpoints {
        let inner = source.inner();
        if let Some(stored) = inner.caller.get(document, inner.deadline())?
            && let Some(cursor) = cursor_in(stored.body())
        {
            let text = cursor.as_str().to_owned();
            found.entry(text).or_default().push(document.clone());
        }
    }
    let mut positions = Vec::new();
    for (text, documents) in found {
        let cursor = Cursor::new(text)?;
        match count(source, job, &cursor) {
            Ok(behind) => positions.push(Position {
                cursor,
                documents,
                behind,
            }),
            // The cursor can't be used in the source either, so the checkpoint is copied unchanged.
            Err(error) if matches!(error.kind(), ErrorKind::CursorGap | ErrorKind::InvalidInput) => {}
            Err(error) => return Err(error),
        }
    }
    positions.sort_by_key(|position| std::cmp::Reverse(position.behind));
    Ok(positions)
}

fn count(source: &Storage, job: &JobAddress, cursor: &Cursor) -> Result<u64> {
    let (mut lines, mut count) = (lines(source, job, Some(cursor))?, 0);
    while next_record(&mut lines)?.is_some() {
        count += 1;
    }
    Ok(count)
}

/// The next record. Damage is an error, since the copy would lack the damaged events without showing it.
pub(super) fn next_record(lines: &mut EventLines) -> Result<Option<Record<'_>>> {
    match lines.next()? {
        None => Ok(None),
        Some(ScanItem::Record(record)) => Ok(Some(record)),
        Some(ScanItem::Damage(damage)) => Err(damage.into()),
        Some(ScanItem::TooLarge(record)) => Err(record.into()),
    }
}

fn next_id(lines: &mut EventLines) -> Result<Option<EventId>> {
    Ok(next_record(lines)?.map(|record| record.id))
}

/// Calls a closure with each event that `to` covers and `from` does not.
pub(super) fn between(
    source: &Storage,
    job: &JobAddress,
    from: Option<&Cursor>,
    to: Option<&Cursor>,
    mut give: impl FnMut(&Record<'_>) -> Result<()>,
) -> Result<()> {
    let mut all = lines(source, job, from)?;
    let mut rest = to.map(|to| lines(source, job, Some(to))).transpose()?;
    let mut skipped = rest.as_mut().map_or(Ok(None), next_id)?;
    while let Some(record) = next_record(&mut all)? {
        match skipped {
            Some(id) if id == record.id => skipped = rest.as_mut().map_or(Ok(None), next_id)?,
            Some(id) if id < record.id => break,
            _ => give(&record)?,
        }
    }
    match skipped {
        None => Ok(()),
        Some(id) => {
            let why = format!("event {id} is behind one of its checkpoints and in front of an earlier one");
            Err(StorageError::new(ErrorKind::Conflict, COPY, job, why)
                .with_hint("delete one of the two checkpoints, or use `export` and `import`"))
        }
    }
}

/// The fields of a checkpoint that the copy reads. Only documents of this project have a `schema_version`.
#[derive(Deserialize)]
struct Head<'a> {
    schema_version: Option<IgnoredAny>,
    #[serde(borrow)]
    cursor: Option<Cow<'a, str>>,
}

/// The cursor in the body of a checkpoint.
pub(super) fn cursor_in(body: &[u8]) -> Option<Cursor> {
    let head: Head<'_> = serde_json::from_slice(body).ok()?;
    head.schema_version?;
    Cursor::new(head.cursor?).ok()
}

/// The body of a checkpoint with another cursor, and otherwise unchanged byte for byte.
pub(super) fn with_cursor(stored: &StoredDocument, document: &Document, new: &Cursor) -> Result<Vec<u8>> {
    let field = |cursor: &Cursor| format!("\"cursor\":\"{cursor}\"");
    let replaced = cursor_in(stored.body()).and_then(|old| {
        // Only the first occurrence is replaced. It is the field, since the field comes before the state, which
        // may contain the same text.
        let text = std::str::from_utf8(stored.body()).ok()?;
        Some(text.replacen(&field(&old), &field(new), 1).into_bytes())
    });
    let body = replaced.unwrap_or_default();
    if cursor_in(&body).as_ref() == Some(new) {
        return Ok(body);
    }
    let why = "its cursor is not where this program writes it";
    Err(StorageError::new(ErrorKind::Foreign, COPY, document, why).with_hint("use `export` and `import`"))
}
