//! Rows that empty a queue of dead letters.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use prodigy_storage::{Job, Outcome, RedriveOptions, Select};

use super::{Queue, stored};
use crate::bar::Bar;
use crate::child::{self, Task};
use crate::clock::per_operation;
use crate::lab::Lab;
use crate::memory;
use crate::row::{Contestant, Plan, Role, Row};
use crate::rows::processes::PROCESSES;

const ITEMS: usize = 20_000;
const PARTS: usize = 10;
/// Few rounds, because each fills the queues again, which takes long.
const ROUNDS: usize = 3;

pub(super) fn rows() -> Vec<Row> {
    vec![
        Row {
            key: "dlq-redrive",
            group: "dlq",
            work: "redrive of 20,000 items without work",
            against: "ten redrives of 2,000",
            unit: "µs",
            bar: Bar::AtMost(1.2),
            rounds: ROUNDS,
            plan: redrives,
        },
        Row {
            key: "dlq-redrive-bytes",
            group: "resources",
            work: "bytes passed to write calls by a redrive of 20,000 items",
            against: "bytes of the queue",
            unit: "MiB",
            bar: Bar::AtMost(3.0),
            rounds: 1,
            plan: bytes,
        },
        Row {
            key: "dlq-redrive-8-processes",
            group: "dlq",
            work: "8 processes that empty a queue of 10,000 items, no work",
            against: "one process",
            unit: "µs",
            bar: Bar::AtLeast(1.5),
            rounds: ROUNDS,
            plan: processes,
        },
    ]
}

/// Redrives all items; returns how many were done.
pub(crate) fn redrive(job: &Job) -> Result<usize> {
    let report = job
        .dlq()
        .redrive(Select::eligible(), &RedriveOptions::new(), |_| Outcome::Done)?;
    Ok(report.done)
}

/// Empties the queue; returns the microseconds per item, and the bytes that were passed to write calls.
fn emptied(queue: &Queue, items: usize) -> Result<(f64, u64)> {
    let before = memory::bytes_written()?;
    let began = Instant::now();
    let done = redrive(&queue.job)?;
    let took = per_operation(began, items);
    let written = memory::bytes_written()? - before;
    ensure!(done == items, "{done} of {items} items were done");
    ensure!(stored(&queue.job)?.0 == 0, "items are left");
    Ok((took, written))
}

fn redrives(lab: &Lab) -> Result<Plan> {
    let items = lab.of(ITEMS);
    let (bench, benches) = (lab.bench(), lab.bench());
    Ok(Plan::Measure(vec![
        Contestant::ours(move |_| Ok(emptied(&Queue::make(&bench, items)?, items)?.0)),
        Contestant::new(Role::Against, "ten of 2,000", move |_| {
            let part = items / PARTS;
            let mut sum = 0.0;
            for _ in 0..PARTS {
                sum += emptied(&Queue::make(&benches, part)?, part)?.0;
            }
            Ok(sum / PARTS as f64)
        }),
    ]))
}

fn bytes(lab: &Lab) -> Result<Plan> {
    const MIB: f64 = (1 << 20) as f64;
    let items = lab.of(ITEMS);
    let (bench, again) = (lab.bench(), lab.bench());
    Ok(Plan::Measure(vec![
        Contestant::ours(move |_| Ok(emptied(&Queue::make(&bench, items)?, items)?.1 as f64 / MIB)),
        Contestant::new(Role::Against, "bytes of the queue", move |_| {
            Ok(Queue::make(&again, items)?.bytes()? as f64 / MIB)
        }),
    ]))
}

fn processes(lab: &Lab) -> Result<Plan> {
    let items = lab.of(10_000);
    let by = |processes: usize| {
        let bench = lab.bench();
        move |_| {
            let queue = Queue::make(&bench, items)?;
            let task = Task::Redrive {
                folder: queue.root().to_owned(),
            };
            let (took, said) = child::together(&vec![task; processes], items)?;
            let done: usize = said.iter().map(|said| said.events).sum();
            ensure!(done == items, "{done} of {items} items were done");
            let left = stored(&queue.job).context("the queue after it")?.0;
            ensure!(left == 0, "{left} items are left");
            Ok(took)
        }
    };
    Ok(Plan::Measure(vec![
        Contestant::ours(by(PROCESSES)),
        Contestant::new(Role::Against, "one process", by(1)),
    ]))
}
