//! Translates the cursors of checkpoints during a copy.
//!
//! A cursor is valid only in its own store. So the copy repeats the history of the log. It appends the events that
//! the earliest cursor covers, takes the end of the new log as the new cursor, and stores the checkpoints that had
//! the old one. Then it continues with the next cursor. No later event is stored before these checkpoints are, so
//! a copy that was cut short can continue exactly.
//!
//! A process may append to the log meanwhile. The copy then fails in the end, and the next one continues with what
//! this one stored. So everything that is stored has to be right at any moment.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use prodigy_storage_backend::{
    Cursor, ErrorKind, EventId, Record, Result, ScanItem, StorageError, StoredDocument,
};
use prodigy_storage_layout::{Document, JobAddress};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::{COPY, lines};
use crate::events::EventLines;
use crate::job::Job;
use crate::storage::Storage;

/// The number of events, and of their bytes, that are looked for behind a position at once.
const HELD: usize = 512;
const HELD_BYTES: usize = 4 << 20;
/// The number of times that positions are put in order, if the log grows meanwhile.
const TRIES: usize = 8;

/// A cursor, with the checkpoints that were saved with it.
#[derive(Debug)]
pub(super) struct Position {
    pub(super) cursor: Cursor,
    pub(super) documents: Vec<Document>,
    /// The number of events that the cursor does not cover.
    behind: u64,
}

/// The cursors of a job's checkpoints.
#[derive(Debug)]
pub(super) struct Positions {
    /// The different cursors, from the earliest to the latest.
    pub(super) ordered: Vec<Position>,
    /// The checkpoints with a cursor that the source refuses, such as one behind which events were removed.
    pub(super) refused: Vec<Document>,
}

/// Finds the cursors of these checkpoints. A checkpoint without a cursor is left out.
pub(super) fn find(source: &Storage, job: &JobAddress, checkpoints: &[Document]) -> Result<Positions> {
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
    let events = Job::new(Arc::clone(source.inner()), job.clone()).events();
    let mut end = events.end()?;
    for _ in 0..TRIES {
        let (mut positions, mut refused) = (Vec::new(), Vec::new());
        for (text, documents) in &found {
            let cursor = Cursor::new(text.as_str())?;
            match count(source, job, &cursor) {
                Ok(behind) => positions.push(Position {
                    cursor,
                    documents: documents.clone(),
                    behind,
                }),
                Err(error) if is_refused(&error) => {
                    let checkpoints = documents.iter().filter(|document| document.phase().is_some());
                    refused.extend(checkpoints.cloned());
                }
                Err(error) => return Err(error),
            }
        }
        positions.sort_by_key(|position| std::cmp::Reverse(position.behind));
        let found = Positions {
            ordered: positions,
            refused,
        };
        // An event that was appended between two counts was counted behind one of the positions only.
        if found.ordered.len() < 2 {
            return Ok(found);
        }
        let now = events.end()?;
        if now == end {
            return Ok(found);
        }
        end = now;
    }
    Err(written_to(job))
}

/// True if a store can't use a cursor, now or later.
fn is_refused(error: &StorageError) -> bool {
    matches!(error.kind(), ErrorKind::CursorGap | ErrorKind::InvalidInput)
}

/// The error of a job that a process writes to.
pub(super) fn written_to(job: &JobAddress) -> StorageError {
    StorageError::new(
        ErrorKind::Conflict,
        COPY,
        job,
        "it was written to while it was copied",
    )
    .with_hint("end the process that writes to it, then copy again")
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
    let Some(to) = to else {
        while let Some(record) = next_record(&mut all)? {
            give(&record)?;
        }
        return Ok(());
    };
    let mut behind = Behind {
        source,
        job,
        from,
        cursor: to.clone(),
        ahead: Vec::new(),
    };
    loop {
        let (mut held, is_end) = Held::read(&mut all)?;
        // Only now: what was appended behind `to` until an event was read is found by a look after that.
        behind.take_from(&mut held, is_end)?;
        for (id, (line, verified)) in &held.events {
            give(&Record {
                id: *id,
                line,
                verified: *verified,
            })?;
        }
        if is_end {
            return Ok(());
        }
    }
}

/// Some events of a scan, in their order: the line of each, and whether it was verified.
#[derive(Default)]
struct Held {
    events: BTreeMap<EventId, (String, bool)>,
    bytes: usize,
}

impl Held {
    /// Reads the next events; true at the end of the scan.
    fn read(all: &mut EventLines) -> Result<(Self, bool)> {
        let mut held = Self::default();
        while held.events.len() < HELD && held.bytes < HELD_BYTES {
            let Some(record) = next_record(all)? else {
                return Ok((held, true));
            };
            held.bytes += record.line.len();
            held.events
                .insert(record.id, (record.line.to_owned(), record.verified));
        }
        Ok((held, false))
    }
}

/// The events behind a position, in their order.
struct Behind<'a> {
    source: &'a Storage,
    job: &'a JobAddress,
    /// The position before it.
    from: Option<&'a Cursor>,
    /// The events up to here were read.
    cursor: Cursor,
    /// Those of them that come after all events that were looked for.
    ahead: Vec<EventId>,
}

impl Behind<'_> {
    /// Removes the events behind the position from some of all events. At the end of all events, no other may be behind it.
    fn take_from(&mut self, held: &mut Held, is_end: bool) -> Result<()> {
        let last = held.events.keys().next_back().copied().filter(|_| !is_end);
        let mut others = BTreeSet::new();
        let mut ahead = std::mem::take(&mut self.ahead);
        ahead.retain(|id| held.events.remove(id).is_none());
        for id in ahead {
            match last {
                Some(last) if id > last => self.ahead.push(id),
                _ => _ = others.insert(id),
            }
        }
        let mut rest = lines(self.source, self.job, Some(&self.cursor))?;
        while let Some(id) = next_id(&mut rest)? {
            if last.is_some_and(|last| id > last) {
                self.ahead.push(id);
                break;
            }
            if held.events.remove(&id).is_none() {
                others.insert(id);
            }
            if others.len() >= HELD {
                self.check_new(std::mem::take(&mut others))?;
            }
        }
        self.cursor = rest.cursor();
        self.check_new(others)
    }

    /// Checks that events which are behind the position and were not read were appended since. They are copied behind it.
    fn check_new(&self, mut others: BTreeSet<EventId>) -> Result<()> {
        if others.is_empty() {
            return Ok(());
        }
        let mut all = lines(self.source, self.job, self.from)?;
        while let Some(first) = others.first().copied() {
            match next_id(&mut all)? {
                Some(id) if id <= first => _ = others.remove(&id),
                _ => {
                    let why = format!(
                        "event {first} is behind one of its checkpoints and in front of an earlier one"
                    );
                    return Err(StorageError::new(ErrorKind::Conflict, COPY, self.job, why)
                        .with_hint("delete one of the two checkpoints, or use `export` and `import`"));
                }
            }
        }
        Ok(())
    }
}

/// True if the same events are behind two cursors, or if the target has a gap in place of a cursor that the source
/// refuses.
pub(super) fn are_equal(
    job: &JobAddress,
    (source, theirs): (&Storage, &Cursor),
    (target, ours): (&Storage, &Cursor),
) -> Result<bool> {
    if *ours == Cursor::gap() {
        return match lines(source, job, Some(theirs)).and_then(|mut lines| next_id(&mut lines)) {
            Err(error) if is_refused(&error) => Ok(true),
            found => found.map(|_| false),
        };
    }
    let (mut theirs, mut ours) = (lines(source, job, Some(theirs))?, lines(target, job, Some(ours))?);
    loop {
        match (next_id(&mut theirs)?, next_id(&mut ours)?) {
            (None, None) => return Ok(true),
            (one, other) if one != other => return Ok(false),
            _ => {}
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

/// The body of a checkpoint whose cursor the source refuses. The copy has a gap in its place: another store could take
/// the cursor of this one for a sign that it has lost events. Unchanged if the cursor is not where this program writes it.
pub(super) fn with_gap(stored: &StoredDocument, document: &Document) -> Vec<u8> {
    with_cursor(stored, document, &Cursor::gap()).unwrap_or_else(|_| stored.body().to_vec())
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
