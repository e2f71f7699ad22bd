//! The memory backend of Prodigy storage: everything in memory, with the meaning of the file backend.
//!
//! A test that runs on it sees what it would see on files: the same records, ids, cursors, conditions, leases and
//! errors. It passes the same conformance suite.
//!
//! # The model
//!
//! A [`MemoryBackend`] is a handle; a clone is another one on the same data. Each job has a lock of its
//! own, so threads on different jobs do not wait for each other. Every byte is counted against
//! [`max_memory`](MemoryOptions::max_memory): a write past it is refused whole, as
//! [`DiskFull`](prodigy_storage_backend::ErrorKind::DiskFull), and reads continue.
//!
//! # Limitations
//!
//! - One process. Data goes with the last handle, unless [`persistence`](MemoryOptions::persistence) names a file;
//!   then a snapshot is written on flush and when the last handle goes. What came after the last snapshot is lost
//!   with a process that dies, and of two stores with one file the last to write wins.
//! - A snapshot is one moment a job, not one moment of all jobs together.
//! - There is no folder, so that worktrees have no path.
//! - What the limit counts beside the data itself are constants, measured generously; the allocator's own waste is
//!   not seen.
//!
//! # Example
//!
//! ```
//! use prodigy_storage_backend::{AppendOptions, Batch, Deadline, LogStore, ScanItem, ScanOptions};
//! use prodigy_storage_layout::{JobAddress, JobId, RepoName};
//! use prodigy_storage_memory::{MemoryBackend, MemoryOptions};
//!
//! let backend = MemoryBackend::new(MemoryOptions::new())?;
//! let job = JobAddress::new(RepoName::new("shop")?, JobId::new("mapreduce-7")?);
//! let mut batch = Batch::new();
//! batch.push("agent started")?;
//! backend.append(&job, &mut batch, &AppendOptions::default(), Deadline::never())?;
//!
//! let mut scan = backend.scan(&job, &ScanOptions::all(), Deadline::never())?;
//! let Some(ScanItem::Record(record)) = scan.next()? else { panic!("an event is stored") };
//! assert_eq!(record.id, batch.ids()[0]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![cfg_attr(not(test), warn(clippy::disallowed_methods))]
#![warn(clippy::exhaustive_enums, clippy::exhaustive_structs)]

mod backend;
mod budget;
mod cursor;
mod document;
mod job;
mod log;
mod named_lock;
mod options;
mod queue;
mod scan;
mod snapshot;
mod snapshot_lock;
mod store;
mod usage;

pub use backend::MemoryBackend;
pub use options::MemoryOptions;
