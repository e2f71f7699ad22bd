//! Roles that read while others write: everything, or only new events.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use uuid::Uuid;

use super::hall::{ADDRESS, Hall, SHARED, Told};
use crate::crash::section::Tally;
use crate::segment;

/// A follower that lives long has so much time to catch up.
const AFTER: Duration = Duration::from_secs(5);

/// The events that followers got, and their positions.
#[derive(Debug, Default)]
pub(super) struct Followed {
    seen: HashSet<Uuid>,
    cursor: Option<String>,
    runs: usize,
    readings: usize,
    by_workers: usize,
    watched: usize,
}

impl Followed {
    /// A worker got `events` events, each once in its life.
    pub(super) fn given_to_worker(&mut self, events: usize) {
        self.by_workers += events;
    }
}

/// Reads the shared job: what was acknowledged before is there, and nothing twice.
pub(super) fn reader(hall: &Hall<'_>, number: usize) -> Result<()> {
    let mut random = hall.random(number);
    while hall.is_open() {
        let known = hall.events.alone().known(SHARED);
        let command = hall.tool().command(["events", "cat"].iter().chain(&ADDRESS));
        let ended = hall.call(command, Vec::new(), &mut random)?;
        match hall.told(&ended)? {
            Told::Done => {}
            Told::Unclear => continue,
            Told::Missing if known == 0 => continue,
            told => bail!("a reader was told {told:?}"),
        }
        let mut seen = HashSet::new();
        for line in ended.lines() {
            let id = segment::record(line)?.id;
            ensure!(seen.insert(id), "a reader was given {id} twice");
        }
        if let Some(id) = hall.events.alone().missing(SHARED, known, &seen) {
            bail!("{id} was acknowledged before the reader began, and was not given");
        }
        hall.followed.alone().readings += 1;
    }
    Ok(())
}

/// Follows from the beginning in one long life, and a little longer than all others work: it is given each event once.
pub(super) fn watcher(hall: &Hall<'_>, _: usize) -> Result<()> {
    let time = format!("{}ms", (hall.left() + AFTER).as_millis());
    let words = ["events", "follow", "--for", &time];
    let command = hall.tool().command(words.iter().chain(&ADDRESS));
    let mut process = hall.begin(command, Vec::new(), false)?;
    while hall.is_open() {
        process.wait_for(Duration::from_secs(1))?;
    }
    let known = hall.events.alone().known(SHARED);
    let ended = hall.finish(process, None)?;
    ensure!(hall.told(&ended)? == Told::Done, "{}", ended.unexpected("an end"));
    let mut seen = HashSet::new();
    for line in ended.lines() {
        let id = segment::record(line)?.id;
        ensure!(seen.insert(id), "a follower was given {id} twice in one life");
    }
    let events = hall.events.alone();
    if let Some(id) = events.missing(SHARED, known, &seen) {
        let count = events.count_missing(SHARED, known, &seen);
        bail!(
            "{id} was acknowledged, and the follower that lived long missed {count} of {known}, this one first"
        );
    }
    drop(events);
    hall.followed.alone().watched += seen.len();
    Ok(())
}

/// Continues from one cursor to the next.
pub(super) fn follower(hall: &Hall<'_>, number: usize) -> Result<()> {
    let mut random = hall.random(number);
    while hall.is_open() {
        follow(hall, "700ms", Some(&mut random))?;
    }
    Ok(())
}

/// One run: returns the number of events that it got. The events of a killed follower do not count, as it printed no cursor.
fn follow(hall: &Hall<'_>, time: &str, random: Option<&mut fastrand::Rng>) -> Result<usize> {
    let mut command = hall.tool().command(
        ["--json", "events", "follow", "--for", time]
            .iter()
            .chain(&ADDRESS),
    );
    if let Some(cursor) = &hall.followed.alone().cursor {
        command.args(["--cursor", cursor]);
    }
    let ended = match random {
        Some(random) => hall.call(command, Vec::new(), random)?,
        None => hall.finish(hall.begin(command, Vec::new(), false)?, None)?,
    };
    if hall.told(&ended)? != Told::Done {
        return Ok(0);
    }
    let told: Value = serde_json::from_str(ended.stderr.trim()).context("no cursor was told")?;
    let cursor = told.get("cursor").and_then(Value::as_str).context("no cursor")?;
    let mut followed = hall.followed.alone();
    let mut given = 0;
    for line in ended.lines() {
        let id = segment::record(line)?.id;
        ensure!(followed.seen.insert(id), "a follower was given {id} twice");
        given += 1;
    }
    followed.cursor = Some(cursor.to_owned());
    followed.runs += 1;
    Ok(given)
}

/// The follower catches up: then it was given everything that was acknowledged, each once.
pub(super) fn check(hall: &Hall<'_>, tally: &mut Tally) -> Result<()> {
    while follow(hall, "500ms", None)? > 0 {}
    let followed = hall.followed.alone();
    let events = hall.events.alone();
    if let Some(id) = events.missing(SHARED, usize::MAX, &followed.seen) {
        bail!("{id} was acknowledged, and never given to who followed");
    }
    tally.add("runs of a follower, from cursor to cursor", followed.runs);
    tally.add("events that it was given, each once", followed.seen.len());
    tally.add(
        "events that workers were given, each once in a life",
        followed.by_workers,
    );
    tally.add(
        "events that one follower was given in one life, each once",
        followed.watched,
    );
    tally.add("readings of the whole log while it grew", followed.readings);
    Ok(())
}
