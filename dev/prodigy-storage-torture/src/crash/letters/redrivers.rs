//! Redrivers whose leases are shorter than the work. Every item has to be done exactly once, except items that a
//! redriver held when it was killed.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use super::Workshop;
use crate::crash::power::process::{Ended, Process};
use crate::crash::section::Tally;
use crate::input::joined;

/// The number of concurrent redrivers.
const REDRIVERS: usize = 3;
/// The number of items that a redriver works on at once.
const AT_ONCE: usize = 2;
/// The duration in the short and in the full form.
const TIMES: (Duration, Duration) = (Duration::from_secs(6), Duration::from_secs(120));
/// The approximate number of items that a redriver completes per second: the work takes 0.6 s on average.
const PER_SECOND: usize = 3;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Work { item: String },
    Worked { item: String },
    Ran { lost: usize },
}

/// How often work on each item was begun.
#[derive(Debug, Default)]
struct Works {
    begun: BTreeMap<String, usize>,
    /// How often an item was held by a redriver when it was killed.
    cut: BTreeMap<String, usize>,
}

impl Works {
    fn add(&mut self, ended: &Ended) -> Result<()> {
        // The last items of a killed redriver may be done without being settled.
        let mut order: Vec<String> = Vec::new();
        for line in ended.lines() {
            match serde_json::from_slice(line).context("no report of a redriver")? {
                Line::Work { item } => order.push(item),
                Line::Worked { item } => {
                    ensure!(order.contains(&item), "the work on {item} ended before it began");
                }
                Line::Ran { lost } => ensure!(lost == 0, "a lease of {lost} items was lost"),
            }
        }
        if ended.code.is_none() {
            // Each thread may have two unsettled items: one that has ended, and one in progress.
            for item in order.iter().rev().take(2 * AT_ONCE) {
                *self.cut.entry(item.clone()).or_default() += 1;
            }
        }
        for item in order {
            *self.begun.entry(item).or_default() += 1;
        }
        Ok(())
    }

    fn check(&self, items: usize) -> Result<()> {
        ensure!(
            self.begun.len() == items,
            "{} of {items} items were done",
            self.begun.len()
        );
        for (item, begun) in &self.begun {
            let again = self.cut.get(item).copied().unwrap_or_default();
            ensure!(
                *begun <= 1 + again,
                "item {item} was worked on {begun} times, and in the hands of a killed redriver {again} times"
            );
        }
        Ok(())
    }
}

pub(super) fn run(workshop: &Workshop<'_>, tally: &mut Tally) -> Result<()> {
    let time = match workshop.lab.quick {
        true => TIMES.0,
        false => TIMES.1,
    };
    let items = time.as_secs() as usize * PER_SECOND * REDRIVERS;
    let lines: Vec<String> = (0..items)
        .map(|n| format!(r#"{{"item_id":"r-{n}","item_data":{{"of":"r-{n}"}}}}"#))
        .collect();
    let push = ["dlq", "push", "--repo", "letters", "--job", "redrive"];
    workshop
        .tool
        .done(push, &joined(lines.iter().map(String::as_str)))?;

    let mut random = workshop.lab.random("redrivers");
    let mut works = Works::default();
    let start = |number: usize, seed: u64| {
        let command = workshop.command(&format!("r{number}"), seed, "redrive");
        Process::start(command, Vec::new(), true)
    };
    let mut running = (0..REDRIVERS)
        .map(|number| start(number, random.u64(..)))
        .collect::<Result<Vec<_>>>()?;
    let mut kills = 0_u32;
    let half = Instant::now() + time / 2;
    // There are no kills in the second half, so that all redrivers finish.
    while Instant::now() < half {
        let at = random.usize(..REDRIVERS);
        let Some(process) = running.get_mut(at) else {
            bail!("no redriver of number {at}");
        };
        process.wait_for(Duration::from_millis(random.u64(500..2_500)))?;
        let fresh = start(at, random.u64(..))?;
        works.add(&std::mem::replace(process, fresh).end()?)?;
        kills += 1;
    }
    for mut process in running {
        process.wait()?;
        let ended = process.end()?;
        ensure!(ended.code == Some(0), "{}", ended.unexpected("an empty queue"));
        works.add(&ended)?;
    }
    works.check(items)?;
    let left = workshop.stored("redrive")?;
    ensure!(left.is_empty(), "{} items are left", left.len());
    tally.add(
        "items of three redrivers with short leases, each done once",
        items,
    );
    tally.add("kills of a redriver", kills);
    Ok(())
}
