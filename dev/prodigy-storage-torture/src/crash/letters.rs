//! Tests one queue under many failures. Workers change it at random, and are killed or stopped for a while. Redrivers
//! use leases that are shorter than their work.
//!
//! Workers report each call before and after it. The reports decide what must hold: no item is lost, no item is leased
//! to two workers at once, and no finished item reappears.

mod history;
mod redrivers;

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use prodigy_storage_backend::reference::Stored;

pub(super) use self::history::{Call, calls};
use super::audit::is_sound;
use super::many::stored;
use super::power::process::Process;
use super::section::{Lab, Tally};
use crate::tool::Tool;

/// The number of kills in the short and in the full form.
const KILLS: (u32, u32) = (60, 1_000);
/// The number of concurrent workers.
const WORKERS: usize = 5;
/// The longest lifetime of a worker, in milliseconds.
const LIFE: u64 = 1_500;
/// One in this number of workers is stopped for a while (SIGSTOP) before it is killed.
const STOPPED: u32 = 3;
/// The longest time for which a worker is stopped, in milliseconds.
const STOP: u64 = 600;

/// The tool and the program that starts workers on its store.
struct Workshop<'a> {
    lab: Lab<'a>,
    tool: Tool,
    program: std::path::PathBuf,
}

impl Workshop<'_> {
    fn command(&self, name: &str, seed: u64, role: &str) -> Command {
        let mut command = self.tool.command_of(&self.program);
        command
            .arg(self.tool.base())
            .arg(name)
            .arg(seed.to_string())
            .arg(role);
        command
    }

    /// The items of a job's queue.
    fn stored(&self, job: &str) -> Result<BTreeMap<String, Stored>> {
        stored(&self.tool, &["--repo", "letters", "--job", job])
    }
}

/// Lets workers change a queue, then lets redrivers empty another queue.
pub(super) fn run(lab: &Lab<'_>) -> Result<Tally> {
    let workshop = Workshop {
        lab: *lab,
        tool: Tool::new(lab.binary, lab.scratch)?,
        program: lab.project.build("prodigy-storage-torture", "torture-letters")?,
    };
    let mut tally = Tally::default();
    changes(&workshop, &mut tally).context("changes at random")?;
    redrivers::run(&workshop, &mut tally).context("redrivers with short leases")?;
    is_sound(&workshop.tool)?;
    Ok(tally)
}

fn changes(workshop: &Workshop<'_>, tally: &mut Tally) -> Result<()> {
    let kills = match (workshop.lab.time, workshop.lab.quick) {
        (Some(_), _) => u32::MAX,
        (None, true) => KILLS.0,
        (None, false) => KILLS.1,
    };
    let until = workshop.lab.time.map(|time| Instant::now() + time);
    let (killed, stopped) = (AtomicU32::new(0), AtomicU32::new(0));
    let calls = Mutex::new(Vec::new());
    let open = || killed.load(Ordering::Relaxed) < kills && until.is_none_or(|until| Instant::now() < until);
    thread::scope(|scope| {
        let lives: Vec<_> = (0..WORKERS)
            .map(|number| {
                let (open, killed, stopped, calls) = (&open, &killed, &stopped, &calls);
                scope.spawn(move || -> Result<()> {
                    let mut random = workshop.lab.random(&format!("worker {number}"));
                    let mut life = 0;
                    while open() {
                        life += 1;
                        let made = one_life(workshop, &format!("w{number}-{life}"), &mut random, stopped)?;
                        killed.fetch_add(1, Ordering::Relaxed);
                        calls.lock().unwrap_or_else(PoisonError::into_inner).extend(made);
                    }
                    Ok(())
                })
            })
            .collect();
        lives
            .into_iter()
            .try_for_each(|life| life.join().unwrap_or_else(|_| Err(anyhow!("it panicked"))))
    })?;
    let calls = calls.into_inner().unwrap_or_else(PoisonError::into_inner);
    tally.add("kills of a worker on a queue", killed.into_inner());
    tally.add("stops of one", stopped.into_inner());
    check_calls(&calls, &workshop.stored("change")?, tally)
}

/// Compares the calls of all workers with the stored items.
pub(super) fn check_calls(
    calls: &[Call],
    stored: &BTreeMap<String, Stored>,
    tally: &mut Tally,
) -> Result<()> {
    tally.add("calls on the queue", calls.len());
    let counts = history::by_item(calls)?.check(stored)?;
    ensure!(
        counts.takes > 0 && counts.removed > 0,
        "nothing was taken, or nothing removed"
    );
    tally.add("items of a queue", counts.items);
    tally.add("takes of them, none while another had the item", counts.takes);
    tally.add(
        "items that were finished, none of which came back",
        counts.removed,
    );
    Ok(())
}

/// Starts a worker, stops it for a while in some cases, kills it, and returns the calls that it reported.
fn one_life(
    workshop: &Workshop<'_>,
    name: &str,
    random: &mut fastrand::Rng,
    stopped: &AtomicU32,
) -> Result<Vec<Call>> {
    let command = workshop.command(name, random.u64(..), "change");
    let mut process = Process::start(command, Vec::new(), true)?;
    process.wait_for(Duration::from_millis(random.u64(..LIFE)))?;
    if random.u32(..STOPPED) == 0 {
        process.stop_for(Duration::from_millis(random.u64(..STOP)))?;
        process.wait_for(Duration::from_millis(random.u64(..LIFE / 3)))?;
        stopped.fetch_add(1, Ordering::Relaxed);
    }
    let ended = process.end()?;
    ensure!(
        ended.code.is_none(),
        "{}",
        ended.unexpected("a life until it is killed")
    );
    calls(&ended).with_context(|| format!("worker {name}"))
}
