//! The event log of a job.

use std::collections::BTreeSet;
use std::sync::Arc;

use prodigy_storage_backend::record::{self, RECORD_OVERHEAD, RecordEncoder, read_line};
use prodigy_storage_backend::{
    Appended, Batch, ErrorKind, EventId, IdSource, LogSummary, Result, StorageError,
};
use prodigy_storage_layout::{JobAddress, Timestamp};

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

/// An event log: lines in the order of arrival, which never change.
///
/// Most ids arrive in ascending order. A line whose id is above the ids of all earlier lines belongs to the *spine*.
/// The other lines arrived late, under given ids, and are few. So a lookup is a binary search, and a merge of a range
/// by id is the spine's part of the range with the late lines sorted in.
#[derive(Debug)]
pub(crate) struct EventLog {
    /// Distinguishes the log from a log of the same address in another store. Cursors contain it.
    pub(crate) incarnation: u64,
    lines: Vec<Line>,
    /// The positions of the spine's lines; their ids ascend.
    spine: Vec<usize>,
    /// The positions of the late lines, in ascending order.
    late: Vec<usize>,
    late_ids: BTreeSet<EventId>,
    bytes: u64,
    segments: u64,
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
            spine: Vec::new(),
            late: Vec::new(),
            late_ids: BTreeSet::new(),
            bytes: 0,
            segments: 0,
            open: false,
            ids: IdSource::above(EventId::MIN),
            encoder: RecordEncoder::new(),
            scratch: Vec::new(),
        }
    }

    /// Restores a log from a snapshot; `None` if a line is not a record.
    pub(crate) fn restore(incarnation: u64, segments: u64, open: bool, texts: Vec<String>) -> Option<Self> {
        let mut log = Self::new(incarnation);
        for text in texts {
            let record = read_line(text.as_bytes()).ok().filter(|record| record.verified)?;
            let (id, time) = (record.id, record.time());
            if log.holds(id) {
                return None;
            }
            log.push(id, time, Arc::from(text));
        }
        log.segments = segments;
        log.open = open;
        log.ids.raise(log.newest());
        Some(log)
    }

    pub(crate) fn len(&self) -> usize {
        self.lines.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    pub(crate) fn get(&self, position: usize) -> Option<&Line> {
        self.lines.get(position)
    }

    pub(crate) fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// The time of the last append.
    pub(crate) fn last_write(&self) -> Option<Timestamp> {
        self.lines.last().map(|line| line.time)
    }

    /// The bytes of the budget that the lines use.
    pub(crate) fn cost(&self) -> u64 {
        self.bytes + self.lines.len() as u64 * RECORD_COST
    }

    pub(crate) fn segments(&self) -> (u64, bool) {
        (self.segments, self.open)
    }

    /// The positions of the late lines in a range, in ascending order.
    pub(crate) fn late_in(&self, from: usize, end: usize) -> &[usize] {
        let low = self.late.partition_point(|&at| at < from);
        let high = self.late.partition_point(|&at| at < end);
        self.late.get(low..high).unwrap_or_default()
    }

    /// The index in the spine of the first line at or behind `position` whose id is above `id`.
    pub(crate) fn spine_from(&self, position: usize, id: Option<EventId>) -> usize {
        self.spine.partition_point(|&at| {
            at < position || id.is_some_and(|id| self.lines.get(at).is_some_and(|line| line.id <= id))
        })
    }

    /// The position of a line of the spine.
    pub(crate) fn spine_at(&self, index: usize) -> Option<usize> {
        self.spine.get(index).copied()
    }

    fn newest(&self) -> EventId {
        self.spine
            .last()
            .and_then(|&at| self.lines.get(at))
            .map_or(EventId::MIN, |line| line.id)
    }

    /// The newest id before the newest `count` ids; `None` if there are at most `count` ids.
    pub(crate) fn before_newest(&self, count: usize) -> Option<EventId> {
        let mut spine = self.spine.iter().rev().filter_map(|&at| self.lines.get(at));
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
                .binary_search_by(|&at| self.lines.get(at).map_or(EventId::MIN, |line| line.id).cmp(&id))
                .is_ok()
                || self.late_ids.contains(&id))
    }

    fn push(&mut self, id: EventId, time: Timestamp, text: Arc<str>) {
        let position = self.lines.len();
        if id > self.newest() || self.lines.is_empty() {
            self.spine.push(position);
        } else {
            self.late.push(position);
            self.late_ids.insert(id);
        }
        self.bytes += text.len() as u64 + 1;
        self.lines.push(Line { id, time, text });
    }

    /// Stores a batch, whole or not at all.
    pub(crate) fn append(
        &mut self,
        job: &JobAddress,
        batch: &mut Batch,
        now: Timestamp,
        max_record_size: u64,
        budget: &Budget,
    ) -> Result<Appended> {
        check_batch(job, batch, max_record_size)?;
        if batch.is_empty() {
            return Ok(Appended::default());
        }
        let given = !batch.ids().is_empty();
        let time = record::stated_time(now);
        // The new events of the batch: all of them if the log assigned the ids.
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
            // A batch contains serialised JSON, so this never replaces a character.
            let text: Arc<str> = match record::text(&self.scratch) {
                Some(text) => text.into(),
                None => String::from_utf8_lossy(&self.scratch).into(),
            };
            self.push(id, time, text);
            report.stored += 1;
        }
        if report.stored > 0 && !self.open {
            self.open = true;
            self.segments += 1;
        }
        Ok(report)
    }

    pub(crate) fn seal(&mut self) {
        self.open = false;
    }

    /// True while the last segment is not sealed.
    pub(crate) fn is_open(&self) -> bool {
        self.open
    }

    pub(crate) fn summary(&self) -> LogSummary {
        LogSummary {
            segments: self.segments,
            sealed: self.segments - u64::from(self.open),
            compressed: 0,
            bytes: self.bytes,
        }
    }
}

fn line_cost(body: &[u8]) -> u64 {
    (RECORD_OVERHEAD + body.len() + 1) as u64 + RECORD_COST
}

fn check_batch(job: &JobAddress, batch: &Batch, max_record_size: u64) -> Result<()> {
    if !batch.ids().is_empty() && batch.ids().len() != batch.len() {
        return Err(StorageError::invalid(
            APPEND,
            job,
            format!("{} ids were given for {} events", batch.ids().len(), batch.len()),
        ));
    }
    if let Some(id) = batch.ids().iter().find(|id| !id.is_v7()) {
        return Err(StorageError::invalid(
            APPEND,
            job,
            format!("the given id {id} is not a UUID of version 7"),
        )
        .with_hint("an event's id contains the time at which it was made: use ids of version 7"));
    }
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
                "store the large part elsewhere and its place in the event, or raise `max_record_size`",
            ));
        }
    }
    Ok(())
}
