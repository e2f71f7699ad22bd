//! The events of a job.

mod append;
mod counts;
mod event;
mod filter;
mod follow;
mod follow_all;
mod read;
mod scan;

use std::sync::Arc;

use prodigy_storage_backend::{
    Appended, Batch, Cursor, Deadline, Durability, ErrorKind, EventId, Fence, LogSummary, Result, Scan,
    ScanOptions, StorageError, WaitOptions,
};
use prodigy_storage_layout::{Document, JobAddress, Timestamp};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use append::AppendOptions;
pub use counts::EventCounts;
pub use event::Event;
pub use filter::EventFilter;
pub use follow::{Follow, FollowHandle, FollowLines, FollowOptions};
pub use follow_all::{FollowAll, FollowAllLines};
pub use read::{EventLines, EventReader, ReadOptions};

use crate::call::operation::{END, FIND_OLD, REMOVE_OLD, REVISION, SCAN, SUMMARISE, TAIL, WAIT};
use crate::job::Job;
use crate::storage::Inner;
use filter::Filters;
use scan::RepeatedScan;

/// The log of a job. Every worktree, process and thread appends to it, and it is read as one sequence.
///
/// ```
/// # use prodigy_storage::Storage;
/// # let storage = Storage::in_memory()?;
/// let events = storage.repo("shop")?.job("mapreduce-7")?.events();
/// events.append(&"started")?;
/// events.append_batch(["half done", "finished"])?;
/// for event in events.read::<String>()? {
///     let event = event?;
///     println!("{} {}", event.timestamp.to_rfc3339(), event.event);
/// }
/// assert_eq!(events.summary()?.segments, 1);
/// # Ok::<(), prodigy_storage::StorageError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Events {
    pub(crate) inner: Arc<Inner>,
    pub(crate) job: JobAddress,
    /// The fencing token that each write carries.
    pub(crate) fence: Option<Fence>,
}

impl Events {
    pub(crate) fn new(inner: Arc<Inner>, job: JobAddress, fence: Option<Fence>) -> Self {
        Self { inner, job, fence }
    }

    /// Appends an event. `Ok` means that it is stored; the crate's page says which failures it then survives.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) and [`TooLarge`](crate::ErrorKind::TooLarge) if the event
    /// is refused; [`OutcomeUnknown`](crate::ErrorKind::OutcomeUnknown), with the event's id, if the write failed
    /// but the event may be stored; [`Fenced`](crate::ErrorKind::Fenced) on a [fenced](crate::Job::fenced) job, if
    /// a newer holder of the lock has written to the job: the event may then be stored, with its token. Other
    /// errors of the backend.
    pub fn append<T: Serialize + ?Sized>(&self, event: &T) -> Result<EventId> {
        self.append_with(event, AppendOptions::new())
    }

    /// Appends an event with options: an id that the caller chooses, optional fields, and a durability for this
    /// call.
    ///
    /// ```
    /// # use prodigy_storage::{AppendOptions, EventId, Storage, Timestamp};
    /// # let job = Storage::in_memory()?.repo("shop")?.job("mapreduce-7")?;
    /// let planned = Timestamp::from_millis(1_764_018_118_000);
    /// let once = AppendOptions::new().id(EventId::for_key(planned, "agent-7 finished")).correlation_id("run-7");
    /// let first = job.events().append_with(&"finished", once)?;
    /// assert_eq!(job.events().append_with(&"finished", once)?, first);
    /// assert_eq!(job.events().read::<String>()?.count(), 1);
    /// # Ok::<(), prodigy_storage::StorageError>(())
    /// ```
    ///
    /// # Errors
    /// As [`append`](Self::append).
    pub fn append_with<T, M>(&self, event: &T, options: AppendOptions<'_, M>) -> Result<EventId>
    where
        T: Serialize + ?Sized,
        M: Serialize,
    {
        append::with_batch(|batch| {
            batch.set_fence(self.fence.as_ref());
            batch.push_with(event, options.annotations())?;
            batch.set_ids(options.id);
            self.append_prepared(batch, options.durability)?;
            batch.ids().first().copied().ok_or_else(|| self.without_ids())
        })
    }

    /// Appends events in one write, in their order. Returns their ids in the same order. After a crash, the first
    /// of them may be stored without the rest.
    ///
    /// Raw payloads ([`RawValue`](serde_json::value::RawValue)) are stored byte for byte, except that line breaks
    /// between their tokens become spaces.
    ///
    /// # Errors
    /// As [`append`](Self::append). If one event is refused, none is stored.
    pub fn append_batch<T: Serialize>(&self, events: impl IntoIterator<Item = T>) -> Result<Vec<EventId>> {
        self.append_batch_with(events, AppendOptions::new())
    }

    /// Like [`append_batch`](Self::append_batch), with options whose optional fields are added to every event. To
    /// choose the ids, or to give each event other fields, fill a [`Batch`].
    ///
    /// # Errors
    /// As [`append_batch`](Self::append_batch); and [`InvalidInput`](crate::ErrorKind::InvalidInput) for options
    /// with an id, since each event needs its own.
    pub fn append_batch_with<T, M>(
        &self,
        events: impl IntoIterator<Item = T>,
        options: AppendOptions<'_, M>,
    ) -> Result<Vec<EventId>>
    where
        T: Serialize,
        M: Serialize,
    {
        append::with_batch(|batch| {
            self.fill(batch, events, &options)?;
            self.append_prepared(batch, options.durability)?;
            Ok(batch.ids().to_vec())
        })
    }

    /// Fills a batch with events, to each of which the optional fields are added.
    pub(crate) fn fill<T, M>(
        &self,
        batch: &mut Batch,
        events: impl IntoIterator<Item = T>,
        options: &AppendOptions<'_, M>,
    ) -> Result<()>
    where
        T: Serialize,
        M: Serialize,
    {
        if options.id.is_some() {
            let why = "one id can't be the id of a whole batch";
            return Err(StorageError::invalid("append events", &self.job, why)
                .with_hint("fill a `Batch`, give it an id for each event, and use `append_prepared`"));
        }
        batch.set_fence(self.fence.as_ref());
        events
            .into_iter()
            .try_for_each(|event| batch.push_with(&event, options.annotations()))
    }

    /// Appends a batch that the caller filled, with or without ids. When the call returns, the batch has its ids,
    /// even if the outcome is unknown. Appending the same batch again stores each event once. An empty batch
    /// writes nothing.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    pub fn append_prepared(&self, batch: &mut Batch, durability: Option<Durability>) -> Result<Appended> {
        if batch.is_empty() {
            return Ok(Appended::default());
        }
        batch.set_fence(self.fence.as_ref());
        let durability = durability.unwrap_or(self.inner.config.durability);
        let options = prodigy_storage_backend::AppendOptions::new(durability);
        self.inner
            .caller
            .append(&self.job, batch, &options, self.inner.deadline())
    }

    /// Reads the events that are stored now, merged by id, each id once.
    ///
    /// Damage is an `Err` item of kind [`Damaged`](crate::ErrorKind::Damaged), an event that is larger than
    /// `max_record_size` one of kind [`TooLarge`](crate::ErrorKind::TooLarge), and a payload that is not a `T` one
    /// of kind [`InvalidInput`](crate::ErrorKind::InvalidInput). After each of these the iterator continues with
    /// the next event; any other error ends it.
    ///
    /// # Errors
    /// The errors of the backend. A log that does not exist is empty.
    pub fn read<T: DeserializeOwned>(&self) -> Result<EventReader<T>> {
        self.read_with(ReadOptions::default())
    }

    /// Reads a part of the events that are stored now.
    ///
    /// # Errors
    /// [`CursorGap`](crate::ErrorKind::CursorGap) if the events that the cursor points to were removed, or if a
    /// database has lost events that it covers; otherwise as [`read`](Self::read).
    pub fn read_with<T: DeserializeOwned>(&self, options: ReadOptions) -> Result<EventReader<T>> {
        let (scan, filters) = self.scan_filtered(options)?;
        Ok(EventReader::new(scan, &self.job, filters))
    }

    /// Reads a part of the stored events line by line, without parsing or copying.
    ///
    /// # Errors
    /// As [`read_with`](Self::read_with).
    pub fn read_lines(&self, options: ReadOptions) -> Result<EventLines> {
        let (scan, filters) = self.scan_filtered(options)?;
        Ok(EventLines::new(scan, filters))
    }

    /// Reads the stored events, from a cursor or from the beginning, and then events as they are appended. The
    /// iterator blocks until the next event. It continues when segments are sealed or compressed, and when writers
    /// restart.
    ///
    /// If an event is stored after later ones were returned, it is returned then, and never skipped. So only the
    /// events of one segment are certain to be returned in their order.
    ///
    /// # Errors
    /// As [`read_with`](Self::read_with).
    pub fn follow<T: DeserializeOwned>(&self, cursor: Option<Cursor>) -> Result<Follow<T>> {
        self.follow_with(FollowOptions::new().from(cursor))
    }

    /// Reads the stored events and then events as they are appended, with options.
    ///
    /// # Errors
    /// As [`read_with`](Self::read_with).
    pub fn follow_with<T: DeserializeOwned>(&self, options: FollowOptions) -> Result<Follow<T>> {
        Ok(Follow::new(self.follow_lines(options)?, &self.job))
    }

    /// Reads events as they are appended, line by line, without parsing them.
    ///
    /// # Errors
    /// As [`read_with`](Self::read_with).
    pub fn follow_lines(&self, options: FollowOptions) -> Result<FollowLines> {
        FollowLines::begin(self.clone(), options)
    }

    /// Reads the newest `count` stored events, oldest first, without reading older ones. If the log has fewer
    /// events, reads all. A read or a follow from the reader's cursor continues after the newest event and misses
    /// nothing.
    ///
    /// ```
    /// # use prodigy_storage::Storage;
    /// # let job = Storage::in_memory()?.repo("shop")?.job("mapreduce-7")?;
    /// job.events().append_batch(["started", "half done", "finished"])?;
    /// let newest: Vec<String> =
    ///     job.events().tail(2)?.map(|event| Ok(event?.event)).collect::<Result<_, prodigy_storage::StorageError>>()?;
    /// assert_eq!(newest, ["half done", "finished"]);
    /// # Ok::<(), prodigy_storage::StorageError>(())
    /// ```
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn tail<T: DeserializeOwned>(&self, count: usize) -> Result<EventReader<T>> {
        Ok(EventReader::new(
            self.scan_tail(count)?,
            &self.job,
            self.unfiltered(),
        ))
    }

    /// Reads the newest `count` events line by line, as [`tail`](Self::tail) does, without parsing.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn tail_lines(&self, count: usize) -> Result<EventLines> {
        Ok(EventLines::new(self.scan_tail(count)?, self.unfiltered()))
    }

    /// Counts a part of the stored events by reading it. No payload is parsed, except for filters.
    ///
    /// # Errors
    /// As [`read_lines`](Self::read_lines).
    pub fn count(&self, options: ReadOptions) -> Result<EventCounts> {
        let (mut counts, mut lines) = (EventCounts::default(), self.read_lines(options)?);
        while let Some(item) = lines.next()? {
            counts.add(&item);
        }
        Ok(counts)
    }

    /// The cursor at the end of the log, which covers all events that are stored now; no event is read. A read
    /// from it returns only events that are stored later.
    ///
    /// ```
    /// # use prodigy_storage::{ReadOptions, Storage};
    /// # let job = Storage::in_memory()?.repo("shop")?.job("mapreduce-7")?;
    /// job.events().append(&"before")?;
    /// let end = job.events().end()?;
    /// job.events().append(&"after")?;
    /// let event = job.events().read_with::<String>(ReadOptions::after(end))?.next().expect("one event")?;
    /// assert_eq!(event.event, "after");
    /// # Ok::<(), prodigy_storage::StorageError>(())
    /// ```
    ///
    /// # Errors
    /// The errors of the backend.
    pub fn end(&self) -> Result<Cursor> {
        let deadline = self.inner.deadline();
        self.inner.caller.call(END, &self.job, deadline, |backend| {
            backend.end(&self.job, deadline)
        })
    }

    /// Waits until the log has an event that the cursor does not cover, and returns true. Returns false at the
    /// deadline, and after an interrupt.
    fn wait(&self, cursor: &Cursor, options: &WaitOptions, deadline: Deadline) -> Result<bool> {
        self.inner.caller.call(WAIT, &self.job, deadline, |backend| {
            backend.wait(&self.job, cursor, options, deadline)
        })
    }

    /// True if the job is finished, and no event was appended since. If an event was, stores in the options that
    /// this end of the job does not count.
    fn is_finished(&self, options: &mut WaitOptions) -> Result<bool> {
        let (mark, deadline) = (Document::Finished(self.job.clone()), self.inner.deadline());
        let revision = self.inner.caller.call(REVISION, &mark, deadline, |backend| {
            backend.revision(&mark, deadline)
        })?;
        if !options.ends_at(revision) {
            return Ok(false);
        }
        let job = Job::new(Arc::clone(&self.inner), self.job.clone());
        if job.is_reopened()? {
            options.reopened = revision;
            return Ok(false);
        }
        Ok(true)
    }

    /// True if the log has events that the cursor does not cover. False if the cursor is of another log, or if the
    /// events that it points to were removed.
    pub(crate) fn are_any_behind(&self, cursor: Cursor) -> Result<bool> {
        let scan = self.scan(ReadOptions::after(cursor));
        match scan.and_then(|mut scan| Ok(scan.next()?.is_some())) {
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::CursorGap | ErrorKind::Deleted | ErrorKind::InvalidInput
                ) =>
            {
                Ok(false)
            }
            found => found,
        }
    }

    /// The number of segments and bytes of the log; no event is read.
    ///
    /// # Errors
    /// The errors of the backend.
    pub fn summary(&self) -> Result<LogSummary> {
        let deadline = self.inner.deadline();
        self.inner.caller.call(SUMMARISE, &self.job, deadline, |backend| {
            backend.log_summary(&self.job, deadline)
        })
    }

    /// The size of the segments that [`remove_before`](Self::remove_before) would remove now.
    ///
    /// # Errors
    /// As [`remove_before`](Self::remove_before).
    pub fn removable_before(&self, before: Timestamp) -> Result<LogSummary> {
        let deadline = self.inner.deadline();
        self.inner.caller.call(FIND_OLD, &self.job, deadline, |backend| {
            backend.removable_before(&self.job, before, deadline)
        })
    }

    /// Removes old events to free space: all sealed segments before the first one that has an event at or after
    /// `before`. The segment with the newest event is never removed. Returns the size of the removed segments.
    ///
    /// A cursor that does not cover all removed events then fails with [`CursorGap`](crate::ErrorKind::CursorGap).
    /// The ids of removed events are forgotten: an append under one of them stores the event again.
    ///
    /// ```
    /// # let storage = prodigy_storage::Storage::in_memory()?;
    /// use prodigy_storage::Timestamp;
    ///
    /// let events = storage.repo("shop")?.job("mapreduce-7")?.events();
    /// events.append(&"agent started")?;
    /// let year = Timestamp::parse("2025-01-01T00:00:00Z").expect("a time");
    /// assert_eq!(events.remove_before(year)?.segments, 0, "nothing is as old as that");
    /// # Ok::<(), prodigy_storage::StorageError>(())
    /// ```
    ///
    /// # Errors
    /// [`Fenced`](crate::ErrorKind::Fenced) on a [fenced](crate::Job::fenced) job whose token was overtaken:
    /// nothing was removed. Other errors of the backend. If a removal fails or its process dies, the next removal
    /// continues it.
    pub fn remove_before(&self, before: Timestamp) -> Result<LogSummary> {
        let deadline = self.inner.deadline();
        self.inner
            .caller
            .call(REMOVE_OLD, &self.job, deadline, |backend| {
                backend.remove_before(&self.job, before, self.fence.as_ref(), deadline)
            })
    }

    /// The error of a follow after a copy replaced the store: its cursor is not valid in the copy.
    fn replaced(&self) -> StorageError {
        let why = "a copy of the store took the store's place, and the cursor is not valid in it";
        StorageError::new(crate::ErrorKind::Replaced, "follow events", &self.job, why)
            .with_hint("follow from the first event, and skip those that are known by their id")
    }

    /// The number of times that the store was replaced by a copy while this handle was open.
    fn generation(&self) -> u64 {
        self.inner.caller.capabilities().generation
    }

    fn unfiltered(&self) -> Filters {
        Filters::new(&self.job, Vec::new())
    }

    fn scan_tail(&self, count: usize) -> Result<Box<dyn Scan>> {
        let (deadline, step_timeout) = (self.inner.deadline(), Some(self.inner.config.timeout));
        let scan = self.inner.caller.call(TAIL, &self.job, deadline, |backend| {
            backend.tail(&self.job, count, step_timeout, deadline)
        })?;
        Ok(self.repeated(ScanOptions::all().step_timeout(step_timeout), scan))
    }

    fn repeated(&self, options: ScanOptions, scan: Box<dyn Scan>) -> Box<dyn Scan> {
        Box::new(RepeatedScan::new(&self.inner, &self.job, options, scan))
    }

    fn scan_filtered(&self, mut options: ReadOptions) -> Result<(Box<dyn Scan>, Filters)> {
        let filters = Filters::new(&self.job, std::mem::take(&mut options.filters));
        Ok((self.scan(options)?, filters))
    }

    /// A scan of the range that the options select, without their filters.
    fn scan(&self, options: ReadOptions) -> Result<Box<dyn Scan>> {
        let mut scan = ScanOptions::all()
            .between(options.since, options.until)
            .step_timeout(Some(self.inner.config.timeout));
        scan.from = options.from;
        let deadline = self.inner.deadline();
        let begun = self.inner.caller.call(SCAN, &self.job, deadline, |backend| {
            backend.scan(&self.job, &scan, deadline)
        })?;
        Ok(self.repeated(scan, begun))
    }

    pub(crate) fn without_ids(&self) -> StorageError {
        let why = "the backend acknowledged an event without an id";
        StorageError::new(crate::ErrorKind::Io, "append event", &self.job, why)
    }
}
