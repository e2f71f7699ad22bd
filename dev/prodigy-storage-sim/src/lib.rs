//! A simulated file system for the file backend, which is crashed at every call that the backend makes.
//!
//! # The model
//!
//! A [`Disk`] is a tree of folders and files in memory. A [`SimFs`] is a file system on it that any number of simulated
//! [`Process`]es share; its journal records every call that changes something.
//!
//! A [`Workload`] is run **once**. [`explore`] then goes through its journal and derives the disks that a crash could
//! leave before, during and after every call, without running the workload again. A [`Moment`] separates durable data
//! from the rest:
//!
//! - a sync of a file makes its data and its length durable, and with `sync_all` its mode, but not its name;
//! - a sync of a folder makes its entries durable: created, renamed and removed names. The root's own name needs
//!   `sync_above_root`;
//! - every other call is *pending*. A power loss keeps some of the pending calls and drops the others: none, all, each
//!   prefix, all but one, every subset if they are few, random subsets if they are many, names without data, data without
//!   names, lengths with zeros as data, the last write cut at each sector boundary. Lost bytes before kept bytes are
//!   zeros. A rename is never partial;
//! - the death of all processes keeps all written data, except the end of the write under way.
//!
//! On each resulting disk, a new process reads everything, continues the work, and everything is read again: see
//! [`verify`]. Acknowledged data must be there once, other data is whole or absent, no damage is reported, and every
//! cursor continues. Then **that** run is crashed at each of its calls, in the same way.
//!
//! Each process has a wall clock of its own, which workloads set ahead of or behind the true time: [`ProcessClock`].
//! The mtimes of files are true.
//!
//! # Limitations
//!
//! - Calls are atomic and sequential: interleavings of threads that share a sync are not simulated.
//! - A sector of 512 bytes is written whole or not at all. Within one write only its end is lost, or all of it is
//!   zeros.
//! - Of several recoveries that make the same calls, two are crashed.
//! - Ids, revisions and names of temporary files are random. So a repeated seed gives the same subsets, of other bytes.
//! - With `relaxed` durability, a power loss in the middle of a file may be reported as damage: it looks the same as a
//!   sector that was damaged later.
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
