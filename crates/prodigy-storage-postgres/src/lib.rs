//! The PostgreSQL backend of Prodigy storage: one store for many machines.
//!
//! # The model
//!
//! A [`PostgresBackend`] is a handle on a schema of a database; a clone is another handle on the same connections. It
//! passes the same conformance suite as the other backends.
//!
//! - Each process registers a *writer* for each log that it appends to. A writer has one transaction at a time,
//!   and numbers its events in the order of its commits. So a reader that remembers a number per writer never
//!   misses a transaction that commits late. Threads of a process share commits.
//! - A cursor holds, for each open writer, the number of the last event that was read. Writers that have ended are
//!   closed; in a cursor, a sequence of closed writers takes only a few bytes.
//! - A cursor also names the rows that show a loss: if a failover or a restore took back an event that it covers, its
//!   use is a [`CursorGap`](prodigy_storage_backend::ErrorKind::CursorGap). It continues exactly otherwise.
//! - Locks and writers are leases, measured by the server's clock and renewed in the background. They do not
//!   depend on a session, so a pooler in transaction mode can be used: behind it no statement is prepared by name,
//!   and settings apply to a single transaction.
//! - Leases of dead letters are measured by the server's clock.
//! - A call may come from any thread, and runs on it. A thread of the handle renews leases and sends
//!   notifications; it also makes the calls that come from the threads of a tokio runtime. If the deadline of a
//!   call passes, its connection is closed.
//!
//! # Limitations
//!
//! - An append by another process ends a wait at once if notifications arrive. Behind a pooler in transaction mode
//!   they do not; then the next poll (`poll`) finds the event.
//! - If the holder of a lock dies, the lock is free after 30 seconds. After a failover or a restore of the database, no
//!   lock is given out for 30 seconds.
//! - Replication, failover and backup are the tasks of the database.
//!
//! # Example
//!
//! ```no_run
//! use prodigy_storage_backend::{AppendOptions, Batch, Deadline, LogStore};
//! use prodigy_storage_layout::{JobAddress, JobId, RepoName};
//! use prodigy_storage_postgres::{PostgresBackend, PostgresOptions};
//!
//! let options = PostgresOptions::new("postgresql://app@db.example.com/jobs");
//! let backend = PostgresBackend::open(options, Deadline::never())?;
//! let job = JobAddress::new(RepoName::new("shop")?, JobId::new("mapreduce-7")?);
//! let mut batch = Batch::new();
//! batch.push("agent started")?;
//! backend.append(&job, &mut batch, &AppendOptions::default(), Deadline::never())?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![cfg_attr(not(test), warn(clippy::disallowed_methods))]
#![warn(clippy::exhaustive_enums, clippy::exhaustive_structs)]

mod backend;
mod branch;
mod catalog;
mod db;
mod direct;
mod document;
mod fault;
mod job;
mod lease;
mod lock;
mod log;
mod moved;
mod notifier;
mod options;
mod pool;
mod queue;
mod schema;
mod session;
mod sql;
mod survey;
mod target;

pub use backend::{PostgresBackend, migrate_schema, renew_store, schema_state};
pub use options::PostgresOptions;
pub use schema::SchemaState;
