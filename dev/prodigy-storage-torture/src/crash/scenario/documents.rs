//! Scenarios of saving and pruning checkpoints.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{Act, BASE, Before, JOB, REPO, Scenario, Scene, whole_lines};
use crate::input::same_value;

const SAVE: &[&str] = &[
    "--json",
    "checkpoint",
    "save",
    "--repo",
    REPO,
    "--job",
    JOB,
    "--phase",
];
const SHOW: &[&str] = &[
    "checkpoint",
    "show",
    "--strict",
    "--repo",
    REPO,
    "--job",
    JOB,
    "--phase",
];
const LIST: &[&str] = &["--json", "checkpoint", "list", "--repo", REPO, "--job", JOB];

/// The number of checkpoints of the phase before the command runs.
const OLD: usize = 3;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "save a setup checkpoint in a new store",
        act: |scene, _| save(scene, "setup", 0, "absent"),
        check: |scene, before, said| check(scene, before, said, "setup", 0),
        ..BASE
    },
    Scenario {
        name: "save a map checkpoint over a revision",
        prepare: some,
        act: |scene, before| {
            save(
                scene,
                "map",
                OLD,
                before.words.last().map_or("absent", String::as_str),
            )
        },
        check: |scene, before, said| check(scene, before, said, "map", OLD),
        ..BASE
    },
    Scenario {
        name: "prune checkpoints",
        prepare: some,
        act: |_, _| Act::new(PRUNE, b""),
        check: check_pruned,
        ..BASE
    },
];

const PRUNE: &[&str] = &[
    "checkpoint",
    "prune",
    "--repo",
    REPO,
    "--job",
    JOB,
    "--phase",
    "map",
    "--keep",
    "1",
];

fn save(scene: &Scene<'_>, phase: &str, position: usize, revision: &str) -> Act {
    let arguments = [SAVE, &[phase, "--expected-revision", revision]].concat();
    Act::new(&arguments, scene.lab.input.at(position))
}

fn some(scene: &Scene<'_>) -> Result<Before> {
    let mut before = Before::default();
    for position in 0..OLD {
        let revision = before.words.last().map_or("absent", String::as_str);
        let act = save(scene, "map", position, revision);
        let arguments: Vec<&str> = act.arguments.iter().map(String::as_str).collect();
        let answer = scene.go(&arguments, &act.input, &[])?;
        before.words.push(text(&answer.stdout, "revision")?);
    }
    Ok(before)
}

/// Checks that the latest checkpoint is the acknowledged one; without an acknowledgement it may be the previous one.
fn check(scene: &Scene<'_>, before: &Before, said: &[u8], phase: &str, position: usize) -> Result<()> {
    let told = whole_lines(said)
        .next()
        .map(|line| text(line, "revision"))
        .transpose()?;
    let old = before.words.last();
    let now = latest(scene, phase)?;
    let is_old = now.as_ref().map(|(revision, _)| revision) == old;
    match &told {
        Some(told) => ensure!(
            now.as_ref().is_some_and(|(revision, _)| revision == told),
            "revision {told} was acknowledged, the latest is {now:?}"
        ),
        None => ensure!(is_old || now.is_some(), "the checkpoint that was there is gone"),
    }
    if let Some((revision, state)) = &now {
        let saved = if is_old {
            position.saturating_sub(1)
        } else {
            position
        };
        same_value(revision, scene.lab.input.at(saved).as_bytes(), state.as_bytes())?;
    }
    count(scene, before.words.len() + usize::from(!is_old))?;
    // Saves another checkpoint, on condition that the latest one has this revision.
    let revision = now.as_ref().map_or("absent", |(revision, _)| revision);
    let act = save(scene, phase, position + 1, revision);
    let arguments: Vec<&str> = act.arguments.iter().map(String::as_str).collect();
    let answer = scene.go(&arguments, &act.input, &[])?;
    let (revision, state) = latest(scene, phase)?.context("a checkpoint was saved")?;
    ensure!(
        text(&answer.stdout, "revision")? == revision,
        "the latest is {revision}"
    );
    same_value(
        &revision,
        scene.lab.input.at(position + 1).as_bytes(),
        state.as_bytes(),
    )?;
    // A setup checkpoint replaces the previous one.
    let more = if phase == "setup" { 0 } else { usize::from(!is_old) };
    count(scene, before.words.len() + more + 1)
}

fn check_pruned(scene: &Scene<'_>, before: &Before, said: &[u8]) -> Result<()> {
    let done = whole_lines(said).next().is_some();
    for _ in 0..2 {
        let (revision, state) = latest(scene, "map")?.context("the newest checkpoint is gone")?;
        ensure!(before.words.last() == Some(&revision), "the latest is {revision}");
        same_value(
            &revision,
            scene.lab.input.at(OLD - 1).as_bytes(),
            state.as_bytes(),
        )?;
        if done {
            count(scene, 1)?;
        }
        scene.go(PRUNE, b"", &["note: "])?;
    }
    count(scene, 1)
}

/// The revision and the state of the latest checkpoint of a phase.
fn latest(scene: &Scene<'_>, phase: &str) -> Result<Option<(String, String)>> {
    let arguments = [SHOW, &[phase]].concat();
    let answer = scene.tool.run(&arguments, b"")?;
    if answer.code() == Some(4) {
        return Ok(None);
    }
    let answer = scene.look(&arguments)?;
    let shown: Value = serde_json::from_slice(&answer.stdout)?;
    let state = shown.get("data").context("a checkpoint has a state")?;
    Ok(Some((text(&answer.stdout, "revision")?, state.to_string())))
}

fn count(scene: &Scene<'_>, wanted: usize) -> Result<()> {
    let found = match scene.tool.run(LIST, b"")?.code() {
        Some(4) => 0,
        _ => scene.look(LIST)?.lines().count(),
    };
    ensure!(
        found == wanted,
        "{found} checkpoints are listed, {wanted} were saved"
    );
    Ok(())
}

fn text(line: &[u8], key: &str) -> Result<String> {
    let value: Value = serde_json::from_slice(line)?;
    let text = value.get(key).and_then(Value::as_str);
    Ok(text.with_context(|| format!("no `{key}` in {value}"))?.to_owned())
}
