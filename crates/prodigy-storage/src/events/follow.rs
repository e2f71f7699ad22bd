//! Follows a log: reads events as they are appended.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use prodigy_storage_backend::{
    Cursor, Deadline, Interrupt, Result, Scan, ScanItem, StorageError, WaitOptions,
};
use prodigy_storage_layout::{JobAddress, JobId};
use serde::de::DeserializeOwned;

use super::Events;
use super::event::Event;
use super::filter::{EventFilter, Filters};
use super::read::{BufferedItem, ReadOptions, next_held};

/// The options of a follow; `Default` begins at the first event and never ends.
///
/// If the backend is notified of appends, an append by any process wakes the follow at once. The file backend is
/// notified on Linux, by inotify, within the limits of the system. Otherwise the follow checks for new events [ten
/// times a second](Self::poll).
///
/// ```
/// # use std::time::Duration;
/// # use prodigy_storage::{FollowOptions, Storage};
/// # let job = Storage::in_memory()?.repo("shop")?.job("mapreduce-7")?;
/// job.events().append(&"started")?;
/// // The stored events, and later ones until none has come for 10 ms.
/// let options = FollowOptions::new().wait(Duration::from_millis(10));
/// assert_eq!(job.events().follow_with::<String>(options)?.count(), 1);
/// # Ok::<(), prodigy_storage::StorageError>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FollowOptions {
    /// Returns only events that this cursor does not cover.
    pub from: Option<Cursor>,
    /// If there is no cursor in `from`: returns only events that are stored after the follow began.
    pub from_now: bool,
    /// The longest pause between two checks for new events. A notification ends the pause.
    pub poll: Duration,
    /// Ends the follow when no new event has come for this duration; `None` never ends it. With zero, only the
    /// events that are stored now are returned.
    pub wait: Option<Duration>,
    /// Ends the follow when the job is [finished](crate::Job::finish) and all earlier events were returned. An
    /// event that is appended to a finished job reopens it, until it is finished again.
    pub until_finished: bool,
    /// Returns only events that pass all of these filters.
    pub filters: Vec<EventFilter>,
    /// If many jobs are followed: only these, including those that are created later; all jobs if `None`.
    pub jobs: Option<BTreeSet<JobId>>,
    /// If many jobs are followed: these begin after these cursors, whatever the other options say.
    pub positions: BTreeMap<JobAddress, Cursor>,
}

impl Default for FollowOptions {
    fn default() -> Self {
        Self {
            from: None,
            from_now: false,
            poll: Duration::from_millis(100),
            wait: None,
            until_finished: false,
            filters: Vec::new(),
            jobs: None,
            positions: BTreeMap::new(),
        }
    }
}

impl FollowOptions {
    /// Options that begin at the first event and never end.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns only events that this cursor does not cover; all events if `None`.
    #[must_use]
    pub fn from(mut self, cursor: impl Into<Option<Cursor>>) -> Self {
        self.from = cursor.into();
        self
    }

    /// Returns only events that are stored after the follow began. Events that are already stored are not read.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use prodigy_storage::{FollowOptions, Storage};
    /// # let job = Storage::in_memory()?.repo("shop")?.job("mapreduce-7")?;
    /// job.events().append(&"before")?;
    /// let mut follow = job.events().follow_with::<String>(FollowOptions::new().from_now())?;
    /// job.events().append(&"after")?;
    /// assert_eq!(follow.next().expect("an event")?.event, "after");
    /// # Ok::<(), prodigy_storage::StorageError>(())
    /// ```
    #[must_use]
    pub fn from_now(mut self) -> Self {
        self.from_now = true;
        self
    }

    /// Ends the follow when the job is [finished](crate::Job::finish) and all earlier events were returned. An
    /// event that is appended to a finished job reopens it, until it is finished again.
    ///
    /// ```
    /// # use prodigy_storage::{FollowOptions, Storage};
    /// # let job = Storage::in_memory()?.repo("shop")?.job("mapreduce-7")?;
    /// job.events().append(&"the only one")?;
    /// job.finish()?;
    /// let follow = job.events().follow_with::<String>(FollowOptions::new().until_finished())?;
    /// assert_eq!(follow.count(), 1);
    /// # Ok::<(), prodigy_storage::StorageError>(())
    /// ```
    #[must_use]
    pub fn until_finished(mut self) -> Self {
        self.until_finished = true;
        self
    }

    /// Adds a filter: only events that pass all filters are returned.
    #[must_use]
    pub fn filter(mut self, filter: EventFilter) -> Self {
        self.filters.push(filter);
        self
    }

    /// If many jobs are followed, follows only these, including those that are created later. Without any job, none
    /// is followed. A second call adds its jobs.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use prodigy_storage::{FollowOptions, JobId, Storage};
    /// # let shop = Storage::in_memory()?.repo("shop")?;
    /// shop.job("map-1")?.events().append(&1)?;
    /// let options = FollowOptions::new().wait(Duration::ZERO).jobs([JobId::new("map-2")?]);
    /// let mut follow = shop.follow::<u64>(options)?;
    /// shop.job("map-2")?.events().append(&2)?;
    /// assert_eq!(follow.next().expect("an event")?.1.event, 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn jobs(mut self, jobs: impl IntoIterator<Item = JobId>) -> Self {
        self.jobs.get_or_insert_default().extend(jobs);
        self
    }

    /// If many jobs are followed, begins in these after these cursors, such as those of an earlier follow. Any
    /// other job begins at its first event or, with [`from_now`](Self::from_now), at the present end of its log.
    ///
    /// ```
    /// # use std::collections::BTreeMap;
    /// # use std::time::Duration;
    /// # use prodigy_storage::{FollowOptions, Storage};
    /// # let shop = Storage::in_memory()?.repo("shop")?;
    /// shop.job("map-1")?.events().append(&1)?;
    /// let options = FollowOptions::new().wait(Duration::ZERO);
    /// let (mut follow, mut reached) = (shop.follow::<u64>(options.clone())?, BTreeMap::new());
    /// while let Some(event) = follow.next() {
    ///     let (job, _) = event?;
    ///     reached.extend(follow.cursor().map(|cursor| (job, cursor)));
    /// }
    ///
    /// shop.job("map-1")?.events().append(&2)?;
    /// let mut later = shop.follow::<u64>(options.positions(reached))?;
    /// assert_eq!(later.next().expect("an event")?.1.event, 2);
    /// # Ok::<(), prodigy_storage::StorageError>(())
    /// ```
    #[must_use]
    pub fn positions(mut self, positions: impl IntoIterator<Item = (JobAddress, Cursor)>) -> Self {
        self.positions.extend(positions);
        self
    }

    /// Sets the longest pause between two checks for new events.
    #[must_use]
    pub fn poll(mut self, poll: Duration) -> Self {
        self.poll = poll;
        self
    }

    /// Ends the follow when no new event has come for this duration.
    #[must_use]
    pub fn wait(mut self, wait: impl Into<Option<Duration>>) -> Self {
        self.wait = wait.into();
        self
    }
}

/// Ends a follow, or makes it check for new events at once, from another thread.
///
/// ```
/// # use prodigy_storage::Storage;
/// # let job = Storage::in_memory()?.repo("shop")?.job("mapreduce-7")?;
/// let follow = job.events().follow::<String>(None)?;
/// let handle = follow.handle();
/// let printer = std::thread::spawn(move || follow.count());
/// job.events().append(&"started")?;
/// handle.stop();
/// assert!(printer.join().expect("it does not panic") <= 1);
/// # Ok::<(), prodigy_storage::StorageError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct FollowHandle {
    stopped: Arc<AtomicBool>,
    interrupt: Interrupt,
}

impl FollowHandle {
    /// Ends the follow. Events that it has read ahead and not returned are not covered by its cursor.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        self.interrupt.raise();
    }

    /// Makes the follow check for new events at once, without waiting for the end of its pause.
    pub fn wake(&self) {
        self.interrupt.raise();
    }

    /// The interrupt that this handle raises.
    pub(super) fn interrupt(&self) -> Interrupt {
        self.interrupt.clone()
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }
}

/// The lines of a log, read as they are appended. Each line is borrowed until the next call.
///
/// ```
/// # use prodigy_storage::{FollowOptions, ScanItem, Storage};
/// # let job = Storage::in_memory()?.repo("shop")?.job("mapreduce-7")?;
/// job.events().append(&"started")?;
/// let mut lines = job.events().follow_lines(FollowOptions::new().wait(std::time::Duration::ZERO))?;
/// while let Some(item) = lines.next()? {
///     match item {
///         ScanItem::Record(record) => println!("{}", record.line),
///         ScanItem::Damage(damage) => eprintln!("{damage}"),
///         other => eprintln!("{other:?}"),
///     }
/// }
/// # Ok::<(), prodigy_storage::StorageError>(())
/// ```
pub struct FollowLines {
    events: Events,
    scan: Option<Box<dyn Scan>>,
    filters: Filters,
    cursor: Cursor,
    /// The number of times that the store had been replaced by a copy when the cursor was made.
    generation: u64,
    handle: FollowHandle,
    waiting: WaitOptions,
    wait: Option<Duration>,
    /// True if the job was finished when the last scan began.
    finished: bool,
    /// The text of the line that was returned last.
    line: String,
    ended: bool,
}

impl FollowLines {
    pub(crate) fn begin(events: Events, options: FollowOptions) -> Result<Self> {
        if options.jobs.is_some() || !options.positions.is_empty() {
            let why = "a choice of jobs, and their positions, belong to a follow of many jobs";
            return Err(StorageError::invalid("follow events", &events.job, why)
                .with_hint("follow the repository, or give the cursor of this job"));
        }
        let from = match options.from {
            None if options.from_now => Some(events.end()?),
            from => from,
        };
        let handle = FollowHandle::default();
        let mut waiting = WaitOptions::new()
            .poll(options.poll)
            .interrupt(handle.interrupt.clone())
            .until_finished(options.until_finished);
        let finished = events.is_finished(&mut waiting)?;
        let scan = events.scan(ReadOptions::new().from(from))?;
        Ok(Self {
            cursor: scan.cursor(),
            // The generation is read first: if the store is replaced after that, the first scan fails.
            generation: events.generation(),
            filters: Filters::new(&events.job, options.filters),
            events,
            scan: Some(scan),
            handle,
            waiting,
            wait: options.wait,
            finished,
            line: String::new(),
            ended: false,
        })
    }

    /// Waits for the next line, damage, or record over the limit. `None` after the follow was stopped, after its
    /// time without a new event has passed, and at the end of a finished job if the options ask for that.
    ///
    /// # Errors
    /// A failure that ends the follow. A new follow can begin at [`cursor`](Self::cursor).
    #[expect(
        clippy::should_implement_trait,
        reason = "each item is lent, which `Iterator` can't say"
    )]
    pub fn next(&mut self) -> Result<Option<ScanItem<'_>>> {
        let step = self.step();
        self.give(step)
    }

    /// The next line of the present scan, without waiting and without a new scan.
    #[cfg(feature = "tokio")]
    fn next_now(&mut self) -> Result<Option<ScanItem<'_>>> {
        if self.ended || self.handle.is_stopped() {
            return Ok(None);
        }
        let step = self.step_now();
        self.give(step)
    }

    fn give(&mut self, step: Result<Option<BufferedItem>>) -> Result<Option<ScanItem<'_>>> {
        match step {
            Ok(Some(found)) => Ok(Some(found.lend(&self.line))),
            Ok(None) => Ok(None),
            Err(error) => {
                self.ended = true;
                self.scan = None;
                Err(error)
            }
        }
    }

    fn step(&mut self) -> Result<Option<BufferedItem>> {
        let gives_up = self.wait.map_or(Deadline::never(), Deadline::after);
        // True once this call has begun a scan. A scan from an earlier call does not return events that were
        // stored since.
        let mut looked = false;
        loop {
            if self.ended || self.handle.is_stopped() {
                return Ok(None);
            }
            if self.scan.is_none() {
                looked = true;
                // This is checked before the scan begins, so that the scan has all events from before the end of
                // the job.
                self.finished = self.events.is_finished(&mut self.waiting)?;
                let from = Some(self.cursor.clone());
                self.scan = Some(self.events.scan(ReadOptions::new().from(from))?);
                if self.events.generation() != self.generation {
                    return Err(self.events.replaced());
                }
            }
            let found = self.step_now()?;
            if found.is_some() {
                return Ok(found);
            }
            if self.finished {
                return Ok(None);
            }
            if !looked {
                continue;
            }
            if gives_up.has_passed() {
                return Ok(None);
            }
            self.events.wait(&self.cursor, &self.waiting, gives_up)?;
        }
    }

    /// The next item of the present scan, without waiting. `None` at the end of the scan, and without one.
    fn step_now(&mut self) -> Result<Option<BufferedItem>> {
        let Some(scan) = &mut self.scan else {
            return Ok(None);
        };
        let found = next_held(&mut **scan, &self.filters, &mut self.line)?;
        if found.is_none() {
            self.cursor = scan.cursor();
            self.scan = None;
        }
        Ok(found)
    }

    /// Waits until [`next`](Self::next) can return without waiting, and returns true. Returns false after
    /// `timeout`, and when the handle wakes or stops the follow.
    ///
    /// A caller that has work to do before each wait, such as flushing its output, sets
    /// [`wait`](FollowOptions::wait) to zero and calls this method when `next` returns `None`.
    ///
    /// # Errors
    /// The errors of the backend.
    pub fn wait(&mut self, timeout: Option<Duration>) -> Result<bool> {
        if self.scan.is_some() || self.finished {
            return Ok(true);
        }
        if self.ended || self.handle.is_stopped() {
            return Ok(false);
        }
        let deadline = timeout.map_or(Deadline::never(), Deadline::after);
        self.events.wait(&self.cursor, &self.waiting, deadline)
    }

    /// True if the follow has returned all events and ended because the job is finished.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.finished && self.scan.is_none()
    }

    /// The cursor after the last returned item.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        self.scan
            .as_ref()
            .map_or_else(|| self.cursor.clone(), |scan| scan.cursor())
    }

    /// A handle with which another thread can stop the follow, or have it check for events at once.
    #[must_use]
    pub fn handle(&self) -> FollowHandle {
        self.handle.clone()
    }
}

impl fmt::Debug for FollowLines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FollowLines")
            .field("job", &self.events.job)
            .finish_non_exhaustive()
    }
}

/// The events of a log, read as they are appended: an iterator that blocks until the next event.
///
/// Damage, records over `max_record_size` and payloads that are not a `T` are `Err` items, as in a
/// [read](Events::read). The iterator ends after the follow was stopped, after its time without a new event has
/// passed, and after any other error.
///
/// ```
/// # use prodigy_storage::Storage;
/// # let job = Storage::in_memory()?.repo("shop")?.job("mapreduce-7")?;
/// job.events().append(&"started")?;
/// let mut follow = job.events().follow::<String>(None)?;
/// for event in follow.by_ref() {
///     println!("{}", event?.event);
/// #   break;
/// }
/// let resume = follow.cursor();
/// # let _ = resume;
/// # Ok::<(), prodigy_storage::StorageError>(())
/// ```
#[derive(Debug)]
pub struct Follow<T> {
    lines: FollowLines,
    job: JobAddress,
    of: PhantomData<fn() -> T>,
}

impl<T> Follow<T> {
    pub(crate) fn new(lines: FollowLines, job: &JobAddress) -> Self {
        Self {
            lines,
            job: job.clone(),
            of: PhantomData,
        }
    }

    /// The cursor after the last returned item.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        self.lines.cursor()
    }

    /// A handle with which another thread can stop the follow, or have it check for events at once.
    #[must_use]
    pub fn handle(&self) -> FollowHandle {
        self.lines.handle()
    }
}

impl<T: DeserializeOwned> Iterator for Follow<T> {
    type Item = Result<Event<T>>;

    fn next(&mut self) -> Option<Self::Item> {
        event(self.lines.next(), &self.job)
    }
}

#[cfg(feature = "tokio")]
impl<T: DeserializeOwned> Follow<T> {
    /// The next event of the present scan, without waiting. After `None` the iterator may still return events.
    pub(crate) fn next_now(&mut self) -> Option<Result<Event<T>>> {
        event(self.lines.next_now(), &self.job)
    }

    /// The size in bytes of the line that was returned last.
    pub(crate) fn bytes(&self) -> usize {
        self.lines.line.len()
    }
}

fn event<T: DeserializeOwned>(
    found: Result<Option<ScanItem<'_>>>,
    job: &JobAddress,
) -> Option<Result<Event<T>>> {
    match found.transpose()? {
        Ok(ScanItem::Record(record)) => Some(Event::from_record(&record, job)),
        Ok(ScanItem::Damage(damage)) => Some(Err(StorageError::from(damage))),
        Ok(ScanItem::TooLarge(record)) => Some(Err(StorageError::from(record))),
        Err(error) => Some(Err(error)),
    }
}
