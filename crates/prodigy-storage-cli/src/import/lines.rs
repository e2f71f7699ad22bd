//! Reads the lines of an export.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use prodigy_storage::backend::record::{checksum, checksum_on, hex8};
use prodigy_storage::{Cursor, EventId, Job, OrphanedWorktree, ReadOptions, ScanItem, Timestamp};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::store::State;
use crate::errors::{Failure, Result};
use crate::exit::Exit;
use crate::export::{Position, VERSION, split};

/// A line of an export. Each kind of line has some of these fields.
#[derive(Deserialize)]
pub(super) struct Line<'l> {
    pub(super) kind: String,
    version: Option<u64>,
    repo: Option<String>,
    job: Option<String>,
    lines: Option<u64>,
    sum: Option<String>,
    pub(super) phase: Option<String>,
    saved_at: Option<Timestamp>,
    key: Option<String>,
    schema_version: Option<u32>,
    position: Option<Position>,
    pub(super) of: Option<String>,
    pub(super) name: Option<String>,
    #[serde(borrow, default, deserialize_with = "present")]
    pub(super) data: Option<&'l RawValue>,
    #[serde(borrow)]
    pub(super) item: Option<&'l RawValue>,
    #[serde(borrow)]
    pub(super) record: Option<&'l RawValue>,
    pub(super) orphan: Option<OrphanedWorktree>,
}

/// A value that is there, also if it is `null`.
pub(super) fn present<'de, D: Deserializer<'de>>(value: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(value).map(Some)
}

impl<'l> Line<'l> {
    /// The key of a checkpoint. If it has no key, one is derived from the whole line, so two saves of one state
    /// remain two checkpoints.
    fn checkpoint_key(&self) -> Option<String> {
        let derived = || {
            let (Some(phase), Some(time), Some(data)) = (&self.phase, self.saved_at, self.data) else {
                return None;
            };
            let position = self.position.map(key);
            let all = format!("{phase} {time} {position:?} {}", data.get());
            Some(super::store::derived_key(all.as_bytes()))
        };
        self.key.clone().or_else(derived)
    }

    /// The state in a line of a checkpoint; `cursors` gives the cursor for its position.
    pub(super) fn state(&self, cursors: &BTreeMap<Key, Result<Cursor, EventId>>) -> Option<State<'l>> {
        Some(State {
            phase: self.phase.as_deref()?.parse().ok()?,
            time: self.saved_at,
            key: self.checkpoint_key(),
            schema_version: self.schema_version.unwrap_or(1),
            cursor: self
                .position
                .and_then(|position| cursors.get(&key(position)).cloned())
                .transpose(),
            data: self.data?,
        })
    }
}

/// A position as a sort key: the event's id, and true for the position after the event.
pub(super) type Key = (EventId, bool);

fn key(position: Position) -> Key {
    match position {
        Position::Before(id) => (id, false),
        Position::After(id) => (id, true),
    }
}

/// An export that was read to its end and found complete.
pub(super) struct Export {
    pub(super) repo: String,
    pub(super) job: String,
    positions: BTreeSet<Key>,
    /// The keys of the checkpoints.
    pub(super) keys: HashSet<String>,
}

/// Calls `give` with each line of a file and its number. Fails at a line whose checksum does not match, if the first line has one.
pub(super) fn each(
    path: &Path,
    shown: &str,
    mut give: impl FnMut(u64, &Line<'_>) -> Result<()>,
) -> Result<()> {
    let failed = |why: String| Failure::new(Exit::Damaged, format!("read {shown}: {why}"));
    let mut file = BufReader::new(File::open(path).map_err(|error| failed(error.to_string()))?);
    let (mut text, mut number) = (Vec::new(), 0);
    let (mut sum, mut is_checked) = (0, false);
    let changed = |why: String| {
        failed(format!("{why}: a checksum does not match")).hint(
            "export the job again; if the change is meant, take the checksums away: sed 's/,\"crc\":\"[0-9a-f]*\"}$/}/'",
        )
    };
    loop {
        text.clear();
        number += 1;
        if file
            .read_until(b'\n', &mut text)
            .map_err(|error| failed(error.to_string()))?
            == 0
        {
            return Ok(());
        }
        let line: Line<'_> = serde_json::from_slice(&text)
            .map_err(|error| failed(format!("line {number} is not a line of an export: {error}")))?;
        let found = split(&text);
        is_checked |= number == 1 && found.is_some();
        if is_checked {
            let Some((text, _)) = found.filter(|(text, digits)| hex8(checksum(text)) == *digits) else {
                return Err(changed(format!("line {number} is not as it was exported")));
            };
            match line.sum.as_ref().filter(|_| line.kind == "end") {
                Some(all) if all.as_bytes() != hex8(sum) => {
                    let why = format!(
                        "the lines before line {number} are not those of the export: some were moved, added or left out"
                    );
                    return Err(changed(why));
                }
                _ if number > 1 => sum = checksum_on(sum, text),
                _ => {}
            }
        }
        give(number, &line)?;
    }
}

/// Reads an export to its end, since nothing of a truncated export must be stored.
pub(super) fn check(path: &Path, shown: &str) -> Result<Export> {
    let failed = |why: &str| Failure::new(Exit::Damaged, format!("read {shown}: {why}"));
    let (mut export, mut end) = (None, None);
    each(path, shown, |number, line| {
        if number == 1 {
            let (Some(VERSION), Some(repo), Some(job)) = (line.version, &line.repo, &line.job) else {
                return Err(failed(
                    "its first line is not that of an export that this version reads",
                ));
            };
            export = Some(Export {
                repo: repo.clone(),
                job: job.clone(),
                positions: BTreeSet::new(),
                keys: HashSet::new(),
            });
        }
        if let Some(export) = &mut export {
            export.positions.extend(line.position.map(key));
            export.keys.extend(line.checkpoint_key());
        }
        if line.kind == "end" {
            end = Some((number, line.lines));
        } else if end.is_some() {
            return Err(failed("lines come after its end"));
        }
        Ok(())
    })?;
    match (export, end) {
        (Some(export), Some((number, Some(lines)))) if lines + 1 == number => Ok(export),
        _ => Err(failed(
            "it ends before its last line: it was cut short, or a line is missing",
        )),
    }
}

/// For each position of an export, its cursor in the log into which the events with these ids were imported; or an event of
/// the job that the export lacks, and that a cursor at this position would skip.
pub(super) fn cursors(
    export: &Export,
    ids: &BTreeSet<EventId>,
    job: &Job,
) -> Result<BTreeMap<Key, Result<Cursor, EventId>>> {
    let mut found = BTreeMap::new();
    if export.positions.is_empty() {
        return Ok(found);
    }
    // The event before each position. The cursor after that event becomes the position's cursor.
    let mut places: BTreeMap<Option<EventId>, Vec<Key>> = BTreeMap::new();
    for &(id, after) in &export.positions {
        let last = ids.range(..id).next_back().copied();
        let last = ids.get(&id).copied().filter(|_| after).or(last);
        places.entry(last).or_default().push((id, after));
    }
    let mut events = job.events().read_lines(ReadOptions::new())?;
    let mut last = None;
    loop {
        for key in places.remove(&last).unwrap_or_default() {
            found.insert(key, Ok(events.cursor()));
        }
        match events.next()? {
            None => return Ok(found),
            Some(ScanItem::Record(record)) => {
                if !ids.contains(&record.id) {
                    let skipping = places.split_off(&Some(record.id)).into_values().flatten();
                    found.extend(skipping.map(|key| (key, Err(record.id))));
                    return Ok(found);
                }
                last = Some(record.id);
            }
            Some(_) => {}
        }
    }
}
