//! The writer of a log. All handles of this process share it.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use prodigy_storage_backend::record::{RECORD_OVERHEAD, RecordEncoder};
use prodigy_storage_backend::{
    Appended, Batch, Deadline, Durability, ErrorKind, EventId, IdSource, Result, StorageError, time_to_store,
};
use prodigy_storage_layout::{JobAddress, Part, SegmentForm, SegmentName, Timestamp, events_folder};

use super::active::{Active, SegmentFile};
use super::adopt;
use super::archive::Archive;
use super::commit::{Commit, FailedSync, Unsynced};
use super::listing::{KnownListing, KnownNewest};
use super::moved::{PathLook, moved};
use super::sealed_mark::WORTH;
use super::segment_index::SegmentIndex;
use super::tail;
use crate::root::LASTS;
use crate::root::{Root, count};

pub(super) const APPEND: &str = "append events";
/// The name of an open segment in the error for a root that was lost while it was in use.
pub(crate) const HELD: &str = "an event log that is open for writing";
/// The largest number of segments that a writer keeps open.
const MOST_OPEN: usize = 9;

/// Appends to one log.
#[derive(Debug)]
pub(crate) struct LogWriter {
    pub(super) root: Arc<Root>,
    archive: Arc<Archive>,
    pub(crate) job: JobAddress,
    pub(crate) folder: PathBuf,
    state: Mutex<State>,
    commit: Commit,
}

#[derive(Debug)]
pub(crate) struct State {
    /// The segments that events are appended to. It is more than one only if given ids are out of order; new ids fit
    /// into any of them.
    pub(crate) open: Vec<Active>,
    pub(crate) index: SegmentIndex,
    pub(crate) ids: Option<IdSource>,
    /// True if a warning about a newest id ahead of the clock was logged.
    warned: bool,
    encoder: RecordEncoder,
    buffer: Vec<u8>,
    /// The number of the last write. A batch counts as a write, too, if another writer had already stored all of it.
    pub(super) seq: u64,
    /// Segments of other writers that already had events of a batch, each with the write number of that batch. The next
    /// sync covers these segments, too.
    pub(super) found: HashMap<SegmentName, u64>,
    /// The number of segments that this writer has sealed.
    sealed: usize,
    /// The monotonic time of the last check that the path of each segment still names the open file.
    looked: Option<Duration>,
    /// The identity of the log's folder at the last append under given ids.
    pub(super) folder: Option<(u64, u64)>,
    /// The listing of the log's segments at the last append under given ids.
    pub(super) listed: Option<KnownListing>,
    /// The newest segment in the listing that was made when this writer looked for a segment to adopt.
    newest: Option<KnownNewest>,
}

impl State {
    /// The state of a writer that has not read the log. It only knows which segments are suspect.
    fn new(index: SegmentIndex, seq: u64) -> Self {
        Self {
            open: Vec::new(),
            index,
            ids: None,
            warned: false,
            encoder: RecordEncoder::new(),
            buffer: Vec::new(),
            seq,
            found: HashMap::new(),
            sealed: 0,
            looked: None,
            folder: None,
            listed: None,
            newest: None,
        }
    }
}

impl LogWriter {
    pub(crate) fn new(root: Arc<Root>, archive: Arc<Archive>, job: &JobAddress) -> Self {
        Self {
            root,
            archive,
            job: job.clone(),
            folder: events_folder(job),
            state: Mutex::new(State::new(SegmentIndex::default(), 0)),
            commit: Commit::default(),
        }
    }

    /// Appends a batch under new ids.
    pub(crate) fn append(
        &self,
        batch: &mut Batch,
        durability: Durability,
        deadline: Deadline,
    ) -> Result<Appended> {
        let mut state = self.enter(deadline)?;
        let now = self.time()?;
        self.still_here(&mut state, durability)?;
        self.adopt_first(&mut state, durability, deadline)?;
        if state.ids.as_ref().is_some_and(IdSource::is_spent) {
            return Err(adopt::end_of_time(&self.root, &self.folder, "an event's id"));
        }
        // New ids are above all other ids.
        let at = self.choose(&mut state, EventId::MAX, None, now, deadline)?;
        let Some(ids) = state.ids.as_mut() else {
            return Err(self.lost());
        };
        batch.set_ids(std::iter::repeat_with(|| ids.next(now)).take(batch.len()));
        let written = self.write(
            &mut state,
            at,
            now,
            batch.ids().iter().copied().zip(batch.bodies()),
        );
        let seq = match written {
            Ok(seq) => seq,
            Err(error) => {
                if error.kind() == ErrorKind::OutcomeUnknown {
                    return Err(error.with_ids(batch.ids()));
                }
                batch.clear_ids();
                return Err(error);
            }
        };
        drop(state);
        count(&self.root.counters.appends, 1);
        tracing::trace!(job = %self.job, events = batch.len(), bytes = stored_len(batch.bodies()), "appended");
        self.settle(seq, batch.ids(), durability, deadline)?;
        Ok(Appended {
            stored: batch.len(),
            duplicates: 0,
        })
    }

    /// The time for events that are appended now. Fails if the clock shows a time that can't be stored.
    pub(crate) fn time(&self) -> Result<Timestamp> {
        time_to_store(&*self.root.options.clock, APPEND, &self.job)
    }

    /// Waits for the writer's lock, until the deadline.
    pub(crate) fn enter(&self, deadline: Deadline) -> Result<MutexGuard<'_, State>> {
        match deadline.instant() {
            None => Ok(self.state.lock()),
            Some(at) => self.state.try_lock_until(at).ok_or_else(|| {
                StorageError::timeout(APPEND, &self.job, "the threads that write before this one")
            }),
        }
    }

    /// Fails if the path of an open segment leads to another file: the segment or a folder above it was moved, removed
    /// or replaced, or a backup was copied into it. The next append then begins with the files that are there now. A
    /// relaxed append checks this once a second. A strict one makes a quick check each time, since it checks again
    /// before it acknowledges.
    pub(crate) fn still_here(&self, state: &mut State, durability: Durability) -> Result<()> {
        let now = self.root.options.clock.monotonic();
        let look = match state.looked.is_some_and(|at| now.saturating_sub(at) < LASTS) {
            true if durability == Durability::Relaxed => return Ok(()),
            true => PathLook::Quick,
            false => {
                state.looked = Some(now);
                PathLook::Whole
            }
        };
        for active in &state.open {
            let lens = active.len..=active.len;
            let Some(error) = moved(&self.root, &active.file, &active.path, lens, look)? else {
                continue;
            };
            tracing::error!(segment = %active.path.display(), %error, "a segment was changed under its writer");
            let seq = state.seq;
            self.commit.fail(FailedSync {
                up_to: seq,
                why: error.to_string(),
            });
            let mut index = std::mem::take(&mut state.index);
            index.forget();
            *state = State::new(index, seq);
            return Err(error);
        }
        Ok(())
    }

    fn lost(&self) -> StorageError {
        StorageError::new(ErrorKind::Io, APPEND, &self.job, "the writer lost its segment").transient()
    }

    /// At the first call, adopts a segment that an earlier writer left, if one exists.
    pub(crate) fn adopt_first(
        &self,
        state: &mut State,
        durability: Durability,
        deadline: Deadline,
    ) -> Result<()> {
        if state.ids.is_none() {
            // Checked before the search for a segment, because the search creates the folder of the log.
            self.root.refuse_moved(APPEND, &Part::Job(self.job.clone()))?;
            let found = adopt::adopt(&self.root, &self.archive, &self.folder, durability, deadline)?;
            state.ids = Some(IdSource::above(found.newest));
            state.open.extend(found.active);
            state.newest = found.listed;
            self.check_takes_writes(state)?;
        } else if state.open.is_empty() {
            self.check_takes_writes(state)?;
        }
        Ok(())
    }

    /// Fails if the log is being deleted or was moved, and then releases its segments: a deletion or a move waits for
    /// them.
    fn check_takes_writes(&self, state: &mut State) -> Result<()> {
        self.root.check_takes_writes(APPEND, &self.job).inspect_err(|_| {
            let mut index = std::mem::take(&mut state.index);
            index.forget();
            *state = State::new(index, state.seq);
        })
    }

    /// The index of the open segment whose last id is closest below `id`. If no segment fits, creates one whose ids are
    /// at least `lower`. First closes segments whose last event is ahead of the clock.
    pub(crate) fn choose(
        &self,
        state: &mut State,
        id: EventId,
        lower: Option<Timestamp>,
        now: Timestamp,
        deadline: Deadline,
    ) -> Result<usize> {
        while let Some(at) = state.open.iter().position(|active| active.is_ahead_of(now)) {
            self.rotate(state, at);
        }
        let fits = state
            .open
            .iter()
            .enumerate()
            .filter(|(_, active)| active.takes(id));
        if let Some((at, _)) = fits.max_by_key(|(_, active)| active.last) {
            return Ok(at);
        }
        if state.open.len() >= MOST_OPEN {
            let lasts = state
                .open
                .iter()
                .enumerate()
                .map(|(at, active)| (active.last, at));
            if let Some((_, lowest)) = lasts.min() {
                let active = state.open.remove(lowest);
                self.close(state, active)?;
            }
        }
        let made = adopt::create(&self.root, &self.job, &self.folder, lower, state.newest, deadline)?;
        if let Some(ids) = &mut state.ids {
            ids.raise(EventId::floor(made.name.lower()));
        }
        state.open.push(made);
        self.check_takes_writes(state)?;
        Ok(state.open.len() - 1)
    }

    /// Appends records to a segment with one write, and returns the number of the write. Closes the segment if it is
    /// full.
    pub(crate) fn write<'b>(
        &self,
        state: &mut State,
        at: usize,
        now: Timestamp,
        records: impl Iterator<Item = (EventId, &'b [u8])>,
    ) -> Result<u64> {
        let State {
            open,
            ids,
            warned,
            encoder,
            buffer,
            seq,
            ..
        } = state;
        let Some(active) = open.get_mut(at) else {
            return Err(self.lost());
        };
        buffer.clear();
        if active.unended {
            buffer.push(b'\n');
        }
        let time = active.stamp(now);
        let (mut last, mut events) = (active.last, 0);
        for (id, body) in records {
            encoder.encode(buffer, id, time, body);
            buffer.push(b'\n');
            last = Some(id);
            events += 1;
        }
        let written = active.file.file().write_all_at(buffer, active.len);
        let before = active.len;
        let (kept, failed) = match written {
            Ok(()) => {
                active.file.touch();
                active.len += buffer.len() as u64;
                active.last = last;
                active.unended = false;
                (events, None)
            }
            Err(error) => {
                let error = self.root.write_fault(APPEND, &active.path, error);
                match active.keep_whole(buffer) {
                    Ok(0) => {
                        if active.len == 0 {
                            tail::as_created(&self.root, &active.path, active.file.file());
                        }
                        return Err(error);
                    }
                    Ok(kept) => (kept, Some(error)),
                    Err(uncut) => {
                        let why = format!(
                            "a write failed, and what it left could not be examined and cut ({uncut})"
                        );
                        self.poison(state, &why);
                        return Err(self.unclear(why).with_source(error));
                    }
                }
            }
        };
        active.time = Some(time);
        *seq += 1;
        let seq = *seq;
        if let (Some(ids), Some(last)) = (ids, active.last) {
            ids.raise(last);
            let newest = ids.newest();
            if newest.is_ahead_of(now) && !std::mem::replace(warned, true) {
                tracing::warn!(job = %self.job, %newest, "the newest id of a log is more than an hour ahead of the clock");
            }
        }
        count(&self.root.counters.events, kept);
        count(&self.root.counters.appended_bytes, active.len - before);
        if let Some(error) = failed
            && kept < events
        {
            let why = format!("{kept} of {events} events were written, then the write failed");
            return Err(self.unclear(why).with_source(error));
        }
        if buffer.capacity() > 4 << 20 {
            *buffer = Vec::new();
        }
        if active.len >= self.root.options.max_file_size {
            self.rotate(state, at);
        }
        Ok(seq)
    }

    pub(super) fn unclear(&self, why: impl Into<Cow<'static, str>>) -> StorageError {
        StorageError::new(ErrorKind::OutcomeUnknown, APPEND, &self.job, why)
            .with_hint("append the same batch again: what is stored is not stored twice")
            .transient()
    }

    /// Closes a segment that is full, or whose last event is ahead of the clock.
    fn rotate(&self, state: &mut State, at: usize) {
        if at < state.open.len() {
            let active = state.open.remove(at);
            // An error is ignored here: threads that wait for the sync of the segment get it.
            let _ = self.close(state, active);
        }
    }

    /// Syncs a segment, seals it and releases it. If the sync fails, the segment is not used any more. Compression is
    /// queued last: it locks the segment, and is skipped if another process has the lock.
    fn close(&self, state: &mut State, active: Active) -> Result<()> {
        // An empty segment is not sealed: the next writer can use it.
        if active.last.is_none() {
            return Ok(());
        }
        if let Err(error) = self.sync_and_seal(&active) {
            self.fail(state, &[active], &format!("{error:#}"));
            return Err(error);
        }
        state.sealed += 1;
        if state.sealed.is_multiple_of(WORTH) {
            self.archive.mark_sealed(&self.folder);
        }
        let Active { name, file, .. } = active;
        if self.root.options.compression {
            self.archive.enqueue(&self.folder, &name, Some(file));
        }
        Ok(())
    }

    fn sync_and_seal(&self, active: &Active) -> Result<()> {
        if active.file.is_dirty() {
            self.sync_file(&active.file, &active.path)?;
        }
        active
            .file
            .seal()
            .map_err(|error| self.root.write_fault("seal segment", &active.path, error))?;
        count(&self.root.counters.sealed, 1);
        tracing::debug!(segment = %active.path.display(), bytes = active.len, "sealed");
        Ok(())
    }

    /// Waits until a write has the requested durability.
    pub(crate) fn settle(
        &self,
        seq: u64,
        ids: &[EventId],
        durability: Durability,
        deadline: Deadline,
    ) -> Result<()> {
        if durability == Durability::Relaxed {
            return Ok(());
        }
        let waited = self.commit.wait(seq, deadline, || self.sync());
        waited.map_err(|unsynced| {
            let why = match unsynced {
                Unsynced::Failed(why) => {
                    format!("it was written, but the sync failed ({why}): it may be lost")
                }
                Unsynced::TimedOut => "it was written, but not synced when the deadline passed".into(),
            };
            self.unclear(why).with_ids(ids)
        })
    }

    /// Syncs a segment if this writer has it open; returns false if not. Fails if an earlier sync of the segment
    /// failed, since its events can't be made durable any more.
    pub(crate) fn persist(&self, name: &SegmentName, deadline: Deadline) -> Result<bool> {
        const PERSIST: &str = "persist events";
        let state = self.enter(deadline)?;
        let held = state.open.iter().find(|active| active.name == *name);
        let Some(active) = held else {
            if state.index.is_suspect(name) {
                let why =
                    "a sync of the segment failed, so events before the cursor may be lost in a power loss";
                let path = self
                    .root
                    .absolute(&self.folder.join(name.file_name(SegmentForm::Plain)));
                return Err(StorageError::new(ErrorKind::Io, PERSIST, path.display(), why)
                    .with_hint("append the events whose outcome was unknown again, read on, and save with the new cursor"));
            }
            return Ok(false);
        };
        let dirty = active
            .file
            .is_dirty()
            .then(|| (Arc::clone(&active.file), active.path.clone()));
        drop(state);
        self.sync_files(dirty.into_iter().collect()).map_err(|failed| {
            StorageError::new(ErrorKind::Io, PERSIST, &self.job, failed.why).with_hint(
                "append the events whose outcome was unknown again, read on, and save with the new cursor",
            )
        })?;
        Ok(true)
    }

    /// Syncs everything that was written. Returns the number of the last write that the sync covers.
    pub(crate) fn sync(&self) -> Result<u64, FailedSync> {
        let (seq, dirty, found) = {
            let state = self.state.lock();
            let dirty: Vec<_> = state
                .open
                .iter()
                .filter(|active| active.file.is_dirty())
                .map(|active| (Arc::clone(&active.file), active.path.clone()))
                .collect();
            (state.seq, dirty, state.found.clone())
        };
        self.sync_files(dirty)?;
        if !found.is_empty() {
            self.sync_found(found.keys()).map_err(|error| FailedSync {
                up_to: seq,
                why: format!("{error:#}"),
            })?;
            self.state.lock().found.retain(|_, at| *at > seq);
        }
        Ok(seq)
    }

    /// Syncs segments that are open in this writer, or were until a moment ago.
    pub(crate) fn sync_files(&self, files: Vec<(Arc<SegmentFile>, PathBuf)>) -> Result<(), FailedSync> {
        for (file, path) in files {
            if let Err(error) = self.sync_file(&file, &path) {
                let mut state = self.state.lock();
                let why = format!("{error:#}");
                let up_to = self.poison(&mut state, &why);
                return Err(FailedSync { up_to, why });
            }
        }
        Ok(())
    }

    /// Syncs a segment and, the first time, its name.
    fn sync_file(&self, file: &SegmentFile, path: &Path) -> Result<()> {
        self.root.counters.sync(path);
        file.sync()
            .map_err(|error| self.root.write_fault("sync segment", path, error))?;
        // An event in a folder that was moved away is not acknowledged. A sealed segment is exempt: the thread that
        // sealed it has synced and checked it, and it may have been compressed since.
        if let Some(error) = moved(&self.root, file, path, 0..=u64::MAX, PathLook::Whole)?
            && !file.is_sealed()
        {
            return Err(error);
        }
        if !file.is_named() {
            self.root.sync_folder(&self.folder)?;
            file.set_named();
        }
        Ok(())
    }

    /// After a failed sync, stops using all open segments, so that the next append opens new ones. Returns the number
    /// of the last write whose outcome is unknown.
    fn poison(&self, state: &mut State, why: &str) -> u64 {
        let given_up = std::mem::take(&mut state.open);
        self.fail(state, &given_up, why)
    }

    fn fail(&self, state: &mut State, given_up: &[Active], why: &str) -> u64 {
        for active in given_up {
            tracing::error!(segment = %active.path.display(), why, "a segment is given up: its state on disk is unknown");
            state.index.mark_suspect(&active.name);
            // An empty one is not sealed either: the doctor would take it for one that had events.
            if !active.is_torn() && active.last.is_some() {
                // Sealing keeps other writers from adopting the segment, whose bytes may not be durable. A torn record
                // is not sealed: the next writer adopts the segment and cuts the record off, which in a sealed segment
                // would remain as damage.
                let _ = active.file.seal();
            }
        }
        // All other unsynced writes have an unknown outcome, too. Their threads get the error, and can write again.
        self.commit.fail(FailedSync {
            up_to: state.seq,
            why: why.to_owned(),
        });
        state.seq
    }

    pub(crate) fn holds_a_segment(&self, deadline: Deadline) -> Result<bool> {
        let state = self.enter(deadline)?;
        Ok(!state.open.is_empty())
    }

    /// Seals the open segments of this writer.
    pub(crate) fn seal(&self, deadline: Deadline) -> Result<()> {
        let mut state = self.enter(deadline)?;
        let held = std::mem::take(&mut state.open);
        let mut outcome = Ok(());
        for active in held {
            outcome = outcome.and(self.close(&mut state, active));
        }
        outcome
    }

    /// True if a segment is open, or if another thread is using this writer.
    pub(crate) fn is_writing(&self) -> bool {
        self.state.try_lock().is_none_or(|state| !state.open.is_empty())
    }

    /// True if this writer can be dropped without loss: no thread uses it, and no segment is suspect.
    pub(crate) fn is_forgettable(&self) -> bool {
        self.state
            .try_lock()
            .is_some_and(|state| !state.index.has_suspects())
    }

    /// Syncs relaxed writes, so that they survive a power loss.
    pub(crate) fn flush(&self) -> Result<()> {
        self.sync().map(drop).map_err(|failed| {
            StorageError::new(ErrorKind::OutcomeUnknown, "flush", &self.job, failed.why)
                .with_hint("what was appended since the last flush may be lost after a loss of power")
        })
    }
}

/// The number of bytes that events with these bodies take in a segment, each as a record with its line break.
pub(super) fn stored_len<'b>(bodies: impl Iterator<Item = &'b [u8]>) -> u64 {
    bodies.map(|body| (RECORD_OVERHEAD + body.len() + 1) as u64).sum()
}
