//! Workers that keep one handle for long, from several threads, until they are killed.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use uuid::Uuid;

use super::events::Sent;
use super::hall::{Hall, SHARED};
use super::locks::GATE;
use crate::tool::own_environment;

/// The reports of a worker, one per line.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    /// An event is acknowledged.
    Event { id: Uuid, n: usize },
    /// It begins to save number `n` over a revision.
    Saving {},
    /// It has: won or not.
    Saved { expected: String, n: u64, won: bool },
    /// It goes through the gate.
    Passing,
    /// It is through.
    Passed,
    /// It followed, and got this number of events.
    Followed { events: usize },
}

/// Starts one worker after the other.
pub(super) fn worker(hall: &Hall<'_>, number: usize) -> Result<()> {
    let mut random = hall.random(number);
    let mut life = 0;
    while hall.is_open() {
        life += 1;
        let by = format!("worker-{number}-{life}");
        let mut command = Command::new(hall.worker());
        own_environment(&mut command, hall.tool().home());
        command
            .arg(hall.tool().base())
            .arg(&by)
            .arg(hall.input().path())
            .arg(hall.folder(GATE)?)
            .arg(hall.max_file_size());
        let mut process = hall.begin(command, Vec::new(), true)?;
        let time = Duration::from_millis(random.u64(300..4_000));
        process.wait_for(time)?;
        hall.stop(&mut process, &mut random)?;
        let id = process.id();
        let ended = process.end()?;
        hall.clean(id);
        ensure!(
            ended.code.is_none(),
            "{}",
            ended.unexpected("a life until it is killed")
        );
        hall.killed();
        let (mut passing, mut saving) = (false, false);
        let mut fresh = Vec::new();
        for line in ended.lines() {
            let shown = || format!("a worker told {}", String::from_utf8_lossy(line));
            match serde_json::from_slice(line).with_context(shown)? {
                Line::Event { id, n } => fresh.push((id, Sent { by: by.clone(), n })),
                Line::Saving { .. } => saving = true,
                Line::Saved { expected, n, won } => {
                    saving = false;
                    if won {
                        hall.states.alone().won("map", &expected, n)?;
                    }
                }
                Line::Passing => passing = true,
                Line::Passed => {
                    passing = false;
                    hall.locks.alone().passed(GATE, true);
                }
                Line::Followed { events } => hall.followed.alone().given_to_worker(events),
            }
        }
        if passing {
            hall.locks.alone().passed(GATE, false);
        }
        if saving {
            hall.states.alone().unclear("map");
        }
        hall.did(fresh.len());
        hall.events.alone().note(SHARED, fresh);
    }
    Ok(())
}
