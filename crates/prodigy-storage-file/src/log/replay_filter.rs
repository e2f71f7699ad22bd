//! The replay filter, which keeps a scan from returning an event again if its cursor already covers it.
//!
//! An event can be in two segments: two processes appended a batch under the same ids at the same time, or one process
//! appended it again after a failed sync. A merge sees equal ids next to each other. If it begins at a cursor, however,
//! the first of two equal ids may be before the cursor. So each record whose id is not above the newest id before the
//! cursor is searched for in the parts of segments before the cursor.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;

use prodigy_storage_backend::{EventId, Result};
use prodigy_storage_layout::{SegmentName, Timestamp};

use super::clock::StepClock;
use super::cursor::{Position, Reached, State};
use super::search;
use super::segment_ref::SegmentRef;
use crate::root::Root;

/// The largest number of segments below the cursor's high-water mark that are searched, newest first. This is enough,
/// because the second copy of an event is written soon after the first.
pub(super) const MOST_COVERED: usize = 64;
/// The number of ids that one search of a segment keeps. A scan asks for ids in ascending order, so a segment is opened
/// once per this number of events, and not once per event.
const KEPT: usize = 4096;

/// The largest number of finished segments that a cursor names for the filter.
const MOST_NAMED: usize = 16;
/// The number of newest segments that a cursor does not name for the filter, which finds them. More segments may be created
/// before the cursor is used.
const NEWEST: usize = MOST_COVERED / 2;

/// Recognises an old segment that was written to for long: it has later events than the newest segments begin with. The
/// filter would not search it, so a cursor names it although its high-water mark covers it.
#[derive(Clone, Copy, Debug)]
pub(super) struct LongWritten {
    /// When the newest segment that may be one was created.
    made: Timestamp,
    /// The least lower bound of the newest segments.
    lower: Timestamp,
}

impl LongWritten {
    /// `None` if the log has so few segments that the filter searches all.
    pub(super) fn of<'a>(names: impl Iterator<Item = &'a SegmentName>) -> Option<Self> {
        let ours = names.filter(|name| name.is_canonical());
        let mut ours: Vec<_> = ours.map(|name| (Reverse(name.made()), name.lower())).collect();
        if ours.len() <= NEWEST {
            return None;
        }
        let (newest, (Reverse(made), _), _) = ours.select_nth_unstable(NEWEST);
        let lower = newest.iter().map(|(_, lower)| *lower).min()?;
        Some(Self { made: *made, lower })
    }

    /// Removes the finished segments that a high-water mark covers, except for those of this kind.
    pub(super) fn retain(
        long_written: Option<Self>,
        segments: &mut BTreeMap<SegmentName, Reached>,
        mark: Timestamp,
    ) {
        // A twin that is not named has the position of its base.
        let is_covered = |name: &SegmentName, reached: &Reached| {
            reached.done && name.is_canonical() && name.twin_form().is_none() && name.made() <= mark
        };
        let is_long_written = |name: &SegmentName, reached: &Reached| {
            long_written.is_some_and(|known| {
                name.made() <= known.made && reached.last >= Some(EventId::floor(known.lower))
            })
        };
        let mut lasts: Vec<Option<EventId>> = segments
            .iter()
            .filter(|(name, reached)| is_covered(name, reached) && is_long_written(name, reached))
            .map(|(_, reached)| reached.last)
            .collect();
        lasts.sort_unstable_by_key(|last| Reverse(*last));
        lasts.truncate(MOST_NAMED);
        let least = lasts.last().copied();
        segments.retain(|name, reached| {
            !is_covered(name, reached)
                || (is_long_written(name, reached) && least.is_some_and(|least| reached.last >= least))
        });
    }
}

/// The part of a segment before the cursor: up to an id, or the whole segment.
#[derive(Debug)]
struct Read {
    name: SegmentName,
    /// The last id in this part; `None` until it is needed.
    last: Option<EventId>,
    /// The ids of the segment within the range `known`, ascending.
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

    /// True if the part of the segment before the cursor has this id.
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

/// Searches the segments before a cursor for ids.
#[derive(Debug, Default)]
pub(crate) struct ReplayFilter {
    newest: Option<EventId>,
    segments: Vec<Read>,
}

impl ReplayFilter {
    /// Creates the filter for a cursor's position, in a log with these segments.
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
        covered.sort_by_key(|read| Reverse(read.name.made()));
        segments.extend(covered.into_iter().take(MOST_COVERED));
        Self {
            newest: Some(newest),
            segments,
        }
    }

    /// True if the cursor already covers this id, in another segment than `at`.
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
            // A file of another program is not searched: its ids may be in any order.
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
