//! The event log of a job.

use std::collections::BTreeSet;
use std::sync::Arc;

use prodigy_storage_backend::record::{self, RECORD_OVERHEAD, RecordEncoder, read_line};
use prodigy_storage_backend::{
    Appended, Batch, ErrorKind, EventId, IdSource, LogSummary, Result, StorageError,
};
use prodigy_storage_layout::{JobAddress, Timestamp};
use serde::{Deserialize, Serialize};

use crate::budget::{Budget, RECORD_COST};

const APPEND: &str = "append event";

/// A stored event.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) id: EventId,
    /// The time of the append.
    pub(crate) time: Timestamp,
    pub(crate) text: Arc<str>,
}

/// The lines that were removed from the beginning of a log.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Removed {
    /// The number of removed lines. The positions of the remaining lines do not change.
    pub(crate) lines: usize,
    /// The newest id among the removed lines.
    pub(crate) newest: EventId,
    /// The id of the removed line that arrived last.
    pub(crate) last: EventId,
}

impl Default for Removed {
    fn default() -> Self {
        Self {
            lines: 0,
            newest: EventId::MIN,
            last: EventId::MIN,
        }
    }
}

/// An event log: its lines in the order of arrival. A line never changes.
///
/// Most ids arrive in ascending order. A line whose id is above the ids of all earlier lines belongs to the *spine*.
/// The other lines are late lines, which arrived under given ids, and are few. So a lookup is a binary search, and a
/// range of lines is ordered by id by sorting its late lines into its part of the spine.
#[derive(Debug)]
pub(crate) struct EventLog {
    /// A random number that distinguishes this log from others with the same address. Cursors contain it.
    pub(crate) incarnation: u64,
    lines: Vec<Line>,
    removed: Removed,
    /// The positions of the lines of the spine. Their ids ascend.
    spine: Vec<usize>,
    /// The number of lines of the spine that were removed.
    spine_removed: usize,
    /// The positions of the late lines, ascending.
    late: Vec<usize>,
    late_ids: BTreeSet<EventId>,
    bytes: u64,
    /// The positions at which the sealed segments end.
    sealed: Vec<usize>,
    open: bool,
    ids: IdSource,
    encoder: RecordEncoder,
    scratch: Vec<u8>,
}

impl EventLog {
    pub(crate) fn new(incarnation: u64) -> Self {
        Self {
            incarnation,
            lines: Vec::new(),
            removed: Removed::default(),
            spine: Vec::new(),
            spine_removed: 0,
            late: Vec::new(),
            late_ids: BTreeSet::new(),
            bytes: 0,
            sealed: Vec::new(),
            open: false,
            ids: IdSource::above(EventId::MIN),
            encoder: RecordEncoder::new(),
            scratch: Vec::new(),
        }
    }

    /// Creates a log from a snapshot, with all segments sealed; `None` if a line is not a record.
    pub(crate) fn restore(
        incarnation: u64,
        removed: Removed,
        sealed: Vec<usize>,
        texts: Vec<String>,
    ) -> Option<Self> {
        let mut log = Self::new(incarnation);
        log.removed = removed;
        for text in texts {
            let record = read_line(text.as_bytes()).ok().filter(|record| record.verified)?;
            let (id, time) = (record.id, record.time());
            if log.holds(id) {
                return None;
            }
            log.push(id, time, Arc::from(text));
        }
        log.sealed = sealed;
        // No writer continues the last segment, so it is sealed.
        log.open = !log.is_empty() && log.sealed.last() != Some(&log.len());
        log.seal();
        log.ids.raise(log.newest());
        Some(log)
    }

    /// The position after the last line. Removed lines are included in the count.
    pub(crate) fn len(&self) -> usize {
        self.removed.lines + self.lines.len()
    }

    pub(crate) fn removed(&self) -> Removed {
        self.removed
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    pub(crate) fn get(&self, position: usize) -> Option<&Line> {
        self.lines.get(position.checked_sub(self.removed.lines)?)
    }

    pub(crate) fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// The time of the last append.
    pub(crate) fn last_write(&self) -> Option<Timestamp> {
        self.lines.last().map(|line| line.time)
    }

    /// The number of bytes that the lines count in the budget.
    pub(crate) fn cost(&self) -> u64 {
        self.bytes + self.lines.len() as u64 * RECORD_COST
    }

    /// The positions at which the sealed segments end.
    pub(crate) fn segments(&self) -> &[usize] {
        &self.sealed
    }

    /// The positions of the late lines in a range, in ascending order.
    pub(crate) fn late_in(&self, from: usize, end: usize) -> &[usize] {
        let low = self.late.partition_point(|&at| at < from);
        let high = self.late.partition_point(|&at| at < end);
        self.late.get(low..high).unwrap_or_default()
    }

    /// The index in the spine of the first line at or after `position` whose id is above `id`.
    pub(crate) fn spine_from(&self, position: usize, id: Option<EventId>) -> usize {
        let left = self.spine.partition_point(|&at| {
            at < position || id.is_some_and(|id| self.get(at).is_some_and(|line| line.id <= id))
        });
        self.spine_removed + left
    }

    /// The position of the line with this index in the spine; `None` if it was removed.
    pub(crate) fn spine_at(&self, index: usize) -> Option<usize> {
        self.spine.get(index.checked_sub(self.spine_removed)?).copied()
    }

    /// True if the line with this index in the spine (the lines whose ids ascend) was removed.
    pub(crate) fn is_removed(&self, index: usize) -> bool {
        index < self.spine_removed
    }

    fn newest(&self) -> EventId {
        let newest = self.spine.last().and_then(|&at| self.get(at));
        newest.map_or(self.removed.newest, |line| line.id.max(self.removed.newest))
    }

    /// The greatest id that is older than the newest `count` ids; `None` if the log has at most `count` ids.
    pub(crate) fn before_newest(&self, count: usize) -> Option<EventId> {
        let mut spine = self.spine.iter().rev().filter_map(|&at| self.get(at));
        let mut spine_id = spine.next().map(|line| line.id);
        let mut late = self.late_ids.iter().rev().copied();
        let mut late_id = late.next();
        for _ in 0..count.min(self.lines.len()) {
            if spine_id >= late_id {
                spine_id = spine.next().map(|line| line.id);
            } else {
                late_id = late.next();
            }
        }
        spine_id.max(late_id)
    }

    fn holds(&self, id: EventId) -> bool {
        id <= self.newest()
            && (self
                .spine
                .binary_search_by(|&at| self.get(at).map_or(EventId::MIN, |line| line.id).cmp(&id))
                .is_ok()
                || self.late_ids.contains(&id))
    }

    fn push(&mut self, id: EventId, time: Timestamp, text: Arc<str>) {
        let position = self.len();
        if id > self.newest() || position == 0 {
            self.spine.push(position);
        } else {
            self.late.push(position);
            self.late_ids.insert(id);
        }
        self.bytes += text.len() as u64 + 1;
        self.lines.push(Line { id, time, text });
    }

    /// Stores a batch completely or not at all.
    pub(crate) fn append(
        &mut self,
        job: &JobAddress,
        batch: &mut Batch,
        now: Timestamp,
        max_record_size: u64,
        budget: &Budget,
    ) -> Result<Appended> {
        batch.check_ids(job, now, self.newest())?;
        check_batch(job, batch, max_record_size)?;
        if batch.is_empty() {
            return Ok(Appended::default());
        }
        let given = !batch.ids().is_empty();
        let time = record::stated_time(now);
        // The events of the batch that are not stored yet: all of them, if the log chose their ids.
        let mut fresh = Vec::new();
        let mut cost = 0;
        let mut in_batch = BTreeSet::new();
        for (index, body) in batch.bodies().enumerate() {
            let new = match batch.ids().get(index) {
                Some(&id) => !self.holds(id) && in_batch.insert(id),
                None => true,
            };
            fresh.push(new);
            if new {
                cost += line_cost(body);
            }
        }
        budget.reserve(cost, APPEND, job)?;
        if !given {
            self.ids.raise(self.newest());
            let ids: Vec<EventId> = (0..batch.len()).map(|_| self.ids.next(now)).collect();
            batch.set_ids(ids);
        }
        let mut report = Appended::default();
        for ((body, &id), new) in batch.bodies().zip(batch.ids()).zip(fresh) {
            if !new {
                report.duplicates += 1;
                continue;
            }
            self.scratch.clear();
            self.encoder.encode(&mut self.scratch, id, time, body);
            // A batch contains serialised JSON, which is always Unicode.
            let text: Arc<str> = match record::text(&self.scratch) {
                Some(text) => text.into(),
                None => String::from_utf8_lossy(&self.scratch).into(),
            };
            self.push(id, time, text);
            report.stored += 1;
        }
        self.open |= report.stored > 0;
        Ok(report)
    }

    pub(crate) fn seal(&mut self) {
        if std::mem::take(&mut self.open) {
            self.sealed.push(self.len());
        }
    }

    /// The number of the oldest sealed segments that have only lines before `before`, and the position at which they
    /// end. The segment with the newest event and those after it are not included.
    fn removable(&self, before: Timestamp) -> (usize, usize) {
        let newest = self.newest();
        let stays = |line: &Line| line.time >= before || line.id == newest;
        let (mut segments, mut end) = (0, self.removed.lines);
        for &next in &self.sealed {
            if (end..next).any(|at| self.get(at).is_none_or(stays)) {
                break;
            }
            (segments, end) = (segments + 1, next);
        }
        (segments, end)
    }

    /// The size of the oldest `segments` sealed segments, which end at `end`.
    fn size_of(&self, segments: usize, end: usize) -> LogSummary {
        let lines = (self.removed.lines..end).filter_map(|at| self.get(at));
        LogSummary {
            segments: segments as u64,
            sealed: segments as u64,
            compressed: 0,
            bytes: lines.map(|line| line.text.len() as u64 + 1).sum(),
        }
    }

    /// The size of the segments that [`remove_before`](Self::remove_before) would remove.
    pub(crate) fn removable_before(&self, before: Timestamp) -> LogSummary {
        let (segments, end) = self.removable(before);
        self.size_of(segments, end)
    }

    /// Removes the oldest sealed segments that have only lines before `before`. Returns their size.
    pub(crate) fn remove_before(&mut self, before: Timestamp, budget: &Budget) -> LogSummary {
        let (segments, end) = self.removable(before);
        let summary = self.size_of(segments, end);
        let is_gone = |at: &usize| *at < end;
        let late = self.late.partition_point(is_gone);
        for at in self.late.drain(..late).collect::<Vec<_>>() {
            if let Some(id) = self.get(at).map(|line| line.id) {
                self.late_ids.remove(&id);
            }
        }
        let spine = self.spine.partition_point(is_gone);
        self.spine.drain(..spine);
        self.spine_removed += spine;
        self.sealed.drain(..segments);
        let gone = self.lines.drain(..end - self.removed.lines);
        let mut cost = summary.bytes;
        for line in gone {
            cost += RECORD_COST;
            self.removed.newest = self.removed.newest.max(line.id);
            self.removed.last = line.id;
        }
        self.removed.lines = end;
        self.bytes -= summary.bytes;
        budget.release(cost);
        summary
    }

    /// True if the last segment is not sealed.
    pub(crate) fn is_open(&self) -> bool {
        self.open
    }

    pub(crate) fn summary(&self) -> LogSummary {
        LogSummary {
            segments: self.sealed.len() as u64 + u64::from(self.open),
            sealed: self.sealed.len() as u64,
            compressed: 0,
            bytes: self.bytes,
        }
    }
}

fn line_cost(body: &[u8]) -> u64 {
    (RECORD_OVERHEAD + body.len() + 1) as u64 + RECORD_COST
}

fn check_batch(job: &JobAddress, batch: &Batch, max_record_size: u64) -> Result<()> {
    for body in batch.bodies() {
        let bytes = (RECORD_OVERHEAD + body.len() + 1) as u64;
        if bytes > max_record_size {
            return Err(StorageError::new(
                ErrorKind::TooLarge,
                APPEND,
                job,
                format!("an event of {bytes} bytes is larger than `max_record_size` ({max_record_size})"),
            )
            .with_hint(
                "store the large part elsewhere and a reference to it in the event, or raise `max_record_size`",
            ));
        }
    }
    Ok(())
}
