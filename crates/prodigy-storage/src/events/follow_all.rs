//! Follows many jobs at once.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::{Duration, Instant};

use prodigy_storage_backend::{
    Cursor, Deadline, ErrorKind, LogReports, LogScope, LogWatch, PageOptions, Result, Scan, ScanItem,
    StorageError,
};
use prodigy_storage_layout::{JobAddress, JobId};
use serde::de::DeserializeOwned;

use super::Events;
use super::event::Event;
use super::filter::Filters;
use super::follow::{FollowHandle, FollowOptions};
use super::read::{BufferedItem, ReadOptions, next_held};
use crate::call::operation::{LIST_JOBS, LIST_REPOSITORIES, WATCH};
use crate::listing::Listing;
use crate::storage::Inner;

const FOLLOW: &str = "follow events";
/// The time between two checks of all logs while appends are notified, in case a notification is lost.
const RARELY: Duration = Duration::from_secs(30);

/// How far one job has been followed.
#[derive(Debug)]
enum Followed {
    /// All events that this cursor covers were read; `None` before the first event.
    To(Option<Cursor>),
    /// The job is not followed any more, since its error was returned.
    Lost,
}

impl Followed {
    /// How a job is followed after this error was returned: not any more, from the oldest event that is left, or
    /// from the first event in case the job is created again after its deletion.
    fn after(error: &StorageError) -> Self {
        match error.kind() {
            ErrorKind::Deleted | ErrorKind::CursorGap => Self::To(None),
            _ => Self::Lost,
        }
    }
}

/// The lines of many logs, read as they are appended. Each line is borrowed until the next call.
///
/// ```
/// # use std::time::Duration;
/// # use prodigy_storage::{FollowOptions, ScanItem, Storage};
/// # let storage = Storage::in_memory()?;
/// storage.repo("shop")?.job("map-1")?.events().append(&"started")?;
/// let mut lines = storage.follow_lines(FollowOptions::new().wait(Duration::ZERO))?;
/// while let Some((job, item)) = lines.next()? {
///     if let ScanItem::Record(record) = item {
///         println!("{job}: {}", record.line);
///     }
/// }
/// # Ok::<(), prodigy_storage::StorageError>(())
/// ```
pub struct FollowAllLines {
    inner: Arc<Inner>,
    scope: LogScope,
    watch: Box<dyn LogWatch>,
    reports: LogReports,
    handle: FollowHandle,
    options: FollowOptions,
    /// The number of times that the store had been replaced by a copy when the cursors were made.
    generation: u64,
    jobs: BTreeMap<JobAddress, Followed>,
    /// The jobs whose logs are to be scanned next.
    due: VecDeque<JobAddress>,
    current: Option<(JobAddress, Box<dyn Scan>, Filters)>,
    /// True if new jobs, and the appends of other processes to all followed jobs, are notified.
    reported: bool,
    /// The time of the last check of all jobs.
    looked: Instant,
    /// True after a failure that concerns all jobs.
    failed: bool,
    /// The text of the line that was returned last.
    line: String,
}

impl FollowAllLines {
    pub(crate) fn begin(inner: &Arc<Inner>, scope: LogScope, options: FollowOptions) -> Result<Self> {
        if options.from.is_some() || options.until_finished {
            let why = "a cursor, and the end of a job, belong to one job";
            return Err(StorageError::invalid(FOLLOW, &scope, why)
                .with_hint("follow the events of that job, or give the positions of all jobs"));
        }
        let handle = FollowHandle::default();
        let reports = LogReports::new(handle.interrupt());
        // The watch begins before the jobs are listed, so that a job that is created later is reported.
        let watch = inner.caller.call(WATCH, &scope, inner.deadline(), |backend| {
            backend.watch(&scope, &reports)
        })?;
        let mut all = Self {
            inner: Arc::clone(inner),
            scope,
            watch,
            reports,
            handle,
            generation: inner.caller.capabilities().generation,
            jobs: BTreeMap::new(),
            due: VecDeque::new(),
            current: None,
            reported: true,
            looked: Instant::now(),
            failed: false,
            line: String::new(),
            options,
        };
        all.look_for_jobs(true)?;
        if all.options.from_now {
            for (job, followed) in &mut all.jobs {
                *followed = Followed::To(Some(Events::new(Arc::clone(inner), job.clone(), None).end()?));
            }
        }
        let positions = std::mem::take(&mut all.options.positions).into_iter();
        let followed = positions.map(|(job, cursor)| (job, Followed::To(Some(cursor))));
        all.jobs
            .extend(followed.filter(|(job, _)| wants(&all.options, &job.job)));
        Ok(all)
    }

    /// Waits for the next line, damage, or record over the limit, and returns it with its job. `None` after the
    /// follow was stopped, and after its time without a new event has passed.
    ///
    /// # Errors
    /// A failure that concerns one job is returned once, and the job is not followed any more. There are two
    /// exceptions. After a [`CursorGap`](ErrorKind::CursorGap), the job is followed from the oldest event that is
    /// left. If the job was deleted and is created again, it is followed from its first event. After a failure
    /// that concerns all jobs, every later call fails.
    #[expect(
        clippy::should_implement_trait,
        reason = "each item is lent, which `Iterator` can't say"
    )]
    pub fn next(&mut self) -> Result<Option<(JobAddress, ScanItem<'_>)>> {
        let found = self.step()?;
        Ok(found.map(|(job, found)| (job, found.lend(&self.line))))
    }

    fn step(&mut self) -> Result<Option<(JobAddress, BufferedItem)>> {
        let gives_up = self.options.wait.map_or(Deadline::never(), Deadline::after);
        let mut looked = false;
        while !self.handle.is_stopped() {
            if let Some((job, scan, filters)) = &mut self.current {
                match next_held(&mut **scan, filters, &mut self.line) {
                    Ok(Some(found)) => return Ok(Some((job.clone(), found))),
                    Ok(None) => {
                        self.jobs.insert(job.clone(), Followed::To(Some(scan.cursor())));
                        self.current = None;
                    }
                    Err(error) => {
                        let job = job.clone();
                        self.current = None;
                        self.give_up(job, &error);
                        return Err(error);
                    }
                }
            } else if let Some(job) = self.due.pop_front() {
                self.look_into(job)?;
            } else if looked && gives_up.has_passed() {
                return Ok(None);
            } else {
                if let Err(error) = self.find_due(gives_up) {
                    self.failed = true;
                    return Err(error);
                }
                looked = true;
            }
        }
        Ok(None)
    }

    /// Waits until [`next`](Self::next) may be able to return without waiting, and returns true. Returns false
    /// after `timeout`, and when the handle wakes or stops the follow.
    ///
    /// # Errors
    /// The errors of the backend.
    pub fn wait(&mut self, timeout: Option<Duration>) -> Result<bool> {
        let deadline = timeout.map_or(Deadline::never(), Deadline::after);
        while !self.handle.is_stopped() {
            if self.current.is_some() || !self.due.is_empty() || self.find_due(deadline)? {
                return Ok(true);
            }
            if deadline.has_passed() {
                break;
            }
        }
        Ok(false)
    }

    /// Waits for notifications, but at most until the next check of all jobs. Returns true if a job is to be
    /// scanned.
    fn find_due(&mut self, deadline: Deadline) -> Result<bool> {
        let interval = match self.reported {
            true => RARELY.max(self.options.poll),
            false => self.options.poll,
        };
        let rest = interval.saturating_sub(self.looked.elapsed());
        if rest.is_zero() {
            self.look_for_jobs(true)?;
        } else if let Some(reported) = self.reports.wait(Deadline::after(rest).min(deadline)) {
            let jobs = reported.jobs.into_iter();
            self.due.extend(jobs.filter(|job| wants(&self.options, &job.job)));
            if reported.appends_may_be_missed {
                self.look_for_jobs(true)?;
            } else if reported.jobs_may_have_come {
                self.look_for_jobs(false)?;
            }
        } else if !self.handle.is_stopped() {
            // The handle of the follow woke it, so all jobs are checked.
            self.look_for_jobs(true)?;
        }
        Ok(!self.due.is_empty())
    }

    /// Lists the jobs, and marks the new ones as due for a scan; with `all`, all jobs.
    fn look_for_jobs(&mut self, all: bool) -> Result<()> {
        if all {
            self.looked = Instant::now();
            self.reported = self.watch.reports_new_jobs()?;
            self.due.clear();
        }
        let repos = match &self.scope {
            LogScope::Repository(repo) => vec![repo.clone()],
            _ => self.listing(LIST_REPOSITORIES, |backend, page, deadline| {
                backend.repositories(page, deadline)
            })?,
        };
        for repo in repos {
            let of = repo.clone();
            let jobs = self.listing(LIST_JOBS, move |backend, page, deadline| {
                backend.jobs(&of, page, deadline)
            })?;
            for job in jobs.into_iter().filter(|job| wants(&self.options, job)) {
                let job = JobAddress::new(repo.clone(), job);
                if all || !self.jobs.contains_key(&job) {
                    self.due.push_back(job.clone());
                }
                self.jobs.entry(job).or_insert(Followed::To(None));
            }
        }
        Ok(())
    }

    fn listing<K: Clone + Send + 'static>(
        &self,
        operation: crate::call::operation::Operation,
        read: impl Fn(
            &dyn prodigy_storage_backend::Backend,
            &PageOptions<K>,
            Deadline,
        ) -> Result<prodigy_storage_backend::Page<K>>
        + Send
        + 'static,
    ) -> Result<Vec<K>> {
        Listing::new(Arc::clone(&self.inner), operation, self.scope.clone(), read).all()
    }

    /// Begins a scan of the events of a job that its cursor does not cover.
    fn look_into(&mut self, job: JobAddress) -> Result<()> {
        let from = match self.jobs.get(&job) {
            Some(Followed::Lost) => return Ok(()),
            Some(Followed::To(cursor)) => cursor.clone(),
            None => None,
        };
        // The job is watched before the scan begins, so that events that the scan does not return are notified.
        self.reported &= self.watch.include(&job)?;
        let events = Events::new(Arc::clone(&self.inner), job.clone(), None);
        let scan = events.scan(ReadOptions::new().from(from));
        if events.generation() != self.generation {
            return Err(events.replaced());
        }
        match scan {
            Ok(scan) => {
                let filters = Filters::new(&job, self.options.filters.clone());
                self.current = Some((job, scan, filters));
                Ok(())
            }
            Err(error) => {
                self.give_up(job, &error);
                Err(error)
            }
        }
    }

    /// Stops the present scan of a job after an error. If the job is still followed, it is due for a scan at once,
    /// since notifications about its new log may have come already.
    fn give_up(&mut self, job: JobAddress, error: &StorageError) {
        let followed = Followed::after(error);
        if matches!(followed, Followed::To(_)) {
            self.due.push_back(job.clone());
        }
        self.jobs.insert(job, followed);
    }

    /// The cursor after the last returned item, in the log of that item's job, for [`FollowOptions::positions`].
    /// `None` before the first item, and after an error.
    #[must_use]
    pub fn cursor(&self) -> Option<Cursor> {
        let (_, scan, _) = self.current.as_ref()?;
        Some(scan.cursor())
    }

    /// A handle with which another thread can stop the follow, or have it check for events at once.
    #[must_use]
    pub fn handle(&self) -> FollowHandle {
        self.handle.clone()
    }
}

/// True if the options select this job.
fn wants(options: &FollowOptions, job: &JobId) -> bool {
    options.jobs.as_ref().is_none_or(|jobs| jobs.contains(job))
}

impl fmt::Debug for FollowAllLines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FollowAllLines")
            .field("scope", &self.scope)
            .field("jobs", &self.jobs.len())
            .finish_non_exhaustive()
    }
}

/// The events of many jobs, read as they are appended: an iterator over pairs of a job and an event, which blocks
/// until the next event.
///
/// It begins with the stored events of each job, job by job, unless the options say
/// [`from_now`](FollowOptions::from_now). It continues with the events that are appended to any job, including
/// jobs that are created later. It keeps a cursor for each job in memory. A program that wants to continue later
/// stores the last [`cursor`](Self::cursor) of each job, and begins with these
/// [`positions`](FollowOptions::positions).
///
/// Damage and payloads that are not a `T` are `Err` items, as in a [read](Events::read). A failure that concerns
/// one job is an `Err` item too; the iterator then continues with the other jobs. The failed job is not followed
/// any more, with two exceptions: if events of it were removed, it is followed from the oldest one that is left,
/// and if it was deleted, from the first event of its next log. After a failure that concerns all jobs the
/// iterator ends.
///
/// ```
/// # use std::time::Duration;
/// # use prodigy_storage::{FollowOptions, Storage};
/// # let storage = Storage::in_memory()?;
/// let shop = storage.repo("shop")?;
/// shop.job("map-1")?.events().append(&"started")?;
/// let mut follow = shop.follow::<String>(FollowOptions::new().wait(Duration::ZERO))?;
/// shop.job("map-2")?.events().append(&"a job that came later")?;
/// let jobs: Vec<String> = follow.map(|event| Ok(event?.0.job.to_string())).collect::<Result<_, prodigy_storage::StorageError>>()?;
/// assert_eq!(jobs, ["map-1", "map-2"]);
/// # Ok::<(), prodigy_storage::StorageError>(())
/// ```
#[derive(Debug)]
pub struct FollowAll<T> {
    lines: FollowAllLines,
    ended: bool,
    of: PhantomData<fn() -> T>,
}

impl<T> FollowAll<T> {
    pub(crate) fn new(lines: FollowAllLines) -> Self {
        Self {
            lines,
            ended: false,
            of: PhantomData,
        }
    }

    /// The cursor after the last returned item, in the log of that item's job, for [`FollowOptions::positions`].
    /// `None` before the first item, and after an error that ended the reading of a log.
    #[must_use]
    pub fn cursor(&self) -> Option<Cursor> {
        self.lines.cursor()
    }

    /// A handle with which another thread can stop the follow, or have it check for events at once.
    #[must_use]
    pub fn handle(&self) -> FollowHandle {
        self.lines.handle()
    }
}

impl<T: DeserializeOwned> Iterator for FollowAll<T> {
    type Item = Result<(JobAddress, Event<T>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        match self.lines.next() {
            Ok(Some((job, ScanItem::Record(record)))) => {
                let event = Event::from_record(&record, &job);
                Some(event.map(|event| (job, event)))
            }
            Ok(Some((_, ScanItem::Damage(damage)))) => Some(Err(StorageError::from(damage))),
            Ok(Some((_, ScanItem::TooLarge(record)))) => Some(Err(StorageError::from(record))),
            Ok(None) => None,
            Err(error) => {
                // If the root was replaced, no job can be followed any more.
                self.ended = self.lines.failed || error.kind() == ErrorKind::Replaced;
                Some(Err(error))
            }
        }
    }
}
