//! The memory backend of Prodigy storage. It keeps all data in memory and behaves like the file backend.
//!
//! A test on this backend sees the same records, ids, cursors, conditions, leases and errors as on files. Both backends
//! pass the same conformance suite.
//!
//! # The model
//!
//! A [`MemoryBackend`] is a handle; a clone is another handle on the same data. Each job has its own lock, so threads
//! on different jobs do not wait for each other. Every byte is counted against
//! [`max_memory`](MemoryOptions::max_memory): a write over the limit stores nothing and fails with
//! [`DiskFull`](prodigy_storage_backend::ErrorKind::DiskFull), but reads continue.
//!
//! # Limitations
//!
//! - Only one process can use a store. Its data is dropped with the last handle, unless
//!   [`persistence`](MemoryOptions::persistence) names a file; then a snapshot is written on flush and when the last
//!   handle is dropped. If the process dies, the changes since the last snapshot are lost. A store locks its snapshot
//!   file against other writers; on a file system without locks, the store that writes last overwrites the others.
//! - A snapshot has each job at one moment, but not all jobs at the same moment.
//! - There is no folder, so worktrees have no path.
//! - The limit counts the data itself and generous constants for what surrounds it, but not the waste of the allocator.
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
