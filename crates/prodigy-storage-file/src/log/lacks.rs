//! Compares a cursor with the log that it points into.

use std::path::Path;
use std::sync::Arc;

use prodigy_storage_backend::{Cursor, Deadline, EventId, Result};
use prodigy_storage_layout::SegmentForm;

use super::clock::StepClock;
use super::cursor::Position;
use super::listing::{self, Listing};
use super::search;
use super::segment_ref::SegmentRef;
use crate::root::Root;

/// The segments of a log and their last records, with which cursors are checked without reading all events.
#[derive(Debug)]
pub(crate) struct Extent {
    listing: Listing,
    newest: Option<EventId>,
}

impl Extent {
    /// Lists the segments of a log, and reads the last record of each.
    pub(crate) fn of(root: &Arc<Root>, folder: &Path) -> Result<Self> {
        let listing = listing::list(root, folder, Deadline::never())?;
        let (mut newest, mut clock) = (None, StepClock::default());
        for name in listing.segments.keys().filter(|name| name.is_canonical()) {
            newest = newest.max(search::last_id_of(
                SegmentRef::new(root, folder, name),
                &mut clock,
            )?);
        }
        Ok(Self { listing, newest })
    }

    /// The reason why events before a cursor are certainly missing from the log; `None` if no sign of that is found.
    pub(crate) fn lacks(&self, root: &Arc<Root>, folder: &Path, cursor: &Cursor) -> Result<Option<String>> {
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
        }
        let newest = position.newest.filter(|newest| newest.is_v7());
        Ok(newest.filter(|newest| self.newest < Some(*newest)).map(|newest| {
            let have = self.newest.map_or_else(
                || "no event".to_owned(),
                |have| format!("{have} as its newest event"),
            );
            format!("the cursor is behind the event {newest}, and the log has {have}")
        }))
    }
}
