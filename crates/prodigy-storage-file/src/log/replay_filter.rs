//! The replay filter: it keeps a scan from returning an event again that its cursor already covers.
//!
//! An event can be in two segments: two processes appended a batch under the same ids at one moment, or one process
//! appended it again after a failed sync. A merge sees equal ids next to each other. If it begins at a cursor, the first
//! of two equal ids may be before the cursor. So the merge searches there for each record whose id is not above the
//! newest id that the cursor covers.

use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;

use prodigy_storage_backend::{EventId, Result};
use prodigy_storage_layout::SegmentName;

use super::clock::StepClock;
use super::cursor::{Position, State};
use super::search;
use super::segment_ref::SegmentRef;
use crate::root::Root;

/// The largest number of segments below the high-water mark that are searched, newest first: a second copy of an event
/// is written soon after the first.
pub(super) const MOST_COVERED: usize = 64;
/// The number of ids that one search of a segment keeps. A scan asks for ids in ascending order, so a segment is opened
/// once for this number of events, and not once for each.
const KEPT: usize = 4096;

/// A segment that was read wholly or up to an id.
#[derive(Debug)]
struct Read {
    name: SegmentName,
    /// The last id in the segment; searched for when it is needed.
    last: Option<EventId>,
    /// All ids of the segment between the first and the last of the range, ascending.
    ids: Vec<EventId>,
    known: Option<RangeInclusive<EventId>>,
}

impl Read {
    fn new(name: SegmentName, last: Option<EventId>) -> Self {
        Self {
            name,
            last,
            ids: Vec::new(),
            known: None,
        }
    }

    /// True if the part that was read has the id.
    fn holds(&mut self, root: &Arc<Root>, folder: &Path, id: EventId, clock: &mut StepClock) -> Result<bool> {
        let last = match self.last {
            Some(last) => last,
            None => {
                let last = search::last_id_of(SegmentRef::new(root, folder, &self.name), clock)?
                    .unwrap_or(EventId::MIN);
                self.last = Some(last);
                last
            }
        };
        if id > last {
            return Ok(false);
        }
        if !self.known.as_ref().is_some_and(|known| known.contains(&id)) {
            self.known = None;
            self.ids = search::ids_from(SegmentRef::new(root, folder, &self.name), id, KEPT, clock)?;
            let end = match self.ids.last() {
                Some(&end) if self.ids.len() >= KEPT => end,
                _ => last,
            };
            self.known = Some(id..=end.max(id));
        }
        Ok(self.ids.binary_search(&id).is_ok())
    }
}

/// The segments before a cursor that are searched.
#[derive(Debug, Default)]
pub(crate) struct ReplayFilter {
    newest: Option<EventId>,
    segments: Vec<Read>,
}

impl ReplayFilter {
    /// A filter for a position in a log of these segments.
    pub(crate) fn new<'a>(position: &Position, names: impl Iterator<Item = &'a SegmentName>) -> Self {
        let Some(newest) = position.newest else {
            return Self::default();
        };
        let (mut segments, mut covered) = (Vec::new(), Vec::new());
        for name in names {
            let last = match position.of(name) {
                State::Unread => continue,
                State::Partly(reached) if reached.last.is_none() => continue,
                State::Partly(reached) => reached.last,
                State::Read => None,
            };
            let read = Read::new(name.clone(), last);
            if position.segments.contains_key(name) {
                segments.push(read);
            } else {
                covered.push(read);
            }
        }
        covered.sort_by_key(|read| std::cmp::Reverse(read.name.made()));
        segments.extend(covered.into_iter().take(MOST_COVERED));
        Self {
            newest: Some(newest),
            segments,
        }
    }

    /// True if the cursor covers this id already, in another segment than `at`.
    pub(crate) fn covers(
        &mut self,
        root: &Arc<Root>,
        folder: &Path,
        at: &SegmentName,
        id: EventId,
        clock: &mut StepClock,
    ) -> Result<bool> {
        if self.newest.is_none_or(|newest| id > newest) {
            return Ok(false);
        }
        for read in &mut self.segments {
            // A file of another program has no known order of ids before a position.
            if read.name == *at || !read.name.is_canonical() || EventId::floor(read.name.lower()) > id {
                continue;
            }
            if read.holds(root, folder, id, clock)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
