//! Finds positions in a segment by id or time, without reading all of it.

use std::ops::Range;
use std::path::Path;

use prodigy_storage_backend::record::{self, Checksum};
use prodigy_storage_backend::{EventId, Record, Result, StreamedLine};
use prodigy_storage_layout::{SegmentForm, Timestamp};

use super::clock::StepClock;
use super::salvage;
use super::segment::{Head, SegmentReader};
use super::segment_ref::SegmentRef;
use super::source;
use super::tail;
use crate::fs::FsFile;
use crate::root::Root;

/// A range of at most this length is read from its start, instead of being halved again.
const STRETCH: u64 = 64 << 10;
/// The number of bytes that one probe of a file reads.
const LOOK: usize = 4096;
/// The number of bytes that are read at a time when a segment is read through.
const CHUNK: usize = 64 << 10;

/// The id or time that a search looks for. It finds the first record at or after it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Bound {
    Id(EventId),
    Time(Timestamp),
}

impl Bound {
    fn is_behind(self, record: &Record<'_>) -> bool {
        match self {
            Self::Id(id) => record.id < id,
            Self::Time(time) => record.time() < time,
        }
    }
}

/// The last record of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Last {
    pub(crate) id: EventId,
    pub(crate) time: Timestamp,
    /// False if the plain file does not end with a line break.
    pub(crate) ends_line: bool,
}

/// Finds where to begin reading for a bound: 0, or the start of a record before the bound. All earlier records are
/// before the bound, too. From there, the first record at or after the bound is at most [`STRETCH`] bytes and one line
/// away.
///
/// Works on a plain segment of ours, in which ids ascend and times do not decrease. Lines without a valid checksum are
/// skipped, because a damaged id would mislead the search.
pub(crate) fn lower_bound(
    root: &Root,
    path: &Path,
    file: &dyn FsFile,
    len: u64,
    bound: Bound,
    clock: &mut StepClock,
) -> Result<u64> {
    let (mut low, mut high) = (0, len);
    while high.saturating_sub(low) > STRETCH {
        let middle = low + (high - low) / 2;
        match line_after(root, path, file, middle..high, bound, clock)? {
            Some((start, true)) => low = start,
            _ => high = middle,
        }
    }
    Ok(low)
}

/// The start of the first line with a valid checksum that begins after `from` and before `to`, and true if its record
/// is before the bound.
fn line_after(
    root: &Root,
    path: &Path,
    file: &dyn FsFile,
    Range { start: from, end: to }: Range<u64>,
    bound: Bound,
    clock: &mut StepClock,
) -> Result<Option<(u64, bool)>> {
    let mut bytes = vec![0; LOOK];
    // `at` is the offset of the buffer. `begun` is false until the first line break, since `from` may be within a line.
    let (mut at, mut begun) = (from, false);
    loop {
        clock.check(root, path)?;
        let filled = file
            .read_full_at(&mut bytes, at)
            .map_err(|error| root.read_fault("search segment", path, error))?;
        let mut rest = bytes.get(..filled).unwrap_or_default();
        let mut start = at;
        loop {
            if begun && start >= to {
                return Ok(None);
            }
            let Some(end) = memchr::memchr(b'\n', rest) else {
                break;
            };
            let line = rest.get(..end).unwrap_or_default();
            if begun
                && let Ok(record) = record::read_line(line)
                && record.verified
            {
                return Ok(Some((start, bound.is_behind(&record))));
            }
            rest = rest.get(end + 1..).unwrap_or_default();
            start += end as u64 + 1;
            begun = true;
        }
        if filled < bytes.len() || (!begun && at + filled as u64 >= to) {
            return Ok(None);
        }
        if !begun {
            at += filled as u64;
        } else if start > at {
            at = start;
        } else if (bytes.len() as u64) < longest_line(root) {
            bytes.resize(bytes.len() * 8, 0);
        } else {
            // The line is too long for memory. No record begins within it, so the search continues after it.
            begun = false;
            at += filled as u64;
        }
    }
}

/// The length of the longest line that is kept in memory. The checksum of a longer line is computed while it is read.
pub(crate) fn longest_line(root: &Root) -> u64 {
    root.options.largest_read()
}

/// The time of the first record of a plain file; `None` if the file does not begin with a record of ours.
pub(crate) fn first_time(root: &Root, path: &Path, file: &dyn FsFile) -> Result<Option<Timestamp>> {
    let mut bytes = [0; LOOK];
    let filled = file
        .read_full_at(&mut bytes, 0)
        .map_err(|error| root.read_fault("search segment", path, error))?;
    let bytes = bytes.get(..filled).unwrap_or_default();
    let line = memchr::memchr(b'\n', bytes).and_then(|end| bytes.get(..end));
    let record = line.and_then(|line| record::read_line(line).ok());
    Ok(record
        .filter(|record| record.verified)
        .map(|record| record.time()))
}

/// The last record of a plain file with ascending ids. Reads no more of the file's end than needed. Ignores ids of
/// other versions of UUID, which have no order.
pub(crate) fn last_record(
    root: &Root,
    path: &Path,
    file: &dyn FsFile,
    len: u64,
    clock: &mut StepClock,
) -> Result<Option<Last>> {
    // The bytes from `to` on were already searched.
    let (mut to, mut window) = (len, LOOK as u64);
    let longest = longest_line(root);
    let mut ends_line = None;
    loop {
        clock.check(root, path)?;
        let from = to.saturating_sub(window);
        let mut bytes = vec![0; (to - from) as usize];
        let filled = file
            .read_full_at(&mut bytes, from)
            .map_err(|error| root.read_fault("search segment", path, error))?;
        bytes.truncate(filled);
        let ends_line = *ends_line.get_or_insert(bytes.ends_with(b"\n"));
        let mut end = bytes.len();
        while end > 0 {
            let before = bytes.get(..end).unwrap_or_default();
            let start = memchr::memrchr(b'\n', before).map_or(0, |found| found + 1);
            if start == 0 && from > 0 {
                break;
            }
            let line = before.get(start..).unwrap_or_default();
            let within = || {
                let (range, _) = salvage::records(line).last()?;
                record::read_line(line.get(range)?).ok()
            };
            let last = record::read_line(line).ok().or_else(within);
            if let Some(last) = last.filter(|record| record.id.is_v7()) {
                return Ok(Some(Last {
                    id: last.id,
                    time: last.time(),
                    ends_line,
                }));
            }
            end = start.saturating_sub(1);
        }
        if from == 0 {
            return Ok(None);
        }
        if from + (end as u64) < to {
            // The window has whole lines, but no record. The search continues with the line before them.
            to = from + end as u64;
        } else if window < longest {
            window = window.saturating_mul(8).min(longest);
        } else {
            let fault = |error| root.read_fault("search segment", path, error);
            let start = tail::line_start(file, to, u64::MAX).map_err(fault)?.unwrap_or(0);
            if let Some((id, time)) = last_in_long_line(root, path, file, start..to, clock)? {
                return Ok(Some(Last { id, time, ends_line }));
            }
            (to, window) = (start.saturating_sub(1), LOOK as u64);
        }
    }
}

/// The record in a line that is too long for memory, if its checksum matches.
fn last_in_long_line(
    root: &Root,
    path: &Path,
    file: &dyn FsFile,
    line: Range<u64>,
    clock: &mut StepClock,
) -> Result<Option<(EventId, Timestamp)>> {
    let (mut seen, mut bytes, mut at) = (StreamedLine::default(), vec![0; CHUNK], line.start);
    while at < line.end {
        clock.check(root, path)?;
        let most = usize::try_from(line.end - at).unwrap_or(CHUNK).min(CHUNK);
        let read = file
            .read_full_at(bytes.get_mut(..most).unwrap_or_default(), at)
            .map_err(|error| root.read_fault("search segment", path, error))?;
        if read == 0 {
            break;
        }
        seen.push(bytes.get(..read).unwrap_or_default());
        at += read as u64;
    }
    let (crc, _) = seen.check(<[u8]>::trim_ascii_end);
    Ok(seen
        .event()
        .filter(|(id, _)| crc == Checksum::Valid && id.is_v7()))
}

/// The last id of a segment in any form; `None` if the segment has no record or is gone.
pub(crate) fn last_id_of(segment: SegmentRef<'_>, clock: &mut StepClock) -> Result<Option<EventId>> {
    Ok(last_of(segment, clock)?.map(|last| last.id))
}

/// The last record of a segment in any form; `None` if the segment has no record or is gone. If the record states no
/// time, the time in its id is used.
pub(crate) fn last_of(segment: SegmentRef<'_>, clock: &mut StepClock) -> Result<Option<Last>> {
    if let Some((file, found)) = source::open_form(segment, SegmentForm::Plain)? {
        let path = segment.path(SegmentForm::Plain);
        return last_record(segment.root, &path, &*file, found.len, clock);
    }
    if let Some(summary) = super::archive::summary(segment)? {
        let last = summary.last.zip(summary.latest());
        return Ok(last.map(|(id, time)| Last {
            id,
            time,
            ends_line: true,
        }));
    }
    let Some(mut reader) = SegmentReader::open(segment, 0, None, CHUNK)? else {
        return Ok(None);
    };
    while reader.next(clock)? {}
    let (id, time) = (reader.order, reader.order.time());
    Ok(reader.last.map(|_| Last {
        id,
        time,
        ends_line: true,
    }))
}

/// A reader at most [`STRETCH`] bytes before the first record at or after the bound, or at damage there. `None` if the
/// segment is gone.
pub(crate) fn seek(
    segment: SegmentRef<'_>,
    bound: Bound,
    chunk: usize,
    clock: &mut StepClock,
) -> Result<Option<SegmentReader>> {
    let mut start = 0;
    if segment.name.is_canonical()
        && let Some((file, found)) = source::open_form(segment, SegmentForm::Plain)?
    {
        start = lower_bound(
            segment.root,
            &segment.path(SegmentForm::Plain),
            &*file,
            found.len,
            bound,
            clock,
        )?;
    }
    let Some(mut reader) = SegmentReader::open(segment, start, None, chunk)? else {
        return Ok(None);
    };
    while reader.next(clock)? {
        let is_behind = match (&reader.head, bound) {
            (Head::Record { .. } | Head::TooLarge { id: Some(_), .. }, Bound::Id(id)) => reader.order < id,
            (Head::Record { .. } | Head::TooLarge { .. }, Bound::Time(bound)) => {
                reader.time().is_some_and(|(time, _)| time < bound)
            }
            _ => false,
        };
        if !is_behind {
            break;
        }
    }
    Ok(Some(reader))
}

/// The ids among `ids` (ascending) under which the segment has a record with a matching checksum.
pub(crate) fn find_ids(
    segment: SegmentRef<'_>,
    ids: &[EventId],
    clock: &mut StepClock,
) -> Result<Vec<EventId>> {
    let mut found = Vec::new();
    let mut rest = ids;
    if !segment.name.is_canonical() {
        return find_anywhere(segment, ids, clock);
    }
    // Ids that are close together are found in one pass. A distant id gets a search of its own.
    while let Some(&first) = rest.first() {
        let Some(mut reader) = seek(segment, Bound::Id(first), CHUNK, clock)? else {
            break;
        };
        let mut passed = 0u64;
        loop {
            match reader.head {
                Head::End => return Ok(found),
                Head::Record { id, verified, .. }
                | Head::TooLarge {
                    id: Some(id),
                    verified,
                    ..
                } => {
                    passed += 1;
                    let order = reader.order;
                    while rest.first().is_some_and(|&wanted| wanted < order && wanted != id) {
                        rest = rest.get(1..).unwrap_or_default();
                    }
                    if rest.first() == Some(&id) {
                        if verified {
                            found.push(id);
                        }
                        rest = rest.get(1..).unwrap_or_default();
                        passed = 0;
                    }
                }
                _ => {}
            }
            if rest.is_empty() {
                return Ok(found);
            }
            if passed > 512 && !reader.is_compressed() {
                break;
            }
            reader.consume();
            reader.step(clock)?;
        }
    }
    Ok(found)
}

/// The ids of a segment of ours, ascending from `from`, at most `most`. Only records with a matching checksum count.
pub(crate) fn ids_from(
    segment: SegmentRef<'_>,
    from: EventId,
    most: usize,
    clock: &mut StepClock,
) -> Result<Vec<EventId>> {
    let mut ids = Vec::new();
    let Some(mut reader) = seek(segment, Bound::Id(from), CHUNK, clock)? else {
        return Ok(ids);
    };
    while ids.len() < most && !matches!(reader.head, Head::End) {
        ids.extend(reader.head.verified_id().filter(|id| ids.last() < Some(id)));
        reader.consume();
        reader.step(clock)?;
    }
    Ok(ids)
}

/// Like [`find_ids`], for a file whose ids are in any order.
fn find_anywhere(segment: SegmentRef<'_>, ids: &[EventId], clock: &mut StepClock) -> Result<Vec<EventId>> {
    let mut found = Vec::new();
    let Some(mut reader) = SegmentReader::open(segment, 0, None, CHUNK)? else {
        return Ok(found);
    };
    while reader.next(clock)? {
        let id = reader.head.verified_id();
        found.extend(id.filter(|id| ids.binary_search(id).is_ok()));
    }
    Ok(found)
}
