//! Removes old data: [`Storage::clean`].

mod ages;
mod due;
mod history;
mod run;

use std::time::Duration;

use prodigy_storage_backend::{EventId, Result, setters};
use prodigy_storage_config::RetentionSettings;
use prodigy_storage_layout::{JobAddress, JobId, RepoName, Timestamp};
use serde::{Deserialize, Serialize};

use crate::events::Events;
use crate::storage::Storage;

pub use self::history::RemovalHistory;

/// The repository and id of the job whose log is the audit log. A clean never removes anything from it.
const AUDIT: (&str, &str) = (RepoName::AUDIT, "clean");

/// Selects the data of a clean and its rules; `Default` is the whole store, with the configured rules.
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
    /// The retention rules, instead of the configured ones.
    pub rules: Option<RetentionSettings>,
    /// Only the data of this repository.
    pub repo: Option<RepoName>,
    /// Only the data of this job; if `repo` is `None`, of the job with this id in each repository.
    pub job: Option<JobId>,
    /// If true, removes nothing, and returns the removals that would be made.
    pub dry_run: bool,
    /// If true, does not trust the clock alone: see [`unattended`](Self::unattended).
    pub unattended: bool,
}

impl CleanOptions {
    /// An [unattended](Self::unattended) clean needs a write in the store that is not older than this: 7 days.
    pub const RECENT: Duration = Duration::from_hours(7 * 24);

    /// The whole store, with the configured rules.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    setters! {
        /// Sets the retention rules, instead of the configured ones.
        rules: into Option<RetentionSettings>,

        /// Sets the repository whose data is cleaned; all if `None`.
        repo: into Option<RepoName>,

        /// Sets the job whose data is cleaned; all if `None`.
        job: into Option<JobId>,

        /// If true, removes nothing, and returns the removals that would be made.
        dry_run: bool,

        /// Sets whether a person watches the clean. A clock that is far ahead makes all data look old. So if this
        /// is true, the clean refuses to remove anything if nothing in the store, the audit log included, was
        /// written during the last [`RECENT`](Self::RECENT). It computes ages from the times of writes and of
        /// earlier unattended cleans, which it stores: a span without either counts as `RECENT` at most, and as
        /// half of the age that a rule sets.
        unattended: bool,
    }
}

/// The kind of data that is removed.
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
    /// The rest of a job whose deletion, or restore, was cut short.
    UnfinishedDeletion,
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
    /// The name of the kind for people.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Job => "job",
            Self::UnfinishedDeletion => "unfinished deletion",
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
    /// The removal is due, but was not made. In the audit log, an entry of an earlier version: the data was removed, unless a later
    /// entry with the same kind, owner, rule and time says otherwise.
    Due,
    /// In the audit log: the removal is about to be made. A later entry that [names](Removal::begun) this one says what was removed;
    /// without one, the removal is not known to have ended.
    Begun,
    /// The data was removed.
    Removed,
    /// Another process removed the data first.
    Gone,
    /// The data was kept. The part of it that was removed before a failure is a removal of its own.
    Kept {
        /// The reason.
        why: String,
    },
}

/// One removal: planned, made, or recorded in the audit log.
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
    /// The job whose data is removed; `None` for the quarantine, for documents of a repository, and for a registry
    /// entry.
    pub job: Option<JobAddress>,
    /// The repository whose data is removed, if the data belongs to no job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repo: Option<RepoName>,
    /// The key of the rule, such as `retention.finished_jobs`. If a command of the tool removed the data, the
    /// command, such as `job delete`. For an [unfinished deletion](RemovalKind::UnfinishedDeletion), which needs no
    /// rule: `clean`.
    pub rule: String,
    /// Data from before this time is old enough: the present time minus the age that the rule sets.
    pub before: Timestamp,
    /// The number of removed jobs, segments, checkpoints, documents, items, records or files.
    pub count: u64,
    /// The stored size of the removed data in bytes.
    pub bytes: u64,
    /// The state of the removal.
    pub outcome: RemovalOutcome,
    /// In the audit log: the id of the entry that says that the removal was [begun](RemovalOutcome::Begun). If the process that
    /// began it died, another process may have written this entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begun: Option<EventId>,
}

impl Removal {
    /// A removal that is due, for the records that a program itself writes to the [audit log](Storage::audit_log): one before the
    /// removal, and one after it.
    ///
    /// ```
    /// use prodigy_storage::{Removal, RemovalKind, RemovalOutcome, Storage, Timestamp};
    ///
    /// let storage = Storage::in_memory()?;
    /// let job = storage.repo("shop")?.job("mapreduce-7")?;
    /// let removal = Removal::new(RemovalKind::Job, "end of the run", Timestamp::now()).job(job.address().clone());
    /// let log = storage.audit_log()?;
    /// let begun = log.append(&removal.clone().size(1, 0).outcome(RemovalOutcome::Begun))?;
    /// let deleted = u64::from(job.delete()?);
    /// log.append(&removal.size(deleted, 0).outcome(RemovalOutcome::Removed).begun(begun))?;
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
            begun: None,
        }
    }

    /// Sets the number of removed things, and their size in bytes.
    #[must_use]
    pub fn size(mut self, count: u64, bytes: u64) -> Self {
        (self.count, self.bytes) = (count, bytes);
        self
    }

    setters! {
        /// Sets the job whose data is removed.
        job: into Option<JobAddress>,

        /// Sets the repository whose data is removed, if the data belongs to no job.
        repo: into Option<RepoName>,

        /// The state of the removal.
        outcome: RemovalOutcome,

        /// Sets the id of the entry of the audit log that says that the removal was begun.
        begun: into Option<EventId>,
    }
}

/// The result of a clean; of a dry run, its plan.
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
    /// The removals, in the order in which they were made.
    pub removals: Vec<Removal>,
    /// The number of removals that could not be recorded in the audit log.
    pub unrecorded: u64,
    /// The reason why removals could not be recorded, if any could not.
    pub unrecorded_why: Option<String>,
    /// The number of removals that are due by the clock, but that an [unattended](CleanOptions::unattended) clean
    /// did not make, because the clock may have stepped.
    pub held_back: u64,
    /// The longest span without a write that an unattended clean found, by its beginning and its end. The clock
    /// may have stepped there.
    pub silence: Option<(Timestamp, Timestamp)>,
    /// The number of jobs that are old by the rules, and stay: they have only files of other programs, which no clean removes.
    pub foreign: u64,
}

impl CleanReport {
    /// The bytes that were freed, or that a dry run would free.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let freed =
            |removal: &&Removal| matches!(removal.outcome, RemovalOutcome::Due | RemovalOutcome::Removed);
        self.removals
            .iter()
            .filter(freed)
            .map(|removal| removal.bytes)
            .sum()
    }
}

impl Storage {
    /// Removes the data that is older than the retention rules allow. With [`dry_run`](CleanOptions::dry_run) it
    /// removes nothing, and returns the removals that are due. Without a rule, nothing is due except the rest of jobs
    /// whose deletion was [cut short](Self::unfinished_deletions).
    ///
    /// A job is deleted only if it was not written to after it was found old. If a job is kept, the newest valid
    /// checkpoint of each of its phases is kept, and so are its events while it is active. The [audit log](Self::audit_log)
    /// gets an entry before each removal, and one after it with what was removed; if the disk is full, the second one follows once
    /// space is free. If the process of a clean dies, the next clean finishes its work, and records what the dead one removed. A
    /// removal that fails is reported, and the other removals are made.
    ///
    /// # Errors
    /// An error if repositories or jobs can't be listed; [`ReadOnly`](crate::ErrorKind::ReadOnly) for a read-only
    /// handle, except in a dry run; [`Refused`](crate::ErrorKind::Refused) for an
    /// [unattended](CleanOptions::unattended) clean of a store without a recent write. In the last two cases
    /// nothing was removed.
    pub fn clean(&self, options: CleanOptions) -> Result<CleanReport> {
        run::run(self, options)
    }

    /// The audit log: it has each [`Removal`] of a clean, or of a command of the tool, as two events: its beginning and its end, which
    /// a [`RemovalHistory`] joins. It is the log of a job in the repository `_audit`.
    ///
    /// # Errors
    /// This version returns no error.
    pub fn audit_log(&self) -> Result<Events> {
        Ok(self.repo(AUDIT.0)?.job(AUDIT.1)?.events())
    }
}
