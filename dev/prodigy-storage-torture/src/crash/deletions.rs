//! Deletes a job again and again while workers write, read and follow it. All workers are killed.
//!
//! Workers report each call before and after it. The reports decide what must hold: nothing that was acknowledged after
//! a deletion is lost, nothing from before it reappears, and no single read returns data from before and after a
//! deletion.

mod history;

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};

use self::history::History;
use super::audit::is_sound;
use super::power::process::Process;
use super::section::{Lab, Tally};
use crate::tool::Tool;

/// The number of kills in the short and in the full form.
const KILLS: (u32, u32) = (60, 1_000);
/// The roles, each with the longest lifetime of a worker in milliseconds.
const ROLES: &[(&str, u64)] = &[
    ("write", 2_000),
    ("write", 2_000),
    ("delete", 700),
    ("delete", 700),
    ("read", 3_000),
    ("read", 3_000),
    ("follow", 4_000),
];

/// Runs the workers, then checks their reports.
pub(super) fn run(lab: &Lab<'_>) -> Result<Tally> {
    let tool = Tool::new(lab.binary, lab.scratch)?;
    let program = lab
        .project
        .build("prodigy-storage-torture", "torture-deletions")?;
    let kills = match (lab.time, lab.quick) {
        (Some(_), _) => u32::MAX,
        (None, true) => KILLS.0,
        (None, false) => KILLS.1,
    };
    let until = lab.time.map(|time| Instant::now() + time);
    let killed = AtomicU32::new(0);
    let open = || killed.load(Ordering::Relaxed) < kills && until.is_none_or(|until| Instant::now() < until);
    let start = |name: &str, seed: u64, role: &str| {
        let mut command = tool.command_of(&program);
        command.arg(tool.base()).arg(name).arg(seed.to_string()).arg(role);
        Process::start(command, Vec::new(), true)
    };
    let history = Mutex::new(History::default());
    thread::scope(|scope| {
        let workers: Vec<_> = ROLES
            .iter()
            .enumerate()
            .map(|(number, (role, life))| {
                let (open, killed, history, start) = (&open, &killed, &history, &start);
                scope.spawn(move || -> Result<()> {
                    let mut random = lab.random(&format!("worker {number}"));
                    let mut lives = Vec::new();
                    while open() {
                        let name = format!("{number}-{}", lives.len());
                        let mut process = start(&name, random.u64(..), role)?;
                        process.wait_for(Duration::from_millis(random.u64(50..*life)))?;
                        let ended = process.end()?;
                        let alive = ended.code.is_none();
                        ensure!(alive, "{}", ended.unexpected("a life until it is killed"));
                        killed.fetch_add(1, Ordering::Relaxed);
                        lives.push(ended);
                    }
                    let mut history = history.lock().unwrap_or_else(PoisonError::into_inner);
                    history.add(role, &lives)
                })
            })
            .collect();
        workers.into_iter().try_for_each(|worker| {
            let worked = worker.join().unwrap_or_else(|_| Err(anyhow!("it panicked")));
            worked.context("a worker")
        })
    })?;
    let mut look = start("look", 0, "look")?;
    look.wait()?;
    let there = history::there(&look.end()?)?;
    let mut tally = Tally::default();
    tally.add("kills beside deletions of a job", killed.into_inner());
    let history = history.into_inner().unwrap_or_else(PoisonError::into_inner);
    history.check(&there, &mut tally)?;
    is_sound(&tool)?;
    Ok(tally)
}
