//! Continues a scan at a cursor.

use std::cmp::Reverse;
use std::io;
use std::path::Path;
use std::sync::Arc;

use prodigy_storage_backend::{Deadline, ErrorKind, EventId, Result, StorageError, record};
use prodigy_storage_layout::{SegmentForm, SegmentName, Timestamp};

use super::clock::StepClock;
use super::cursor::{Position, Reached, State};
use super::listing::{self, Forms, Listing};
use super::removed_mark::RemovedMark;
use super::replay_filter::MOST_COVERED;
use super::search::{self, Bound};
use super::segment::{Head, SegmentReader};
use super::segment_ref::SegmentRef;
use super::source;
use crate::fs::FsFile;
use crate::root::{Root, count};

/// The error for a cursor that points into a segment that is gone.
pub(crate) fn gap(segment: SegmentRef<'_>) -> StorageError {
    if let Some(mark) = removed(segment) {
        return mark.gap(segment.root, segment.folder);
    }
    StorageError::new(
        ErrorKind::CursorGap,
        "scan",
        segment.root.absolute(&segment.path(SegmentForm::Plain)).display(),
        "the cursor points into a segment that is gone: the events behind it can't be read any more",
    )
    .with_hint("begin without a cursor, and look into how the segment was removed")
}

/// The mark that states the removal of this segment, if it was removed.
pub(super) fn removed(segment: SegmentRef<'_>) -> Option<RemovedMark> {
    let listing = listing::list(segment.root, segment.folder, Deadline::never()).ok()?;
    listing.removed().filter(|mark| mark.covers(segment.name))
}

/// The error for a scan without a cursor that comes to events which were removed after it began.
pub(super) fn removed_meanwhile(root: &Root, folder: &Path) -> StorageError {
    StorageError::new(
        ErrorKind::CursorGap,
        "scan",
        root.absolute(folder).display(),
        "old events were removed while they were read, and not all of them had been read",
    )
    .with_hint("read again: the read then begins with the oldest event that is left")
}

/// The error for a cursor into a log that was deleted since.
pub(crate) fn begun_again(root: &Root, folder: &Path) -> StorageError {
    StorageError::new(
        ErrorKind::CursorGap,
        "scan",
        root.absolute(folder).display(),
        "the log that the cursor points into is not here: it was removed, or the cursor is of another job",
    )
    .with_hint("begin without a cursor, or with one of this job")
}

/// A segment with events that was made before `begun`, when the first segment of the log was made as a cursor states it.
pub(super) fn older<'l>(
    root: &Arc<Root>,
    folder: &Path,
    listing: &'l Listing,
    begun: Timestamp,
    clock: &mut StepClock,
) -> Result<Option<&'l SegmentName>> {
    let ours = listing.segments.keys().filter(|name| name.is_canonical());
    for name in ours.filter(|name| name.made() < begun) {
        if search::last_id_of(SegmentRef::new(root, folder, name), clock)?.is_some() {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

/// The error for a cursor into a log that has an older segment now than it had then.
pub(super) fn has_older(root: &Root, folder: &Path) -> StorageError {
    StorageError::new(
        ErrorKind::CursorGap,
        "scan",
        root.absolute(folder).display(),
        "the log has a segment that is older than its first one was when the cursor was made: it was put back by hand, or \
         copied from another log, and its events were not read",
    )
    .with_hint("begin without a cursor: some events may come again")
}

/// The error for a cursor whose newest segment is gone.
pub(super) fn covers_gone(root: &Root, folder: &Path) -> StorageError {
    StorageError::new(
        ErrorKind::CursorGap,
        "scan",
        root.absolute(folder).display(),
        "the newest segment before the cursor is gone: a power loss took it, or it was removed by hand",
    )
    .with_hint("begin without a cursor: some events may come again")
}

/// The error for a cursor that has read a segment to its end, which is open again.
pub(super) fn open_again(segment: SegmentRef<'_>) -> StorageError {
    StorageError::new(
        ErrorKind::CursorGap,
        "scan",
        segment.root.absolute(&segment.path(SegmentForm::Plain)).display(),
        "the cursor has read this segment to its end, and now it is open again: an older copy of it was put there, and \
         what was appended to it since can't be told from what was read",
    )
    .with_hint("begin without a cursor: some events may come again")
}

/// The largest number of plain segments that are examined for a cursor, newest first. A writer continues none before them, so
/// no event is appended to a covered segment that is not examined.
pub(super) const EXAMINED: usize = MOST_COVERED;

/// The newest segment that the position counts as read to its end, and that a writer may append to. The segment was
/// sealed when it was read, so it is not the same file.
pub(super) fn find_reopened<'l>(
    root: &Root,
    folder: &Path,
    position: &Position,
    listing: &'l Listing,
) -> Result<Option<&'l SegmentName>> {
    let is_plain = |(name, forms): &(&SegmentName, &Forms)| {
        forms.plain && name.is_canonical() && name.twin_form().is_none() && position.of(name) == State::Read
    };
    let mut plain: Vec<&SegmentName> = listing
        .segments
        .iter()
        .filter(is_plain)
        .map(|(name, _)| name)
        .collect();
    plain.sort_unstable_by_key(|name| Reverse(name.made()));
    for name in plain.into_iter().take(EXAMINED) {
        let path = folder.join(name.file_name(SegmentForm::Plain));
        match root.fs.metadata(&path) {
            // No writer continues an empty segment that a cursor covers.
            Ok(found) if found.len > 0 && found.is_open() => {
                return Ok(Some(name));
            }
            Ok(_) => {}
            // The segment was compressed, or removed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(root.read_fault("scan", &path, error)),
        }
    }
    Ok(None)
}

/// Opens a segment at a cursor's position in it.
pub(crate) fn resume(
    segment: SegmentRef<'_>,
    reached: Reached,
    chunk: usize,
    clock: &mut StepClock,
) -> Result<SegmentReader> {
    if let Some(last) = reached.last
        && !stands(segment, reached.offset, last)?
    {
        return match find_again(segment, reached, last, chunk, clock)? {
            Some(reader) => Ok(reader),
            None => {
                count(&segment.root.counters.rewound, 1);
                let path = segment.path(SegmentForm::Plain);
                tracing::warn!(
                    segment = %segment.root.absolute(&path).display(),
                    event = %last,
                    "the event that a cursor names is gone: the segment is read again from its first event"
                );
                from_start(segment, reached.offset, chunk, clock)
            }
        };
    }
    if reached.last.is_none() {
        return from_start(segment, reached.offset, chunk, clock);
    }
    let opened = SegmentReader::open(segment, reached.offset, reached.last, chunk)?;
    let mut reader = opened.ok_or_else(|| gap(segment))?;
    reader.step(clock)?;
    Ok(reader)
}

/// True if a segment has the record with the id `last`, the last one before a cursor, or if damage may hide it.
pub(super) fn has(
    segment: SegmentRef<'_>,
    reached: Reached,
    last: EventId,
    clock: &mut StepClock,
) -> Result<bool> {
    const CHUNK: usize = 64 << 10;
    Ok(stands(segment, reached.offset, last)? || find_again(segment, reached, last, CHUNK, clock)?.is_some())
}

/// Opens a segment at its first record. Skips damage that ends before `offset`, since it was already reported.
fn from_start(
    segment: SegmentRef<'_>,
    offset: u64,
    chunk: usize,
    clock: &mut StepClock,
) -> Result<SegmentReader> {
    let opened = SegmentReader::open(segment, 0, None, chunk)?;
    let mut reader = opened.ok_or_else(|| gap(segment))?;
    while reader.next(clock)? {
        match reader.head {
            Head::Damage {
                offset: start, len, ..
            } if start + len <= offset => {}
            // The record has no id that the cursor could name. It was already returned, too.
            Head::TooLarge { id: None, len, .. } if reader.head_start() + len <= offset => {}
            _ => break,
        }
    }
    Ok(reader)
}

/// True if, in the plain form, the record with the id `last` ends at `offset`.
fn stands(segment: SegmentRef<'_>, offset: u64, last: EventId) -> Result<bool> {
    let Some((file, found)) = source::open_form(segment, SegmentForm::Plain)? else {
        return Ok(false);
    };
    if found.len < offset {
        return Ok(false);
    }
    let path = segment.path(SegmentForm::Plain);
    ends_with(&*file, offset, last, search::longest_line(segment.root))
        .map_err(|error| segment.root.read_fault("resume scan", &path, error))
}

/// Searches for the position after the record with the id `last`, if the record does not end at the cursor's offset:
/// the segment was compressed, or the record is after damage. `None` if the segment does not have the record: a power
/// loss took it, and the events that were appended since may have any id.
fn find_again(
    segment: SegmentRef<'_>,
    reached: Reached,
    last: EventId,
    chunk: usize,
    clock: &mut StepClock,
) -> Result<Option<SegmentReader>> {
    let by_order = segment.name.is_canonical() && last.is_v7();
    let opened = if by_order {
        search::seek(segment, Bound::Id(last), chunk, clock)?
    } else {
        let mut opened = SegmentReader::open(segment, 0, None, chunk)?;
        if let Some(reader) = opened.as_mut() {
            reader.step(clock)?;
        }
        opened
    };
    let Some(mut reader) = opened else {
        return Ok(None);
    };
    let mut found = false;
    loop {
        match reader.head {
            Head::Damage { offset, len, .. } => {
                // The record may be part of the damage, if the damage reaches the cursor's offset, or ends one line
                // break before it.
                let end = offset + len;
                found |= offset < reached.offset && end + 1 >= reached.offset;
                if end > reached.offset {
                    return Ok(found.then_some(reader));
                }
            }
            Head::TooLarge { id: None, len, .. } if reader.head_start() + len <= reached.offset => {}
            Head::Record { id, .. } | Head::TooLarge { id: Some(id), .. } if id == last => found = true,
            Head::Record { .. } | Head::TooLarge { id: Some(_), .. } if by_order && reader.order <= last => {}
            Head::Record { .. } | Head::TooLarge { .. } if !by_order && !found => {}
            _ => return Ok(found.then_some(reader)),
        }
        reader.consume();
        reader.step(clock)?;
    }
}

/// True if the record that ends at `offset` has this id, or was replaced with blanks.
fn ends_with(file: &dyn FsFile, offset: u64, id: EventId, longest: u64) -> std::io::Result<bool> {
    let mut window = 4096u64;
    loop {
        let from = offset.saturating_sub(window);
        let mut bytes = vec![0; (offset - from) as usize];
        if file.read_full_at(&mut bytes, from)? < bytes.len() {
            return Ok(false);
        }
        let line = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
        let start = memchr::memrchr(b'\n', line).map(|found| found + 1);
        if start.is_none() && from > 0 {
            if window >= longest {
                // No record is as long as this line.
                return Ok(false);
            }
            window = window.saturating_mul(8);
            continue;
        }
        let line = line.get(start.unwrap_or(0)..).unwrap_or_default();
        if !line.is_empty() && line.iter().all(|byte| *byte == b' ') {
            // The line is blank because a repair replaced a damaged record.
            return Ok(true);
        }
        if record::read_line(line).is_ok_and(|record| record.id == id) {
            return Ok(true);
        }
        // The line may begin with damage. The record is then searched for within the line.
        let text = id.to_string();
        return Ok(memchr::memmem::rfind(line, text.as_bytes()).is_some_and(|found| {
            let start = found.saturating_sub(7);
            line.get(start..)
                .is_some_and(|part| record::read_line(part).is_ok_and(|record| record.id == id))
        }));
    }
}
