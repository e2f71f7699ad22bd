//! The state that all roles share: the store, the remaining time, the ledgers.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use prodigy_storage_backend::reference::Calls;

use super::events::EventLedger;
use super::followers::Followed;
use super::locks::LockLedger;
use super::states::StateLedger;
use crate::crash::clocks::{self, Clocks};
use crate::crash::power::process::{Ended, Process};
use crate::crash::section::{Lab, Tally};
use crate::input::Input;
use crate::tool::Tool;

/// The repository of all roles.
pub(super) const REPO: &str = "many";
/// The job of most roles.
pub(super) const SHARED: &str = "shared";
/// The flags that select the shared job.
pub(super) const ADDRESS: [&str; 4] = ["--repo", REPO, "--job", SHARED];
/// One in this number of processes is killed, after a random time.
const DOOMED: u32 = 4;
/// The longest time before a process is killed, in microseconds.
const LONGEST: u64 = 120_000;
/// If clocks differ, one in this number of processes is stopped for a while (SIGSTOP).
const STOPPED: u32 = 6;
/// The longest time for which a process is stopped, in milliseconds.
const STOP: u64 = 400;

/// The state of a run, which all roles share.
pub(in crate::crash) struct Harness<'a> {
    lab: Lab<'a>,
    tool: Tool,
    max_file_size: &'static str,
    clocks: Option<Clocks>,
    worker: PathBuf,
    until: Instant,
    closed: AtomicBool,
    processes: AtomicU64,
    kills: AtomicU64,
    stops: AtomicU64,
    operations: AtomicU64,
    waits: AtomicU64,
    pub(super) events: Ledger<EventLedger>,
    pub(super) followed: Ledger<Followed>,
    pub(super) states: Ledger<StateLedger>,
    pub(super) locks: Ledger<LockLedger>,
    /// The calls on dead letters by item and token, with times of the wall clock in nanoseconds.
    pub(super) letters: Ledger<Calls<String, String>>,
}

/// A ledger that several threads write to.
#[derive(Debug, Default)]
pub(super) struct Ledger<T>(Mutex<T>);

impl<T> Ledger<T> {
    /// Locks the ledger. A panic of another thread is reported elsewhere, so poisoning is ignored.
    pub(super) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The outcome of a command of the tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Done,
    /// Unknown: the tool was killed, or its wait timed out.
    Unclear,
    /// Refused: another process changed the checkpoint first.
    Conflict,
    /// Refused: the fencing token is outdated.
    Fenced,
    /// The job, item or checkpoint does not exist.
    Missing,
}

impl<'a> Harness<'a> {
    /// A harness with an empty store. With `clocks`, each process sees one of them. The run starts with
    /// [`start`](Self::start).
    pub(in crate::crash) fn open(
        lab: &Lab<'a>,
        max_file_size: &'static str,
        clocks: Option<Clocks>,
    ) -> Result<Self> {
        let tool = Tool::new(lab.binary, lab.scratch)?
            .with("PRODIGY__STORAGE__BACKEND_CONFIG__MAX_FILE_SIZE", max_file_size)
            .with("PRODIGY__STORAGE__BACKEND_CONFIG__ENABLE_COMPRESSION", "true");
        let worker = lab.project.build("prodigy-storage-torture", "torture-worker")?;
        Ok(Self {
            lab: *lab,
            tool,
            max_file_size,
            clocks,
            worker,
            until: Instant::now(),
            closed: AtomicBool::new(false),
            processes: AtomicU64::new(0),
            kills: AtomicU64::new(0),
            stops: AtomicU64::new(0),
            operations: AtomicU64::new(0),
            waits: AtomicU64::new(0),
            events: Ledger::default(),
            followed: Ledger::default(),
            states: Ledger::default(),
            locks: Ledger::default(),
            letters: Ledger::default(),
        })
    }

    /// Starts the run, which lasts for this time.
    pub(super) fn start(&mut self, time: Duration) {
        self.until = Instant::now() + time;
    }

    /// True until the run ends: its time is over, or a role has failed.
    pub(super) fn is_open(&self) -> bool {
        !self.closed.load(Ordering::Acquire) && Instant::now() < self.until
    }

    /// Ends the run for all roles.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    /// The remaining time of the run.
    pub(super) fn left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }

    /// If clocks differ, sets them again and again until the run ends.
    pub(super) fn set_clocks(&self) -> Result<()> {
        match &self.clocks {
            Some(clocks) => clocks.set_while(|| self.is_open()),
            None => Ok(()),
        }
    }

    /// The size at which a segment is sealed.
    pub(super) fn max_file_size(&self) -> &str {
        self.max_file_size
    }

    pub(super) fn tool(&self) -> &Tool {
        &self.tool
    }

    /// The path of the workers' program.
    pub(super) fn worker(&self) -> &Path {
        &self.worker
    }

    pub(super) fn input(&self) -> &Input {
        self.lab.input
    }

    /// A folder next to the store.
    pub(super) fn folder(&self, name: &str) -> Result<PathBuf> {
        self.lab.folder(name)
    }

    /// The random generator of a role.
    pub(super) fn random(&self, number: usize) -> fastrand::Rng {
        self.lab.random(&format!("role {number}"))
    }

    /// Runs a process to its end, or kills it earlier.
    pub(super) fn call(&self, command: Command, input: Vec<u8>, random: &mut fastrand::Rng) -> Result<Ended> {
        let doomed = random.u32(..DOOMED) == 0;
        let mut process = self.begin(command, input, false)?;
        self.stop(&mut process, random)?;
        self.finish(
            process,
            doomed.then(|| Duration::from_micros(random.u64(..LONGEST))),
        )
    }

    /// If clocks differ, stops some processes for a while.
    pub(super) fn stop(&self, process: &mut Process, random: &mut fastrand::Rng) -> Result<()> {
        if self.clocks.is_some() && random.u32(..STOPPED) == 0 {
            process.wait_for(Duration::from_micros(random.u64(..LONGEST)))?;
            process.stop_for(Duration::from_millis(random.u64(..STOP)))?;
            self.stops.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Starts a process.
    pub(super) fn begin(&self, mut command: Command, input: Vec<u8>, held: bool) -> Result<Process> {
        self.processes.fetch_add(1, Ordering::Relaxed);
        if let Some(clocks) = &self.clocks {
            clocks.give(&mut command);
        }
        Process::start(command, input, held)
    }

    /// Waits for a process to end, or kills it after some time.
    pub(super) fn finish(&self, mut process: Process, death: Option<Duration>) -> Result<Ended> {
        match death {
            Some(time) => process.wait_for(time)?,
            None => process.wait()?,
        }
        let id = process.id();
        let ended = process.end()?;
        self.clean(id);
        if ended.code.is_none() {
            ensure!(death.is_some(), "{}", ended.unexpected("an end of its own"));
            self.kills.fetch_add(1, Ordering::Relaxed);
        }
        Ok(ended)
    }

    /// Removes the shared memory of a killed process's clock.
    pub(super) fn clean(&self, process: u32) {
        if self.clocks.is_some() {
            clocks::clean(process);
        }
    }

    /// The outcome that a process reported. An outcome that must never occur is an error.
    pub(super) fn outcome(&self, ended: &Ended) -> Result<Outcome> {
        ensure!(
            !ended.stderr.contains("panicked"),
            "{}",
            ended.unexpected("no panic")
        );
        let says = |what: &str| ended.stderr.lines().any(|line| line.starts_with(what));
        Ok(match ended.code {
            Some(0) => Outcome::Done,
            None => Outcome::Unclear,
            Some(4) => Outcome::Missing,
            _ if says("error: conflict") => Outcome::Conflict,
            _ if says("error: fenced off") => Outcome::Fenced,
            Some(3) => self.waited(),
            _ if says("error: timeout") || says("error: outcome unknown") => self.waited(),
            Some(_) => return Err(ended.unexpected("success, or a refusal that is meant")),
        })
    }

    fn waited(&self) -> Outcome {
        self.waits.fetch_add(1, Ordering::Relaxed);
        Outcome::Unclear
    }

    /// Adds to the counted operations.
    pub(super) fn did(&self, operations: usize) {
        self.operations.fetch_add(operations as u64, Ordering::Relaxed);
    }

    /// Counts a killed worker.
    pub(super) fn killed(&self) {
        self.kills.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count(&self, tally: &mut Tally) {
        tally.add("processes", self.processes.load(Ordering::Relaxed));
        tally.add("kills", self.kills.load(Ordering::Relaxed));
        if let Some(clocks) = &self.clocks {
            tally.add("stops", self.stops.load(Ordering::Relaxed));
            clocks.count(tally);
        }
        tally.add(
            "operations that were acknowledged",
            self.operations.load(Ordering::Relaxed),
        );
        tally.add(
            "waits that ended by their deadline",
            self.waits.load(Ordering::Relaxed),
        );
    }
}
