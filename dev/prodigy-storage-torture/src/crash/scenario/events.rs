//! Scenarios of appending events.

use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::ops::Range;

use anyhow::{Context, Result, bail, ensure};
use uuid::Uuid;

use super::{Act, BASE, Before, JOB, REPO, Scenario, Scene, whole_lines};
use crate::input::{joined, same_value, with_id};
use crate::segment;

const PLAIN: &[&str] = &["events", "append", "--repo", REPO, "--job", JOB, "--ack"];
const BATCHED: &[&str] = &[
    "events", "append", "--repo", REPO, "--job", JOB, "--ack", "--batch", "4",
];
const GIVEN: &[&str] = &[
    "events",
    "append",
    "--repo",
    REPO,
    "--job",
    JOB,
    "--ack",
    "--with-ids",
];
const CAT: &[&str] = &["events", "cat", "--repo", REPO, "--job", JOB];

/// Settings for small segments, which are compressed when they are full.
const SMALL: &[(&str, &str)] = &[
    ("PRODIGY__STORAGE__BACKEND_CONFIG__MAX_FILE_SIZE", "1KiB"),
    ("PRODIGY__STORAGE__BACKEND_CONFIG__ENABLE_COMPRESSION", "true"),
];
/// The setting that turns compression off.
const SMALL_PLAIN: (&str, &str) = ("PRODIGY__STORAGE__BACKEND_CONFIG__ENABLE_COMPRESSION", "false");

/// The number of events that are in the log before the command runs.
const OLD: usize = 6;
const NEW: usize = 6;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "append to a new store",
        act: |scene, _| Act::new(PLAIN, scene.text(OLD..OLD + NEW)),
        check: |scene, before, said| check(scene, before, said, PLAIN, 1),
        ..BASE
    },
    Scenario {
        name: "append to a log",
        prepare: some,
        act: |scene, _| Act::new(PLAIN, scene.text(OLD..OLD + NEW)),
        check: |scene, before, said| check(scene, before, said, PLAIN, 1),
        ..BASE
    },
    Scenario {
        name: "append in batches, rotate and compress",
        settings: SMALL,
        prepare: some,
        act: |scene, _| Act::new(BATCHED, scene.text(OLD..OLD + 4 * NEW)),
        check: |scene, before, said| check_to(scene, before, said, BATCHED, 4, OLD + 4 * NEW),
        ..BASE
    },
    Scenario {
        name: "finish a dead writer's compression",
        settings: SMALL,
        prepare: sealed,
        act: |scene, _| Act::new(PLAIN, scene.text(OLD..OLD + 1)),
        check: |scene, before, said| check_to(scene, before, said, PLAIN, 1, OLD + 1),
        ..BASE
    },
    Scenario {
        name: "append behind a torn tail",
        prepare: |scene| torn(scene, |line| line / 2),
        act: |scene, _| Act::new(PLAIN, scene.text(OLD..OLD + NEW)),
        check: |scene, before, said| check(scene, before, said, PLAIN, 1),
        ..BASE
    },
    Scenario {
        name: "append behind a record without a line end",
        prepare: |scene| torn(scene, |line| line - 1),
        act: |scene, _| Act::new(PLAIN, scene.text(OLD..OLD + NEW)),
        check: |scene, before, said| check(scene, before, said, PLAIN, 1),
        ..BASE
    },
    Scenario {
        name: "append under given ids, old ones and known ones among them",
        settings: SMALL,
        prepare: given,
        act: |scene, before| Act::new(GIVEN, lines_with_ids(scene, before)),
        check: check_given,
        ..BASE
    },
];

/// Appends the first lines of the input, before the command runs.
fn some(scene: &Scene<'_>) -> Result<Before> {
    append(scene, 0..OLD)
}

fn append(scene: &Scene<'_>, positions: Range<usize>) -> Result<Before> {
    let answer = scene.go(PLAIN, &scene.text(positions.clone()), &[])?;
    let ids = acknowledged(&answer.stdout)?;
    ensure!(
        ids.len() == positions.len(),
        "{} ids for {positions:?}",
        ids.len()
    );
    Ok(Before {
        events: ids.into_iter().zip(positions).collect(),
        ..Before::default()
    })
}

/// A log with sealed segments that are not compressed.
fn sealed(scene: &Scene<'_>) -> Result<Before> {
    let (name, value) = SMALL_PLAIN;
    let plain = Scene {
        tool: scene.tool.clone().with(name, value),
        ..scene.clone()
    };
    let before = append(&plain, 0..OLD)?;
    let sealed = segment::list(scene.tool.base(), REPO, JOB)?.len();
    ensure!(sealed >= 3, "{sealed} segments are too few to show anything");
    Ok(before)
}

/// A log whose last line was truncated: `keep` returns the remaining length for the length of the line.
fn torn(scene: &Scene<'_>, keep: fn(usize) -> usize) -> Result<Before> {
    let mut before = some(scene)?;
    let segments = segment::list(scene.tool.base(), REPO, JOB)?;
    let path = segments.last().context("there is a segment")?;
    let bytes = std::fs::read(path)?;
    let line = bytes.split_inclusive(|byte| *byte == b'\n').next_back();
    let line = line.context("there is a line")?;
    let kept = keep(line.len());
    let whole = kept + 1 == line.len();
    let cut = bytes.get(..bytes.len() - line.len() + kept).unwrap_or_default();
    std::fs::File::create(path)?.write_all(cut)?;
    let last = before.events.pop().context("an event was appended")?;
    if whole {
        before.perhaps.push(last);
    }
    Ok(before)
}

/// Chooses the ids of the command's events: some are in the log, some are older than all of its ids, some newer.
fn given(scene: &Scene<'_>) -> Result<Before> {
    let older: Vec<Uuid> = (0..NEW / 2).map(|_| Uuid::now_v7()).collect();
    let mut before = some(scene)?;
    let known = before.events.iter().map(|(id, _)| *id);
    before.given = known.collect();
    before.given.extend(older);
    before.given.extend((0..NEW).map(|_| Uuid::now_v7()));
    Ok(before)
}

fn lines_with_ids(scene: &Scene<'_>, before: &Before) -> Vec<u8> {
    let lines: Vec<String> = before
        .given
        .iter()
        .enumerate()
        .map(|(position, id)| with_id(*id, scene.lab.input.at(position)))
        .collect();
    joined(lines.iter().map(String::as_str))
}

/// The ids in the complete lines of the output.
fn acknowledged(said: &[u8]) -> Result<Vec<Uuid>> {
    whole_lines(said)
        .map(|line| {
            Uuid::try_parse_ascii(line)
                .with_context(|| format!("no id was acknowledged: {}", String::from_utf8_lossy(line)))
        })
        .collect()
}

fn check(scene: &Scene<'_>, before: &Before, said: &[u8], again: &[&str], batch: usize) -> Result<()> {
    check_to(scene, before, said, again, batch, OLD + NEW)
}

/// Checks the events that were sent in input order, up to the position `end`.
fn check_to(
    scene: &Scene<'_>,
    before: &Before,
    said: &[u8],
    again: &[&str],
    batch: usize,
    end: usize,
) -> Result<()> {
    let mut known = before.events.clone();
    let ids = acknowledged(said)?;
    known.extend(ids.into_iter().zip(OLD..end));
    let next = known.len() - before.events.len() + OLD;
    let stored = read(scene, &known, &before.perhaps)?;
    ensure!(
        stored.len() <= batch && next + stored.len() <= end,
        "{} events are stored that nobody was told of, in batches of {batch}",
        stored.len()
    );
    for (position, (id, payload)) in (next..).zip(&stored) {
        same(scene, id, payload, position)?;
        known.push((*id, position));
    }
    // Appends the events that are not stored yet.
    let rest = next + stored.len()..end;
    let answer = scene.go(again, &scene.text(rest.clone()), &[])?;
    known.extend(acknowledged(&answer.stdout)?.into_iter().zip(rest));
    ensure!(
        known.len() == before.events.len() + end - OLD,
        "not all is acknowledged"
    );
    nothing_else(scene, &known, &before.perhaps)
}

fn check_given(scene: &Scene<'_>, before: &Before, said: &[u8]) -> Result<()> {
    let all: Vec<(Uuid, usize)> = before.given.iter().copied().zip(0..).collect();
    let told = acknowledged(said)?;
    ensure!(
        before.given.starts_with(&told),
        "acknowledged under other ids: {told:?}"
    );
    let known: HashSet<Uuid> = before.events.iter().map(|(id, _)| *id).chain(told).collect();
    let known: Vec<_> = all.iter().copied().filter(|(id, _)| known.contains(id)).collect();
    let unknown = read(scene, &known, &all)?;
    ensure!(unknown.is_empty(), "events are stored that nobody sent");
    let answer = scene.go(GIVEN, &lines_with_ids(scene, before), &[])?;
    ensure!(
        acknowledged(&answer.stdout)? == before.given,
        "acknowledged under other ids"
    );
    nothing_else(scene, &all, &[])
}

/// Checks that the log has all `known` events and perhaps some of `perhaps`, no others, and that every line of every
/// segment is valid.
fn nothing_else(scene: &Scene<'_>, known: &[(Uuid, usize)], perhaps: &[(Uuid, usize)]) -> Result<()> {
    let more = read(scene, known, perhaps)?;
    ensure!(more.is_empty(), "{} events more than were sent", more.len());
    segment::check_with(scene.tool.base(), REPO, JOB, scene.mended).map(drop)
}

/// Reads the log, without warnings. Every `known` event must exist once, and ids must ascend. Returns the other
/// events, each of which must be in `perhaps`.
fn read(
    scene: &Scene<'_>,
    known: &[(Uuid, usize)],
    perhaps: &[(Uuid, usize)],
) -> Result<Vec<(Uuid, String)>> {
    let positions: HashMap<Uuid, usize> = perhaps.iter().chain(known).copied().collect();
    let answer = match scene.tool.base().join("events").join(REPO).join(JOB).exists() {
        true => Some(scene.look(CAT)?),
        false => None,
    };
    let (mut seen, mut unknown, mut last) = (HashSet::new(), Vec::new(), None);
    for line in answer.iter().flat_map(crate::tool::Answer::lines) {
        let record = segment::record(line)?;
        ensure!(seen.insert(record.id), "{} is read twice", record.id);
        ensure!(last < Some(record.id), "{} comes behind {last:?}", record.id);
        last = Some(record.id);
        match positions.get(&record.id) {
            Some(position) => same(scene, &record.id, record.event.get(), *position)?,
            None => unknown.push((record.id, record.event.get().to_owned())),
        }
    }
    if let Some((lost, position)) = known.iter().find(|(id, _)| !seen.contains(id)) {
        bail!("{lost}, position {position}, was acknowledged and is lost");
    }
    Ok(unknown)
}

fn same(scene: &Scene<'_>, id: &Uuid, payload: &str, position: usize) -> Result<()> {
    let sent = scene.lab.input.at(position).as_bytes();
    same_value(&format!("event {id}"), sent, payload.as_bytes())
}
