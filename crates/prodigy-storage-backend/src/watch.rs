//! Watches many logs at once.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use prodigy_storage_layout::{JobAddress, RepoName};

use crate::deadline::Deadline;
use crate::error::Result;
use crate::wait::Interrupt;

/// The logs that a watch covers.
///
/// ```
/// use prodigy_storage_backend::LogScope;
/// # use prodigy_storage_layout::{JobAddress, JobId, RepoName};
/// let shop = RepoName::new("shop")?;
/// let job = JobAddress::new(shop.clone(), JobId::new("mapreduce-7")?);
/// assert!(LogScope::Store.contains(&job) && LogScope::Repository(shop).contains(&job));
/// # Ok::<(), prodigy_storage_layout::NameError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LogScope {
    /// Every job of the store.
    Store,
    /// The jobs of a repository.
    Repository(RepoName),
}

impl LogScope {
    /// True if a job belongs to the scope.
    #[must_use]
    pub fn contains(&self, job: &JobAddress) -> bool {
        match self {
            Self::Store => true,
            Self::Repository(repo) => job.repo == *repo,
        }
    }
}

/// Writes the repository's name, or a word for the whole store.
impl fmt::Display for LogScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store => f.write_str("all repositories"),
            Self::Repository(repo) => repo.fmt(f),
        }
    }
}

/// The reports that came during a wait.
///
/// ```
/// use prodigy_storage_backend::{Deadline, Interrupt, LogReports};
/// # use prodigy_storage_layout::{JobAddress, JobId, RepoName};
/// # let job = JobAddress::new(RepoName::new("shop")?, JobId::new("mapreduce-7")?);
/// let reports = LogReports::new(Interrupt::new());
/// reports.add(&job);
/// let reported = reports.wait(Deadline::never()).expect("nothing interrupts it");
/// assert!(reported.jobs.contains(&job) && !reported.jobs_may_have_come);
/// # Ok::<(), prodigy_storage_layout::NameError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reported {
    /// The jobs to which an event may have been appended.
    pub jobs: BTreeSet<JobAddress>,
    /// True if a new job may have been created.
    pub jobs_may_have_come: bool,
    /// True if appends by other processes may have been missed, since the backend no longer notices them. The caller
    /// scans all logs, and [includes](LogWatch::include) them again to learn whether it has to poll.
    pub appends_may_be_missed: bool,
}

/// Collects reports of appends: a backend adds them, and a caller that watches many logs waits for them. Clones
/// share the reports.
///
/// ```
/// use prodigy_storage_backend::{Deadline, Interrupt, LogReports};
/// let reports = LogReports::new(Interrupt::new());
/// reports.clone().add_new();
/// assert!(reports.wait(Deadline::never()).is_some_and(|reported| reported.jobs_may_have_come));
/// ```
#[derive(Clone, Debug)]
pub struct LogReports(Arc<Reports>);

#[derive(Debug)]
struct Reports {
    reported: Mutex<Reported>,
    interrupt: Interrupt,
}

impl LogReports {
    /// An empty set of reports. The interrupt ends a wait for them.
    #[must_use]
    pub fn new(interrupt: Interrupt) -> Self {
        Self(Arc::new(Reports {
            reported: Mutex::default(),
            interrupt,
        }))
    }

    /// Reports that an event may have been appended to the log of a job.
    pub fn add(&self, job: &JobAddress) {
        self.0.reported.lock().jobs.insert(job.clone());
        self.0.interrupt.notify();
    }

    /// Reports that a new job may have been created.
    pub fn add_new(&self) {
        self.0.reported.lock().jobs_may_have_come = true;
        self.0.interrupt.notify();
    }

    /// Reports that appends by other processes may have been missed.
    pub fn add_missed(&self) {
        self.0.reported.lock().appends_may_be_missed = true;
        self.0.interrupt.notify();
    }

    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Waits for reports until the deadline, and returns all reports since the last call: an empty set if the
    /// deadline passed without any. `None` if the interrupt was raised.
    #[must_use]
    pub fn wait(&self, deadline: Deadline) -> Option<Reported> {
        loop {
            self.0.interrupt.begin_look();
            let reported = std::mem::take(&mut *self.0.reported.lock());
            if reported != Reported::default() || deadline.has_passed() {
                return Some(reported);
            }
            if !self.0.interrupt.pause_until(deadline) {
                return None;
            }
        }
    }
}

/// A watch on the logs of a scope ([`LogStore::watch`](crate::LogStore::watch)), until it is dropped.
///
/// ```
/// use prodigy_storage_backend::{Backend, Cursor, Interrupt, LogReports, LogScope, LogWatch, Result};
/// # use prodigy_storage_layout::JobAddress;
///
/// /// Watches one job, and returns the cursor from which on nothing is missed.
/// fn begin(backend: &dyn Backend, job: &JobAddress) -> Result<(Box<dyn LogWatch>, Cursor)> {
///     let reports = LogReports::new(Interrupt::new());
///     let mut watch = backend.watch(&LogScope::Store, &reports)?;
///     watch.include(job)?;
///     let cursor = backend.end(job, prodigy_storage_backend::Deadline::never())?;
///     Ok((watch, cursor))
/// }
/// ```
pub trait LogWatch: fmt::Debug + Send {
    /// Includes a job: every later append to its log by this process is reported. Returns true if appends by other
    /// processes are reported too, until [`Reported::appends_may_be_missed`]. If it returns false, the caller has to poll
    /// for these.
    fn include(&mut self, job: &JobAddress) -> Result<bool>;

    /// True if jobs that other processes create are reported, until [`Reported::appends_may_be_missed`]. If it returns
    /// false, the caller has to list the jobs again and again, also while it has none to include.
    fn reports_new_jobs(&mut self) -> Result<bool> {
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use prodigy_storage_layout::JobId;

    use super::*;

    #[test]
    fn reports_are_given_once_and_an_interrupt_ends_a_wait() {
        let interrupt = Interrupt::new();
        let reports = LogReports::new(interrupt.clone());
        let job = JobAddress::new(RepoName::new("shop").unwrap(), JobId::new("a").unwrap());
        for _ in 0..2 {
            reports.add(&job);
        }
        let reported = Reported {
            jobs: [job].into(),
            ..Reported::default()
        };
        assert_eq!(reports.wait(Deadline::never()), Some(reported));
        reports.add_missed();
        assert!(reports.wait(Deadline::never()).unwrap().appends_may_be_missed);
        let soon = Deadline::after(Duration::from_millis(5));
        assert_eq!(reports.wait(soon), Some(Reported::default()));
        interrupt.raise();
        assert_eq!(reports.wait(Deadline::never()), None);
    }
}
