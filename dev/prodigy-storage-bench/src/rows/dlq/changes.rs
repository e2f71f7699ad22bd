//! Rows that take and acknowledge dead letters, alone and in turns with another process.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use prodigy_storage::{LeaseToken, Select};

use super::{LEASE, Queue, TAKEN, TEXT, Work, acknowledge, stored};
use crate::bar::Bar;
use crate::child::{Process, Task};
use crate::lab::Lab;
use crate::row::{ALL_ROUNDS, Contestant, Plan, Role, Row};

/// The numbers of items in the large queue and, below, in the small queue.
const LARGE: usize = 50_000;
const SMALL: usize = 1_000;
/// The number of takes in a turn.
const TAKES: usize = 40;

pub(super) fn rows() -> Vec<Row> {
    let row = |key, work, plan| Row {
        key,
        group: "dlq",
        work,
        against: "at 1,000",
        unit: "µs",
        bar: Bar::AtMost(1.3),
        rounds: ALL_ROUNDS,
        plan,
    };
    vec![
        row("dlq-take", "DLQ take of 10, strict, at 50,000 items", |lab| {
            sizes(lab, Timed::Take, false)
        }),
        row(
            "dlq-take-alternating",
            "DLQ take of 10, strict, at 50,000 items, in turns with another process",
            |lab| sizes(lab, Timed::Take, true),
        ),
        row(
            "dlq-ack",
            "DLQ acknowledgement of 10, strict, at 50,000 items",
            |lab| sizes(lab, Timed::Acknowledge, false),
        ),
        row(
            "dlq-ack-alternating",
            "DLQ acknowledgement of 10, strict, at 50,000 items, in turns with another process",
            |lab| sizes(lab, Timed::Acknowledge, true),
        ),
        Row {
            key: "dlq-cycle",
            group: "dlq",
            work: "DLQ take + acknowledgement of 10, strict, at 10,000 items",
            against: "SQLite, WAL, FULL, indexed",
            unit: "µs",
            bar: Bar::AtMost(1.2),
            rounds: ALL_ROUNDS,
            plan: cycle,
        },
    ]
}

/// The part of a take-and-acknowledge cycle that is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Timed {
    Take,
    Acknowledge,
    Both,
}

/// A queue whose size stays constant: after a turn, as many items are pushed as were acknowledged.
struct Steady {
    queue: Queue,
    items: usize,
    /// Another process, which takes and acknowledges items between two cycles of this process.
    other: Option<Process>,
    pushed: usize,
}

impl Steady {
    fn make(lab: &Lab, items: usize, alternating: bool) -> Result<Self> {
        let queue = Queue::make(&lab.bench(), items)?;
        let other = match alternating {
            true => Some(Process::start(&Task::Cycles {
                folder: queue.root().to_owned(),
            })?),
            false => None,
        };
        Ok(Self {
            queue,
            items,
            other,
            pushed: items,
        })
    }

    /// Runs cycles, and returns the microseconds of one timed call.
    fn turn(&mut self, timed: Timed, cycles: usize) -> Result<f64> {
        let dlq = self.queue.job.dlq();
        let mut took = Duration::ZERO;
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..cycles {
            let began = Instant::now();
            let taken = dlq.take(&Select::eligible(), TAKEN, LEASE)?;
            let take = began.elapsed();
            let tokens: Vec<LeaseToken> = taken.iter().map(|taken| taken.token().clone()).collect();
            for taken in &taken {
                ensure!(seen.insert(taken.data::<Work>()?.n), "an item was taken twice");
            }
            ensure!(tokens.len() == TAKEN, "{} items were taken", tokens.len());
            if let Some(other) = &mut self.other {
                other.send_line("cycle")?;
                other.expect_line("done")?;
            }
            let began = Instant::now();
            acknowledge(&self.queue.job, &tokens)?;
            let acknowledged = began.elapsed();
            took += match timed {
                Timed::Take => take,
                Timed::Acknowledge => acknowledged,
                Timed::Both => take + acknowledged,
            };
        }
        let gone = cycles * TAKEN * if self.other.is_some() { 2 } else { 1 };
        ensure!(
            stored(&self.queue.job)?.0 == self.items - gone,
            "not just the acknowledged items are gone"
        );
        self.queue.fill(self.pushed..self.pushed + gone, TEXT)?;
        self.pushed += gone;
        Ok(took.as_secs_f64() * 1e6 / cycles as f64)
    }
}

fn sizes(lab: &Lab, timed: Timed, alternating: bool) -> Result<Plan> {
    let cycles = lab.of(TAKES);
    let at = |items: usize| -> Result<_> {
        let mut steady = Steady::make(lab, items, alternating)?;
        Ok(move |_| steady.turn(timed, cycles))
    };
    Ok(Plan::Measure(vec![
        Contestant::ours(at(lab.of(LARGE))?),
        Contestant::new(Role::Against, "at 1,000 items", at(SMALL)?),
    ]))
}

fn cycle(lab: &Lab) -> Result<Plan> {
    let (items, cycles) = (lab.of(10_000), lab.of(TAKES));
    let Some(sqlite) = crate::peers::queue::cycles(lab, items, cycles)? else {
        return Ok(Plan::Skipped(super::WITHOUT_PEERS.to_owned()));
    };
    let mut steady = Steady::make(lab, items, false)?;
    Ok(Plan::Measure(vec![
        Contestant::ours(move |_| steady.turn(Timed::Both, cycles)),
        sqlite,
    ]))
}
