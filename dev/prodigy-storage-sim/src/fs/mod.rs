//! The simulated file system, and the processes that use it.

mod doom;
mod file;
mod folder;
mod process;
mod state;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::Mutex;
use prodigy_storage_backend::Result;
use prodigy_storage_file::{FileBackend, FileOptions};

use crate::clock::SimClock;
use crate::disk::Disk;
use crate::journal::Entry;
pub use doom::Doom;
pub use process::Process;
use state::State;

/// The root in the options. It is never created: all files are in memory.
const ROOT: &str = "/simulated";

/// A file system in memory that several simulated processes share. It records every call that changes something.
///
/// It behaves like a local file system for an ordinary user: modes are respected, an unlinked file exists while it is
/// open, a lock belongs to the descriptor that took it, links are not followed. Each change sets the mtime of the
/// folder, by a clock that counts calls and advances in steps of 10 ms.
pub struct SimFs {
    state: Mutex<State>,
    clock: Arc<SimClock>,
    processes: AtomicU32,
}

impl SimFs {
    /// A file system on this disk.
    #[must_use]
    pub fn new(disk: Disk) -> Arc<Self> {
        Self::with_clock(disk, Arc::default())
    }

    /// A file system on this disk whose times come from a clock.
    #[must_use]
    pub fn with_clock(disk: Disk, clock: Arc<SimClock>) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State::new(disk)),
            clock,
            processes: AtomicU32::new(0),
        })
    }

    /// A new process.
    #[must_use]
    pub fn process(self: &Arc<Self>) -> Arc<Process> {
        let number = self.processes.fetch_add(1, Ordering::Relaxed) + 1;
        Arc::new(Process::new(Arc::clone(self), number))
    }

    /// The disk as all processes see it now. Files without a name are left out.
    #[must_use]
    pub fn disk(&self) -> Disk {
        let mut disk = self.state.lock().disk.clone();
        disk.drop_unreachable();
        disk
    }

    /// Every changing call so far, syncs included.
    #[must_use]
    pub fn journal(&self) -> Vec<Entry> {
        self.state.lock().journal.clone()
    }

    /// The number of changing calls so far, syncs included.
    #[must_use]
    pub fn position(&self) -> usize {
        self.state.lock().journal.len()
    }

    /// The true time.
    #[must_use]
    pub fn clock(&self) -> Arc<SimClock> {
        Arc::clone(&self.clock)
    }

    /// Options for a backend on this file system: the true time as its clock, and a root that is only a name.
    #[must_use]
    pub fn options(&self) -> FileOptions {
        FileOptions::new(ROOT)
            .clock(self.clock())
            // The check of network file systems would examine the machine's own disk.
            .allow_network_fs(true)
    }

    /// Opens a backend in a new process, with the clock of that process. Returns both.
    ///
    /// # Errors
    /// The errors of [`FileBackend::open_on`].
    pub fn open(self: &Arc<Self>, options: FileOptions) -> Result<(FileBackend, Arc<Process>)> {
        let process = self.process();
        let backend = FileBackend::open_on(process.clone(), options.clock(process.clock()))?;
        Ok((backend, process))
    }
}

impl fmt::Debug for SimFs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimFs")
            .field("calls", &self.position())
            .finish_non_exhaustive()
    }
}
