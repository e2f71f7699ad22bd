//! Compares a cursor with the log that it points into.

use std::path::Path;
use std::sync::Arc;

use prodigy_storage_backend::{Cursor, Deadline, EventId, Result};
use prodigy_storage_layout::{SegmentForm, SegmentName};

use super::clock::StepClock;
use super::cursor::{Position, Reached};
use super::listing::{self, Listing};
use super::segment::SegmentReader;
use super::segment_ref::SegmentRef;
use super::{resume, search};
use crate::root::Root;

const CHUNK: usize = 256 << 10;

/// The segments of a log and their last records, with which cursors are checked without reading all events.
#[derive(Debug)]
pub(crate) struct Extent {
    listing: Listing,
    /// The segments whose last records were not read yet, the one that was created last at the end.
    unread: Vec<SegmentName>,
    /// The newest id in the other segments.
    newest: Option<EventId>,
}

impl Extent {
    /// Lists the segments of a log.
    pub(crate) fn of(root: &Arc<Root>, folder: &Path) -> Result<Self> {
        let listing = listing::list(root, folder, Deadline::never())?;
        let ours = listing.segments.keys().filter(|name| name.is_canonical());
        let mut unread: Vec<_> = ours.cloned().collect();
        unread.sort_by_key(SegmentName::made);
        Ok(Self {
            listing,
            unread,
            newest: None,
        })
    }

    /// Reads the last records of the segments, from the one that was created last, until an id reaches this one. Returns the newest
    /// id that was read.
    fn reach(&mut self, root: &Arc<Root>, folder: &Path, id: EventId) -> Result<Option<EventId>> {
        let mut clock = StepClock::default();
        while self.newest < Some(id)
            && let Some(name) = self.unread.pop()
        {
            let segment = SegmentRef::new(root, folder, &name);
            self.newest = self.newest.max(search::last_id_of(segment, &mut clock)?);
        }
        Ok(self.newest)
    }

    /// True if a segment has an event at any place: something may have changed the order of the lines.
    fn has(&self, root: &Arc<Root>, folder: &Path, id: EventId) -> Result<bool> {
        let mut clock = StepClock::default();
        for name in self.listing.segments.keys().filter(|name| name.is_canonical()) {
            let segment = SegmentRef::new(root, folder, name);
            let Some(mut reader) = SegmentReader::open(segment, 0, None, CHUNK)? else {
                continue;
            };
            while reader.next(&mut clock)? {
                if reader.head.verified_id() == Some(id) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// The reason why events before a cursor are certainly missing from the log; `None` if no sign of that is found.
    pub(crate) fn lacks(
        &mut self,
        root: &Arc<Root>,
        folder: &Path,
        cursor: &Cursor,
    ) -> Result<Option<String>> {
        let position = Position::decode(cursor)?;
        let is_other = |begun| self.listing.begun() != Some(begun) && !self.listing.has_made(begun);
        if position.begun.is_some_and(is_other) {
            return Ok(Some(match self.listing.begun() {
                Some(_) => "the first segment of the log is gone".to_owned(),
                None => "the log is gone".to_owned(),
            }));
        }
        if position.lost_its_mark(&self.listing) {
            return Ok(Some("the newest segment before the cursor is gone".to_owned()));
        }
        for (name, reached) in &position.segments {
            let is_removed = self.listing.removed().is_some_and(|mark| mark.covers(name));
            if !name.is_canonical() || name.twin_form().is_some() || is_removed {
                continue;
            }
            let segment = name.file_name(SegmentForm::Plain);
            let Some(forms) = self.listing.segments.get(name) else {
                return Ok(Some(format!("the segment {segment} is gone")));
            };
            let plain = root.fs.metadata(&folder.join(&segment));
            if let Some(found) = plain
                .ok()
                .filter(|found| forms.plain && found.len < reached.offset)
            {
                return Ok(Some(format!(
                    "the segment {segment} ends at byte {}, and the cursor is at byte {}",
                    found.len, reached.offset
                )));
            }
            let segment_ref = SegmentRef::new(root, folder, name);
            if let Some(last) = lost_event(segment_ref, *reached).filter(|_| forms.plain) {
                return Ok(Some(format!("the segment {segment} lacks the event {last}")));
            }
        }
        let Some(newest) = position.newest.filter(|newest| newest.is_v7()) else {
            return Ok(None);
        };
        let have = self.reach(root, folder, newest)?;
        let lacks = have < Some(newest) && !self.has(root, folder, newest)?;
        Ok(lacks.then(|| {
            let have = have.map_or_else(
                || "no event".to_owned(),
                |have| format!("{have} as its newest event"),
            );
            format!("the cursor is behind the event {newest}, and the log has {have}")
        }))
    }
}

impl Extent {
    /// A segment with events that is older than the first one of the log was when the cursor was made. A new segment is never
    /// older, so it was put back or copied.
    pub(crate) fn older(
        &self,
        root: &Arc<Root>,
        folder: &Path,
        cursor: &Cursor,
    ) -> Result<Option<&SegmentName>> {
        match Position::decode(cursor)?.begun {
            Some(begun) => resume::older(root, folder, &self.listing, begun, &mut StepClock::default()),
            None => Ok(None),
        }
    }
}

/// The last event before a cursor, if the segment does not have it. A segment that can't be read has a finding of its own.
fn lost_event(segment: SegmentRef<'_>, reached: Reached) -> Option<EventId> {
    let last = reached.last?;
    let has = resume::has(segment, reached, last, &mut StepClock::default());
    (!has.unwrap_or(true)).then_some(last)
}
