//! Waits for new events.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use prodigy_storage_layout::JobAddress;

use crate::deadline::Deadline;
use crate::document::Revision;
use crate::error::Result;
use crate::setters;
use crate::watch::{LogReports, LogScope};

/// Options of a wait for new events; `Default` polls ten times a second, without an interrupt.
///
/// ```
/// use std::time::Duration;
/// use prodigy_storage_backend::{Interrupt, WaitOptions};
///
/// let interrupt = Interrupt::new();
/// let options = WaitOptions::new().poll(Duration::from_secs(1)).interrupt(interrupt.clone());
/// assert_eq!(options.poll, Duration::from_secs(1));
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct WaitOptions {
    /// The longest pause between two polls. An append ends the pause if the backend is notified of it.
    pub poll: Duration,
    /// Ends the wait when another thread calls [`Interrupt::raise`].
    pub interrupt: Interrupt,
    /// True if the end of the job also ends the wait, with the result true.
    pub until_finished: bool,
    /// The revision of a document that marks the job as finished, but does not end the wait, because the job was
    /// written to after it.
    pub reopened: Option<Revision>,
}

impl Default for WaitOptions {
    fn default() -> Self {
        Self {
            poll: Duration::from_millis(100),
            interrupt: Interrupt::new(),
            until_finished: false,
            reopened: None,
        }
    }
}

impl WaitOptions {
    /// Options with the default pause, without an interrupt.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    setters! {
        /// Sets the longest pause between two polls.
        poll: Duration,

        /// Sets the interrupt.
        interrupt: Interrupt,
    }

    /// Sets [`until_finished`](Self::until_finished).
    #[must_use]
    pub fn until_finished(mut self, until_finished: bool) -> Self {
        self.until_finished = until_finished;
        self
    }

    /// Sets [`reopened`](Self::reopened).
    #[must_use]
    pub fn reopened(mut self, mark: Option<Revision>) -> Self {
        self.reopened = mark;
        self
    }

    /// True if a document that marks the job as finished, with this revision, ends the wait.
    #[must_use]
    pub fn ends_at(&self, mark: Option<Revision>) -> bool {
        self.until_finished && mark.is_some() && mark != self.reopened
    }
}

/// The reason why [`Waiters::wait`] checks for events.
///
/// ```
/// use prodigy_storage_backend::{Deadline, LookReason, WaitOptions, Waiters};
/// # use prodigy_storage_layout::{JobAddress, JobId, RepoName};
/// # let job = JobAddress::new(RepoName::new("shop")?, JobId::new("mapreduce-7")?);
/// // The first check always has to find all stored events.
/// let found = Waiters::default().wait(&job, &WaitOptions::new(), Deadline::never(), |reason| {
///     Ok(reason == LookReason::Notified)
/// })?;
/// assert!(found);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LookReason {
    /// The wait began, an event was appended, or the wait is about to end. The check has to find all stored
    /// events.
    Notified,
    /// The poll interval passed without a notification. A backend that notices every append by itself need not
    /// check.
    Elapsed,
}

/// Ends a [wait](crate::LogStore::wait) from another thread. Clones share one interrupt.
///
/// ```
/// use prodigy_storage_backend::Interrupt;
///
/// let interrupt = Interrupt::new();
/// interrupt.clone().raise(); // The next wait that uses this interrupt ends after one check.
/// ```
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<Signal>);

#[derive(Debug, Default)]
struct Signal {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    raised: bool,
    /// True if an event may have been appended since the last check.
    notified: bool,
}

/// The reason why a pause ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pause {
    Notified,
    Elapsed,
    Interrupted,
}

impl Interrupt {
    /// An interrupt that is not raised.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Ends the present wait or, if no wait is running, the next one. The wait checks for events at most once
    /// more.
    pub fn raise(&self) {
        self.0.state.lock().raised = true;
        self.0.changed.notify_all();
    }

    pub(crate) fn notify(&self) {
        self.0.state.lock().notified = true;
        self.0.changed.notify_all();
    }

    pub(crate) fn begin_look(&self) {
        self.0.state.lock().notified = false;
    }

    /// Pauses until an event may have been appended, or until the deadline. Returns false if the interrupt was
    /// raised.
    pub(crate) fn pause_until(&self, deadline: Deadline) -> bool {
        self.pause(instant(deadline)) != Pause::Interrupted
    }

    /// Pauses until an event may have been appended, until the given moment, or until the interrupt is raised.
    fn pause(&self, until: Instant) -> Pause {
        let mut state = self.0.state.lock();
        while !state.raised && !state.notified {
            if self.0.changed.wait_until(&mut state, until).timed_out() {
                break;
            }
        }
        if std::mem::take(&mut state.raised) {
            Pause::Interrupted
        } else if state.notified {
            Pause::Notified
        } else {
            Pause::Elapsed
        }
    }
}

/// The moment of a deadline. If it is too far ahead for the clock, an earlier moment, which only costs another
/// check.
fn instant(deadline: Deadline) -> Instant {
    deadline
        .instant()
        .unwrap_or_else(|| Instant::now() + Duration::from_secs(3600))
}

/// The callers in this process that wait for events, by job. For a backend that implements
/// [`LogStore::wait`](crate::LogStore::wait).
///
/// ```
/// use prodigy_storage_backend::{Deadline, WaitOptions, Waiters};
/// # use prodigy_storage_layout::{JobAddress, JobId, RepoName};
/// # let job = JobAddress::new(RepoName::new("shop")?, JobId::new("mapreduce-7")?);
/// let waiters = Waiters::default();
/// waiters.notify(&job); // After each append.
/// assert!(waiters.wait(&job, &WaitOptions::new(), Deadline::never(), |_| Ok(true))?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Default)]
pub struct Waiters {
    /// The number of waiting callers. An append reads it, and takes no lock if it is 0.
    count: AtomicUsize,
    by_job: Mutex<HashMap<JobAddress, Vec<Interrupt>>>,
    /// The callers that watch many logs, with the logs that each watches.
    watching: Mutex<Vec<(LogScope, LogReports)>>,
}

/// Reports appends to a caller that watches many logs, until it is dropped.
///
/// ```
/// use std::sync::Arc;
/// use prodigy_storage_backend::{Deadline, Interrupt, LogReports, LogScope, Waiters};
/// # use prodigy_storage_layout::{JobAddress, JobId, RepoName};
/// # let job = JobAddress::new(RepoName::new("shop")?, JobId::new("mapreduce-7")?);
/// let (waiters, reports) = (Arc::new(Waiters::default()), LogReports::new(Interrupt::new()));
/// let _reporting = waiters.report(LogScope::Store, reports.clone());
/// waiters.notify(&job); // After an append.
/// assert!(reports.wait(Deadline::never()).is_some_and(|reported| reported.jobs.contains(&job)));
/// # Ok::<(), prodigy_storage_layout::NameError>(())
/// ```
#[derive(Debug)]
pub struct Reporting {
    waiters: Arc<Waiters>,
    reports: LogReports,
}

impl Drop for Reporting {
    fn drop(&mut self) {
        self.waiters.count.fetch_sub(1, Ordering::SeqCst);
        let mut watching = self.waiters.watching.lock();
        if let Some(at) = watching.iter().position(|(_, reports)| reports.is(&self.reports)) {
            watching.swap_remove(at);
        }
    }
}

impl Waiters {
    /// Reports each later append of this process to a log of a scope.
    #[must_use = "the reports end when this is dropped"]
    pub fn report(self: &Arc<Self>, scope: LogScope, reports: LogReports) -> Reporting {
        self.watching.lock().push((scope, reports.clone()));
        self.count.fetch_add(1, Ordering::SeqCst);
        Reporting {
            waiters: Arc::clone(self),
            reports,
        }
    }

    /// Wakes each caller that waits for events of this job, and reports the job to its watchers.
    pub fn notify(&self, job: &JobAddress) {
        if self.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        for waiting in self.by_job.lock().get(job).into_iter().flatten() {
            waiting.notify();
        }
        for (scope, reports) in &*self.watching.lock() {
            if scope.contains(job) {
                reports.add(job);
            }
        }
    }

    /// Reports to all watchers that appends by other processes may have been missed. A caller that waits for the
    /// events of one job polls in any case.
    pub fn report_missed(&self) {
        for (_, reports) in &*self.watching.lock() {
            reports.add_missed();
        }
    }

    /// Calls `look` until it finds something, and returns true then. Returns false at the deadline, or if the
    /// interrupt was raised. The first call of `look`, and the last one before the deadline, get
    /// [`LookReason::Notified`].
    ///
    /// # Errors
    /// The errors of `look`.
    pub fn wait(
        &self,
        job: &JobAddress,
        options: &WaitOptions,
        deadline: Deadline,
        mut look: impl FnMut(LookReason) -> Result<bool>,
    ) -> Result<bool> {
        let interrupt = &options.interrupt;
        let _waiting = Waiting::begin(self, job, interrupt);
        let mut reason = LookReason::Notified;
        loop {
            interrupt.begin_look();
            if look(reason)? {
                return Ok(true);
            }
            if deadline.has_passed() {
                if reason == LookReason::Notified {
                    return Ok(false);
                }
                reason = LookReason::Notified;
                continue;
            }
            let next_look = Deadline::after(options.poll).min(deadline);
            reason = match interrupt.pause(instant(next_look)) {
                Pause::Notified => LookReason::Notified,
                Pause::Elapsed => LookReason::Elapsed,
                Pause::Interrupted => return Ok(false),
            };
        }
    }
}

/// A caller that is registered as waiting, until it is dropped.
struct Waiting<'a> {
    waiters: &'a Waiters,
    job: &'a JobAddress,
    interrupt: &'a Interrupt,
}

impl<'a> Waiting<'a> {
    fn begin(waiters: &'a Waiters, job: &'a JobAddress, interrupt: &'a Interrupt) -> Self {
        let mut by_job = waiters.by_job.lock();
        by_job.entry(job.clone()).or_default().push(interrupt.clone());
        drop(by_job);
        // The caller registers before its first check: an append that the check misses then notifies the caller.
        waiters.count.fetch_add(1, Ordering::SeqCst);
        Self {
            waiters,
            job,
            interrupt,
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.waiters.count.fetch_sub(1, Ordering::SeqCst);
        let mut by_job = self.waiters.by_job.lock();
        if let Some(waiting) = by_job.get_mut(self.job) {
            if let Some(at) = waiting
                .iter()
                .position(|other| Arc::ptr_eq(&other.0, &self.interrupt.0))
            {
                waiting.swap_remove(at);
            }
            if waiting.is_empty() {
                by_job.remove(self.job);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::thread;

    use prodigy_storage_layout::{JobId, RepoName};

    use super::*;

    fn job(name: &str) -> JobAddress {
        JobAddress::new(RepoName::new("shop").unwrap(), JobId::new(name).unwrap())
    }

    /// Options whose poll interval is an hour, so that a poll never ends a wait in time.
    fn rarely() -> WaitOptions {
        WaitOptions::new().poll(Duration::from_secs(3600))
    }

    #[test]
    fn a_notification_ends_the_pause_and_one_of_another_job_does_not() {
        let (waiters, stored, looks) = (Waiters::default(), AtomicBool::new(false), AtomicUsize::new(0));
        thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                waiters.wait(&job("a"), &rarely(), Deadline::never(), |reason| {
                    assert_eq!(reason, LookReason::Notified);
                    looks.fetch_add(1, Ordering::SeqCst);
                    Ok(stored.load(Ordering::SeqCst))
                })
            });
            while looks.load(Ordering::SeqCst) == 0 {
                thread::yield_now();
            }
            waiters.notify(&job("b"));
            stored.store(true, Ordering::SeqCst);
            waiters.notify(&job("a"));
            assert!(waiting.join().unwrap().unwrap());
        });
        assert_eq!(
            looks.load(Ordering::SeqCst),
            2,
            "the append to the other job caused no check"
        );
        assert!(waiters.by_job.lock().is_empty() && waiters.count.load(Ordering::SeqCst) == 0);
    }

    #[test]
    fn an_interrupt_ends_a_wait_once_also_if_it_came_before() {
        let (waiters, interrupt) = (Waiters::default(), Interrupt::new());
        let options = rarely().interrupt(interrupt.clone());
        interrupt.raise();
        let mut looks = 0;
        let found = waiters.wait(&job("a"), &options, Deadline::never(), |_| {
            looks += 1;
            Ok(false)
        });
        assert_eq!((found.unwrap(), looks), (false, 1));
        thread::scope(|scope| {
            let waiting = scope.spawn(|| waiters.wait(&job("a"), &options, Deadline::never(), |_| Ok(false)));
            while waiters.count.load(Ordering::SeqCst) == 0 {
                thread::yield_now();
            }
            assert!(!waiting.is_finished(), "the first interrupt ended only one wait");
            interrupt.raise();
            assert!(!waiting.join().unwrap().unwrap());
        });
    }

    #[test]
    fn a_deadline_ends_a_wait_after_a_look() {
        let waiters = Waiters::default();
        let passed = Deadline::after(Duration::ZERO);
        assert!(!waiters.wait(&job("a"), &rarely(), passed, |_| Ok(false)).unwrap());
        assert!(waiters.wait(&job("a"), &rarely(), passed, |_| Ok(true)).unwrap());
        let soon = Deadline::after(Duration::from_millis(20));
        assert!(!waiters.wait(&job("a"), &rarely(), soon, |_| Ok(false)).unwrap());
    }

    #[test]
    fn a_look_after_a_pause_says_that_nothing_was_reported_and_the_last_one_has_to_find_what_is_stored() {
        let mut reasons = Vec::new();
        let often = WaitOptions::new().poll(Duration::from_millis(1));
        let soon = Deadline::after(Duration::from_millis(20));
        let found = Waiters::default().wait(&job("a"), &often, soon, |reason| {
            reasons.push(reason);
            Ok(false)
        });
        assert!(!found.unwrap());
        assert_eq!(reasons.first(), Some(&LookReason::Notified));
        assert_eq!(reasons.last(), Some(&LookReason::Notified));
        let mut between = reasons.iter().skip(1).rev().skip(1);
        assert!(between.all(|reason| *reason == LookReason::Elapsed));
    }
}
