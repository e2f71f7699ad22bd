//! Scenarios of the registry: the first write of a git repository, which registers its name, and another name for it.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{Act, BASE, Before, JOB, Scenario, Scene, whole_lines};
use crate::input::same_value;
use crate::segment;

const APPEND: &[&str] = &["events", "append", "--job", JOB, "--ack"];
const CAT: &[&str] = &["events", "cat", "--job", JOB];
const IDENTIFY: &[&str] = &["--json", "repo", "identify"];

const RELINK: &[&str] = &["repo", "relink", "--new", NEW];
const OLD: &str = "outlet";
const NEW: &str = "annex";

/// The folder in which the tool runs, a git repository.
const HERE: &str = "here/shop";

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "register a repository in a new store",
        place: HERE,
        prepare: |scene| repositories(scene).map(|_| Before::default()),
        act: |scene, _| Act::new(APPEND, scene.text(0..1)),
        check,
        ..BASE
    },
    Scenario {
        name: "register a repository beside another of its name",
        place: HERE,
        prepare: |scene| {
            let there = repositories(scene)?;
            there.go(APPEND, &scene.text(1..2), &[])?;
            Ok(Before::default())
        },
        act: |scene, _| Act::new(APPEND, scene.text(0..1)),
        check,
        ..BASE
    },
    Scenario {
        name: "give a repository another name",
        place: HERE,
        prepare: |scene| {
            repositories(scene)?;
            scene.look(&["repo", "relink", "--new", OLD])?;
            scene.go(APPEND, &scene.text(0..1), &[])?;
            Ok(Before::default())
        },
        act: |_, _| Act::new(RELINK, b""),
        check: relinked,
        ..BASE
    },
];

/// Creates two git repositories whose folders have the same name: the scene's one, and the one of the returned scene.
fn repositories<'a>(scene: &Scene<'a>) -> Result<Scene<'a>> {
    let there = other(scene);
    for path in [scene.tool.folder(), there.tool.folder()] {
        for part in ["objects", "refs"] {
            std::fs::create_dir_all(path.join(".git").join(part))?;
        }
        std::fs::write(path.join(".git/HEAD"), "ref: refs/heads/main\n")?;
    }
    Ok(there)
}

fn other<'a>(scene: &Scene<'a>) -> Scene<'a> {
    let there = scene.tool.folder().join("../../there/shop");
    Scene {
        tool: scene.tool.clone().within(&there),
        ..scene.clone()
    }
}

/// Checks that acknowledged data is under one name, and that the other repository has another name.
fn check(scene: &Scene<'_>, _: &Before, said: &[u8]) -> Result<()> {
    let told = whole_lines(said).count();
    let there = other(scene);
    let stored = events(scene, 0)?;
    ensure!(
        stored >= told,
        "{told} events were acknowledged, {stored} are there"
    );
    let registered = name(scene)?;
    let answer = scene.go(APPEND, &scene.text(0..1), &[])?;
    ensure!(answer.lines().count() == 1, "one event was appended");
    ensure!(
        events(scene, 0)? == stored + 1,
        "there are not {} events",
        stored + 1
    );
    // After data is stored under the name, the name no longer changes.
    let (name, beside) = (name(scene)?, events(&there, 1)?);
    ensure!(
        stored == 0 || name == registered,
        "{registered} has become {name}"
    );
    there.go(APPEND, &scene.text(1..2), &[])?;
    ensure!(
        events(&there, 1)? == beside + 1,
        "there are not {} events",
        beside + 1
    );
    ensure!(
        events(scene, 0)? == stored + 1,
        "the other repository is written to"
    );
    let other = self::name(&there)?;
    ensure!(name != other, "two repositories have the name {name}");
    Ok(())
}

/// Checks that the repository has its old name or the new one, and that the command can be repeated.
fn relinked(scene: &Scene<'_>, _: &Before, said: &[u8]) -> Result<()> {
    let now = name(scene)?;
    ensure!(now == NEW || now == OLD, "the repository has the name {now}");
    ensure!(
        now == NEW || said.is_empty(),
        "the new name was acknowledged, and is {now}"
    );
    ensure!(
        events(scene, 0)? == usize::from(now == OLD),
        "the name {now} does not have the events that it had"
    );
    scene.look(RELINK)?;
    ensure!(name(scene)? == NEW, "the command can't be repeated");
    scene.look(&["doctor"])?;
    scene.look(&["repo", "relink", OLD])?;
    ensure!(events(scene, 0)? == 1, "the event is not there");
    let entry = scene.tool.base().join("state").join(NEW).join("repository.json");
    ensure!(!entry.exists(), "the repository has two names");
    Ok(())
}

/// The name of the current repository.
fn name(scene: &Scene<'_>) -> Result<String> {
    let shown: Value = serde_json::from_slice(&scene.look(IDENTIFY)?.stdout)?;
    let name = shown.get("name").and_then(Value::as_str);
    Ok(name.context("a repository has a name")?.to_owned())
}

/// The number of stored events, each of which must be the one at this position of the input.
fn events(scene: &Scene<'_>, position: usize) -> Result<usize> {
    if scene.tool.run(CAT, b"")?.code() == Some(4) {
        return Ok(0);
    }
    let answer = scene.look(CAT)?;
    for line in answer.lines() {
        let found = segment::record(line)?.event.get().as_bytes();
        same_value("event", scene.lab.input.at(position).as_bytes(), found)?;
    }
    Ok(answer.lines().count())
}
