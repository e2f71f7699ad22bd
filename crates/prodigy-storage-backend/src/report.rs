//! Reports of a backend: capabilities, health, usage, counters.

use std::collections::BTreeMap;
use std::path::PathBuf;

use prodigy_storage_layout::{JobAddress, RepoName, Timestamp};
use serde::Serialize;

use crate::histogram::Histogram;

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
    /// Its name: `file`, `memory`.
    pub backend: &'static str,
    /// The folder that holds its data, if it has one.
    pub root: Option<PathBuf>,
    /// Whether data outlives the process.
    pub persistent: bool,
    /// Whether several processes may write at once.
    pub multi_process: bool,
    /// Whether it was opened for reading only.
    pub read_only: bool,
    /// The owner of the root, where files that are written now belong to another user.
    pub foreign_owner: Option<u32>,
    /// How often the handle has gone on in a copy of its store that took the store's place. A cursor from before such a
    /// change is not valid after it.
    pub generation: u64,
}

impl Capabilities {
    /// Of a backend by this name: no root, not persistent, one process, no group commit, writable.
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

/// Whether a live process works on a job, and when the job was last written to.
///
/// ```
/// use prodigy_storage_backend::Activity;
///
/// let nothing = Activity::default();
/// assert!(!nothing.active && nothing.last_write.is_none());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Activity {
    /// A process holds a part of its log that it appends to, or a named lock whose name begins with repository and job.
    pub active: bool,
    /// When anything of it was last written, by the clock of the store; `None` if nothing is stored.
    pub last_write: Option<Timestamp>,
}

impl Activity {
    /// Of these two.
    #[must_use]
    pub fn new(active: bool, last_write: Option<Timestamp>) -> Self {
        Self { active, last_write }
    }
}

/// How bad a finding is.
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
    /// As it should be.
    Ok,
    /// Works, and someone should look at it.
    Warning,
    /// Does not work.
    Failure,
}

/// One thing that was checked.
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
    /// The severity.
    pub severity: Severity,
    /// The finding.
    pub found: String,
    /// The remedy.
    pub hint: Option<String>,
}

impl Check {
    /// A finding.
    #[must_use]
    pub fn new(name: &'static str, severity: Severity, found: impl Into<String>) -> Self {
        Self {
            name,
            severity,
            found: found.into(),
            hint: None,
        }
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The sizes of the queues against their cap: a warning from 80 % on, a failure for a queue that takes no more pushes.
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
        Self::new(name, severity, format!("{found}; {near} at 80 % or more")).with_hint(
            "redrive or remove dead letters, compact the queue, or raise `backend_config.max_queue_size` before pushes are refused",
        )
    }
}

/// The checks of a store, and their outcomes.
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
    /// All checks that were made.
    pub checks: Vec<Check>,
}

impl Health {
    /// The worst of all.
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
    /// `events`, `state`, `dlq`, `worktrees`, `orphaned_worktrees`, `locks`, `quarantine`; `other` for files beside
    /// these.
    pub area: String,
    /// The repository; `None` for what belongs to none.
    pub repo: Option<RepoName>,
    /// Files, or what a backend has instead.
    pub files: u64,
    /// Bytes as stored.
    pub bytes: u64,
}

/// The use of space.
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
    /// By area and repository.
    pub areas: Vec<AreaUsage>,
    /// Bytes that are free for this user, if known.
    pub free: Option<u64>,
    /// Bytes in all that the disk, or the configured limit, holds; if known.
    pub capacity: Option<u64>,
    /// Files and folders that could not be read and are counted nowhere, with the reasons: the first hundred.
    pub unreadable: Vec<String>,
    /// How many there are of them.
    pub unreadable_count: u64,
}

impl Usage {
    /// Bytes of all areas.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.areas.iter().map(|area| area.bytes).sum()
    }
}

/// Counters of what was done, by name: each layer adds its own.
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

/// The calls of one kind of operation.
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
    /// Calls that failed.
    pub failures: u64,
    /// How long each call took, waits and retries included, whether it failed or not.
    pub latency: Histogram,
}

impl OperationStats {
    /// Calls that failed, and how long all took.
    #[must_use]
    pub fn new(failures: u64, latency: Histogram) -> Self {
        Self { failures, latency }
    }
}

impl Stats {
    /// Adds to a counter.
    pub fn add(&mut self, name: &'static str, count: u64) {
        *self.counters.entry(name).or_default() += count;
    }

    /// A counter; 0 if nothing counted it.
    #[must_use]
    pub fn get(&self, name: &str) -> u64 {
        self.counters.get(name).copied().unwrap_or_default()
    }

    /// All counters, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.counters.iter().map(|(name, count)| (*name, *count))
    }

    /// Sets the calls of an operation.
    pub fn set_operation(&mut self, name: &'static str, stats: OperationStats) {
        self.operations.insert(name, stats);
    }

    /// The operations that were called, by name: `append events`, `put document`. An error may name a step of one.
    pub fn operations(&self) -> impl Iterator<Item = (&'static str, &OperationStats)> + '_ {
        self.operations.iter().map(|(name, stats)| (*name, stats))
    }

    /// The calls of an operation; `None` if it was not called.
    #[must_use]
    pub fn operation(&self, name: &str) -> Option<&OperationStats> {
        self.operations.get(name)
    }
}
