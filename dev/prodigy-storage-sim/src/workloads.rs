//! The workloads: short runs that use each part of the store.

mod letters;

use std::sync::Arc;

use anyhow::{Result, ensure};
use prodigy_storage_backend::Durability::{Relaxed, Strict};
use prodigy_storage_backend::{Clock, EventId};
use prodigy_storage_layout::{Document, LockName, Phase, RepoName, Timestamp};

use crate::disk::Disk;
use crate::explore::Trace;
use crate::fs::{Doom, SimFs};
use crate::history::History;
use crate::replay::Moment;
use crate::stage::{Setup, Stage, job};
use letters::{lease_clocks, letters_over_blanks, letters_relaxed, merge, push, redrive};

/// A short run of a store.
#[derive(Clone, Copy, Debug)]
pub struct Workload {
    /// The name of the workload, for the command line.
    pub name: &'static str,
    /// A short description of the workload.
    pub about: &'static str,
    /// The options of the workload's backends.
    pub setup: Setup,
    play: fn(&mut Stage) -> Result<()>,
}

impl Workload {
    /// Runs the workload once, on an empty disk.
    ///
    /// # Errors
    /// The error of a call that should succeed.
    pub fn play(&self) -> Result<Trace> {
        record(self.setup, self.play)
    }
}

/// Runs a function once on an empty disk, and returns the trace.
///
/// # Errors
/// The error of the function.
pub fn record(setup: Setup, play: impl FnOnce(&mut Stage) -> Result<()>) -> Result<Trace> {
    let sim = SimFs::new(Disk::default());
    let mut stage = Stage::new(Arc::clone(&sim), setup, History::default(), "e");
    play(&mut stage)?;
    Ok(Trace {
        start: Moment::new(Disk::default()),
        journal: sim.journal().into_iter().map(Arc::new).collect(),
        history: stage.history().clone(),
    })
}

const PLAIN: Setup = Setup {
    max_file_size: 1 << 20,
    compression: false,
};
const SMALL: Setup = Setup {
    max_file_size: 1_400,
    compression: false,
};
const PACKED: Setup = Setup {
    max_file_size: 1_400,
    compression: true,
};

/// All workloads.
pub const WORKLOADS: &[Workload] = &[
    Workload {
        name: "events",
        about: "events over several segments, which are sealed and compressed",
        setup: PACKED,
        play: events,
    },
    Workload {
        name: "events-relaxed",
        about: "events that go with the power until they are flushed",
        setup: SMALL,
        play: events_relaxed,
    },
    Workload {
        name: "given-ids",
        about: "events under given ids, late ones and the same again, by two processes",
        setup: SMALL,
        play: given_ids,
    },
    Workload {
        name: "fenced",
        about: "checkpoints added under fencing tokens by processes that die, with and without a token in between",
        setup: PLAIN,
        play: fenced,
    },
    Workload {
        name: "fenced-events",
        about: "events and dead letters stored under fencing tokens by processes that die",
        setup: PLAIN,
        play: fenced_events,
    },
    Workload {
        name: "checkpoints",
        about: "checkpoints added, put under a revision, and pruned",
        setup: PLAIN,
        play: checkpoints,
    },
    Workload {
        name: "documents-relaxed",
        about: "documents that go with the power until they are flushed",
        setup: PLAIN,
        play: documents_relaxed,
    },
    Workload {
        name: "push",
        about: "dead letters pushed, by two processes",
        setup: PLAIN,
        play: push,
    },
    Workload {
        name: "merge",
        about: "dead letters pushed again, and merged",
        setup: PLAIN,
        play: merge,
    },
    Workload {
        name: "redrive",
        about: "dead letters taken, acknowledged, given back and removed",
        setup: PLAIN,
        play: redrive,
    },
    Workload {
        name: "letters-relaxed",
        about: "dead letters that go with the power, over some that do not",
        setup: PLAIN,
        play: letters_relaxed,
    },
    Workload {
        name: "letters-over-blanks",
        about: "dead letters and changes of them that are written over blanks, some of them relaxed",
        setup: PLAIN,
        play: letters_over_blanks,
    },
    Workload {
        name: "adoption",
        about: "writers that die in a write, and those that take over",
        setup: PACKED,
        play: adoption,
    },
    Workload {
        name: "takeover",
        about: "a segment that goes between opening and locking it, and an event that only a torn end holds",
        setup: PACKED,
        play: takeover,
    },
    Workload {
        name: "two-processes",
        about: "two processes on one job",
        setup: SMALL,
        play: two_processes,
    },
    Workload {
        name: "locks",
        about: "named locks, their holders' deaths, their tokens",
        setup: PLAIN,
        play: locks,
    },
    Workload {
        name: "first-use",
        about: "two processes on a root that is not there, and the registry",
        setup: PLAIN,
        play: first_use,
    },
    Workload {
        name: "clocks",
        about: "three processes on one log, and a follower, whose clocks differ and step back and forth",
        setup: PACKED,
        play: clocks,
    },
    Workload {
        name: "clock-ahead",
        about: "a log that was begun with the clock ahead, and is compressed",
        setup: PACKED,
        play: clock_ahead,
    },
    Workload {
        name: "lease-clocks",
        about: "dead letters that are leased by processes whose clocks differ",
        setup: PLAIN,
        play: lease_clocks,
    },
    Workload {
        name: "deletion",
        about: "jobs that are deleted and begun again, beside one that stays",
        setup: PACKED,
        play: deletion,
    },
    Workload {
        name: "removal",
        about: "old events that are removed twice while another process writes, and readers before and behind them",
        setup: PACKED,
        play: removal,
    },
];

fn events(stage: &mut Stage) -> Result<()> {
    let job = job("events")?;
    let who = stage.enter()?;
    stage.append(who, &job, &[20], Strict)?;
    stage.append(who, &job, &[300, 20, 700], Strict)?;
    stage.scan(who, &job)?;
    stage.append(who, &job, &[400], Strict)?;
    stage.flush(who)?;
    stage.scan(who, &job)?;
    stage.append(who, &job, &[600, 30, 30], Strict)?;
    stage.append(who, &job, &[700], Strict)?;
    stage.flush(who)?;
    stage.append(who, &job, &[40], Strict)?;
    stage.scan(who, &job)?;
    stage.seal(who, &job)?;
    stage.append(who, &job, &[50, 50], Strict)?;
    stage.leave(who);
    let who = stage.enter()?;
    stage.append(who, &job, &[60], Strict)?;
    stage.scan(who, &job)
}

fn events_relaxed(stage: &mut Stage) -> Result<()> {
    let job = job("events")?;
    let who = stage.enter()?;
    stage.append(who, &job, &[20], Relaxed)?;
    stage.append(who, &job, &[300, 20], Relaxed)?;
    stage.flush(who)?;
    stage.append(who, &job, &[30], Relaxed)?;
    stage.append(who, &job, &[30, 500], Relaxed)?;
    stage.append(who, &job, &[500], Relaxed)?;
    stage.scan(who, &job)?;
    stage.append(who, &job, &[30], Relaxed)?;
    stage.append(who, &job, &[30], Strict)?;
    stage.append(who, &job, &[40], Relaxed)?;
    stage.leave(who);
    let who = stage.enter()?;
    stage.append(who, &job, &[40, 40], Relaxed)?;
    stage.append(who, &job, &[900], Relaxed)?;
    stage.flush(who)?;
    stage.append(who, &job, &[40], Relaxed)
}

/// An id that is `millis` milliseconds after (or, if negative, before) now.
pub fn id(stage: &Stage, millis: i64, number: u128) -> EventId {
    let nanos = stage.sim().clock().shown().as_nanos() + millis * 1_000_000;
    EventId::from_u128(EventId::floor(Timestamp::from_nanos(nanos)).as_u128() + number)
}

fn given_ids(stage: &mut Stage) -> Result<()> {
    let job = job("given")?;
    let (one, other) = (stage.enter()?, stage.enter()?);
    stage.append(one, &job, &[20, 20], Strict)?;
    let late = vec![id(stage, -5_000, 1), id(stage, -5_000, 2)];
    let payloads = stage.payloads(&[30, 200]);
    stage.append_these(one, &job, payloads.clone(), Some(late.clone()), Strict)?;
    stage.append_these(other, &job, payloads, Some(late), Strict)?;
    // An id that is older than the newest, a newer one, and one that is stored already.
    let mixed = vec![id(stage, -4_000, 1), id(stage, 0, 7), id(stage, -6_000, 3)];
    let payloads = stage.payloads(&[30, 700, 30]);
    stage.append_these(other, &job, payloads.clone(), Some(mixed.clone()), Strict)?;
    stage.scan(one, &job)?;
    stage.append_these(one, &job, payloads.clone(), Some(mixed.clone()), Strict)?;
    stage.append(one, &job, &[900], Strict)?;
    let again = vec![id(stage, -100, 9)];
    let payload = stage.payloads(&[25]);
    // A process dies before it has synced these events. Another process sends them again.
    stage.append_these(other, &job, payload.clone(), Some(again.clone()), Relaxed)?;
    stage.kill(other);
    stage.append_these(one, &job, payload, Some(again), Strict)?;
    stage.scan(one, &job)?;
    stage.append_these(one, &job, payloads, Some(mixed), Strict)
}

fn checkpoints(stage: &mut Stage) -> Result<()> {
    let job = job("states")?;
    let who = stage.enter()?;
    stage.add(who, &job, Phase::Setup, 50, Strict)?;
    let first = stage.add(who, &job, Phase::Map, 700, Strict)?;
    stage.add(who, &job, Phase::Map, 30, Strict)?;
    stage.add(who, &job, Phase::Reduce, 30, Strict)?;
    if let Some(first) = first {
        stage.delete(who, &first, Strict)?;
    }
    stage.add(who, &job, Phase::Setup, 1_200, Strict)?;
    let finished = Document::Finished(job.clone());
    stage.put(who, &finished, true, 30, Strict)?;
    stage.put(who, &finished, true, 900, Strict)?;
    stage.leave(who);
    let who = stage.enter()?;
    stage.put(who, &finished, true, 30, Strict)?;
    stage.put(who, &Document::Setup(job.clone()), true, 30, Strict)?;
    let last = stage.add(who, &job, Phase::Map, 60, Strict)?;
    if let Some(last) = last {
        stage.delete(who, &last, Strict)?;
    }
    stage.delete(who, &finished, Strict)?;
    stage.add(who, &job, Phase::Map, 60, Strict)?;
    Ok(())
}

fn fenced(stage: &mut Stage) -> Result<()> {
    let job = job("fenced")?;
    let who = stage.enter()?;
    stage.add_fenced(who, &job, Phase::Map, 3, Strict)?;
    stage.add_fenced(who, &job, Phase::Reduce, 5, Relaxed)?;
    let pruned = stage.add_fenced(who, &job, Phase::Map, 7, Strict)?;
    stage.add(who, &job, Phase::Map, 30, Strict)?;
    if let Some(pruned) = pruned {
        stage.delete(who, &pruned, Strict)?;
    }
    // The process dies while it stores its new token in the fencing mark. The next process writes under the same
    // token.
    let dooms = [
        Doom::after_bytes(".tmp-", 40),
        Doom::before_rename("fencing.json"),
    ];
    for (token, doom) in (10..).step_by(2).zip(dooms) {
        let dies = stage.enter()?;
        stage.dying(dies, doom, |stage| {
            stage.add_fenced(dies, &job, Phase::Map, token, Strict).map(drop)
        })?;
        let next = stage.enter()?;
        stage.add_fenced(next, &job, Phase::Setup, token, Relaxed)?;
    }
    stage.add_fenced(who, &job, Phase::Map, 20, Strict)?;
    stage.add(who, &job, Phase::Setup, 30, Strict).map(drop)
}

/// Processes append and push under increasing tokens. One of them dies while it stores its token in the fencing mark.
fn fenced_events(stage: &mut Stage) -> Result<()> {
    let job = job("fenced-events")?;
    for (token, durability) in [(3, Strict), (5, Relaxed), (5, Strict)] {
        let who = stage.enter()?;
        stage.fence(who, token);
        stage.append(who, &job, &[30, 30], durability)?;
        stage.push(who, &job, &["a", "b"], durability)?;
        stage.take(who, &job, 1)?;
        stage.ack(who, &job, 1)?;
    }
    let dies = stage.enter()?;
    stage.fence(dies, 7);
    stage.dying(dies, Doom::before_rename("fencing.json"), |stage| {
        stage.append(dies, &job, &[30], Strict)
    })?;
    let next = stage.enter()?;
    stage.fence(next, 7);
    stage.push(next, &job, &["c"], Relaxed)?;
    stage.append(next, &job, &[30], Strict)
}

fn documents_relaxed(stage: &mut Stage) -> Result<()> {
    let job = job("states")?;
    let finished = Document::Finished(job.clone());
    let who = stage.enter()?;
    stage.add(who, &job, Phase::Map, 700, Relaxed)?;
    stage.put(who, &finished, true, 30, Relaxed)?;
    stage.flush(who)?;
    let pruned = stage.add(who, &job, Phase::Map, 30, Relaxed)?;
    stage.add(who, &job, Phase::Setup, 30, Strict)?;
    stage.add(who, &job, Phase::Setup, 30, Relaxed)?;
    stage.put(who, &finished, false, 600, Relaxed)?;
    stage.flush(who)?;
    if let Some(pruned) = pruned {
        stage.delete(who, &pruned, Relaxed)?;
    }
    stage.flush(who)?;
    stage.put(who, &finished, true, 30, Relaxed)?;
    stage.put(who, &finished, true, 30, Relaxed)
}

/// The length of a record's line end.
const LINE_END: usize = 1;

fn adoption(stage: &mut Stage) -> Result<()> {
    let job = job("events")?;
    let one = stage.enter()?;
    stage.append(one, &job, &[40], Strict)?;
    stage.dying(one, Doom::after_bytes("events/", 70), |stage| {
        stage.append(one, &job, &[30, 30], Strict)
    })?;
    let two = stage.enter()?;
    stage.append(two, &job, &[20], Strict)?;
    stage.scan(two, &job)?;
    let whole = stage.payloads(&[30]);
    stage.dying(two, Doom::short_of("events/", LINE_END), |stage| {
        stage.append_these(two, &job, whole, None, Strict)
    })?;
    let three = stage.enter()?;
    stage.append(three, &job, &[30], Relaxed)?;
    stage.kill(three);
    let four = stage.enter()?;
    stage.append(four, &job, &[900], Strict)?;
    stage.dying(four, Doom::after_bytes("events/", 200), |stage| {
        stage.append(four, &job, &[600], Strict)
    })?;
    let five = stage.enter()?;
    stage.append(five, &job, &[20, 20], Strict)?;
    stage.flush(five)?;
    stage.scan(five, &job)
}

fn takeover(stage: &mut Stage) -> Result<()> {
    let job = job("events")?;
    let (one, two) = (stage.enter()?, stage.enter()?);
    stage.append(one, &job, &[40], Strict)?;
    // The segment is sealed, compressed and removed just before the second process adopts it.
    stage.sealed_meanwhile(two, one, &job)?;
    stage.append(two, &job, &[50], Strict)?;
    stage.append(one, &job, &[20], Strict)?;
    // A writer dies before the line end of an event, another process sends the event again and gets it acknowledged,
    // and a third process adopts the segment.
    let id = vec![id(stage, 10, 1)];
    let event = stage.payloads(&[30]);
    stage.dying(one, Doom::short_of("events/", LINE_END), |stage| {
        stage.append_these(one, &job, event.clone(), Some(id.clone()), Strict)
    })?;
    stage.append_these(two, &job, event, Some(id), Strict)?;
    let three = stage.enter()?;
    stage.append(three, &job, &[30], Strict)?;
    stage.flush(three)?;
    stage.scan(three, &job)
}

fn two_processes(stage: &mut Stage) -> Result<()> {
    let job = job("shared")?;
    let (one, other) = (stage.enter()?, stage.enter()?);
    stage.append(one, &job, &[40], Strict)?;
    stage.append(other, &job, &[600, 20], Strict)?;
    stage.add(one, &job, Phase::Map, 30, Strict)?;
    stage.append(one, &job, &[800], Strict)?;
    stage.push(one, &job, &["a"], Strict)?;
    stage.scan(other, &job)?;
    stage.add(other, &job, Phase::Map, 30, Strict)?;
    stage.append(other, &job, &[700], Strict)?;
    stage.push(other, &job, &["b", "a"], Strict)?;
    stage.append(one, &job, &[20], Strict)?;
    stage.append(other, &job, &[20], Strict)?;
    stage.kill(one);
    stage.append(other, &job, &[900], Strict)?;
    stage.append(other, &job, &[30], Strict)?;
    stage.scan(other, &job)
}

fn locks(stage: &mut Stage) -> Result<()> {
    let (name, nested) = (LockName::new("shop/resume")?, LockName::new("shop/resume/map")?);
    let (one, other) = (stage.enter()?, stage.enter()?);
    stage.lock(one, &name)?;
    stage.unlock(one);
    stage.lock(other, &name)?;
    stage.lock(one, &nested)?;
    stage.kill(other);
    stage.lock(one, &name)?;
    stage.unlock(one);
    let third = stage.enter()?;
    // The process dies while it writes its line to the lock file; the next process finds an incomplete slot.
    stage.dying(third, Doom::after_bytes("resume.lock", 2_000), |stage| {
        stage.lock(third, &name)
    })?;
    stage.lock(one, &name)?;
    stage.unlock(one);
    stage.lock(one, &name)?;
    Ok(())
}

fn first_use(stage: &mut Stage) -> Result<()> {
    let (one, other) = (stage.enter()?, stage.enter()?);
    let (shop, mill) = (RepoName::new("shop")?, RepoName::new("mill")?);
    stage.dying(one, Doom::after_bytes("registry.lock", 10), |stage| {
        stage.put(one, &Document::Repository(shop.clone()), true, 60, Strict)
    })?;
    stage.put(other, &Document::Repository(shop.clone()), true, 60, Strict)?;
    stage.put(other, &Document::Repository(mill), true, 60, Strict)?;
    let third = stage.enter()?;
    stage.append(third, &job("first")?, &[20], Strict)?;
    stage.push(third, &job("first")?, &["a"], Strict)?;
    stage.put(third, &Document::Repository(shop), true, 80, Strict)
}

/// A second in nanoseconds.
const SECOND: i64 = 1_000_000_000;

fn clocks(stage: &mut Stage) -> Result<()> {
    let job = job("clocks")?;
    let (one, two, three) = (stage.enter()?, stage.enter()?, stage.enter()?);
    stage.set_clock(one, 2 * SECOND)?;
    stage.set_clock(two, -2 * SECOND)?;
    stage.append(one, &job, &[700, 20], Strict)?;
    stage.append(two, &job, &[30], Strict)?;
    stage.append(three, &job, &[600], Strict)?;
    stage.follow(three, &job)?;
    // Two processes with different clocks append the same events.
    let id = vec![id(stage, 0, 5)];
    let event = stage.payloads(&[40]);
    stage.append_these(one, &job, event.clone(), Some(id.clone()), Strict)?;
    stage.append_these(two, &job, event, Some(id), Strict)?;
    stage.set_clock(one, -2 * SECOND)?;
    stage.append(one, &job, &[700], Strict)?;
    stage.append(one, &job, &[20], Strict)?;
    stage.follow(three, &job)?;
    stage.set_clock(two, 90 * 24 * 3_600 * SECOND)?;
    stage.append(two, &job, &[900, 600], Strict)?;
    stage.flush(two)?;
    stage.set_clock(two, 0)?;
    stage.append(two, &job, &[20], Strict)?;
    stage.kill(one);
    let four = stage.enter()?;
    stage.set_clock(four, -50 * 60 * SECOND)?;
    stage.append(four, &job, &[50], Strict)?;
    stage.follow(three, &job)?;
    stage.seal(four, &job)?;
    stage.append(three, &job, &[800], Strict)?;
    stage.scan(four, &job)?;
    stage.follow(three, &job)
}

fn clock_ahead(stage: &mut Stage) -> Result<()> {
    let job = job("ahead")?;
    let (one, two) = (stage.enter()?, stage.enter()?);
    stage.set_clock(one, 3_600 * SECOND)?;
    stage.append(one, &job, &[30], Strict)?;
    stage.append(two, &job, &[30], Strict)?;
    stage.set_clock(one, 0)?;
    stage.append(one, &job, &[40], Strict)?;
    stage.scan(two, &job)?;
    stage.seal(one, &job)?;
    stage.leave(one);
    stage.seal(two, &job)?;
    stage.append(two, &job, &[50], Strict)?;
    stage.scan(two, &job)
}

fn deletion(stage: &mut Stage) -> Result<()> {
    let (gone, stays) = (job("gone")?, job("stays")?);
    let (one, other) = (stage.enter()?, stage.enter()?);
    for job in [&gone, &stays] {
        stage.append(one, job, &[20, 900, 900], Strict)?;
        stage.add(one, job, Phase::Map, 60, Strict)?;
        stage.put(one, &Document::Orphans(job.clone()), true, 60, Strict)?;
        stage.push(one, job, &["a", "b"], Strict)?;
    }
    stage.append(other, &gone, &[30], Relaxed)?;
    ensure!(!stage.delete_job(one, &gone)?, "the other process appends to it");
    stage.seal(one, &gone)?;
    stage.seal(other, &gone)?;
    stage.scan(one, &gone)?;
    stage.scan(one, &stays)?;
    ensure!(stage.delete_job(other, &gone)?, "nobody works on it");
    // The job is created again by the process that used it before.
    stage.append(one, &gone, &[40], Strict)?;
    stage.push(one, &gone, &["b"], Strict)?;
    stage.add(other, &gone, Phase::Map, 60, Strict)?;
    stage.scan(other, &gone)?;
    stage.seal(one, &gone)?;
    // The process dies before the tombstone is complete: nothing is deleted.
    stage.dying(one, Doom::short_of("deletions/shop/", 0), |stage| {
        stage.delete_job(one, &gone).map(drop)
    })?;
    stage.push(other, &gone, &["c"], Strict)?;
    stage.append(other, &gone, &[50], Strict)
}

fn removal(stage: &mut Stage) -> Result<()> {
    let job = job("old")?;
    let (one, other) = (stage.enter()?, stage.enter()?);
    let mut times = Vec::new();
    for size in [20, 900, 40, 60] {
        times.push(stage.sim().clock().now());
        stage.append(one, &job, &[size, 30], Strict)?;
        stage.seal(one, &job)?;
        stage.scan(other, &job)?;
    }
    stage.follow(other, &job)?;
    stage.append(one, &job, &[20], Strict)?;
    for before in [times.get(1), times.get(3)].into_iter().flatten() {
        stage.remove_old(other, &job, *before)?;
        stage.append(one, &job, &[50], Strict)?;
        stage.follow(other, &job)?;
        stage.scan(one, &job)?;
    }
    Ok(())
}
