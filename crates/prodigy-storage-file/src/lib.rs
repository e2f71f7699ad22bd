//! The file backend of Prodigy storage: plain files below one folder that many processes write to at once.
//!
//! # The model
//!
//! A [`FileBackend`] is a handle on a root; all handles of a process on one root share its writers.
//!
//! - A **log** is a folder of segments. A writer holds the operating system's lock on its own segment, so it never
//!   waits for another process, and threads of one process share syncs. Readers take no lock and never write.
//! - A **document** is one file that is replaced as a whole: temporary file, sync, rename, sync of the folder.
//! - A **queue** is a JSON array with one item per line; a push overwrites its closing bracket.
//! - A **named lock** is the kernel's lock on a file. The file also has a fencing token, which never decreases.
//!
//! Every system call goes through [`fs::FileSystem`], which resolves paths beneath the root and follows no link.
//!
//! # Limitations
//!
//! - One machine per root: a network file system is refused unless an option allows it.
//! - A disk that reports a sync without storing the data is not detected.
//! - Durable writes work on Linux and macOS only; on other systems they fail.
//! - A process without [`file_locks`](FileOptions::file_locks) has to be the only one that writes. On a file system
//!   without locks, this can't be checked.
//! - Forking without exec is not supported: the two processes share descriptors, and so locks.
//!
//! # Example
//!
//! ```
//! use prodigy_storage_backend::{AppendOptions, Batch, Deadline, LogStore, ScanItem, ScanOptions};
//! use prodigy_storage_file::{FileBackend, FileOptions};
//! use prodigy_storage_layout::{JobAddress, JobId, RepoName};
//!
//! let folder = tempfile::tempdir()?;
//! let backend = FileBackend::open(FileOptions::new(folder.path().join("root")))?; // creates nothing yet
//! let job = JobAddress::new(RepoName::new("shop")?, JobId::new("mapreduce-7")?);
//!
//! let mut batch = Batch::new();
//! batch.push("agent started")?;
//! backend.append(&job, &mut batch, &AppendOptions::default(), Deadline::never())?; // synced when it returns
//!
//! let mut scan = backend.scan(&job, &ScanOptions::all(), Deadline::never())?;
//! while let Some(item) = scan.next()? {
//!     if let ScanItem::Record(record) = item {
//!         assert!(record.verified && record.line.contains("agent started"));
//!     }
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![cfg_attr(not(test), warn(clippy::disallowed_methods))]
#![warn(clippy::exhaustive_enums, clippy::exhaustive_structs)]

mod backend;
#[cfg(feature = "backup")]
mod backup;
mod doctor;
mod document;
#[expect(
    clippy::exhaustive_enums,
    clippy::exhaustive_structs,
    reason = "the seam of the file systems: each has to handle and fill in everything"
)]
pub mod fs;
mod kernel;
mod lock;
mod log;
mod queue;
mod root;

pub use backend::FileBackend;
#[cfg(feature = "backup")]
pub use backup::{Backup, BackupSummary};
pub use doctor::{
    Doctor, DoctorScope, DoctorSummary, Finding, FindingKind, FindingOutcome, FindingSeverity, Leftovers,
};
pub use root::FileOptions;
