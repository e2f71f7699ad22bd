//! Scenarios of a command that runs under a named lock.

use anyhow::{Context, Result, ensure};

use super::{Act, BASE, Before, Scenario, Scene, whole_lines};

const RUN: &[&str] = &[
    "lock",
    "run",
    "--wait",
    "20s",
    "crash/struck",
    "--",
    "sh",
    "-c",
    "echo ${PRODIGY_LOCK_FENCING%%@*}",
];

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "run under a new lock",
        threads: false,
        act: |_, _| Act::new(RUN, b""),
        check,
        ..BASE
    },
    Scenario {
        name: "run under a lock",
        threads: false,
        prepare: some,
        act: |_, _| Act::new(RUN, b""),
        check,
        ..BASE
    },
];

fn some(scene: &Scene<'_>) -> Result<Before> {
    let mut before = Before::default();
    for _ in 0..2 {
        before.words.push(token(&scene.look(RUN)?.stdout)?.to_string());
    }
    Ok(before)
}

fn token(said: &[u8]) -> Result<u64> {
    let text = std::str::from_utf8(said)?.trim();
    text.parse()
        .with_context(|| format!("no fencing token: {text:?}"))
}

/// Checks that the lock is free, and that tokens ascend.
fn check(scene: &Scene<'_>, before: &Before, said: &[u8]) -> Result<()> {
    let mut tokens: Vec<u64> = Vec::new();
    for word in &before.words {
        tokens.push(token(word.as_bytes())?);
    }
    for line in whole_lines(said) {
        tokens.push(token(line)?);
    }
    for _ in 0..2 {
        tokens.push(token(&scene.look(RUN)?.stdout)?);
    }
    ensure!(tokens.is_sorted_by(|a, b| a < b), "fencing tokens: {tokens:?}");
    Ok(())
}
