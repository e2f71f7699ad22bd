//! Storage for workflow orchestrators: events, checkpoints, dead letters and worktree records that survive
//! crashes.
//!
//! # The model
//!
//! A program opens one [`Storage`]. In it, a [`Repo`] is the namespace of a git repository, and a [`Job`] has:
//!
//! - [`Events`]: a log to which all worktrees, processes and threads append, read as one sequence or followed
//!   live;
//! - [`Checkpoints`]: states, each with the [`Cursor`] of the events that led to it, for an exact resume;
//! - [`Documents`] of kinds that the program defines, such as sessions: stored, replaced and read whole, with
//!   compare-and-set;
//! - a [`Dlq`]: work items that failed, taken under a lease, and kept until they are acknowledged;
//! - [`Orphans`]: worktrees that could not be removed.
//!
//! A repository has documents too ([`Repo::documents`]), and paths for the worktrees of its sessions
//! ([`Repo::worktrees`]). [`Storage::lock`] takes a named lock between processes. A name is checked once, and then
//! has a type of its own.
//!
//! **An acknowledged write is stored.** Under `durability: strict`, the default, a write that returned `Ok`
//! survives power loss; under `relaxed`, it survives the death of the process. If a write fails but may have
//! reached the disk, the error is [`OutcomeUnknown`](ErrorKind::OutcomeUnknown), never one that means "not
//! stored".
//!
//! # Conventions
//!
//! - Optional arguments are one value with builder methods: `SaveOptions::new().schema_version(2)`. If a call has
//!   a short form with the defaults, the name of the long form ends in `_with`: [`Events::read`] and
//!   [`Events::read_with`].
//! - Every error is a [`StorageError`]. A program branches on its [kind](ErrorKind). A person reads `{error:#}`, which has
//!   the operation, its target, the reason and the causes, and the [hint](StorageError::hint), which says what to do.
//! - A [`Listing`] is an iterator that reads page by page. [`Listing::all`] collects it.
//! - Nothing is created before the first write, and a handle of [`Storage::open_read_only`] never creates anything.
//!
//! # Limitations
//!
//! - A call blocks its thread; a call of [`AsyncStorage`] blocks a thread of its handle. Every wait of this
//!   library ends by `timeout`, but a running system call can't be interrupted.
//! - Appending a batch of events is not atomic: after a crash its first events may be stored without the rest.
//! - A dead letter may be worked on more than once: a worker may die after the work and before the
//!   acknowledgement.
//! - A folder can be used on one machine only. Network file systems are refused unless a setting allows them.
//!
//! # Example
//!
//! ```
//! use prodigy_storage::{DeadLetter, Failure, ItemId, ReadOptions, SaveOptions, Storage};
//! use serde_json::{Value, json};
//!
//! # let storage = Storage::in_memory()?;
//! # #[cfg(any())]
//! let storage = Storage::open()?; // configuration files and the environment
//! let job = storage.repo("shop")?.job("mapreduce-7")?;
//!
//! job.events().append(&json!({"agent": 1, "status": "started"}))?;
//! job.events().append(&json!({"agent": 1, "status": "done"}))?;
//!
//! let mut events = job.events().read::<Value>()?;
//! let mut done = 0;
//! for event in events.by_ref() {
//!     if event?.event["status"] == "done" {
//!         done += 1;
//!     }
//! }
//! job.checkpoints().save_map(&json!({"done": done}), SaveOptions::at(events.cursor()))?;
//!
//! // After a restart: the state, and the events that came after it.
//! let latest = job.checkpoints().latest_map::<Value>()?.expect("it was saved");
//! assert_eq!(latest.data["done"], 1);
//! let rest = ReadOptions::new().from(latest.cursor);
//! assert_eq!(job.events().read_with::<Value>(rest)?.count(), 0);
//!
//! let failed = DeadLetter::new(ItemId::new("item-3")?, json!({"file": "a.rs"}));
//! job.dlq().push(&failed.failure(Failure::new("timeout", "no answer after 30 s")))?;
//! # Ok::<(), prodigy_storage::StorageError>(())
//! ```
//!
//! # Cargo features
//!
//! All of these are on by default. At least one backend is needed.
//!
//! | feature | what it adds |
//! |---|---|
//! | `file` | the file backend, and the [doctor](Storage::doctor) that repairs its files |
//! | `memory` | the memory backend, and [`Storage::in_memory`] for tests |
//! | `postgres` | the PostgreSQL backend; a feature that is off by default |
//! | `compression` | compression of sealed log segments, in the file backend |
//! | `yaml`, `toml` | configuration files in these formats |
//!
//! Also off by default: `tokio` ([`AsyncStorage`]), and `backup`, which adds archives of a store or a job
//! (`StorageBuilder::backup`).
//!
//! If the configuration names a backend whose feature is off, opening the storage fails with
//! [`Unsupported`](ErrorKind::Unsupported).
//!
//! # From asynchronous code
//!
//! With the feature `tokio`, [`AsyncStorage`] has the same methods as [`Storage`], as futures and streams:
//!
//! ```text
//! let storage = AsyncStorage::open().await?;
//! let id = storage.repo("shop")?.job("mapreduce-7")?.events().append(&event).await?;
//! ```
//!
//! Without this feature, clone the handles and call them where blocking is allowed. A [follow](Events::follow)
//! blocks as long as it lasts: run it on a thread of its own, and end it by its [handle](Follow::handle).
#![cfg_attr(not(feature = "tokio"), doc = "")]
#![cfg_attr(
    not(feature = "tokio"),
    doc = "[`AsyncStorage`]: https://docs.rs/prodigy-storage/latest/prodigy_storage/struct.AsyncStorage.html"
)]
//!
//! # How a call reaches the backend
//!
//! Every operation reaches the backend through one function. It ends the operation by `timeout`, repeats it after
//! a transient error (`retry_policy`), lets at most `connection_pool_size` operations run at once, and refuses
//! writes through a read-only handle. A write whose outcome is unknown is not repeated, with one exception: an
//! append is repeated under the same ids, and is stored once. Appends are not limited by `connection_pool_size`:
//! threads that append to one log share a sync. With `enable_cache`, a document that is read again comes from
//! memory if the backend still has the same revision.
//!
//! # Logs and counters
//!
//! Each increment of a counter of [`Storage::stats`] also emits a `tracing` event, on the thread that increments
//! it, with three exceptions: expired cache entries, appends with an unknown outcome, and calls that failed after
//! all retries. The target is the module, so a filter can name a crate. `prodigy_storage::call`: failed attempts
//! (`warn`); successes after them, waits for a permit, waits that timed out, failed loads of the cache (`debug`);
//! cache hits, misses, shared loads, stale and evicted entries (`trace`). `prodigy_storage_file` and
//! `prodigy_storage_memory`: appends, syncs, pushed items (`trace`); segments sealed or compressed, documents
//! written, queues compacted, snapshots (`debug`). Damage and automatic repairs are a `warn`, a possible loss is
//! an `error`. Events have names, paths, counts and sizes, never a payload. A subscriber must not call the storage
//! whose events it gets: some events are emitted while locks are held.
#![cfg_attr(not(test), warn(clippy::disallowed_methods))]
#![warn(clippy::exhaustive_enums, clippy::exhaustive_structs)]

#[cfg(not(any(feature = "file", feature = "memory", feature = "postgres")))]
compile_error!("prodigy-storage has no backend: enable its feature `file`, `memory` or `postgres`");

#[cfg(feature = "tokio")]
mod asynchronous;
#[cfg(feature = "backup")]
mod backup;
mod buffer;
mod builder;
mod call;
mod checkpoints;
mod clean;
mod copy;
mod dlq;
#[cfg(feature = "file")]
pub mod doctor;
mod documents;
mod error;
mod events;
mod job;
mod json;
mod listing;
mod lock;
mod mismatch;
mod notice;
mod open;
mod orphans;
mod registry;
mod repo;
#[cfg(feature = "postgres")]
mod schema;
mod storage;
#[cfg(feature = "backup")]
mod temporary;
mod worktrees;

#[cfg(feature = "tokio")]
pub use asynchronous::{
    AsyncCheckpoints, AsyncDlq, AsyncDocuments, AsyncEvents, AsyncJob, AsyncOrphans, AsyncRepo, AsyncStorage,
    AsyncStorageLock, AsyncTaken, AsyncWorktrees, Call, EventAt, EventStream, FollowAllStream, FollowStream,
    ItemStream,
};
#[cfg(feature = "backup")]
pub use backup::{Backup, BackupSummary};
pub use builder::StorageBuilder;
pub use checkpoints::{
    Checkpoint, CheckpointEntry, CheckpointId, Checkpoints, PruneOptions, SaveOptions, SavedCheckpoint,
    Skipped,
};
pub use clean::{CleanOptions, CleanReport, Removal, RemovalHistory, RemovalKind, RemovalOutcome};
pub use copy::{CopiedJob, CopyOptions, CopyReport};
pub use dlq::{
    Dlq, DlqItem, DlqScan, DlqSummary, Outcome, PassedOver, RedriveError, RedriveOptions, RedriveReport,
    SignatureCount, SignatureCounts, SignatureGroups, Taken,
};
pub use documents::{DocumentInfo, DocumentOptions, Documents, Stored};
pub use events::{
    AppendOptions, Event, EventCounts, EventFilter, EventLines, EventReader, Events, Follow, FollowAll,
    FollowAllLines, FollowHandle, FollowLines, FollowOptions, ReadOptions,
};
pub use job::{Job, JobOverview, JobState, JobStatus};
pub use listing::Listing;
pub use lock::{LockOptions, StorageLock};
pub use notice::StorageNotice;
pub use orphans::{JobOrphans, OrphanedWorktree, Orphans};
pub use registry::{Misplaced, Registration};
pub use repo::Repo;
#[cfg(feature = "postgres")]
pub use schema::{Schema, SchemaState};
pub use storage::Storage;
pub use worktrees::Worktrees;

pub use prodigy_storage_backend::dead_letter::{DeadLetter, Failure, RESERVED, WorktreeArtifacts};
pub use prodigy_storage_backend::{
    Annotations, Appended, AreaUsage, Backend, Batch, BootId, Capabilities, Change, Check, Claim, Clock,
    Compaction, Cursor, Damage, Deadline, Delay, DocumentCount, Durability, Eligible, ErrorKind, EventId,
    Expected, Fence, ForeignKind, Health, Histogram, Holder, InvalidEventId, ItemId, ItemState, Lease,
    LeaseToken, LockInfo, LogSummary, Moved, OperationStats, PutReport, QueueMark, QueueSummary, Record,
    Result, Revision, ScanItem, Select, Settled, Settlement, Severity, Stats, StorageError, StoredDocument,
    SystemClock, TooLarge, UnfinishedDeletion, Uptime, Usage, escape, shell_flags, shell_flags_of,
    shell_operands, shell_word,
};
pub use prodigy_storage_config::StorageConfig;
pub use prodigy_storage_layout::{
    AgentId, Ceilings, CheckpointKey, DocumentKind, DocumentName, Identity, IdentityError, IdentityKind,
    JobAddress, JobId, LockName, NameError, NameProblem, Part, Phase, PhaseError, PhaseName, RepoName,
    SessionId, Timestamp,
};

/// The traits of a backend, and all types in their signatures: for a program that brings its own backend
/// ([`StorageBuilder::backend`]), and for calls that the typed stores do not offer ([`Storage::backend`]).
pub use prodigy_storage_backend as backend;

/// Configuration: its keys, their values, and the sources of the values.
pub mod config {
    pub use prodigy_storage_config::{
        BackendKind, CacheSettings, CacheType, ConfigError, ConfigErrors, Environment, FENCE_VARIABLE,
        FileSettings, InvalidDuration, KEYS, KeySpec, Loaded, Loader, MAX_DURATION, MapEnvironment,
        MemorySettings, Notice, Origin, PostgresSettings, ProcessEnvironment, RetentionSettings,
        RetrySettings, StorageConfig, VariableSpec, key, parse_duration, reference_markdown,
    };
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct ProjectReadme;

#[cfg(doctest)]
#[doc = include_str!("../../../docs/how-to/follow-many-jobs.md")]
struct FollowManyJobs;

#[cfg(doctest)]
#[doc = include_str!("../../../docs/how-to/read-events.md")]
struct ReadEvents;

#[cfg(doctest)]
#[doc = include_str!("../../../docs/how-to/checkpoints.md")]
struct PhasesOfYourOwn;

#[cfg(doctest)]
#[doc = include_str!("../../../docs/how-to/documents.md")]
struct DocumentsOfYourOwn;

#[cfg(doctest)]
#[doc = include_str!("../../../docs/how-to/delete-jobs.md")]
struct DeleteJobs;

#[cfg(all(doctest, feature = "tokio"))]
#[doc = include_str!("../../../docs/how-to/async.md")]
struct FromAsynchronousCode;
