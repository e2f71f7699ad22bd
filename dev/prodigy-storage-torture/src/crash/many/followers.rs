//! Roles that read while others write: whole logs, or new events.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use prodigy_storage_backend::reference::Reading;
use serde_json::Value;
use uuid::Uuid;

use super::harness::{ADDRESS, Harness, Outcome, SHARED};
use crate::crash::section::Tally;
use crate::segment;

/// The time that the follower of the whole run gets to catch up at the end.
const AFTER: Duration = Duration::from_secs(5);

/// The events that the followers received.
#[derive(Debug, Default)]
pub(super) struct Followed {
    seen: Reading<Uuid>,
    cursor: Option<String>,
    runs: usize,
    readings: usize,
    by_workers: usize,
    watched: usize,
}

impl Followed {
    /// Counts the events that a worker received from its follower.
    pub(super) fn given_to_worker(&mut self, events: usize) {
        self.by_workers += events;
    }
}

/// Reads the shared job. Every event that was acknowledged before must be there, and no event twice.
pub(super) fn reader(harness: &Harness<'_>, number: usize) -> Result<()> {
    let mut random = harness.random(number);
    while harness.is_open() {
        let known = harness.events.lock().known(SHARED);
        let command = harness.tool().command(["events", "cat"].iter().chain(&ADDRESS));
        let ended = harness.call(command, Vec::new(), &mut random)?;
        match harness.outcome(&ended)? {
            Outcome::Done => {}
            Outcome::Unclear => continue,
            Outcome::Missing if known == 0 => continue,
            outcome => bail!("the outcome of a reader: {outcome:?}"),
        }
        let mut seen = Reading::default();
        for line in ended.lines() {
            seen.give(segment::record(line)?.id)?;
        }
        if let Some(id) = harness.events.lock().missing(SHARED, known, &seen) {
            bail!("{id} was acknowledged before the reader began, and was not given");
        }
        harness.followed.lock().readings += 1;
    }
    Ok(())
}

/// Follows the log from its beginning in a process that ends after all others, and must receive each event once.
pub(super) fn watcher(harness: &Harness<'_>, _: usize) -> Result<()> {
    let time = format!("{}ms", (harness.left() + AFTER).as_millis());
    let words = ["events", "follow", "--for", &time];
    let command = harness.tool().command(words.iter().chain(&ADDRESS));
    let mut process = harness.begin(command, Vec::new(), false)?;
    while harness.is_open() {
        process.wait_for(Duration::from_secs(1))?;
    }
    let known = harness.events.lock().known(SHARED);
    let ended = harness.finish(process, None)?;
    ensure!(
        harness.outcome(&ended)? == Outcome::Done,
        "{}",
        ended.unexpected("an end")
    );
    let mut seen = Reading::default();
    for line in ended.lines() {
        seen.give(segment::record(line)?.id)?;
    }
    let events = harness.events.lock();
    if let Some(id) = events.missing(SHARED, known, &seen) {
        let count = events.count_missing(SHARED, known, &seen);
        bail!(
            "{id} was acknowledged, and the follower that lived long missed {count} of {known}, this one first"
        );
    }
    drop(events);
    harness.followed.lock().watched += seen.len();
    Ok(())
}

/// Runs followers one after another. Each continues from the cursor of the previous one.
pub(super) fn follower(harness: &Harness<'_>, number: usize) -> Result<()> {
    let mut random = harness.random(number);
    while harness.is_open() {
        follow(harness, "700ms", Some(&mut random))?;
    }
    Ok(())
}

/// Runs one follower, and returns the number of received events. If it is killed it prints no cursor, and its events
/// do not count, because the next follower receives them again.
fn follow(harness: &Harness<'_>, time: &str, random: Option<&mut fastrand::Rng>) -> Result<usize> {
    let mut command = harness.tool().command(
        ["--json", "events", "follow", "--for", time]
            .iter()
            .chain(&ADDRESS),
    );
    if let Some(cursor) = &harness.followed.lock().cursor {
        command.args(["--cursor", cursor]);
    }
    let ended = match random {
        Some(random) => harness.call(command, Vec::new(), random)?,
        None => harness.finish(harness.begin(command, Vec::new(), false)?, None)?,
    };
    if harness.outcome(&ended)? != Outcome::Done {
        return Ok(0);
    }
    // A note that the job does not exist yet may precede it.
    let last = ended.stderr.lines().last().unwrap_or_default();
    let outcome: Value = serde_json::from_str(last).context("no cursor was printed")?;
    let cursor = outcome
        .get("cursor")
        .and_then(Value::as_str)
        .context("no cursor")?;
    let mut followed = harness.followed.lock();
    let mut given = 0;
    for line in ended.lines() {
        followed.seen.give(segment::record(line)?.id)?;
        given += 1;
    }
    followed.cursor = Some(cursor.to_owned());
    followed.runs += 1;
    Ok(given)
}

/// Lets the follower catch up, and checks that it has received every acknowledged event once.
pub(super) fn check(harness: &Harness<'_>, tally: &mut Tally) -> Result<()> {
    while follow(harness, "500ms", None)? > 0 {}
    let followed = harness.followed.lock();
    let events = harness.events.lock();
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
