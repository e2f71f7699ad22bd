//! Scenarios of orphaned worktrees and of finishing a job, by requests to one handle.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{Act, BASE, Before, JOB, REPO, Scenario, Scene, whole_lines};

const LIST: &[&str] = &["--json", "worktree", "orphans", "--repo", REPO, "--job", JOB];

/// The number of earlier orphaned worktrees, and of new ones.
const OLD: usize = 2;
const NEW: usize = 3;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "record orphaned worktrees in a new store",
        act: |_, _| Act::served(requests(0..NEW)),
        check: |scene, _, said| check(scene, &outcomes(said), 0),
        ..BASE
    },
    Scenario {
        name: "record orphaned worktrees, and finish the job",
        prepare: |scene| {
            serve(scene, &requests(0..OLD))?;
            Ok(Before::default())
        },
        act: |_, _| Act::served(format!("append 1\n{}finish\n", requests(OLD..OLD + NEW))),
        check: check_finished,
        ..BASE
    },
];

fn requests(numbers: std::ops::Range<usize>) -> String {
    numbers
        .map(|number| format!("orphan \"/left/{number}\"\n"))
        .collect()
}

/// Sends requests, all of which have to succeed.
fn serve(scene: &Scene<'_>, requests: &str) -> Result<()> {
    let command = scene.tool.command_of(scene.lab.served);
    let answer = crate::tool::finish(command, requests.as_bytes())?.expect_code(0)?;
    let failed = answer.lines().find(|line| !line.starts_with(b"stored"));
    ensure!(failed.is_none(), "{}", String::from_utf8_lossy(&answer.stdout));
    Ok(())
}

/// The numbers of the recorded worktrees, in order.
fn list(scene: &Scene<'_>) -> Result<Vec<usize>> {
    scene
        .tool
        .run(LIST, b"")?
        .expect_found()?
        .lines()
        .map(|line| {
            let orphan: Value = serde_json::from_slice(line)?;
            let path = orphan.get("worktree_path").and_then(Value::as_str);
            let number = path.and_then(|path| path.strip_prefix("/left/"));
            number
                .and_then(|number| number.parse().ok())
                .context("a worktree that nobody left")
        })
        .collect()
}

/// The outcome of each request, in order. The handle continues after a failure.
fn outcomes(said: &[u8]) -> Vec<bool> {
    whole_lines(said)
        .map(|line| line.starts_with(b"stored"))
        .collect()
}

fn check(scene: &Scene<'_>, outcomes: &[bool], old: usize) -> Result<()> {
    let end = old + NEW;
    let found = list(scene)?;
    let known = (0..old).chain(
        (old..end)
            .zip(outcomes)
            .filter(|(_, told)| **told)
            .map(|(number, _)| number),
    );
    for number in known {
        ensure!(
            found.contains(&number),
            "{number} was acknowledged, on record: {found:?}"
        );
    }
    ensure!(
        found.is_sorted_by(|a, b| a < b) && found.iter().all(|number| *number < end),
        "on record: {found:?}"
    );
    serve(scene, &requests(old..end))?;
    let mut found = list(scene)?;
    found.sort_unstable();
    ensure!(found.iter().copied().eq(0..end), "on record: {found:?}");
    Ok(())
}

fn check_finished(scene: &Scene<'_>, _: &Before, said: &[u8]) -> Result<()> {
    let folder = scene
        .tool
        .base()
        .join("state")
        .join(REPO)
        .join("mapreduce/jobs")
        .join(JOB);
    let finished = folder.join("finished.json");
    let told = outcomes(said);
    let was = |request: usize| told.get(request).copied().unwrap_or_default();
    ensure!(
        !was(NEW + 1) || finished.exists(),
        "the job was finished, and nothing says so"
    );
    check(scene, told.get(1..).unwrap_or_default(), OLD)?;
    let read = |wanted: std::ops::RangeInclusive<usize>| -> Result<()> {
        let count = match scene.tool.base().join("events").join(REPO).join(JOB).exists() {
            true => scene
                .look(&["events", "cat", "--repo", REPO, "--job", JOB])?
                .lines()
                .count(),
            false => 0,
        };
        ensure!(wanted.contains(&count), "{count} events are read, not {wanted:?}");
        Ok(())
    };
    read(usize::from(was(0))..=1)?;
    serve(scene, "finish\n")?;
    ensure!(finished.exists(), "the job was finished, and nothing says so");
    read(usize::from(was(0))..=1)
}
