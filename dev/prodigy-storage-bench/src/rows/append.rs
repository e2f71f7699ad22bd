//! Rows that append events from one thread.

use std::time::Instant;

use anyhow::Result;
use prodigy_storage::Job;

use crate::bar::Bar;
use crate::clock::per_operation;
use crate::event::{Digest, Source};
use crate::lab::{Bench, Lab};
use crate::raw::{self, Appender, SpacedAppender};
use crate::row::{ALL_ROUNDS, Contestant, Plan, Role, Row, Turn};
use crate::store;

/// The number of events in a batch.
pub(crate) const BATCH: usize = 100;

pub(crate) fn rows() -> Vec<Row> {
    vec![
        Row {
            key: "append-relaxed",
            group: "append",
            work: "append, relaxed, 1 thread",
            against: "the full line by serde_json + write",
            unit: "µs",
            bar: Bar::AtMost(1.2),
            rounds: ALL_ROUNDS,
            plan: relaxed,
        },
        Row {
            key: "append-relaxed-batches",
            group: "append",
            work: "append, relaxed, batches of 100",
            against: "the full line into a 64 KiB BufWriter",
            unit: "µs",
            bar: Bar::AtMost(1.25),
            rounds: ALL_ROUNDS,
            plan: batches,
        },
        Row {
            key: "append-strict",
            group: "append",
            work: "append, strict, 1 thread",
            against: "the full line + write + fdatasync",
            unit: "µs",
            bar: Bar::AtMost(1.08),
            rounds: ALL_ROUNDS,
            plan: strict,
        },
    ]
}

fn relaxed(lab: &Lab) -> Result<Plan> {
    let events = lab.of(200_000);
    let bench = lab.bench();
    let mut works = vec![ours(&bench, events, false), bare(&bench, events, false)];
    works.extend(crate::peers::append::one_by_one(lab, false));
    Ok(Plan::Measure(works))
}

fn strict(lab: &Lab) -> Result<Plan> {
    let events = lab.of(3_000);
    let bench = lab.bench();
    let mut works = vec![ours(&bench, events, true), bare(&bench, events, true)];
    works.push(into_space(&bench, events));
    works.extend(crate::peers::append::one_by_one(lab, true));
    Ok(Plan::Measure(works))
}

fn ours(bench: &Bench, events: usize, strict: bool) -> Contestant {
    let bench = bench.clone();
    Contestant::ours(move |turn| {
        let folder = bench.folder()?;
        let storage = store::open(folder.path(), strict)?;
        append_each(&store::job(&storage)?, events, turn.seed)
    })
}

/// Appends events one by one, and returns the time per event. The first event is not timed, since it creates folders
/// and the segment. For the comparison with a bare file, opening the file is not timed either.
pub(super) fn append_each(job: &Job, events: usize, seed: u64) -> Result<f64> {
    let (log, mut source) = (job.events(), Source::new(seed));
    let mut ids = Vec::with_capacity(events + 1);
    ids.push(log.append(source.event(events))?);
    let began = Instant::now();
    for n in 0..events {
        ids.push(log.append(source.event(n))?);
    }
    let took = per_operation(began, events);
    store::check(job, source.digest(0..=events), ids)?;
    Ok(took)
}

fn bare(bench: &Bench, events: usize, strict: bool) -> Contestant {
    let bench = bench.clone();
    let name = if strict {
        "line + write + fdatasync"
    } else {
        "line + write"
    };
    Contestant::new(Role::Against, name, move |turn| {
        let folder = bench.folder()?;
        let path = folder.path().join("log");
        let mut file = Appender::open(&path, strict)?;
        let mut source = Source::new(turn.seed);
        file.append(events, source.event(events))?;
        let began = Instant::now();
        for n in 0..events {
            file.append(n, source.event(n))?;
        }
        let took = per_operation(began, events);
        raw::digest(&path)?.must_be(source.digest(0..=events))?;
        Ok(took)
    })
}

/// The limit of the machine if the file does not grow: lines replace spaces that were allocated before, which our log
/// does not do.
fn into_space(bench: &Bench, events: usize) -> Contestant {
    let bench = bench.clone();
    let name = "line + write into written space + fdatasync";
    Contestant::new(Role::Limit, name, move |turn| {
        let folder = bench.folder()?;
        let path = folder.path().join("log");
        let mut file = SpacedAppender::create(&path)?;
        let mut source = Source::new(turn.seed);
        file.append(events, source.event(events))?;
        let began = Instant::now();
        for n in 0..events {
            file.append(n, source.event(n))?;
        }
        let took = per_operation(began, events);
        file.trim()?;
        raw::digest(&path)?.must_be(source.digest(0..=events))?;
        Ok(took)
    })
}

fn batches(lab: &Lab) -> Result<Plan> {
    let batches = lab.of(4_000);
    let bench = lab.bench();
    let ours = Contestant::ours(move |turn: Turn| {
        let folder = bench.folder()?;
        let storage = store::open(folder.path(), false)?;
        let job = store::job(&storage)?;
        let log = job.events();
        let mut source = Source::new(turn.seed);
        let mut ids = Vec::with_capacity(batches * BATCH + 1);
        ids.push(log.append(source.event(batches * BATCH))?);
        let mut batch = prodigy_storage::Batch::new();
        let began = Instant::now();
        for number in 0..batches {
            batch.clear();
            for n in number * BATCH..(number + 1) * BATCH {
                batch.push(source.event(n))?;
            }
            log.append_prepared(&mut batch, None)?;
            ids.extend_from_slice(batch.ids());
        }
        let took = per_operation(began, batches * BATCH);
        store::check(&job, source.digest(0..=batches * BATCH), ids)?;
        Ok(took)
    });
    let bench = lab.bench();
    let bare = Contestant::new(Role::Against, "line + BufWriter", move |turn: Turn| {
        let folder = bench.folder()?;
        let path = folder.path().join("log");
        let mut source = Source::new(turn.seed);
        let events = batches * BATCH;
        let began = Instant::now();
        raw::write_buffered(&path, &mut source, 0..events)?;
        let took = per_operation(began, events);
        let wanted: Digest = source.digest(0..events);
        raw::digest(&path)?.must_be(wanted)?;
        Ok(took)
    });
    let mut works = vec![ours, bare];
    works.extend(crate::peers::append::in_batches(lab));
    Ok(Plan::Measure(works))
}
