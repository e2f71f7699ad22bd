//! Rows that push dead letters.

use std::fs::{self, File};
use std::io::Write;
use std::time::Instant;

use anyhow::{Result, ensure};

use super::{Queue, failure, id, letter, numbers, stored};
use crate::bar::Bar;
use crate::clock::per_operation;
use crate::lab::{Bench, Lab};
use crate::row::{ALL_ROUNDS, Contestant, Plan, Role, Row, Turn};

pub(super) fn rows() -> Vec<Row> {
    vec![
        Row {
            key: "dlq-push",
            group: "dlq",
            work: "DLQ push, strict, long-lived handle, at 100,000 items",
            against: "at 10 items",
            unit: "µs",
            bar: Bar::AtMost(1.2),
            rounds: ALL_ROUNDS,
            plan: growing,
        },
        Row {
            key: "dlq-push-sqlite",
            group: "dlq",
            work: "DLQ push, strict, at 100,000 items",
            against: "SQLite, WAL, FULL, at as many",
            unit: "µs",
            bar: Bar::AtMost(1.1),
            rounds: ALL_ROUNDS,
            plan: beside_sqlite,
        },
        Row {
            key: "dlq-push-known",
            group: "dlq",
            work: "DLQ push of a known item, strict, at 50,000 items",
            against: "at 1,000",
            unit: "µs",
            bar: Bar::AtMost(1.3),
            rounds: ALL_ROUNDS,
            plan: known,
        },
    ]
}

impl Queue {
    /// Pushes new items one by one; returns microseconds per item.
    fn push(&self, seed: u64, pushes: usize) -> Result<f64> {
        let letters = (0..pushes).map(|n| letter(seed, n)).collect::<Result<Vec<_>>>()?;
        let before = stored(&self.job)?;
        let dlq = self.job.dlq();
        let began = Instant::now();
        for letter in &letters {
            dlq.push(letter)?;
        }
        let took = per_operation(began, pushes);
        let wanted = (before.0 + pushes, before.1.wrapping_add(numbers(0..pushes)));
        ensure!(stored(&self.job)? == wanted, "not every pushed item is there");
        Ok(took)
    }

    /// Pushes new failures of existing items, spread over the queue; returns microseconds per item.
    fn push_known(&self, turn: Turn, pushes: usize, items: usize) -> Result<f64> {
        let spread = |n: usize| n.wrapping_mul(items / pushes) % items;
        let letters = (0..pushes)
            .map(|n| Ok(letter(0, spread(n))?.failure(failure(turn.seed as usize % 1_000_000))))
            .collect::<Result<Vec<_>>>()?;
        let dlq = self.job.dlq();
        let mut merged = 0;
        let began = Instant::now();
        for letter in &letters {
            merged += dlq.push(letter)?.merged;
        }
        let took = per_operation(began, pushes);
        ensure!(merged == pushes, "{merged} of {pushes} were merged");
        let last = dlq.get(&id(0, spread(pushes - 1))?)?;
        let failed = last.map(|item| item.summary()).transpose()?;
        ensure!(
            failed.is_some_and(|summary| summary.failure_count > 1),
            "the failure of the last push is not there"
        );
        ensure!(stored(&self.job)?.0 == items, "items were added or are gone");
        Ok(took)
    }
}

fn growing(lab: &Lab) -> Result<Plan> {
    let pushes = lab.of(500);
    let large = Queue::make(&lab.bench(), lab.of(100_000))?;
    let bench = lab.bench();
    Ok(Plan::Measure(vec![
        Contestant::ours(move |turn: Turn| large.push(turn.seed, pushes)),
        Contestant::new(Role::Against, "at 10 items", move |turn: Turn| {
            Queue::make(&bench, 10)?.push(turn.seed, pushes)
        }),
        bare(lab.bench(), pushes),
    ]))
}

fn beside_sqlite(lab: &Lab) -> Result<Plan> {
    let pushes = lab.of(500);
    let Some(sqlite) = crate::peers::queue::pushes(lab, pushes)? else {
        return Ok(Plan::Skipped(super::WITHOUT_PEERS.to_owned()));
    };
    let large = Queue::make(&lab.bench(), lab.of(100_000))?;
    Ok(Plan::Measure(vec![
        Contestant::ours(move |turn: Turn| large.push(turn.seed, pushes)),
        sqlite,
        bare(lab.bench(), pushes),
    ]))
}

fn known(lab: &Lab) -> Result<Plan> {
    let pushes = lab.of(200);
    let at = |items: usize| -> Result<_> {
        let queue = Queue::make(&lab.bench(), items)?;
        Ok(move |turn: Turn| queue.push_known(turn, pushes, items))
    };
    Ok(Plan::Measure(vec![
        Contestant::ours(at(lab.of(50_000))?),
        Contestant::new(Role::Against, "at 1,000 items", at(1_000)?),
    ]))
}

/// The limit of the machine: writes and syncs one line for each item.
fn bare(bench: Bench, pushes: usize) -> Contestant {
    Contestant::new(
        Role::Limit,
        "serde_json + write + fdatasync",
        move |turn: Turn| {
            let folder = bench.folder()?;
            let letters = (0..pushes)
                .map(|n| letter(turn.seed, n))
                .collect::<Result<Vec<_>>>()?;
            let mut file = File::create(folder.path().join("items"))?;
            let mut buffer = Vec::new();
            let began = Instant::now();
            for letter in &letters {
                buffer.clear();
                serde_json::to_writer(&mut buffer, letter)?;
                buffer.push(b'\n');
                file.write_all(&buffer)?;
                file.sync_data()?;
            }
            let took = per_operation(began, pushes);
            let text = fs::read_to_string(folder.path().join("items"))?;
            ensure!(text.lines().count() == pushes, "not every item is there");
            Ok(took)
        },
    )
}
