//! Scenarios of the dead-letter queue.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::{Act, BASE, Before, JOB, REPO, Scenario, Scene, whole_lines};
use crate::input::joined;

const PUSH: &[&str] = &["dlq", "push", "--repo", REPO, "--job", JOB];
const TAKE: &[&str] = &[
    "dlq", "take", "--limit", "2", "--lease", "1h", "--repo", REPO, "--job", JOB,
];
const TAKE_ALL: &[&str] = &[
    "dlq", "take", "--all", "--lease", "1h", "--repo", REPO, "--job", JOB,
];
const LIST: &[&str] = &["--json", "dlq", "list", "--repo", REPO, "--job", JOB];
const ACK: &[&str] = &["dlq", "ack", "--repo", REPO, "--job", JOB];
const NACK: &[&str] = &["dlq", "release", "--repo", REPO, "--job", JOB];
const REMOVE: &[&str] = &["dlq", "remove", "--repo", REPO, "--job", JOB];

/// The number of items that are in the queue before the command runs.
const OLD: usize = 5;
/// The number of items that the command pushes.
const NEW: usize = 4;
/// The number of items that the command takes.
const TAKEN: usize = 2;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "push to a new queue",
        act: |scene, _| Act::new(PUSH, items(scene, 0..NEW)),
        check: |scene, _, _| pushed(scene, 0, 0..NEW),
        ..BASE
    },
    Scenario {
        name: "push to a queue",
        prepare: some,
        act: |scene, _| Act::new(PUSH, items(scene, OLD..OLD + NEW)),
        check: |scene, _, _| pushed(scene, OLD, OLD..OLD + NEW),
        ..BASE
    },
    Scenario {
        name: "push to a queue that has lost its closing bracket",
        prepare: open_ended,
        act: |scene, _| Act::new(PUSH, items(scene, OLD..OLD + NEW)),
        check: |scene, _, _| pushed(scene, OLD, OLD..OLD + NEW),
        ..BASE
    },
    Scenario {
        name: "merge into a queue",
        prepare: some,
        act: |scene, _| Act::new(PUSH, items(scene, OLD - 2..OLD + 2)),
        check: |scene, _, _| pushed(scene, OLD, OLD - 2..OLD + 2),
        ..BASE
    },
    Scenario {
        name: "take from a queue",
        prepare: some,
        act: |_, _| Act::new(TAKE, b""),
        check: taken,
        ..BASE
    },
    Scenario {
        name: "acknowledge what was taken",
        prepare: some_taken,
        act: |_, before| Act::new(&with(ACK, &before.words), b""),
        check: |scene, before, said| settled(scene, before, said, ACK, true),
        ..BASE
    },
    Scenario {
        name: "give back what was taken",
        prepare: some_taken,
        act: |_, before| Act::new(&with(NACK, &before.words), b""),
        check: |scene, before, said| settled(scene, before, said, NACK, false),
        ..BASE
    },
    Scenario {
        name: "remove items",
        prepare: some,
        act: |_, _| Act::new(&[REMOVE, &["item-0", "item-1"]].concat(), b""),
        check: removed,
        ..BASE
    },
];

fn with<'a>(command: &[&'a str], words: &'a [String]) -> Vec<&'a str> {
    command
        .iter()
        .copied()
        .chain(words.iter().map(String::as_str))
        .collect()
}

fn name(position: usize) -> String {
    format!("item-{position}")
}

fn items(scene: &Scene<'_>, positions: std::ops::Range<usize>) -> Vec<u8> {
    let lines: Vec<String> = positions
        .map(|position| {
            let data: Value = serde_json::from_str(scene.lab.input.at(position)).unwrap_or_default();
            json!({"item_id": name(position), "item_data": data, "failure_history": [{"attempt": position}]})
                .to_string()
        })
        .collect();
    joined(lines.iter().map(String::as_str))
}

fn some(scene: &Scene<'_>) -> Result<Before> {
    scene.go(PUSH, &items(scene, 0..OLD), &[ADDED])?;
    Ok(Before::default())
}

/// A part of the output of a completed push.
const ADDED: &str = " added, ";

fn open_ended(scene: &Scene<'_>) -> Result<Before> {
    let before = some(scene)?;
    let path = scene
        .tool
        .base()
        .join("dlq")
        .join(REPO)
        .join(JOB)
        .join("items.json");
    let mut text = std::fs::read_to_string(&path)?;
    let end = text.rfind(']').context("a queue ends with a bracket")?;
    text.truncate(end);
    std::fs::write(&path, text)?;
    Ok(before)
}

fn some_taken(scene: &Scene<'_>) -> Result<Before> {
    some(scene)?;
    let answer = scene.look(TAKE)?;
    let words: Vec<String> = answer
        .lines()
        .map(|line| Ok(item(line)?.token))
        .collect::<Result<_>>()?;
    ensure!(words.len() == TAKEN, "{} items were taken", words.len());
    Ok(Before {
        words,
        ..Before::default()
    })
}

/// An item as the tool prints it.
#[derive(Debug)]
struct Item {
    id: String,
    data: Value,
    token: String,
    leased: bool,
}

fn item(line: &[u8]) -> Result<Item> {
    let value: Value = serde_json::from_slice(line).context("no JSON line")?;
    let text = |key: &str| {
        value
            .get(key)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    Ok(Item {
        id: text("item_id"),
        data: value.get("item_data").cloned().unwrap_or_default(),
        token: text("lease_token"),
        leased: value.get("lease_until").is_some(),
    })
}

/// The items in the queue, listed without warnings: each item once, with its pushed data.
fn list(scene: &Scene<'_>) -> Result<BTreeMap<String, Item>> {
    let mut found = BTreeMap::new();
    if scene.tool.run(LIST, b"")?.code() == Some(4) {
        return Ok(found);
    }
    for line in scene.look(LIST)?.lines() {
        let item = item(line)?;
        let position = item
            .id
            .strip_prefix("item-")
            .and_then(|number| number.parse().ok());
        let position = position.with_context(|| format!("an item that nobody pushed: {item:?}"))?;
        let sent: Value = serde_json::from_str(scene.lab.input.at(position))?;
        ensure!(item.data == sent, "{} has other data: {}", item.id, item.data);
        if let Some(twice) = found.insert(item.id.clone(), item) {
            bail!("{} is listed twice", twice.id);
        }
    }
    Ok(found)
}

/// Fails unless the items are exactly those at these positions of the input.
fn exactly(found: &BTreeMap<String, Item>, positions: std::ops::Range<usize>) -> Result<()> {
    let wanted: Vec<String> = positions.map(name).collect();
    ensure!(
        found.keys().eq(wanted.iter()),
        "wanted {wanted:?}, found {:?}",
        found.keys()
    );
    Ok(())
}

/// Checks a push that may have been interrupted. Only its exit code acknowledges it, so any number of its first items
/// may be stored, each of them complete.
fn pushed(scene: &Scene<'_>, old: usize, sent: std::ops::Range<usize>) -> Result<()> {
    let found = list(scene)?;
    exactly(&found, 0..found.len())?;
    ensure!(
        (old..=sent.end).contains(&found.len()),
        "{} items are there",
        found.len()
    );
    scene.go(PUSH, &items(scene, sent.clone()), &[ADDED])?;
    exactly(&list(scene)?, 0..sent.end)?;
    // The file is valid JSON for any program.
    let path = scene
        .tool
        .base()
        .join("dlq")
        .join(REPO)
        .join(JOB)
        .join("items.json");
    let array: Vec<Value> = serde_json::from_slice(&std::fs::read(path)?)?;
    ensure!(array.len() == sent.end, "{} items are in the file", array.len());
    Ok(())
}

/// Checks that each item has only one holder, and that no item is lost.
fn taken(scene: &Scene<'_>, _: &Before, said: &[u8]) -> Result<()> {
    let given: Vec<Item> = whole_lines(said).map(item).collect::<Result<_>>()?;
    let found = list(scene)?;
    exactly(&found, 0..OLD)?;
    for item in &given {
        let leased = found.get(&item.id).is_some_and(|found| found.leased);
        ensure!(leased, "{} was given, and nobody has it", item.id);
    }
    let held = found.values().filter(|item| item.leased).count();
    ensure!([0, TAKEN].contains(&held), "{held} items are taken");
    let mut tokens: Vec<String> = given.iter().map(|item| item.token.clone()).collect();
    for line in scene.look(TAKE_ALL)?.lines() {
        let item = item(line)?;
        let leased = found.get(&item.id).is_none_or(|found| found.leased);
        ensure!(!leased, "{} was given twice", item.id);
        tokens.push(item.token);
    }
    scene.look(&with(ACK, &tokens))?;
    // An item of an unacknowledged take is pending again after its lease.
    let left = list(scene)?;
    ensure!(left.len() == OLD - tokens.len(), "{} items are left", left.len());
    ensure!(left.values().all(|item| item.leased), "{left:?} are left");
    Ok(())
}

/// Checks that an acknowledged item is gone (if `gone` is true), or that a released item can be taken.
fn settled(scene: &Scene<'_>, before: &Before, said: &[u8], again: &[&str], gone: bool) -> Result<()> {
    let told = whole_lines(said).next().is_some();
    let found = list(scene)?;
    let leased = found.values().filter(|item| item.leased).count();
    let all = (found.len(), leased) == (OLD, TAKEN);
    let none = (found.len(), leased) == (if gone { OLD - TAKEN } else { OLD }, 0);
    ensure!(
        none || (all && !told),
        "{leased} of {} items are taken",
        found.len()
    );
    let answer = scene.tool.run(with(again, &before.words), b"")?;
    ensure!(
        answer.code() == Some(if all { 0 } else { 4 }),
        "{}",
        answer.unexpected("the other code")
    );
    let found = list(scene)?;
    exactly(&found, if gone { TAKEN..OLD } else { 0..OLD })?;
    ensure!(
        scene.look(TAKE_ALL)?.lines().count() == found.len(),
        "not all can be taken"
    );
    Ok(())
}

fn removed(scene: &Scene<'_>, _: &Before, said: &[u8]) -> Result<()> {
    let told = whole_lines(said).next().is_some();
    let found = list(scene)?;
    ensure!(
        found.len() == OLD - 2 || (found.len() == OLD && !told),
        "{} items are there",
        found.len()
    );
    let answer = scene.tool.run([REMOVE, &["item-0", "item-1"]].concat(), b"")?;
    let wanted = if found.len() == OLD { 0 } else { 4 };
    answer.expect_code(wanted)?;
    exactly(&list(scene)?, 2..OLD)
}
