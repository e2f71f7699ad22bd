//! The positions of checkpoints in a log, and how they are carried over.
//!
//! A cursor belongs to its store. So the copy repeats the history of the log: it appends the events in front of the earliest position, takes
//! the end of the new log as the cursor of that position, stores its checkpoints, and continues with the next position. No event behind
//! a position is stored before the checkpoints of the position are. A copy that was killed therefore continues exactly.

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

/// A position, and the checkpoints that were saved at it.
#[derive(Debug)]
pub(super) struct Position {
    pub(super) cursor: Cursor,
    pub(super) documents: Vec<Document>,
    /// The number of events behind it.
    behind: u64,
}

/// The positions of these checkpoints, from the earliest to the latest. A checkpoint without a cursor, or with one whose events are gone, has none.
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
            // It is as unusable in the copy as it is here.
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

/// The next record. Damage is an error: a copy without it would look whole.
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

/// Gives each event behind `from` that is not behind `to`.
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

/// The fields of a checkpoint that the copy reads. Documents of other programs state no version.
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

/// The body with another cursor, and otherwise byte for byte.
pub(super) fn with_cursor(stored: &StoredDocument, document: &Document, new: &Cursor) -> Result<Vec<u8>> {
    let field = |cursor: &Cursor| format!("\"cursor\":\"{cursor}\"");
    let replaced = cursor_in(stored.body()).and_then(|old| {
        // The cursor is in front of the data, which could hold the same text.
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
