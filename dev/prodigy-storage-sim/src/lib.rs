//! A simulated file system for the file backend, and a crash at every call that the backend makes on it.
//!
//! # The model
//!
//! A [`Disk`] is a tree of folders and files in memory. A [`SimFs`] is a file system on it, which any number of simulated
//! [`Process`]es share and which writes every call that changes something into a journal.
//!
//! A [`Workload`] is played **once**. [`explore`] then goes through its journal and derives, at the point before, in the
//! middle of and after every call, the disks that a crash could leave there; nothing is played again for that. A
//! [`Moment`] distinguishes durable data from the rest:
//!
//! - a sync of a file makes its data and its length durable, and with `sync_all` its mode; its name is not;
//! - a sync of a folder makes its entries durable: names made, renamed and removed. The root's own name takes
//!   `sync_above_root`;
//! - every other call is *pending*. A loss of power keeps any of the pending calls and drops the others: nothing of
//!   them, all, each prefix, each one left out, every subset where they are few, drawn subsets where they are many, names
//!   without data, data without names, lengths with zeros for data, the last write cut at each edge of a sector. What is
//!   left out below what is there is zeros. A rename is there or not;
//! - the death of every process keeps all written data except the end of the write under way.
//!
//! On each new disk a process reads everything, continues the work, and everything is read
//! again: see [`verify`]. Acknowledged data must be there once, other data is whole or absent, no damage is reported,
//! and every cursor continues. Then **that** run is crashed at each of its calls as well, in the same way.
//!
//! Each process has a wall clock of its own, which workloads set before or after the true time: [`ProcessClock`]. The times
//! of files are true.
//!
//! # Limitations
//!
//! - Calls are atomic and happen one after the other: threads that share a sync are not interleaved here.
//! - A sector is 512 bytes and whole or not there; within one write only its end is cut, or all of it zeros.
//! - Of the recoveries that make the same calls as one before, two are crashed, not all.
//! - Ids, revisions and names of temporary files are random, so that a run with the same seed draws the same subsets of
//!   other bytes.
//! - Under `relaxed`, a loss of power in the middle of a file may be reported as damage: nothing distinguishes it from a
//!   sector that was lost later.
//!
//! # Example
//!
//! ```
//! use prodigy_storage_backend::Durability;
//! use prodigy_storage_sim::{Depth, Setup, explore, job, record};
//!
//! let setup = Setup::default();
//! let trace = record(setup, |stage| {
//!     let who = stage.enter()?;
//!     stage.append(who, &job("one")?, &[20, 600], Durability::Strict)
//! })?;
//! let outcome = explore(&trace, setup, Depth::quick(1));
//! assert!(outcome.failures.is_empty(), "{}", outcome.failures[0]);
//! assert!(outcome.counts.checked > trace.journal.len());
//! # Ok::<(), anyhow::Error>(())
//! ```

mod clock;
mod crash;
mod disk;
mod explore;
mod fs;
mod history;
mod journal;
mod reading;
mod replay;
mod rescue;
mod script;
mod stage;
mod verify;
mod workloads;

pub use clock::{ProcessClock, START, SimClock};
pub use crash::{Crash, Drawn, Effort, Loss, crashes};
pub use disk::{Disk, Inode};
pub use explore::{Counts, Depth, Outcome, Trace, explore};
pub use fs::{Doom, Process, SimFs};
pub use history::{Action, Answer, History, Op};
pub use journal::{Call, Entry, Name};
pub use replay::{CallOutcome, Moment};
pub use script::{Compare, DOCUMENTS, FILES, Step, perform, turn};
pub use stage::{Setup, Stage, job};
pub use verify::verify;
pub use workloads::{WORKLOADS, Workload, id, record};
