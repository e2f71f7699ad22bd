//! Rows that follow a log from another process, and that use a log with many segments.

use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use prodigy_storage::{Cursor, Event, FollowOptions, ReadOptions};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use crate::bar::Bar;
use crate::child::{self, Process, Said, Task};
use crate::lab::{Bench, Lab};
use crate::row::{Contestant, Plan, Row};
use crate::store;

/// The number of segments in the log of many segments.
const SEGMENTS: usize = 5_000;
/// The pause before each append, in which the follower begins to wait.
const PAUSE: Duration = Duration::from_millis(5);
/// The time for which an idle follower is measured; it polls at least once in this time.
const IDLE: Duration = Duration::from_secs(11);
const ROUNDS: usize = 5;
/// The time since the last segment was made, by the writer of the warm-up. A folder that changed in the last 50 ms is
/// listed twice, because the times of the file system can't show whether it changed again.
const UNCHANGED: Duration = Duration::from_millis(100);

pub(crate) fn rows() -> Vec<Row> {
    let row = |key, work, unit, bar, rounds, plan| Row {
        key,
        group: "follow",
        work,
        against: "",
        unit,
        bar: Bar::Below(bar),
        rounds,
        plan,
    };
    vec![
        row(
            "follow-other-process",
            "median from an append to its delivery in another process",
            "ms",
            2.0,
            ROUNDS,
            delivery,
        ),
        row(
            "follow-idle-5000-segments",
            "an idle follow of a log with 5,000 segments",
            "% of a core",
            1.0,
            1,
            idle,
        ),
        row(
            "resume-5000-segments",
            "the event behind a cursor in a log with 5,000 segments, in a new process",
            "ms",
            5.0,
            ROUNDS,
            resume,
        ),
        row(
            "first-append-5000-segments",
            "first append of a process to a log with 5,000 segments, relaxed",
            "ms",
            5.0,
            ROUNDS,
            first_append,
        ),
    ]
}

/// A store whose log has many segments, all sealed except the one that is appended to.
#[derive(Debug)]
pub(crate) struct Many {
    folder: TempDir,
    /// The cursor before the last event.
    cursor: Cursor,
}

impl Many {
    pub(crate) fn make(bench: &Bench, segments: usize) -> Result<Self> {
        let folder = bench.folder()?;
        let mut config = store::config(&folder.path().join("root"), false);
        // Every event gets a segment of its own.
        config.file.max_file_size = 1;
        let storage = prodigy_storage::Storage::with_config(config)?;
        let log = store::job(&storage)?.events();
        for number in 1..segments {
            log.append(&Sent { at: number as u64 })?;
        }
        let cursor = log.end()?;
        log.append(&Sent { at: 0 })?;
        let found = log.summary()?.segments;
        ensure!(
            found == segments as u64,
            "{found} of {segments} segments were made"
        );
        Ok(Self { folder, cursor })
    }
}

/// An event with the time at which it was sent, in nanoseconds of the clock that all processes share.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Sent {
    at: u64,
}

fn monotonic() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// The processor time of this process.
fn used() -> Duration {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(used.tv_sec as u64, used.tv_nsec as u32)
}

/// The child of `follow-other-process`: measures the median time from append to delivery, in microseconds.
pub(crate) fn follow(folder: &Path, events: usize, ready: impl FnOnce() -> Result<()>) -> Result<Said> {
    let storage = store::open(folder, false)?;
    let mut follow = store::job(&storage)?
        .events()
        .follow_with::<Sent>(FollowOptions::new().from_now())?;
    ready()?;
    let mut waits = Vec::with_capacity(events);
    for event in follow.by_ref().take(events) {
        let event: Event<Sent> = event?;
        waits.push(monotonic().saturating_sub(event.event.at) as f64 / 1e3);
    }
    waits.sort_by(f64::total_cmp);
    Ok(Said {
        events: waits.len(),
        micros: waits.get(waits.len() / 2).copied().context("no event")?,
        ..Said::default()
    })
}

/// The child of `follow-idle-5000-segments`: measures the share of a core that it uses, in percent.
pub(crate) fn idle_child(folder: &Path, ready: impl FnOnce() -> Result<()>) -> Result<Said> {
    let storage = store::open(folder, false)?;
    let options = FollowOptions::new().from_now().wait(IDLE);
    let mut follow = store::job(&storage)?.events().follow_with::<Sent>(options)?;
    ready()?;
    let (began, before) = (Instant::now(), used());
    ensure!(follow.next().is_none(), "an event came");
    let share = (used() - before).as_secs_f64() / began.elapsed().as_secs_f64();
    Ok(Said {
        micros: share * 100.0,
        ..Said::default()
    })
}

/// The child of `resume-5000-segments`: measures the microseconds from an open store to the event after a cursor.
pub(crate) fn resume_child(
    folder: &Path,
    cursor: Cursor,
    ready: impl FnOnce() -> Result<()>,
) -> Result<Said> {
    let storage = store::open(folder, false)?;
    let job = store::job(&storage)?;
    ready()?;
    let began = Instant::now();
    let mut events = job.events().read_with::<Sent>(ReadOptions::after(cursor))?;
    events.next().context("no event behind the cursor")??;
    Ok(Said {
        events: 1,
        micros: crate::clock::per_operation(began, 1),
        ..Said::default()
    })
}

/// The child of `first-append-5000-segments`: measures the microseconds of the first append to an open store.
pub(crate) fn append_child(folder: &Path, ready: impl FnOnce() -> Result<()>) -> Result<Said> {
    let storage = store::open(folder, false)?;
    let job = store::job(&storage)?;
    ready()?;
    let began = Instant::now();
    job.events().append(&Sent { at: 0 })?;
    Ok(Said {
        events: 1,
        micros: crate::clock::per_operation(began, 1),
        ..Said::default()
    })
}

fn delivery(lab: &Lab) -> Result<Plan> {
    let (bench, count) = (lab.bench(), lab.of(400));
    Ok(Plan::Measure(vec![Contestant::ours(move |_| {
        let folder = bench.folder()?;
        let storage = store::open(folder.path(), false)?;
        let log = store::job(&storage)?.events();
        log.append(&Sent { at: 0 })?;
        let mut follower = Process::start(&Task::Follow {
            folder: folder.path().to_owned(),
            events: count,
        })?;
        follower.send_line("go")?;
        for _ in 0..count {
            std::thread::sleep(PAUSE);
            log.append(&Sent { at: monotonic() })?;
        }
        follower.expect_line("done")?;
        let said = follower.said()?;
        ensure!(said.events == count, "{} of {count} events came", said.events);
        Ok(said.micros / 1e3)
    })]))
}

/// Runs a child on the log of many segments, and returns the value that it measured.
fn measured(task: Task) -> Result<f64> {
    let (_, said) = child::together(&[task], 1)?;
    Ok(said.first().context("no child")?.micros)
}

fn root(many: &Many) -> std::path::PathBuf {
    many.folder.path().to_owned()
}

fn idle(lab: &Lab) -> Result<Plan> {
    let many = lab.many()?;
    Ok(Plan::Measure(vec![Contestant::ours(move |_| {
        measured(Task::Idle { folder: root(&many) })
    })]))
}

fn resume(lab: &Lab) -> Result<Plan> {
    let many = lab.many()?;
    Ok(Plan::Measure(vec![Contestant::ours(move |_| {
        let task = Task::Resume {
            folder: root(&many),
            cursor: many.cursor.clone(),
        };
        Ok(measured(task)? / 1e3)
    })]))
}

fn first_append(lab: &Lab) -> Result<Plan> {
    let many = lab.many()?;
    Ok(Plan::Measure(vec![Contestant::ours(move |_| {
        std::thread::sleep(UNCHANGED);
        Ok(measured(Task::FirstAppend { folder: root(&many) })? / 1e3)
    })]))
}

/// The log of many segments, with the number of segments for this scale.
pub(crate) fn many(lab: &Lab) -> Result<Rc<Many>> {
    Ok(Rc::new(Many::make(&lab.bench(), lab.of(SEGMENTS))?))
}
