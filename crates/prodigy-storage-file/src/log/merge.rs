//! A scan, which merges the segments of a log in the order of their ids.

mod readers;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use prodigy_storage_backend::{
    Cursor, Deadline, ErrorKind, EventId, ForeignKind, Result, Scan, ScanItem, ScanOptions, StorageError,
};
use prodigy_storage_layout::{SegmentForm, SegmentName, Timestamp};

use super::archive;
use super::clock::StepClock;
use super::cursor::{Position, Reached, State};
use super::listing;
use super::replay_filter::{LongWritten, ReplayFilter};
use super::resume::{
    begun_again, covers_gone, find_reopened, gap, has_older, older, open_again, removed, removed_meanwhile,
    resume,
};
use super::search::{self, Bound};
use super::segment::{Head, SegmentReader};
use super::segment_ref::SegmentRef;
use super::source;
use crate::root::Root;
use readers::{Readers, Slot};

/// A segment that is not open yet.
#[derive(Debug)]
struct Pending {
    name: SegmentName,
    from: Option<Reached>,
}

/// A scan in progress.
#[derive(Debug)]
pub(crate) struct Merge {
    root: Arc<Root>,
    folder: PathBuf,
    clock: StepClock,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    /// The smallest id that the scan returns. All smaller ids count as read.
    floor: Option<EventId>,
    /// The segments that are not open yet. They are taken from the end: first those of other programs, then ours by
    /// ascending lower bound.
    pending: Vec<Pending>,
    /// Element `n` is the earliest creation time among the first `n` elements of `pending` that are of ours and unread.
    /// So it is known for what is left after each removal from the end.
    pending_made: Vec<Timestamp>,
    readers: Readers,
    /// The reader of the last returned item. The next call moves it forward.
    current: Option<Slot>,
    /// Segments that were read to their end, and that the high-water mark of a cursor would not cover.
    finished: BTreeMap<SegmentName, Reached>,
    /// The creation time of the newest segment when the scan began.
    newest_made: Option<Timestamp>,
    /// The creation times of the listed segments and of the newest removed one, ascending. The high-water mark is one of
    /// them.
    made: Vec<Timestamp>,
    long_written: Option<LongWritten>,
    last_id: Option<EventId>,
    /// The newest id that this scan has returned, or that its cursor covers.
    newest: Option<EventId>,
    replay_filter: ReplayFilter,
    /// The creation time of the first segment of the log.
    begun: Option<Timestamp>,
    start: Position,
    /// The options of a scan without a cursor that has returned nothing yet: it may begin again.
    again: Option<ScanOptions>,
}

/// Updates the position after another program has rotated (renamed) its files. A rotated name begins with the earlier
/// name and a dot.
fn follow_rotation(position: &mut Position, listing: &listing::Listing) {
    let gone = |name: &&SegmentName| !name.is_canonical() && !listing.segments.contains_key(*name);
    let gone: Vec<SegmentName> = position.segments.keys().filter(gone).cloned().collect();
    for old in gone {
        let rotated = listing.segments.keys().find(|name| {
            !name.is_canonical()
                && name
                    .stem()
                    .strip_prefix(old.stem())
                    .is_some_and(|rest| rest.starts_with('.'))
        });
        if let Some(rotated) = rotated
            && let Some(reached) = position.segments.remove(&old)
        {
            position.segments.insert(rotated.clone(), reached);
        }
    }
}

/// Begins a scan. With a `floor`, events with smaller ids count as read.
pub(crate) fn scan(
    root: &Arc<Root>,
    folder: &Path,
    options: &ScanOptions,
    floor: Option<EventId>,
    deadline: Deadline,
) -> Result<Merge> {
    let mut position = options
        .from
        .as_ref()
        .map(Position::decode)
        .transpose()?
        .unwrap_or_default();
    let listing = listing::list_after(root, folder, &position, deadline)?;
    follow_rotation(&mut position, &listing);
    position.fold_twins(|name| listing.segments.contains_key(name));
    let begun = listing.begun();
    if let Some(at) = position.begun {
        if older(root, folder, &listing, at, &mut StepClock::until(deadline))?.is_some() {
            return Err(has_older(root, folder));
        }
        let was_removed = listing.removed().is_some_and(|mark| mark.begun == at);
        if begun != Some(at) && !was_removed && !listing.has_made(at) {
            return Err(begun_again(root, folder));
        }
    }
    if let Some(removed) = listing.removed() {
        if options.from.is_some() && position.misses(removed) {
            return Err(removed.gap(root, folder));
        }
        let is_left = |name: &SegmentName| listing.segments.contains_key(name) || !removed.covers(name);
        position.segments.retain(|name, _| is_left(name));
    }
    if position.lost_its_mark(&listing) {
        return Err(covers_gone(root, folder));
    }
    if let Some(name) = find_reopened(root, folder, &position, &listing)? {
        return Err(open_again(SegmentRef::new(root, folder, name)));
    }
    for (name, reached) in &position.segments {
        if !reached.done && !listing.segments.contains_key(name) {
            return Err(gap(SegmentRef::new(root, folder, name)));
        }
    }
    root.skip_files(ForeignKind::EventFiles, folder, &listing.others);
    let newest_made = listing.newest_made();
    let removed = listing.removed().map(|removed| removed.up_to);
    let mut made: Vec<Timestamp> = listing.made().chain(removed).collect();
    made.sort_unstable();
    let long_written = LongWritten::of(listing.segments.keys());
    let mut finished = BTreeMap::new();
    let (mut pending, mut foreign) = (Vec::new(), Vec::new());
    let replay_filter = ReplayFilter::new(&position, listing.segments.keys());
    for name in listing.segments.into_keys().rev() {
        match position.of(&name) {
            State::Read => {
                if let Some(reached) = position.segments.get(&name) {
                    finished.insert(name, *reached);
                }
            }
            state => {
                let from = match state {
                    State::Partly(reached) => Some(reached),
                    _ => None,
                };
                if name.is_canonical() {
                    pending.push(Pending { name, from });
                } else {
                    foreign.push(Pending { name, from });
                }
            }
        }
    }
    // Files of other programs are opened first: they may have ids in any order, whatever their names say.
    pending.append(&mut foreign);
    let mut smallest = Timestamp::MAX;
    let mut pending_made: Vec<Timestamp> = Vec::with_capacity(pending.len() + 1);
    pending_made.push(smallest);
    for segment in &pending {
        if segment.from.is_none() && segment.name.is_canonical() {
            smallest = smallest.min(segment.name.made());
        }
        pending_made.push(smallest);
    }
    let mut merge = Merge {
        root: Arc::clone(root),
        folder: folder.to_owned(),
        clock: StepClock::new(options.step_timeout),
        since: options.since,
        until: options.until,
        floor,
        pending,
        pending_made,
        readers: Readers::new(root.options.scan_memory),
        current: None,
        finished,
        newest_made,
        made,
        long_written,
        last_id: position.newest,
        newest: position.newest,
        replay_filter,
        begun,
        start: position,
        again: options.from.is_none().then(|| options.clone()),
    };
    if merge.floor.is_some() {
        // Opens segments now, so that a cursor taken before the first event already says that everything before the
        // floor is read.
        merge.open_due()?;
    }
    Ok(merge)
}

impl Merge {
    /// Opens all segments that may have events before the next item of the open ones.
    fn open_due(&mut self) -> Result<()> {
        loop {
            let Some(next) = self.pending.last() else {
                return Ok(());
            };
            let lower = EventId::floor(next.name.lower());
            let due = match self.readers.smallest() {
                Some(smallest) => lower <= smallest || !next.name.is_canonical(),
                None => true,
            };
            if !due {
                return Ok(());
            }
            // Runs before the segment is removed from `pending`, because its presence there keeps the high-water mark
            // below it.
            self.trim_finished();
            let Some(segment) = self.pending.pop() else {
                return Ok(());
            };
            if let Err(error) = self.open(&segment) {
                self.pending.push(segment);
                return Err(error);
            }
        }
    }

    fn open(&mut self, segment: &Pending) -> Result<()> {
        let chunk = self.readers.chunk();
        let Pending { name, from } = segment;
        if from.is_none() && self.skips(name)? {
            return Ok(());
        }
        let opened = match from {
            Some(reached) => {
                let (root, folder, clock) = (&self.root, &self.folder, &mut self.clock);
                Some(resume(
                    SegmentRef::new(root, folder, name),
                    *reached,
                    chunk,
                    clock,
                )?)
            }
            None => match self.floor.map(Bound::Id).or(self.since.map(Bound::Time)) {
                Some(bound) => {
                    let (root, folder, clock) = (&self.root, &self.folder, &mut self.clock);
                    search::seek(SegmentRef::new(root, folder, name), bound, chunk, clock)?
                }
                None => {
                    let mut opened =
                        SegmentReader::open(SegmentRef::new(&self.root, &self.folder, name), 0, None, chunk)?;
                    if let Some(reader) = opened.as_mut() {
                        reader.step(&mut self.clock)?;
                    }
                    opened
                }
            },
        };
        match opened {
            Some(reader) => self.place(reader),
            // The segment is gone.
            None => match removed(SegmentRef::new(&self.root, &self.folder, name)) {
                Some(mark) if self.floor.is_none() => return Err(mark.gap(&self.root, &self.folder)),
                // The scan has a floor, and all records of this segment are before it.
                Some(_) => {}
                // The segment was empty, and its writer has removed it.
                None => self
                    .made
                    .retain(|made| *made != name.made() || name.twin_form().is_some()),
            },
        }
        Ok(())
    }

    /// True if its first or last record shows that an unread segment has no event in the requested range.
    ///
    /// A segment that begins at `until` or later stays unread in the cursor. A segment that ends before `since` counts
    /// as read.
    fn skips(&mut self, name: &SegmentName) -> Result<bool> {
        if let Some(floor) = self.floor {
            return self.ends_before(name, floor);
        }
        if !name.is_canonical() || (self.since.is_none() && self.until.is_none()) {
            return Ok(false);
        }
        let (from, archived) = match source::open_form(
            SegmentRef::new(&self.root, &self.folder, name),
            SegmentForm::Plain,
        )? {
            Some((file, _)) => {
                let path = self.folder.join(name.file_name(SegmentForm::Plain));
                (search::first_time(&self.root, &path, &*file)?, None)
            }
            None => {
                let summary = archive::summary(SegmentRef::new(&self.root, &self.folder, name))?;
                (summary.and_then(|summary| summary.from), summary)
            }
        };
        if from.is_some_and(|from| self.until.is_some_and(|until| from >= until)) {
            self.hold_mark(name.made());
            return Ok(true);
        }
        let Some(summary) = archived else {
            return Ok(false);
        };
        let is_early = summary
            .latest()
            .is_some_and(|latest| self.since.is_some_and(|since| latest < since));
        if is_early {
            let reached = Reached {
                offset: summary.bytes,
                last: summary.last,
                done: true,
            };
            self.finished.insert(name.clone(), reached);
        }
        Ok(is_early)
    }

    /// True for a sealed segment whose last id is before the floor. It then counts as read.
    fn ends_before(&mut self, name: &SegmentName, floor: EventId) -> Result<bool> {
        if !name.is_canonical() {
            return Ok(false);
        }
        let segment = SegmentRef::new(&self.root, &self.folder, name);
        let (bytes, last) = match source::open_form(segment, SegmentForm::Plain)? {
            Some((file, found)) if found.is_sealed() => {
                let path = segment.path(SegmentForm::Plain);
                let last = search::last_record(&self.root, &path, &*file, found.len, &mut self.clock)?
                    .filter(|last| last.ends_line);
                (found.len, last.map(|last| last.id))
            }
            Some(_) => return Ok(false),
            None => match archive::summary(segment)? {
                Some(summary) => (summary.bytes, summary.last),
                None => return Ok(false),
            },
        };
        if last.is_none_or(|last| last >= floor) {
            return Ok(false);
        }
        self.newest = self.newest.max(last);
        let reached = Reached {
            offset: bytes,
            last,
            done: true,
        };
        self.finished.insert(name.clone(), reached);
        Ok(true)
    }

    /// Adds the reader of a segment to the merge.
    fn place(&mut self, reader: SegmentReader) {
        // The records that the reader skipped count as read.
        self.newest = self.newest.max(reader.last.filter(|last| last.is_v7()));
        if matches!(reader.head, Head::End) {
            self.finish(reader);
            return;
        }
        self.readers.add(reader);
    }

    /// Records that the segment of a reader was read to its end.
    fn finish(&mut self, reader: SegmentReader) {
        // An empty segment counts as unread, since its writer may abandon it.
        if reader.last.is_some() || reader.sealed || reader.position > 0 {
            let reached = Reached {
                offset: reader.position,
                last: reader.last,
                done: reader.is_done(),
            };
            self.finished.insert(reader.name, reached);
        } else if reader.name.is_canonical() {
            self.hold_mark(reader.name.made());
        }
    }

    /// Keeps the high-water mark below this segment, so that it is read again from a later cursor.
    fn hold_mark(&mut self, made: Timestamp) {
        let below = Timestamp::from_nanos(made.as_nanos().saturating_sub(1));
        self.newest_made = self.newest_made.map(|newest| newest.min(below));
    }

    /// Moves a reader to its next item. After an error the reader is unchanged, so that the call can be repeated.
    fn advance(&mut self, slot: Slot) -> Result<()> {
        if let Err(error) = self.readers.step(slot, &mut self.clock) {
            self.current = Some(slot);
            return Err(error);
        }
        match self.readers.get(slot).map(|reader| &reader.head) {
            Some(Head::End) => {
                if let Some(reader) = self.readers.remove(slot) {
                    self.finish(reader);
                }
            }
            Some(_) => self.readers.take_turn(slot),
            None => {}
        }
        Ok(())
    }

    /// The high-water mark of a cursor at the current position.
    fn mark(&self) -> Option<Timestamp> {
        let newest = self.newest_made.max(self.start.mark)?;
        let smallest = self
            .pending_made
            .get(self.pending.len())
            .copied()
            .unwrap_or(Timestamp::MAX);
        let below = Timestamp::from_nanos(smallest.as_nanos().saturating_sub(1));
        let bound = newest.min(below).max(self.start.mark.unwrap_or(Timestamp::MIN));
        let not_after = self.made.partition_point(|made| *made <= bound);
        self.made.get(not_after.checked_sub(1)?).copied()
    }

    /// Removes finished segments that the high-water mark covers. Runs only now and then.
    fn trim_finished(&mut self) {
        if self.finished.len() < 64 || !self.finished.len().is_multiple_of(64) {
            return;
        }
        let Some(mark) = self.mark() else { return };
        LongWritten::retain(self.long_written, &mut self.finished, mark);
    }

    /// Finds the reader of the next item to return, and counts the item as read. Returns false at the end.
    fn find_next(&mut self) -> Result<bool> {
        if let Some(slot) = self.current.take() {
            self.advance(slot)?;
        }
        loop {
            self.open_due()?;
            let Some((order, slot)) = self.readers.pop() else {
                return Ok(false);
            };
            let passed = self.pass(slot);
            self.readers.bound_open(slot);
            match passed {
                Ok(Some(true)) => {
                    self.current = Some(slot);
                    return Ok(true);
                }
                Ok(Some(false)) => self.advance(slot)?,
                Ok(None) => {}
                Err(error) => {
                    self.readers.put_back(order, slot);
                    return Err(error);
                }
            }
        }
    }

    /// Begins a scan without a cursor again after events were removed, if it has returned nothing yet. Otherwise returns the
    /// error.
    fn begin_again(&mut self, error: StorageError) -> Result<()> {
        if error.kind() != ErrorKind::CursorGap || self.start != Position::default() {
            return Err(error);
        }
        let Some(options) = self.again.take() else {
            return Err(removed_meanwhile(&self.root, &self.folder));
        };
        let deadline = options.step_timeout.map_or_else(Deadline::never, Deadline::after);
        *self = scan(
            &Arc::clone(&self.root),
            &self.folder.clone(),
            &options,
            self.floor,
            deadline,
        )?;
        Ok(())
    }

    /// Counts the item at a reader as read. Returns true if the item belongs to the result, and `None` if it is after
    /// the end of the requested range.
    fn pass(&mut self, slot: Slot) -> Result<Option<bool>> {
        self.readers.wake(slot, &mut self.clock)?;
        let Some(reader) = self.readers.get(slot) else {
            return Ok(None);
        };
        let bounded = self.since.is_some() || self.until.is_some();
        let time = bounded.then(|| reader.time()).flatten();
        let is_late = |(time, verified)| {
            verified && reader.name.is_canonical() && self.until.is_some_and(|until| time >= until)
        };
        if time.is_some_and(is_late) {
            // Times do not decrease within a segment, so the reader has nothing more to return. A cursor still states
            // its position.
            self.readers.sleep(slot);
            return Ok(None);
        }
        let given = match reader.head {
            // In a file of another program, a line of another form is no damage. It is counted as skipped.
            Head::Damage { offset, len, .. } if !reader.name.is_canonical() => {
                self.root
                    .foreign
                    .skip_line(ForeignKind::EventLines, &reader.path(), offset, len);
                false
            }
            Head::Damage { .. } | Head::TooLarge { id: None, .. } => true,
            Head::Record { id, .. } | Head::TooLarge { id: Some(id), .. } => {
                let given = self.last_id != Some(id)
                    && time.is_none_or(|(time, _)| {
                        self.since.is_none_or(|since| time >= since)
                            && self.until.is_none_or(|until| time < until)
                    })
                    && !self.replay_filter.covers(
                        &self.root,
                        &self.folder,
                        &reader.name,
                        id,
                        &mut self.clock,
                    )?;
                self.last_id = Some(id);
                // Ids of other programs are not comparable with ours, so they don't count as the newest id.
                if id.is_v7() {
                    self.newest = self.newest.max(Some(id));
                }
                given
            }
            _ => false,
        };
        self.readers.consume(slot);
        Ok(Some(given))
    }
}

impl Scan for Merge {
    fn next(&mut self) -> Result<Option<ScanItem<'_>>> {
        self.clock.restart();
        loop {
            match self.find_next() {
                Ok(true) => break,
                Ok(false) => return Ok(None),
                Err(error) => self.begin_again(error)?,
            }
        }
        self.again = None;
        let reader = self.current.and_then(|slot| self.readers.get(slot));
        let Some(reader) = reader else { return Ok(None) };
        if let Some(damage) = reader.damage() {
            return Ok(Some(ScanItem::Damage(damage)));
        }
        if let Some(record) = reader.too_large() {
            return Ok(Some(ScanItem::TooLarge(record)));
        }
        Ok(reader.record().map(ScanItem::Record))
    }

    fn cursor(&self) -> Cursor {
        let mark = self.mark();
        let mut segments = self.finished.clone();
        for segment in &self.pending {
            if let Some(reached) = segment.from {
                segments.insert(segment.name.clone(), reached);
            }
        }
        for reader in self.readers.iter() {
            let reached = Reached {
                offset: reader.position,
                last: reader.last,
                done: false,
            };
            segments.insert(reader.name.clone(), reached);
        }
        if let Some(mark) = mark {
            LongWritten::retain(self.long_written, &mut segments, mark);
        }
        Position {
            mark,
            mark_is_segment: true,
            segments,
            newest: self.newest,
            begun: self.newest.and(self.begun),
        }
        .into_cursor()
    }
}
