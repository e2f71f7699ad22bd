//! What a cursor has passed over already, for events that stand in two segments.
//!
//! A batch that is appended again under its ids, by two processes at one moment or after a sync that failed, may stand
//! in two segments. A merge sees equal ids side by side; one that begins at a cursor may have given the first of them
//! before. So it looks for a record that is not above the newest one given in what lies before the cursor.

use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;

use prodigy_storage_backend::{EventId, Result};
use prodigy_storage_layout::SegmentName;

use super::cursor::{Position, State};
use super::search;
use super::segment::StepClock;
use crate::store::Store;

/// Segments below the mark that are looked into, the newest by their making: what is stored twice is stored twice
/// soon.
const MOST_COVERED: usize = 64;
/// Ids that one look into a segment keeps. A scan asks for ids in ascending order, so a segment is opened once for so many
/// of its events, and not once for each id.
const KEPT: usize = 4096;

/// A segment that was read, wholly or up to an id.
#[derive(Debug)]
struct Read {
    name: SegmentName,
    /// The last id that was read; found out when it is asked for.
    last: Option<EventId>,
    /// All of its ids from the first of the range to the last of it, ascending.
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

    /// Whether it holds the id, in what was read of it.
    fn holds(
        &mut self,
        store: &Arc<Store>,
        folder: &Path,
        id: EventId,
        clock: &mut StepClock,
    ) -> Result<bool> {
        let last = match self.last {
            Some(last) => last,
            None => {
                let last = search::last_id_of(store, folder, &self.name, clock)?.unwrap_or(EventId::MIN);
                self.last = Some(last);
                last
            }
        };
        if id > last {
            return Ok(false);
        }
        if !self.known.as_ref().is_some_and(|known| known.contains(&id)) {
            self.known = None;
            self.ids = search::ids_from(store, folder, &self.name, id, KEPT, clock)?;
            let end = match self.ids.last() {
                Some(&end) if self.ids.len() >= KEPT => end,
                _ => last,
            };
            self.known = Some(id..=end.max(id));
        }
        Ok(self.ids.binary_search(&id).is_ok())
    }
}

/// The segments that lie before a cursor, as far as they are looked into.
#[derive(Debug, Default)]
pub(crate) struct Earlier {
    newest: Option<EventId>,
    segments: Vec<Read>,
}

impl Earlier {
    /// Of the segments that are there.
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

    /// Whether a record of this id, met in `at`, was given before the cursor.
    pub(crate) fn gave(
        &mut self,
        store: &Arc<Store>,
        folder: &Path,
        at: &SegmentName,
        id: EventId,
        clock: &mut StepClock,
    ) -> Result<bool> {
        if self.newest.is_none_or(|newest| id > newest) {
            return Ok(false);
        }
        for read in &mut self.segments {
            // Of another program's file it is not known what stands before a position in it.
            if read.name == *at || !read.name.is_canonical() || EventId::floor(read.name.lower()) > id {
                continue;
            }
            if read.holds(store, folder, id, clock)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
