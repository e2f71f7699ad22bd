//! The recovery run: a new process on a disk after a crash.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::{Context, Result};
use prodigy_storage_backend::{Catalog, Clock, Durability, Entries};
use prodigy_storage_file::fs::FileSystem;
use prodigy_storage_layout::{
    Document, Entry, JobAddress, LockName, Phase, Timestamp, events_folder, queue_folder,
};

use crate::clock::{START, SimClock};
use crate::crash::{Crash, Loss};
use crate::explore::Trace;
use crate::fs::SimFs;
use crate::history::{Action, History};
use crate::stage::{Setup, Stage, patience};
use crate::verify::verify;

/// The time between the crash and the recovery run, in nanoseconds.
const LATER: i64 = 5_000_000_000;
const NEW: &str = "rescued-item";

/// The jobs, documents, queues and locks of a history.
#[derive(Debug, Default)]
struct Subjects {
    logs: BTreeSet<JobAddress>,
    documents: BTreeSet<Document>,
    series: BTreeSet<(JobAddress, Phase)>,
    queues: BTreeSet<JobAddress>,
    locks: BTreeSet<LockName>,
    removals: BTreeSet<(JobAddress, Timestamp)>,
}

impl Subjects {
    fn of(history: &History) -> Self {
        let mut found = Self::default();
        for op in history.ops() {
            match &op.action {
                Action::Append { job, .. } | Action::Scan { job } => {
                    found.logs.insert(job.clone());
                }
                Action::Put { document, .. } => {
                    // A document with a stamp is a checkpoint: the recovery saves new checkpoints in its phase
                    // instead of replacing it.
                    if document.stamp().is_none() {
                        found.documents.insert(document.clone());
                    }
                }
                Action::Add { job, phase, .. } => {
                    found.series.insert((job.clone(), *phase));
                }
                Action::Push { job, .. }
                | Action::Take { job }
                | Action::Settle { job, .. }
                | Action::Nack { job, .. }
                | Action::Extend { job }
                | Action::Fail { job, .. }
                | Action::Compact { job } => {
                    found.queues.insert(job.clone());
                }
                Action::Lock { name } => {
                    found.locks.insert(name.clone());
                }
                Action::RemoveOld { job, before, .. } => {
                    found.removals.insert((job.clone(), *before));
                }
                Action::DeleteJob { .. } | Action::Flush | Action::PowerFailure => {}
            }
        }
        found
    }
}

/// The clock of recovery number `generation`: it begins later than earlier runs, in a new boot for each power failure
/// of the history.
pub(crate) fn later(generation: u32, history: &History) -> Arc<SimClock> {
    let time = Timestamp::from_nanos(START + LATER * i64::from(generation));
    Arc::new(SimClock::at(time).boot(history.boots()))
}

/// Recovers from a crash: a new process checks the disk, a second one continues the work, and a third one checks
/// again. Returns the calls and operations of this recovery, so that it can be crashed as well.
///
/// # Errors
/// The expected and the found value of a broken promise.
pub(crate) fn rescue(
    crash: &Crash,
    history: &History,
    loss: Loss,
    setup: Setup,
    generation: u32,
) -> Result<Trace> {
    let history = &history.after(crash.loss);
    let sim = SimFs::with_clock(crash.disk().clone(), later(generation, history));
    let (reader, _) = sim
        .open(setup.options(&sim))
        .context("the crash disk can't be opened")?;
    verify(history, loss, &reader).context("the first reader")?;
    anyhow::ensure!(sim.position() == 0, "a reader wrote something");
    drop(reader);
    finish_deletions(crash, history, loss, setup, generation).context("a clean of deletions")?;

    let mark = if generation == 1 { "r" } else { "s" };
    let mut stage = Stage::new(Arc::clone(&sim), setup, history.clone(), mark);
    continue_work(&mut stage, history).context("the next writer")?;
    let (reader, _) = sim
        .open(setup.options(&sim))
        .context("the mended disk can't be opened")?;
    // All writes of the recovery are strict, so its acknowledged data survives a power loss, too.
    verify(stage.history(), loss, &reader).context("the reader after the next writer")?;
    drop(reader);
    let _ = sim.clock().now();
    Ok(Trace {
        start: crash.after.clone(),
        journal: sim.journal().into_iter().map(Arc::new).collect(),
        history: stage.history().clone(),
    })
}

/// Ends the deletions that the crash cut short, as a clean does, on a disk of its own: the next writer finds them as the crash
/// left them. Afterwards every read returns what it returned before, and none is left.
fn finish_deletions(
    crash: &Crash,
    history: &History,
    loss: Loss,
    setup: Setup,
    generation: u32,
) -> Result<()> {
    let is_deletion = |action: &Action| matches!(action, Action::DeleteJob { .. });
    if !history.ops().iter().any(|op| is_deletion(&op.action)) {
        return Ok(());
    }
    let sim = SimFs::with_clock(crash.disk().clone(), later(generation, history));
    let (cleaner, process) = sim.open(setup.options(&sim))?;
    let unfinished = || {
        let all = Entries::new(|page| cleaner.unfinished_deletions(page, patience()));
        all.collect::<prodigy_storage_backend::Result<Vec<_>>>()
    };
    for left in unfinished()? {
        anyhow::ensure!(
            cleaner.finish_deletion(&left.job, patience())?,
            "nothing to finish of {}",
            left.job
        );
        let folders = [events_folder(&left.job), queue_folder(&left.job)];
        for path in folders.iter().chain([&Entry::Tombstone(left.job.clone()).path()]) {
            anyhow::ensure!(process.metadata(path).is_err(), "{} is left", path.display());
        }
    }
    anyhow::ensure!(unfinished()?.is_empty(), "a deletion is left");
    drop(cleaner);
    let (reader, _) = sim.open(setup.options(&sim))?;
    verify(history, loss, &reader)
}

/// Writes to every job, document, queue and lock of the history.
fn continue_work(stage: &mut Stage, history: &History) -> Result<()> {
    let subjects = Subjects::of(history);
    let who = stage.enter()?;
    for job in &subjects.logs {
        stage.append(who, job, &[30, 30], Durability::Strict)?;
        stage.flush(who)?;
    }
    for (job, before) in &subjects.removals {
        stage.remove_old(who, job, *before)?;
    }
    for job in &subjects.queues {
        stage.push(who, job, &[NEW], Durability::Strict)?;
        stage.take(who, job, 1)?;
        stage.extend(who, job, 1)?;
        stage.nack(who, job, 1)?;
        stage.compact(who, job)?;
    }
    for document in &subjects.documents {
        stage.put(who, document, true, 40, Durability::Strict)?;
    }
    for (job, phase) in &subjects.series {
        stage.add(who, job, *phase, 40, Durability::Strict)?;
    }
    for name in &subjects.locks {
        stage.lock(who, name)?;
        stage.unlock(who);
    }
    stage.leave(who);
    Ok(())
}
