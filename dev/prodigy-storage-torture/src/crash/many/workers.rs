//! Workers that keep one handle and use it from several threads, until they are killed.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use uuid::Uuid;

use super::events::Sent;
use super::harness::{Harness, SHARED};
use super::locks::GATE;
use crate::tool::own_environment;

/// A line of a worker's report.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    /// An event is acknowledged.
    Event { id: Uuid, n: usize },
    /// The worker starts to save a checkpoint.
    Saving {},
    /// The worker has saved number `n`; or another process saved first, and `won` is false.
    Saved { expected: String, n: u64, won: bool },
    /// The worker enters the critical section.
    Passing,
    /// The worker has left the critical section.
    Passed,
    /// The worker followed the log, and received this number of events.
    Followed { events: usize },
}

/// Starts one worker after another, and kills each.
pub(super) fn worker(harness: &Harness<'_>, number: usize) -> Result<()> {
    let mut random = harness.random(number);
    let mut life = 0;
    while harness.is_open() {
        life += 1;
        let by = format!("worker-{number}-{life}");
        let mut command = Command::new(harness.worker());
        own_environment(&mut command, harness.tool().home());
        command
            .arg(harness.tool().base())
            .arg(&by)
            .arg(harness.input().path())
            .arg(harness.folder(GATE)?)
            .arg(harness.max_file_size());
        let mut process = harness.begin(command, Vec::new(), true)?;
        let time = Duration::from_millis(random.u64(300..4_000));
        process.wait_for(time)?;
        harness.stop(&mut process, &mut random)?;
        let id = process.id();
        let ended = process.end()?;
        harness.clean(id);
        ensure!(
            ended.code.is_none(),
            "{}",
            ended.unexpected("a life until it is killed")
        );
        harness.killed();
        let (mut passing, mut saving) = (false, false);
        let mut fresh = Vec::new();
        for line in ended.lines() {
            let shown = || format!("a worker printed {}", String::from_utf8_lossy(line));
            match serde_json::from_slice(line).with_context(shown)? {
                Line::Event { id, n } => fresh.push((id, Sent { by: by.clone(), n })),
                Line::Saving { .. } => saving = true,
                Line::Saved { expected, n, won } => {
                    saving = false;
                    if won {
                        harness.states.lock().won("map", &expected, n)?;
                    }
                }
                Line::Passing => passing = true,
                Line::Passed => {
                    passing = false;
                    harness.locks.lock().passed(GATE, true);
                }
                Line::Followed { events } => harness.followed.lock().given_to_worker(events),
            }
        }
        if passing {
            harness.locks.lock().passed(GATE, false);
        }
        if saving {
            harness.states.lock().unclear("map");
        }
        harness.did(fresh.len());
        harness.events.lock().note(SHARED, fresh);
    }
    Ok(())
}
