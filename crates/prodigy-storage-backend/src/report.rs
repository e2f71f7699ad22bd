//! Reports of a backend: capabilities, health, usage, counters.

use std::collections::BTreeMap;
use std::path::PathBuf;

use prodigy_storage_layout::{JobAddress, RepoName, Timestamp};
use serde::Serialize;

use crate::histogram::Histogram;
use crate::setters;
use crate::shell::shell_flags_of;

/// The capabilities of a backend.
///
/// ```
/// use prodigy_storage_backend::Capabilities;
///
/// let capabilities = Capabilities::new("memory");
/// assert!(!capabilities.persistent && capabilities.root.is_none());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// The name of the backend, such as `file` or `memory`.
    pub backend: &'static str,
    /// The folder of the data, if there is one.
    pub root: Option<PathBuf>,
    /// True if data outlives the process.
    pub persistent: bool,
    /// True if several processes may write at once.
    pub multi_process: bool,
    /// True if the backend was opened for reading only.
    pub read_only: bool,
    /// The id of the user who owns the root, if it is not the user to whom new files will belong.
    pub foreign_owner: Option<u32>,
    /// The number of times that the handle switched to a copy of its store, because the copy had replaced the
    /// store. A cursor from before the last switch is not valid after it.
    pub generation: u64,
}

impl Capabilities {
    /// The capabilities of a backend with this name. By default it has no root, is not persistent, serves one
    /// process, and is writable.
    #[must_use]
    pub fn new(backend: &'static str) -> Self {
        Self {
            backend,
            root: None,
            persistent: false,
            multi_process: false,
            read_only: false,
            foreign_owner: None,
            generation: 0,
        }
    }
}

/// The activity of a job: whether a live process works on it, and when it was last written to.
///
/// ```
/// use prodigy_storage_backend::Activity;
///
/// let nothing = Activity::default();
/// assert!(!nothing.active && nothing.last_write.is_none());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Activity {
    /// True if a process holds an unsealed segment of the job's log, or a named lock whose name begins with the
    /// job's repository and id.
    pub active: bool,
    /// The time of the last write to the job, by the clock of the store; `None` if nothing is stored.
    pub last_write: Option<Timestamp>,
    /// Describes a process that makes the job active, for an error message. A survey may leave it out.
    pub by: Option<String>,
}

impl Activity {
    /// An activity with these values.
    #[must_use]
    pub fn new(active: bool, last_write: Option<Timestamp>) -> Self {
        Self {
            active,
            last_write,
            by: None,
        }
    }

    setters! {
        /// Sets [`by`](Self::by).
        by: Option<String>,
    }
}

/// A job whose deletion, or restore, was cut short: its process died behind the moment at which the job was gone for
/// readers, and some of the job's data still takes space.
///
/// ```
/// use prodigy_storage_backend::UnfinishedDeletion;
/// use prodigy_storage_layout::{JobAddress, JobId, RepoName};
///
/// let job = JobAddress::new(RepoName::new("shop")?, JobId::new("mapreduce-7")?);
/// let left = UnfinishedDeletion::new(job, 4096);
/// assert_eq!(left.bytes, 4096);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct UnfinishedDeletion {
    /// The job, which readers no longer see.
    pub job: JobAddress,
    /// The stored size of the data that is left, in bytes.
    pub bytes: u64,
}

impl UnfinishedDeletion {
    /// A deletion of this job that left this number of bytes.
    #[must_use]
    pub fn new(job: JobAddress, bytes: u64) -> Self {
        Self { job, bytes }
    }
}

/// Counts the jobs beside the first one, within a sentence.
fn and_more(jobs: u64) -> String {
    match jobs {
        0 | 1 => String::new(),
        jobs => format!(" and {} more, which `doctor` names,", jobs - 1),
    }
}

/// The severity of a check's result.
///
/// ```
/// use prodigy_storage_backend::Severity;
///
/// assert!(Severity::Ok < Severity::Warning && Severity::Warning < Severity::Failure);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
#[expect(clippy::exhaustive_enums, reason = "exit codes follow from it")]
pub enum Severity {
    /// The check passed.
    Ok,
    /// The store works, but a person should look into it.
    Warning,
    /// The store does not work.
    Failure,
}

/// The result of one check.
///
/// ```
/// use prodigy_storage_backend::{Check, Severity};
///
/// let check = Check::new("space", Severity::Warning, "3 % are free").with_hint("remove old checkpoints");
/// assert_eq!(check.name, "space");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Check {
    /// The name of the check, in a word or two.
    pub name: &'static str,
    /// The severity of the result.
    pub severity: Severity,
    /// The result in words.
    pub found: String,
    /// The advice for a person, if the check did not pass.
    pub hint: Option<String>,
    /// A command for a shell that solves the problem, if there is one. It may call the tool `prodigy-storage`.
    pub command: Option<String>,
}

impl Check {
    /// The name of the check of deletions that were cut short.
    pub const DELETIONS: &'static str = "deletions";

    /// The result of a check, without advice.
    #[must_use]
    pub fn new(name: &'static str, severity: Severity, found: impl Into<String>) -> Self {
        Self {
            name,
            severity,
            found: found.into(),
            hint: None,
            command: None,
        }
    }

    /// Sets the advice.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Sets the command that solves the problem.
    #[must_use]
    pub fn with_command(mut self, command: impl Into<String>) -> Self {
        self.command = Some(command.into());
        self
    }

    /// The command that ends a deletion of this job that was cut short. It is about this job alone: without its name, `clean` also
    /// removes what is older than the settings for retention allow.
    ///
    /// ```
    /// use prodigy_storage_backend::Check;
    /// use prodigy_storage_layout::{JobAddress, JobId, RepoName};
    ///
    /// let job = JobAddress::new(RepoName::new("shop")?, JobId::new("mapreduce-7")?);
    /// let command = "prodigy-storage clean --repo shop --job mapreduce-7 --yes";
    /// assert_eq!(Check::end_of_deletion(&job), command);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn end_of_deletion(job: &JobAddress) -> String {
        format!("prodigy-storage clean {} --yes", shell_flags_of(job))
    }

    /// The check of deletions that were cut short; `None` if `jobs`, their number, is 0. `first` is one of them, and the command
    /// [ends its deletion](Self::end_of_deletion).
    ///
    /// ```
    /// use prodigy_storage_backend::{Check, Severity};
    /// use prodigy_storage_layout::{JobAddress, JobId, RepoName};
    ///
    /// let job = JobAddress::new(RepoName::new("shop")?, JobId::new("mapreduce-7")?);
    /// let check = Check::unfinished_deletions(1, Some(&job)).expect("there is one");
    /// assert_eq!((check.name, check.severity), (Check::DELETIONS, Severity::Warning));
    /// let command = check.command.as_deref();
    /// assert_eq!(command, Some("prodigy-storage clean --repo shop --job mapreduce-7 --yes"));
    /// assert!(Check::unfinished_deletions(0, None).is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn unfinished_deletions(jobs: u64, first: Option<&JobAddress>) -> Option<Self> {
        let first = first.filter(|_| jobs > 0)?;
        let more = and_more(jobs);
        let found = format!(
            "the deletion or restore of {first}{more} was cut short: readers do not see the job, and what is left of it takes space"
        );
        Some(Self::new(Self::DELETIONS, Severity::Warning, found).with_command(Self::end_of_deletion(first)))
    }

    /// Like [`unfinished_deletions`](Self::unfinished_deletions), where `first` is a job whose restore was cut short. The command
    /// discards what was restored, and the text names the way to end the restore. `jobs` is at least 1.
    ///
    /// ```
    /// use prodigy_storage_backend::Check;
    /// use prodigy_storage_layout::{JobAddress, JobId, RepoName};
    ///
    /// let job = JobAddress::new(RepoName::new("shop")?, JobId::new("mapreduce-7")?);
    /// let check = Check::unfinished_restore(1, &job);
    /// assert!(check.found.contains("run the same `restore` again"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn unfinished_restore(jobs: u64, first: &JobAddress) -> Self {
        let more = and_more(jobs);
        let found = format!(
            "the restore of {first}{more} was cut short: readers do not see the job. To end it, run the same `restore` again; this command discards \
             what it has restored"
        );
        Self::new(Self::DELETIONS, Severity::Warning, found).with_command(Self::end_of_deletion(first))
    }

    /// The result of comparing the sizes of the queues with the maximum size: a warning from 80 % of it on, and a
    /// failure for a queue that accepts no more pushes.
    ///
    /// ```
    /// use prodigy_storage_backend::{Check, Severity};
    /// use prodigy_storage_layout::{JobAddress, JobId, RepoName};
    ///
    /// let job = JobAddress::new(RepoName::new("shop")?, JobId::new("mapreduce-7")?);
    /// let check = Check::queues([(job, 85)], 100);
    /// assert_eq!(check.severity, Severity::Warning);
    /// assert!(check.found.contains("85 of 100 bytes"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn queues(sizes: impl IntoIterator<Item = (JobAddress, u64)>, max: u64) -> Self {
        let name = "queues";
        let mut near = 0;
        let mut largest: Option<(JobAddress, u64)> = None;
        for (job, bytes) in sizes {
            near += usize::from(bytes >= max / 5 * 4);
            if largest.as_ref().is_none_or(|(_, most)| bytes > *most) {
                largest = Some((job, bytes));
            }
        }
        let Some((job, bytes)) = largest else {
            return Self::new(name, Severity::Ok, "no dead letters");
        };
        let found = format!("the largest, {job}, has {bytes} of {max} bytes");
        if near == 0 {
            return Self::new(name, Severity::Ok, found);
        }
        let severity = if bytes >= max {
            Severity::Failure
        } else {
            Severity::Warning
        };
        Self::new(name, severity, format!("{found}; {near} at 80 % or more"))
            .with_hint(
                "redrive or remove dead letters, compact the queue, or raise `backend_config.max_queue_size` before pushes are refused",
            )
            .with_command(format!("prodigy-storage dlq analyze {}", shell_flags_of(&job)))
    }
}

/// The results of all checks of a store.
///
/// ```
/// use prodigy_storage_backend::{Check, Health, Severity};
///
/// let checks = vec![Check::new("root", Severity::Ok, "writable"), Check::new("space", Severity::Warning, "3 % are free")];
/// assert_eq!(Health { checks }.severity(), Severity::Warning);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[expect(
    clippy::exhaustive_structs,
    reason = "backends make it: each has to fill in a new field"
)]
pub struct Health {
    /// The results of the checks.
    pub checks: Vec<Check>,
}

impl Health {
    /// The highest severity of all checks.
    #[must_use]
    pub fn severity(&self) -> Severity {
        self.checks
            .iter()
            .map(|check| check.severity)
            .max()
            .unwrap_or(Severity::Ok)
    }
}

/// The space of one repository in one area.
///
/// ```
/// use prodigy_storage_backend::AreaUsage;
///
/// let events = AreaUsage { area: "events".into(), repo: None, files: 3, bytes: 4096 };
/// println!("{}: {} bytes in {} files", events.area, events.bytes, events.files);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[expect(
    clippy::exhaustive_structs,
    reason = "backends make it: each has to fill in a new field"
)]
pub struct AreaUsage {
    /// The part of the store: `events`, `state`, `dlq`, `worktrees`, `orphaned_worktrees`, `locks`, `quarantine`,
    /// or `other` for files outside of these.
    pub area: String,
    /// The repository; `None` for files that belong to no repository.
    pub repo: Option<RepoName>,
    /// The number of files, or of the corresponding parts of another backend.
    pub files: u64,
    /// The stored size in bytes.
    pub bytes: u64,
}

/// The space that a store uses.
///
/// ```
/// use prodigy_storage_backend::{AreaUsage, Usage};
///
/// let mut usage = Usage::default();
/// usage.areas.push(AreaUsage { area: "events".into(), repo: None, files: 3, bytes: 4096 });
/// assert_eq!(usage.bytes(), 4096);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[expect(
    clippy::exhaustive_structs,
    reason = "backends make it: each has to fill in a new field"
)]
pub struct Usage {
    /// The space by area and repository.
    pub areas: Vec<AreaUsage>,
    /// The free space for this user in bytes, if known.
    pub free: Option<u64>,
    /// The size of the disk or of the configured limit in bytes, if known.
    pub capacity: Option<u64>,
    /// The first hundred files and folders that could not be read and are not counted, with the reasons.
    pub unreadable: Vec<String>,
    /// The number of all files and folders that could not be read.
    pub unreadable_count: u64,
}

impl Usage {
    /// The total of all areas in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.areas.iter().map(|area| area.bytes).sum()
    }
}

/// The counters of operations, by name. Each layer adds its own.
///
/// Names are `layer.what`: `log.appends`, `log.syncs`, `cache.hits`, `retry.retries`, `limit.waits`.
///
/// ```
/// use prodigy_storage_backend::Stats;
///
/// let mut stats = Stats::default();
/// stats.add("log.appends", 2);
/// assert_eq!((stats.get("log.appends"), stats.get("log.syncs")), (2, 0));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    #[serde(flatten)]
    counters: BTreeMap<&'static str, u64>,
    operations: BTreeMap<&'static str, OperationStats>,
}

/// The number of failed calls of an operation, and the durations of its calls.
///
/// ```
/// use prodigy_storage_backend::OperationStats;
///
/// let none = OperationStats::default();
/// assert_eq!((none.latency.count(), none.failures), (0, 0));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct OperationStats {
    /// The number of failed calls.
    pub failures: u64,
    /// The duration of each call, failed or not, including waits and retries. The call of a task begins when its
    /// future is first polled, so the wait for a thread of the handle is included. Appends of tasks are counted one
    /// by one, although they share calls of the backend, which `log.appends` counts. A call whose future was dropped
    /// before it began is not counted.
    pub latency: Histogram,
}

impl OperationStats {
    /// Statistics with this number of failed calls and these durations of all calls.
    #[must_use]
    pub fn new(failures: u64, latency: Histogram) -> Self {
        Self { failures, latency }
    }
}

impl Stats {
    /// Adds `count` to a counter.
    pub fn add(&mut self, name: &'static str, count: u64) {
        *self.counters.entry(name).or_default() += count;
    }

    /// The value of a counter; 0 if nothing was added to it.
    #[must_use]
    pub fn get(&self, name: &str) -> u64 {
        self.counters.get(name).copied().unwrap_or_default()
    }

    /// All counters, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.counters.iter().map(|(name, count)| (*name, *count))
    }

    /// Sets the statistics of an operation, instead of adding to them.
    pub fn set_operation(&mut self, name: &'static str, stats: OperationStats) {
        self.operations.insert(name, stats);
    }

    /// The operations that were called, by name, such as `append events` or `put document`. The name of a step,
    /// which an error may state instead, is not among them.
    pub fn operations(&self) -> impl Iterator<Item = (&'static str, &OperationStats)> + '_ {
        self.operations.iter().map(|(name, stats)| (*name, stats))
    }

    /// The statistics of an operation; `None` if it was not called. An append, `job.events().append(..)`, is
    /// `append events`.
    ///
    /// # Names of operations
    /// - events: `append events`, `scan events`, `read last events`, `find end of events`,
    ///   `wait for events`, `watch events`, `summarise events`, `seal events`, `find old events`,
    ///   `remove events`, `persist events`
    /// - documents and checkpoints: `get document`, `get revision`, `put document`, `add checkpoint`,
    ///   `delete document`, `raise fencing mark`, `list documents`, `find newest document`
    /// - dead letters: `put items`, `get item`, `read items`, `summarise items`, `take items`,
    ///   `settle items`, `compact items`
    /// - locks: `acquire lock`, `list locks`
    /// - jobs and repositories: `list repositories`, `list jobs`, `find active jobs`, `look at job`,
    ///   `survey jobs`, `delete job`, `delete old job`, `find deletions`, `finish deletion`,
    ///   `mark as moved`, `take marks away`, `look for marks`
    /// - the store: `flush`, `check health`, `measure usage`
    #[must_use]
    pub fn operation(&self, name: &str) -> Option<&OperationStats> {
        self.operations.get(name)
    }
}
