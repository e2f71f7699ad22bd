//! Idempotent appends: each event is stored once under its given id.

use std::collections::HashMap;
use std::path::Path;

use prodigy_storage_backend::{
    Appended, Batch, Deadline, Durability, ErrorKind, EventId, IdSource, Result, StorageError,
};
use prodigy_storage_layout::{SegmentForm, SegmentName};

use super::clock::StepClock;
use super::segment_ref::SegmentRef;
use super::writer::{LogWriter, State, stored_len};
use super::{listing, persist, search};
use crate::root::{Root, count};

impl LogWriter {
    /// Appends a batch of events under the ids that the caller gave them.
    pub(crate) fn append_given(
        &self,
        batch: &Batch,
        durability: Durability,
        deadline: Deadline,
    ) -> Result<Appended> {
        let mut records: Vec<(EventId, &[u8])> = batch.ids().iter().copied().zip(batch.bodies()).collect();
        records.sort_by_key(|(id, _)| *id);
        records.dedup_by_key(|(id, _)| *id);

        let mut state = self.enter(deadline)?;
        let now = self.time()?;
        self.still_here(&mut state, durability)?;
        state.notice_folder(&self.root, &self.folder);
        self.adopt_first(&mut state, durability, deadline)?;
        batch.check_ids(&self.job, self.root.now(), state.newest_id())?;
        let wanted: Vec<EventId> = records.iter().map(|(id, _)| *id).collect();
        let stored = self.find_stored(&mut state, &wanted, deadline)?;
        records.retain(|(id, _)| !stored.contains_key(id));
        let found = state.owe_sync(stored);
        let appended = Appended {
            stored: records.len(),
            duplicates: batch.len() - records.len(),
        };

        let mut seq = 0;
        let mut rest = records.as_slice();
        while let Some(&(first, _)) = rest.first() {
            let begun = rest.len() < records.len();
            let at = self
                .choose(&mut state, first, Some(first.time()), now, deadline)
                .map_err(|error| self.partly(error, batch.ids(), begun))?;
            // A segment that accepts this id accepts all following ids as well. The run ends where another open segment
            // should take over.
            let bound = state.next_last(at, first);
            let run = rest
                .iter()
                .take_while(|(id, _)| bound.is_none_or(|bound| *id < bound))
                .count()
                .max(1);
            let (these, later) = rest.split_at(run.min(rest.len()));
            seq = self
                .write(&mut state, at, now, these.iter().copied())
                .map_err(|error| self.partly(error, batch.ids(), begun))?;
            rest = later;
        }
        drop(state);
        count(&self.root.counters.appends, 1);
        tracing::trace!(
            job = %self.job,
            events = appended.stored,
            duplicates = appended.duplicates,
            bytes = stored_len(records.iter().map(|(_, body)| *body)),
            "appended"
        );
        self.settle(found, batch.ids(), durability, deadline)?;
        self.settle(seq, batch.ids(), durability, deadline)?;
        Ok(appended)
    }

    /// The ids of `wanted` (ascending) that are stored, each with its segment.
    fn find_stored(
        &self,
        state: &mut State,
        wanted: &[EventId],
        deadline: Deadline,
    ) -> Result<HashMap<EventId, SegmentName>> {
        let mut stored = HashMap::new();
        let (Some(&smallest), Some(&greatest)) = (wanted.first(), wanted.last()) else {
            return Ok(stored);
        };
        let listing = listing::list_if_changed(&self.root, &self.folder, &mut state.listed, deadline)?;
        let mark = listing.mark.filter(|mark| mark.newest < smallest);
        let clock = &mut StepClock::until(deadline);
        for (name, forms) in &listing.segments {
            if mark.is_some_and(|mark| mark.covers(name)) {
                continue;
            }
            if name.is_canonical() && EventId::floor(name.lower()) > greatest {
                continue;
            }
            if state.index.is_suspect(name) {
                continue;
            }
            let own = state.holds(name);
            let last = match (own, state.index.last(name)) {
                (Some(last), _) | (None, Some(last)) => last,
                (None, None) if name.is_canonical() => {
                    let path = self.folder.join(name.file_name(SegmentForm::Plain));
                    // This is checked before the last id is read. A segment that is found closed only after the read
                    // may have grown in between.
                    let is_complete = !forms.plain
                        || self
                            .root
                            .fs
                            .metadata(&path)
                            .is_ok_and(|found| !found.is_writable());
                    let last = search::last_id_of(SegmentRef::new(&self.root, &self.folder, name), clock)?;
                    if is_complete {
                        state.index.learn(name, last);
                    }
                    last
                }
                // A file of another program may have ids in any order, so it may hold any id.
                (None, None) => Some(EventId::MAX),
            };
            if last.is_none_or(|last| last < smallest) {
                continue;
            }
            let from = if name.is_canonical() {
                EventId::floor(name.lower())
            } else {
                EventId::MIN
            };
            let first = wanted.partition_point(|id| *id < from);
            let end = last.map_or(0, |last| wanted.partition_point(|id| *id <= last));
            let range = wanted.get(first..end).unwrap_or_default();
            if range.is_empty() {
                continue;
            }
            for id in search::find_ids(SegmentRef::new(&self.root, &self.folder, name), range, clock)? {
                stored.insert(id, name.clone());
            }
        }
        Ok(stored)
    }

    /// Syncs segments of other writers in which duplicates were found, since these duplicates may not be on the disk
    /// yet.
    pub(super) fn sync_found<'n>(&self, names: impl Iterator<Item = &'n SegmentName>) -> Result<()> {
        for name in names {
            // A segment that exists only in compressed form was synced before it got its name.
            persist::sync_plain(&self.root, &self.folder.join(name.file_name(SegmentForm::Plain)))?;
        }
        self.root.sync_folder(&self.folder)
    }

    /// The error of a write that failed after an earlier write of the same batch succeeded.
    fn partly(&self, error: StorageError, ids: &[EventId], begun: bool) -> StorageError {
        if begun || error.kind() == ErrorKind::OutcomeUnknown {
            self.unknown(format!("{error:#}"), ids)
        } else {
            error
        }
    }

    fn unknown(&self, why: String, ids: &[EventId]) -> StorageError {
        self.unclear(why).with_ids(ids)
    }
}

impl State {
    /// Clears the segment index if the path of the log now leads to another folder.
    fn notice_folder(&mut self, root: &Root, folder: &Path) {
        let found = root.fs.metadata(folder).ok().map(|found| found.identity);
        if self.folder != found {
            self.index.forget();
            self.folder = found;
        }
    }

    /// The newest id of the log that this writer knows.
    fn newest_id(&self) -> EventId {
        self.ids.as_ref().map_or(EventId::MIN, IdSource::newest)
    }

    /// Records that the next sync must cover the segments in which duplicates were found. Returns the number of the
    /// write that the sync has to reach.
    fn owe_sync(&mut self, stored: HashMap<EventId, SegmentName>) -> u64 {
        if stored.is_empty() {
            return 0;
        }
        self.seq += 1;
        for name in stored.into_values() {
            // Segments that this writer has open are synced in any case.
            if self.holds(&name).is_none() {
                self.found.insert(name, self.seq);
            }
        }
        self.seq
    }

    /// The last id of a segment that this writer has open; `None` for any other segment.
    fn holds(&self, name: &SegmentName) -> Option<Option<EventId>> {
        self.open
            .iter()
            .find(|active| active.name == *name)
            .map(|active| active.last)
    }

    /// The smallest last id above `id` among the other open segments of this writer. For an empty segment, its lower
    /// bound counts.
    fn next_last(&self, at: usize, id: EventId) -> Option<EventId> {
        let others = self.open.iter().enumerate().filter(|(other, _)| *other != at);
        others
            .filter_map(|(_, active)| active.last.or(Some(EventId::floor(active.name.lower()))))
            .filter(|last| *last > id)
            .min()
    }
}
