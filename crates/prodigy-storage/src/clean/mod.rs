//! Removes old data: see [`Storage::clean`].

mod ages;
mod due;
mod run;

use std::time::Duration;

use prodigy_storage_backend::{Result, setters};
use prodigy_storage_config::RetentionSettings;
use prodigy_storage_layout::{JobAddress, JobId, RepoName, Timestamp};
use serde::{Deserialize, Serialize};

use crate::events::Events;
use crate::storage::Storage;

/// The job whose events are the audit log. No clean touches it.
const AUDIT: (&str, &str) = (RepoName::AUDIT, "clean");

/// The data and the rules of a clean; `Default` is the whole store, by the configured rules.
///
/// ```
/// use std::time::Duration;
/// use prodigy_storage::config::RetentionSettings;
/// use prodigy_storage::{CleanOptions, Storage};
///
/// let storage = Storage::in_memory()?;
/// storage.repo("shop")?.job("mapreduce-7")?.finish()?;
/// let month = Duration::from_secs(30 * 24 * 60 * 60);
/// let rules = RetentionSettings::default().finished_jobs(month);
/// let plan = storage.clean(CleanOptions::new().rules(rules).dry_run(true))?;
/// assert!(plan.removals.is_empty(), "the job is too young");
/// # Ok::<(), prodigy_storage::StorageError>(())
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct CleanOptions {
    /// The rules to use in place of the configured ones.
    pub rules: Option<RetentionSettings>,
    /// Only this repository's data.
    pub repo: Option<RepoName>,
    /// Only this job's data, of the repository or of each.
    pub job: Option<JobId>,
    /// Removes nothing, and returns the plan.
    pub dry_run: bool,
    /// Does not rely on the clock alone: see [`unattended`](Self::unattended).
    pub unattended: bool,
}

impl CleanOptions {
    /// The age that the newest write of a store may have for an [unattended](Self::unattended) clean: 7 days.
    pub const RECENT: Duration = Duration::from_hours(7 * 24);

    /// The whole store, by the configured rules.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    setters! {
        /// The rules to use in place of the configured ones.
        rules: into Option<RetentionSettings>,

        /// Only this repository's data.
        repo: into Option<RepoName>,

        /// Only this job's data.
        job: into Option<JobId>,

        /// Removes nothing if true, and returns the plan.
        dry_run: bool,

        /// For a clean that nobody watches: a clock that is far ahead makes all data look old. If true, the clean refuses to
        /// remove anything if nothing in the store, the audit log included, was written during the last
        /// [`RECENT`](Self::RECENT). It counts ages by the times of writes and of earlier unattended cleans, whose times it
        /// stores: a silence between two of them counts as `RECENT` at most, and as half of the age that a rule sets.
        unattended: bool,
    }
}

/// The kind of data that a removal takes.
///
/// ```
/// use prodigy_storage::RemovalKind;
///
/// assert_eq!(RemovalKind::DeadLetters.as_str(), "dead letters");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RemovalKind {
    /// A whole job.
    Job,
    /// Sealed segments of a log.
    Events,
    /// Checkpoints.
    Checkpoints,
    /// Documents of the caller's own kinds. No rule of retention removes them.
    Documents,
    /// Parked dead letters.
    DeadLetters,
    /// Records of orphaned worktrees.
    Orphans,
    /// Files of the quarantine.
    Quarantine,
    /// The registry entry of a repository's name. The data under the name stays.
    RegistryEntry,
}

impl RemovalKind {
    /// Its name for people.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Job => "job",
            Self::Events => "events",
            Self::Checkpoints => "checkpoints",
            Self::Documents => "documents",
            Self::DeadLetters => "dead letters",
            Self::Orphans => "orphans",
            Self::Quarantine => "quarantine",
            Self::RegistryEntry => "registry entry",
        }
    }
}

/// The state of a removal.
///
/// ```
/// use prodigy_storage::RemovalOutcome;
///
/// let kept = RemovalOutcome::Kept { why: "it was written to meanwhile".to_owned() };
/// assert_ne!(kept, RemovalOutcome::Removed);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RemovalOutcome {
    /// It is due. In the audit log: its removal is about to begin.
    Due,
    /// It was removed.
    Removed,
    /// It was kept, wholly or in part.
    Kept {
        /// The reason.
        why: String,
    },
}

/// One removal of a plan, of a clean, or of the audit log.
///
/// ```
/// use prodigy_storage::{CleanOptions, Storage};
///
/// for removal in Storage::in_memory()?.clean(CleanOptions::new().dry_run(true))?.removals {
///     println!("{}: {} bytes, by {}", removal.kind.as_str(), removal.bytes, removal.rule);
/// }
/// # Ok::<(), prodigy_storage::StorageError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Removal {
    /// The kind of the data.
    pub kind: RemovalKind,
    /// The job of the data; `None` for the quarantine, for documents of a repository, and for a registry entry.
    pub job: Option<JobAddress>,
    /// The repository of the data, if it belongs to no job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repo: Option<RepoName>,
    /// The key of the rule: `retention.finished_jobs`. In the audit log of the tool also the command: `job delete`.
    pub rule: String,
    /// Data older than this is due: now, less the age that the rule sets.
    pub before: Timestamp,
    /// The number of jobs, segments, checkpoints, documents, items, records or files.
    pub count: u64,
    /// Their size in bytes, as stored.
    pub bytes: u64,
    /// The state of the removal.
    pub outcome: RemovalOutcome,
}

impl Removal {
    /// A removal that is about to be made, for a record of your own in the [audit log](Storage::audit_log).
    ///
    /// ```
    /// use prodigy_storage::{Removal, RemovalKind, Storage, Timestamp};
    ///
    /// let storage = Storage::in_memory()?;
    /// let job = storage.repo("shop")?.job("mapreduce-7")?;
    /// let removal = Removal::new(RemovalKind::Job, "end of the run", Timestamp::now()).job(job.address().clone()).size(1, 0);
    /// storage.audit_log()?.append(&removal)?;
    /// job.delete()?;
    /// # Ok::<(), prodigy_storage::StorageError>(())
    /// ```
    #[must_use]
    pub fn new(kind: RemovalKind, rule: impl Into<String>, before: Timestamp) -> Self {
        Self {
            kind,
            job: None,
            repo: None,
            rule: rule.into(),
            before,
            count: 0,
            bytes: 0,
            outcome: RemovalOutcome::Due,
        }
    }

    /// Sets the number of removed things, and their bytes.
    #[must_use]
    pub fn size(mut self, count: u64, bytes: u64) -> Self {
        (self.count, self.bytes) = (count, bytes);
        self
    }

    setters! {
        /// Whose data.
        job: into Option<JobAddress>,

        /// Whose data, if it belongs to no job.
        repo: into Option<RepoName>,

        /// The state of the removal.
        outcome: RemovalOutcome,
    }
}

/// The result of a clean, or its plan.
///
/// ```
/// use prodigy_storage::{CleanOptions, Storage};
///
/// let report = Storage::in_memory()?.clean(CleanOptions::new())?;
/// assert_eq!((report.bytes(), report.unrecorded), (0, 0));
/// # Ok::<(), prodigy_storage::StorageError>(())
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct CleanReport {
    /// The removals, in the order of their execution.
    pub removals: Vec<Removal>,
    /// The number of removals that could not be written to the audit log.
    pub unrecorded: u64,
    /// The reason, if there are any.
    pub unrecorded_why: Option<String>,
    /// The number of removals that an [unattended](CleanOptions::unattended) clean did not make although they are due by the
    /// clock, because the clock may have stepped.
    pub held_back: u64,
    /// The longest time without a write that it found then, as its beginning and its end: perhaps the step.
    pub silence: Option<(Timestamp, Timestamp)>,
}

impl CleanReport {
    /// The bytes that were freed, or that a dry run would free.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let freed = |removal: &&Removal| !matches!(removal.outcome, RemovalOutcome::Kept { .. });
        self.removals
            .iter()
            .filter(freed)
            .map(|removal| removal.bytes)
            .sum()
    }
}

impl Storage {
    /// Removes data that is older than the retention rules allow, or with [`dry_run`](CleanOptions::dry_run) returns
    /// the plan. Without a rule nothing is due.
    ///
    /// A job is deleted only if it was not written to since it was found old; the newest valid checkpoint of each phase of a job
    /// that stays is never removed, nor are events of a job that is active. Each removal is written to the
    /// [audit log](Self::audit_log) before it is made. On a full disk freeing comes first, and the audit log after it. A clean whose process
    /// died is continued by the next one. A removal that fails is reported, and the others are made.
    ///
    /// # Errors
    /// Fails if repositories or jobs can't be listed. [`ReadOnly`](crate::ErrorKind::ReadOnly) for a handle for
    /// reading, unless it is a dry run. [`Refused`](crate::ErrorKind::Refused) for an
    /// [unattended](CleanOptions::unattended) clean of a store without a recent write: nothing was removed.
    pub fn clean(&self, options: CleanOptions) -> Result<CleanReport> {
        run::run(self, options)
    }

    /// The audit log: each [`Removal`] of each clean, and of the commands of the tool that remove, as an event. It is the log of a job in the repository `_audit`.
    ///
    /// # Errors
    /// None today.
    pub fn audit_log(&self) -> Result<Events> {
        Ok(self.repo(AUDIT.0)?.job(AUDIT.1)?.events())
    }
}
