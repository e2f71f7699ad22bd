//! The [`Backend`] trait of Prodigy storage, which every place that keeps workflow data implements. The crate also
//! has the records of a log, the error type of all storage crates, and the conformance suite that tests the
//! trait's promises.
//!
//! # The model
//!
//! Four primitives, over the typed addresses of [`prodigy_storage_layout`]:
//!
//! - a **log** of events per job: append a [`Batch`], [`scan`](LogStore::scan) from a [`Cursor`];
//! - **documents**: whole JSON objects ([`Body`]) with a [`Revision`], stored under a condition ([`Expected`]);
//! - a **queue** of keyed items per job, taken under a [`Lease`] and stored until they are settled;
//! - named **locks** with a fencing token that rises with each holder.
//!
//! Layers (retry, cache, limit) wrap a backend and implement the trait themselves.
//!
//! # Limitations
//!
//! The trait is synchronous. A [`Deadline`] bounds every wait, but a system call under way can't be interrupted.
//! Appending a batch is not atomic: after a crash its first records may be stored without the rest.
//!
//! # Example
//!
//! ```
//! use prodigy_storage_backend::{AppendOptions, Backend, Batch, Deadline, Result};
//! use prodigy_storage_layout::JobAddress;
//!
//! fn record(backend: &dyn Backend, job: &JobAddress) -> Result<()> {
//!     let mut batch = Batch::new();
//!     batch.push("agent started")?;
//!     backend.append(job, &mut batch, &AppendOptions::default(), Deadline::never())?;
//!     // The event is stored now. Its id is its position in the order of the log.
//!     assert_eq!(batch.ids().len(), 1);
//!     Ok(())
//! }
//! ```
#![cfg_attr(not(test), warn(clippy::disallowed_methods))]
#![warn(clippy::exhaustive_enums, clippy::exhaustive_structs)]

mod backend;
mod batch;
mod body;
mod clock;
#[cfg(feature = "conformance")]
pub mod conformance;
pub mod dead_letter;
mod deadline;
mod document;
mod error;
mod fence;
mod foreign;
mod histogram;
mod id;
mod lock;
mod log;
mod moved;
mod page;
mod parsed;
mod queue;
pub mod record;
#[cfg(feature = "reference")]
#[expect(
    clippy::exhaustive_enums,
    clippy::exhaustive_structs,
    reason = "a test has to compare everything"
)]
pub mod reference;
mod report;
mod series;
mod setters;
mod shell;
mod streamed;
mod survey;
mod wait;
mod watch;

pub use backend::{Backend, Catalog, DocumentStore, LockStore, LogStore, QueueStore};
pub use batch::{Annotations, Batch};
pub use body::{Body, BodyError, object_bounds, to_raw};
pub use clock::{BootId, Clock, SystemClock, Uptime, time_to_store};
pub use deadline::Deadline;
pub use document::{Added, DocumentEntry, Expected, InvalidRevision, PutOptions, Revision, StoredDocument};
pub use error::{ErrorKind, Result, StorageError, escape};
pub use fence::{Fence, FenceMarks, InvalidFence};
pub use foreign::{Foreign, ForeignKind};
pub use histogram::{Histogram, SharedHistogram};
pub use id::{EventId, IdSource, InvalidEventId};
pub use lock::{Holder, LockGuard, LockInfo, LockOptions, LockOrigin};
pub use log::{
    AppendOptions, Appended, Cursor, Damage, Durability, LogSummary, Scan, ScanItem, ScanOptions, TooLarge,
};
pub use moved::Moved;
pub use page::{Entries, Page, PageBuilder, PageOptions};
pub use parsed::Parsed;
pub use queue::{
    Change, Claim, Compaction, Delay, Eligible, ItemId, ItemState, Lease, LeaseToken, PutReport, QueueEntry,
    QueueItem, QueueMark, QueueScan, QueueStep, QueueSummary, Select, Settled, Settlement,
};
pub use record::Record;
pub use report::{
    Activity, AreaUsage, Capabilities, Check, Health, OperationStats, Severity, Stats, UnfinishedDeletion,
    Usage,
};
pub use series::{NewestValid, newest_valid};
pub use shell::{shell_flags, shell_flags_of, shell_operands, shell_word};
pub use streamed::StreamedLine;
pub use survey::{DocumentCount, JobFacts, JobSurvey};
pub use wait::{Interrupt, LookReason, Reporting, WaitOptions, Waiters};
pub use watch::{LogReports, LogScope, LogWatch, Reported};
