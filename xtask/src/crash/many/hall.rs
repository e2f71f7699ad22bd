//! What all roles share: the store, the time that is left, the ledgers.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::events::EventLedger;
use super::followers::Followed;
use super::letters::LetterLedger;
use super::locks::LockLedger;
use super::states::StateLedger;
use crate::crash::power::process::{Ended, Process};
use crate::crash::section::{Lab, Tally};
use crate::input::Input;
use crate::tool::Tool;

/// The repository that all work on.
pub(super) const REPO: &str = "many";
/// The job that most work on.
pub(super) const SHARED: &str = "shared";
/// Both, as the tool takes them.
pub(super) const ADDRESS: [&str; 4] = ["--repo", REPO, "--job", SHARED];
/// One process in so many is killed,
const DOOMED: u32 = 4;
/// within so many microseconds.
const LONGEST: u64 = 120_000;

/// Where they work.
pub(super) struct Hall<'a> {
    lab: Lab<'a>,
    tool: Tool,
    worker: PathBuf,
    until: Instant,
    closed: AtomicBool,
    processes: AtomicU64,
    kills: AtomicU64,
    operations: AtomicU64,
    waits: AtomicU64,
    pub(super) events: Ledger<EventLedger>,
    pub(super) followed: Ledger<Followed>,
    pub(super) states: Ledger<StateLedger>,
    pub(super) locks: Ledger<LockLedger>,
    pub(super) letters: Ledger<LetterLedger>,
}

/// What is noted by several.
#[derive(Debug, Default)]
pub(super) struct Ledger<T>(Mutex<T>);

impl<T> Ledger<T> {
    /// Alone for a moment. Who panicked with it is told of elsewhere.
    pub(super) fn alone(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the tool told of what it was to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    Done,
    /// It was killed, or has waited in vain: done or not.
    Unclear,
    /// Refused: another was there before.
    Conflict,
    /// Refused: the token is an old one.
    Fenced,
    /// There is nothing of that name.
    Missing,
}

impl<'a> Hall<'a> {
    /// An empty store, and no time yet.
    pub(super) fn open(lab: &Lab<'a>) -> Result<Self> {
        let tool = Tool::new(lab.binary, lab.scratch)?
            .with("PRODIGY__STORAGE__BACKEND_CONFIG__MAX_FILE_SIZE", "256KiB")
            .with("PRODIGY__STORAGE__BACKEND_CONFIG__ENABLE_COMPRESSION", "true");
        let worker = super::workers::build(lab.project)?;
        Ok(Self {
            lab: *lab,
            tool,
            worker,
            until: Instant::now(),
            closed: AtomicBool::new(false),
            processes: AtomicU64::new(0),
            kills: AtomicU64::new(0),
            operations: AtomicU64::new(0),
            waits: AtomicU64::new(0),
            events: Ledger::default(),
            followed: Ledger::default(),
            states: Ledger::default(),
            locks: Ledger::default(),
            letters: Ledger::default(),
        })
    }

    /// From now on there is so much time.
    pub(super) fn start(&mut self, time: Duration) {
        self.until = Instant::now() + time;
    }

    /// Whether there is time left, and nobody has failed.
    pub(super) fn is_open(&self) -> bool {
        !self.closed.load(Ordering::Acquire) && Instant::now() < self.until
    }

    /// The time is up for all.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    pub(super) fn tool(&self) -> &Tool {
        &self.tool
    }

    /// The program of the workers.
    pub(super) fn worker(&self) -> &Path {
        &self.worker
    }

    pub(super) fn input(&self) -> &Input {
        self.lab.input
    }

    /// A folder beside the store.
    pub(super) fn folder(&self, name: &str) -> Result<PathBuf> {
        self.lab.folder(name)
    }

    /// The random choices of a role.
    pub(super) fn random(&self, number: usize) -> fastrand::Rng {
        self.lab.random(&format!("role {number}"))
    }

    /// Runs a process to its end, or kills it on the way.
    pub(super) fn call(&self, command: Command, input: Vec<u8>, random: &mut fastrand::Rng) -> Result<Ended> {
        let doomed = random.u32(..DOOMED) == 0;
        let process = self.begin(command, input, false)?;
        self.finish(
            process,
            doomed.then(|| Duration::from_micros(random.u64(..LONGEST))),
        )
    }

    /// Starts a process.
    pub(super) fn begin(&self, command: Command, input: Vec<u8>, held: bool) -> Result<Process> {
        self.processes.fetch_add(1, Ordering::Relaxed);
        Process::start(command, input, held)
    }

    /// Has a process end by itself, or kills it after some time.
    pub(super) fn finish(&self, mut process: Process, death: Option<Duration>) -> Result<Ended> {
        match death {
            Some(time) => process.wait_for(time)?,
            None => process.wait()?,
        }
        let ended = process.end()?;
        if ended.code.is_none() {
            ensure!(death.is_some(), "{}", ended.unexpected("an end of its own"));
            self.kills.fetch_add(1, Ordering::Relaxed);
        }
        Ok(ended)
    }

    /// What a process told. What it should never tell is an error.
    pub(super) fn told(&self, ended: &Ended) -> Result<Told> {
        ensure!(
            !ended.stderr.contains("panicked"),
            "{}",
            ended.unexpected("no panic")
        );
        let says = |what: &str| ended.stderr.lines().any(|line| line.starts_with(what));
        Ok(match ended.code {
            Some(0) => Told::Done,
            None => Told::Unclear,
            Some(4) => Told::Missing,
            _ if says("error: conflict") => Told::Conflict,
            _ if says("error: fenced off") => Told::Fenced,
            Some(3) => self.waited(),
            _ if says("error: timeout") || says("error: outcome unknown") => self.waited(),
            Some(_) => return Err(ended.unexpected("success, or a refusal that is meant")),
        })
    }

    fn waited(&self) -> Told {
        self.waits.fetch_add(1, Ordering::Relaxed);
        Told::Unclear
    }

    /// So many things were done.
    pub(super) fn did(&self, operations: usize) {
        self.operations.fetch_add(operations as u64, Ordering::Relaxed);
    }

    /// A worker was killed.
    pub(super) fn killed(&self) {
        self.kills.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count(&self, tally: &mut Tally) {
        tally.add("processes", self.processes.load(Ordering::Relaxed));
        tally.add("kills", self.kills.load(Ordering::Relaxed));
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
