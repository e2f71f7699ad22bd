//! Scenarios of retention: the next clean continues an interrupted one, with the same result as a single clean.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{Act, BASE, Before, JOB, REPO, Scenario, Scene};
use crate::segment;

/// The setting for segments of one event each.
const SMALL: &[(&str, &str)] = &[("PRODIGY__STORAGE__BACKEND_CONFIG__MAX_FILE_SIZE", "1")];
const OF_JOB: &[&str] = &["--repo", REPO, "--job", JOB];
const PARTS: &[&str] = &[
    "clean",
    "--yes",
    "--events",
    "1ns",
    "--keep-checkpoints",
    "1",
    "--dead-letters",
    "1ns",
    "--repo",
    REPO,
];
const WHOLE: &[&str] = &[
    "clean",
    "--auto",
    "--idle-jobs",
    "1ns",
    "--repo",
    REPO,
    "--job",
    JOB,
];
/// The beginnings of messages that a successful clean prints.
const SAYS: &[&str] = &["removed ", "nothing is old enough"];

/// The number of events and of checkpoints that the job has before the clean.
const EVENTS: usize = 5;
const CHECKPOINTS: usize = 3;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "clean the old parts of a job",
        settings: SMALL,
        full_at_each_sync: true,
        prepare: fill,
        act: |_, _| Act::new(PARTS, b""),
        check: |scene, _, _| check_parts(scene),
        ..BASE
    },
    Scenario {
        name: "clean a whole job",
        settings: SMALL,
        full_at_each_sync: true,
        prepare: fill,
        act: |_, _| Act::new(WHOLE, b""),
        check: |scene, _, _| check_whole(scene),
        ..BASE
    },
];

fn run(scene: &Scene<'_>, words: &[&str], input: &[u8]) -> Result<Vec<Vec<u8>>> {
    let answer = scene.tool.run([words, OF_JOB].concat(), input)?.expect_code(0)?;
    Ok(answer.lines().map(<[u8]>::to_vec).collect())
}

fn fill(scene: &Scene<'_>) -> Result<Before> {
    for position in 0..EVENTS {
        run(scene, &["events", "append"], &scene.text(position..position + 1))?;
    }
    for position in 0..CHECKPOINTS {
        let state = scene.lab.input.at(position);
        run(scene, &["checkpoint", "save", "--phase", "map"], state.as_bytes())?;
    }
    run(scene, &["dlq", "push"], b"{\"item_id\":\"a\",\"item_data\":1}\n")?;
    scene
        .tool
        .run([&["dlq", "park", "a"], OF_JOB].concat(), b"")?
        .expect_code(0)?;
    let segments = segment::list(scene.tool.base(), REPO, JOB)?.len();
    ensure!(segments == EVENTS, "{segments} segments, not {EVENTS}");
    Ok(Before::default())
}

/// The stored payloads, and the numbers of checkpoints and dead letters.
fn contents(scene: &Scene<'_>) -> Result<(Vec<Vec<u8>>, usize, usize)> {
    let events = run(scene, &["events", "cat", "-o", "payload"], b"")?;
    let checkpoints = run(scene, &["--json", "checkpoint", "list"], b"")?.len();
    let letters = run(scene, &["--json", "dlq", "list", "--any"], b"")?.len();
    Ok((events, checkpoints, letters))
}

fn all(scene: &Scene<'_>) -> Result<Vec<Vec<u8>>> {
    let lines = scene.text(0..EVENTS);
    let lines: Vec<_> = crate::tool::lines(&lines).map(<[u8]>::to_vec).collect();
    ensure!(lines.len() == EVENTS, "an event is a line");
    Ok(lines)
}

fn check_parts(scene: &Scene<'_>) -> Result<()> {
    let sent = all(scene)?;
    let last = sent.last().context("there is an event")?;
    let (events, checkpoints, letters) = contents(scene)?;
    for (kind, is_removed) in [
        ("events", events.len() < EVENTS),
        ("checkpoints", checkpoints < CHECKPOINTS),
        ("dead_letters", letters == 0),
    ] {
        if is_removed {
            is_recorded_or_reported(scene, kind)?;
        }
    }
    // Segments are removed as a whole.
    ensure!(
        events == sent || events == [last.clone()],
        "{} of {EVENTS} events are read",
        events.len()
    );
    ensure!(
        (1..=CHECKPOINTS).contains(&checkpoints) && letters <= 1,
        "{checkpoints} checkpoints, {letters} dead letters"
    );
    scene.go(PARTS, b"", SAYS)?;
    let (events, checkpoints, letters) = contents(scene)?;
    ensure!(
        events == [last.clone()] && (checkpoints, letters) == (1, 0),
        "after the next clean: {} events, {checkpoints} checkpoints, {letters} dead letters",
        events.len()
    );
    let segments = segment::list(scene.tool.base(), REPO, JOB)?.len();
    ensure!(segments == 1, "{segments} segments are left");
    recorded(scene)
}

fn check_whole(scene: &Scene<'_>) -> Result<()> {
    let sent = all(scene)?;
    let folder = scene.tool.base().join("events").join(REPO).join(JOB);
    if folder.exists() {
        let answer = scene
            .tool
            .run([&["events", "cat", "-o", "payload"], OF_JOB].concat(), b"")?;
        let found: Vec<_> = answer.lines().map(<[u8]>::to_vec).collect();
        // On a full disk the events of the job are removed before the job, except those of the newest segment.
        let is_last = found.len() == 1 && found.last() == sent.last();
        ensure!(
            found.is_empty() || found == sent || is_last,
            "{} of {EVENTS} events are read",
            found.len()
        );
    }
    if !folder.exists() {
        is_recorded_or_reported(scene, "job")?;
    }
    scene.go(WHOLE, b"", SAYS)?;
    // The clean has also ended a deletion that was cut short.
    let tombstone = scene
        .tool
        .base()
        .join("deletions")
        .join(REPO)
        .join(format!("{JOB}.json"));
    ensure!(
        !tombstone.exists() && !folder.exists(),
        "the deletion was not ended by the next clean"
    );
    run(scene, &["events", "append"], &scene.text(0..1))?;
    let (events, checkpoints, letters) = contents(scene)?;
    ensure!(
        (events.len(), checkpoints, letters) == (1, 0, 0),
        "of the deleted job are left: {} events, {checkpoints} checkpoints, {letters} dead letters",
        events.len()
    );
    recorded(scene)
}

/// Checks that the audit log has a removal of this kind, or that the interrupted command reported a missing entry: if
/// no file can be written, it still removes data.
fn is_recorded_or_reported(scene: &Scene<'_>, kind: &str) -> Result<()> {
    let log = scene
        .tool
        .run(["clean", "--log", "--json"], b"")?
        .expect_code(0)?;
    let kinds: Vec<Value> = log
        .lines()
        .map(|line| {
            let entry: Value = serde_json::from_slice(line)?;
            Ok(entry.pointer("/removal/kind").cloned().unwrap_or_default())
        })
        .collect::<Result<_>>()?;
    ensure!(
        kinds.iter().any(|found| found == kind) || scene.complaints.contains("the audit log lacks"),
        "{kind} were removed, the audit log has {kinds:?}, and the command said: {}",
        scene.complaints
    );
    Ok(())
}

/// Checks that the audit log can be read.
fn recorded(scene: &Scene<'_>) -> Result<()> {
    scene.look(&["clean", "--log", "--json"]).map(drop)
}
