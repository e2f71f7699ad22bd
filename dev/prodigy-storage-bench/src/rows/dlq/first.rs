//! A row of the first take of a process, from a long queue with a long journal.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use prodigy_storage::Select;
use prodigy_storage_backend::record;

use super::{LEASE, Queue, files};
use crate::bar::Bar;
use crate::child::{self, Said, Task};
use crate::lab::Lab;
use crate::row::{Contestant, Plan, Role, Row};

const ITEMS: usize = 1_000_000;
/// The number of items that were taken and released before, which adds two journal records for each.
const TAKEN: usize = ITEMS / 2;
const AT_ONCE: usize = 10_000;
/// The length of an item's text, in bytes: there are a million short items.
const TEXT: usize = 40;
const ROUNDS: usize = 3;

pub(super) fn rows() -> Vec<Row> {
    vec![
        Row {
            key: "dlq-first-take",
            group: "dlq",
            work: "first take of a process at 1,000,000 items and as many journal records",
            against: "one pass over both files that checks each line",
            unit: "µs",
            bar: Bar::AtMost(1.2),
            rounds: ROUNDS,
            plan: first_take,
        },
        Row {
            key: "dlq-first-take-memory",
            group: "resources",
            work: "resident memory of it",
            against: "",
            unit: "MiB",
            bar: Bar::Below(64.0),
            rounds: 1,
            plan: memory,
        },
    ]
}

/// A long queue; half of its items were taken and released.
fn long(lab: &Lab) -> Result<Queue> {
    let items = lab.of(ITEMS);
    let queue = Queue::make_of(&lab.bench(), items, TEXT, false)?;
    let dlq = queue.job.dlq();
    let mut left = lab.of(TAKEN);
    while left > 0 {
        let taken = dlq.take(&Select::eligible(), left.min(AT_ONCE), LEASE)?;
        ensure!(!taken.is_empty(), "nothing is left to take");
        left -= taken.len();
        let tokens: Vec<_> = taken.iter().map(|taken| taken.token().clone()).collect();
        let settled = dlq.release(&tokens, std::time::Duration::ZERO)?;
        ensure!(
            settled.iter().all(|settled| settled.is_done()),
            "a taken item is not taken"
        );
    }
    Ok(queue)
}

fn taken(folder: PathBuf) -> Result<Said> {
    let (_, said) = child::together(&[Task::FirstTake { folder }], 1)?;
    let said = said.into_iter().next().context("no child")?;
    ensure!(said.events == 1, "{} items were taken", said.events);
    Ok(said)
}

fn first_take(lab: &Lab) -> Result<Plan> {
    let queue = Rc::new(long(lab)?);
    let other = Rc::clone(&queue);
    Ok(Plan::Measure(vec![
        Contestant::ours(move |_| Ok(taken(queue.root().to_owned())?.micros)),
        Contestant::new(Role::Against, "one pass over both files", move |_| {
            let files = files(other.root())?;
            let began = Instant::now();
            let mut lines = 0;
            for path in &files {
                lines += checked(path)?;
            }
            let took = began.elapsed().as_secs_f64() * 1e6;
            ensure!(lines > 0, "no line has a checksum that holds");
            Ok(took)
        }),
    ]))
}

/// Reads a file line by line; returns the number of lines with a valid checksum.
fn checked(path: &PathBuf) -> Result<usize> {
    let mut file = BufReader::with_capacity(256 << 10, File::open(path)?);
    let (mut line, mut held) = (Vec::new(), 0);
    loop {
        line.clear();
        if file.read_until(b'\n', &mut line)? == 0 {
            return Ok(held);
        }
        let text = line.trim_ascii_end();
        let text = text.strip_suffix(b",").unwrap_or(text);
        held += usize::from(record::check_crc(text) == record::Checksum::Valid);
    }
}

fn memory(lab: &Lab) -> Result<Plan> {
    let queue = long(lab)?;
    Ok(Plan::Measure(vec![Contestant::ours(move |_| {
        Ok(taken(queue.root().to_owned())?.resident_mib)
    })]))
}
