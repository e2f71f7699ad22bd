//! Moves data between stores: makes backups while processes write, and interrupts restores, exports and imports at
//! system calls, then runs them again.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use uuid::Uuid;

use super::scenario::{self, Scenario};
use super::section::{Lab, Tally};
use super::{audit, faults, pool, strace, syscalls};
use crate::acks::Appender;
use crate::input::joined;
use crate::segment;
use crate::tool::Tool;

const REPO: &str = "moves";
/// The number of processes that write during a backup.
const WRITERS: usize = 8;
/// The number of events that each process has acknowledged before the first backup.
const BEFORE: usize = 12;
/// The largest number of events that a process appends.
const LINES: usize = 2_000;
/// The number of backups, in the short and in the full form.
const BACKUPS: (usize, usize) = (1, 40);
/// In the short form, the number of kills and of failing calls per scenario.
const QUICK: (usize, usize) = (3, 2);

pub(super) fn run(lab: &Lab<'_>) -> Result<Tally> {
    let mut tally = Tally::default();
    beside_writers(lab, &mut tally).context("a backup beside writers")?;
    if let Some(why) = strace::lacking() {
        tally.skip(format!("restores and imports that are struck: {why}"));
        return Ok(tally);
    }
    for (number, scenario) in scenario::moves().iter().enumerate() {
        struck(lab, scenario, number, &mut tally).with_context(|| format!("scenario `{}`", scenario.name))?;
    }
    Ok(tally)
}

/// The acknowledged events: the job's number, and the event's id.
type Acknowledged = Mutex<BTreeSet<(usize, Uuid)>>;

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes backups while processes append, and checks each backup for the events that were acknowledged before it began.
fn beside_writers(lab: &Lab<'_>, tally: &mut Tally) -> Result<()> {
    let backups = if lab.quick { BACKUPS.0 } else { BACKUPS.1 };
    let mut events = 0;
    for number in 0..backups {
        let folder = lab.folder(&format!("backup-{number}"))?;
        events += one_backup(lab, &folder).with_context(|| format!("backup {number}"))?;
        std::fs::remove_dir_all(folder)?;
    }
    println!("  {backups} backups beside {WRITERS} writers, {events} events acknowledged before one of them");
    tally.add(
        "backups beside 8 writers, each restored without a finding",
        backups,
    );
    tally.add("events acknowledged before a backup, each of them in it", events);
    Ok(())
}

/// Makes a backup while processes append, and restores it. Returns the number of events that were acknowledged before
/// the backup began.
fn one_backup(lab: &Lab<'_>, folder: &Path) -> Result<usize> {
    let tool = Tool::new(lab.binary, folder)?
        .with("PRODIGY__STORAGE__BACKEND_CONFIG__MAX_FILE_SIZE", "16KB")
        .with("PRODIGY__STORAGE__BACKEND_CONFIG__ENABLE_COMPRESSION", "true");
    let file = folder.join("archive.tar.zst");
    let name = file.to_str().context("a folder of a test has a plain name")?;
    let acknowledged = Acknowledged::default();
    let (ready, closed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let before = thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|job| {
                scope.spawn({
                    let (tool, acknowledged, ready, closed) = (&tool, &acknowledged, &ready, &closed);
                    move || write(lab, tool, job, acknowledged, ready, closed)
                })
            })
            .collect();
        while ready.load(Ordering::Acquire) < WRITERS && writers.iter().all(|writer| !writer.is_finished()) {
            thread::sleep(Duration::from_millis(2));
        }
        let before = lock(&acknowledged).clone();
        let made = tool.done(["backup", name], b"");
        closed.store(true, Ordering::Release);
        for writer in writers {
            writer
                .join()
                .map_err(|_| anyhow!("a writer's thread panicked"))??;
        }
        made.map(|_| before)
    })?;
    tool.done(["restore", "--check", name], b"")?;
    let restored = tool.over(folder.join("restored"));
    restored.done(["restore", name], b"")?;
    audit::is_sound(&restored)?;
    for job in 0..WRITERS {
        let id = job_id(job);
        let answer = restored
            .run(["events", "cat", "--repo", REPO, "--job", &id], b"")?
            .expect_code(0)?;
        let stored: BTreeSet<Uuid> = segment::events(&answer)?.into_iter().map(|(id, _)| id).collect();
        let lost = before
            .iter()
            .find(|(of, event)| *of == job && !stored.contains(event));
        ensure!(
            lost.is_none(),
            "{id} lacks {lost:?}, which was acknowledged before the backup began"
        );
    }
    Ok(before.len())
}

fn job_id(job: usize) -> String {
    format!("job-{job}")
}

/// Runs a process that appends to a job, and kills it when the backup is done.
fn write(
    lab: &Lab<'_>,
    tool: &Tool,
    job: usize,
    acknowledged: &Acknowledged,
    ready: &AtomicUsize,
    closed: &AtomicBool,
) -> Result<()> {
    let id = job_id(job);
    let command = tool.command(["events", "append", "--ack", "--repo", REPO, "--job", &id]);
    let text = joined((0..LINES).map(|position| lab.input.at(position)));
    let mut writer = Appender::start_doomed(command, text)?;
    let mut count = 0;
    while !closed.load(Ordering::Acquire) && count < LINES {
        let event = writer.next()?.context("a writer ended before it was killed")?;
        lock(acknowledged).insert((job, event));
        count += 1;
        if count == BEFORE {
            ready.fetch_add(1, Ordering::AcqRel);
        }
    }
    while !closed.load(Ordering::Acquire) {
        thread::sleep(Duration::from_millis(2));
    }
    writer.kill()?;
    writer.end(&mut Vec::new())?.killed()
}

/// Runs a scenario many times. Each run is killed at another system call, or has another call fail, and is then
/// checked.
fn struck(lab: &Lab<'_>, scenario: &'static Scenario, number: usize, tally: &mut Tally) -> Result<()> {
    let prepared = scenario.prepared(lab, &lab.folder(&format!("{number:02}"))?)?;
    let (mut points, lines) = syscalls::survey(&prepared, syscalls::UNHARMED)?;
    let calls = points.len();
    let mut faults = faults::sample(lab, scenario.name, &points);
    if lab.quick {
        let mut random = lab.random(scenario.name);
        random.shuffle(&mut points);
        points.truncate(QUICK.0);
        faults.truncate(QUICK.1);
    }
    let killed = pool::each(&points, |point| syscalls::trial(&prepared, point, 0))?;
    let told = pool::each(&faults, |fault| faults::trial(&prepared, fault, lines))?;
    let count = |all: &[bool]| all.iter().filter(|one| **one).count();
    println!(
        "  {:<44} {calls:>4} calls, {:>4} kills, {:>3} faults",
        scenario.name,
        count(&killed),
        told.len()
    );
    tally.add(
        "kills at a system call of a restore, an import or a backup",
        count(&killed),
    );
    tally.add("system calls of them that failed", told.len());
    Ok(())
}
