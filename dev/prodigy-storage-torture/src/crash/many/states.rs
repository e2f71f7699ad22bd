//! Roles that save checkpoints: by compare-and-set, or under a lock with its token.

use std::collections::{BTreeMap, HashSet};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use prodigy_storage_backend::reference::Tokens;
use serde_json::Value;

use super::harness::{ADDRESS, Harness, Outcome};
use crate::crash::section::Tally;

/// The phases that are saved to by compare-and-set.
const PHASES: [&str; 2] = ["map", "setup"];

/// The saves that succeeded, those with an unknown outcome, and the tokens.
#[derive(Debug, Default)]
pub(super) struct StateLedger {
    /// For each phase, the revisions that successful saves expected, and the number of saves with an unknown outcome.
    phases: BTreeMap<String, Saves>,
    conflicts: usize,
    /// The tokens under which states were saved.
    tokens: Tokens,
    fenced_off: usize,
}

#[derive(Debug, Default)]
struct Saves {
    expected: HashSet<String>,
    numbers: HashSet<u64>,
    unclear: u64,
}

impl StateLedger {
    /// Adds a successful save: no other save may have succeeded on the same revision or with the same number.
    pub(super) fn won(&mut self, phase: &str, expected: &str, number: u64) -> Result<()> {
        let saves = self.phases.entry(phase.to_owned()).or_default();
        ensure!(
            saves.expected.insert(expected.to_owned()),
            "two writers of the {phase} checkpoint won over revision {expected}"
        );
        ensure!(
            saves.numbers.insert(number),
            "two writers saved {phase} number {number}"
        );
        Ok(())
    }

    /// Counts a save with an unknown outcome.
    pub(super) fn unclear(&mut self, phase: &str) {
        self.phases.entry(phase.to_owned()).or_default().unclear += 1;
    }
}

/// Increments the number in the latest checkpoint by compare-and-set.
pub(super) fn saver(harness: &Harness<'_>, number: usize) -> Result<()> {
    let mut random = harness.random(number);
    while harness.is_open() {
        let phase = random.choice(PHASES).unwrap_or("map");
        if random.u8(..12) == 0 {
            let prune = ["checkpoint", "prune", "--keep", "4", "--phase", phase];
            let ended = harness.call(
                harness.tool().command(prune.iter().chain(&ADDRESS)),
                Vec::new(),
                &mut random,
            )?;
            ensure!(
                !matches!(harness.outcome(&ended)?, Outcome::Conflict | Outcome::Fenced),
                "{}",
                ended.unexpected("a pruning")
            );
            continue;
        }
        let found = latest(harness, phase)?;
        let (next, revision) = found.map_or((1, "absent".to_owned()), |found| {
            (found.number + 1, found.revision)
        });
        let save = [
            "checkpoint",
            "save",
            "--phase",
            phase,
            "--expected-revision",
            &revision,
        ];
        let command = harness.tool().command(save.iter().chain(&ADDRESS));
        let ended = harness.call(command, format!(r#"{{"n":{next}}}"#).into_bytes(), &mut random)?;
        let outcome = harness.outcome(&ended)?;
        let mut ledger = harness.states.lock();
        match outcome {
            Outcome::Conflict => ledger.conflicts += 1,
            Outcome::Unclear if ended.lines().count() == 0 => ledger.unclear(phase),
            Outcome::Done | Outcome::Unclear => {
                ledger.won(phase, &revision, next)?;
                harness.did(1);
            }
            Outcome::Fenced | Outcome::Missing => bail!("{}", ended.unexpected("a save or a conflict")),
        }
    }
    Ok(())
}

/// Saves under a lock with its token. A save with the previous token must be refused afterwards.
pub(super) fn fenced(harness: &Harness<'_>, number: usize) -> Result<()> {
    let mut random = harness.random(number);
    let script = r#"number=${PRODIGY_LOCK_FENCING%%@*}; echo "$number"; echo "{\"n\":$number}" | "$@" --fencing "$PRODIGY_LOCK_NAME=$PRODIGY_LOCK_FENCING""#;
    while harness.is_open() {
        let save = ["checkpoint", "save", "--phase", "reduce"];
        let inner = harness.tool().command(save.iter().chain(&ADDRESS));
        let mut command =
            harness
                .tool()
                .command(["lock", "run", "many/saver", "--", "sh", "-c", script, "sh"]);
        command.arg(inner.get_program()).args(inner.get_args());
        let ended = harness.call(command, Vec::new(), &mut random)?;
        let outcome = harness.outcome(&ended)?;
        ensure!(
            matches!(outcome, Outcome::Done | Outcome::Unclear),
            "{}",
            ended.unexpected("a save")
        );
        let mut lines = ended.lines();
        let Some(token) = lines.next() else { continue };
        let token: u64 = std::str::from_utf8(token)?.parse().context("no token")?;
        // If the tool was killed, the command that it started may still be saving, under the lock.
        if lines.next().is_none() {
            ensure!(
                outcome == Outcome::Unclear,
                "{}",
                ended.unexpected("an acknowledgement")
            );
            continue;
        }
        harness.states.lock().tokens.hand_out(token)?;
        harness.did(1);
        if token == 1 {
            // The first token has no previous one, with which a save could be tried.
            continue;
        }
        let old = format!("many/saver={}", token - 1);
        let command = harness
            .tool()
            .command(save.iter().chain(&ADDRESS).chain(&["--fencing", old.as_str()]));
        let ended = harness.call(command, br#"{"n":0}"#.to_vec(), &mut random)?;
        match harness.outcome(&ended)? {
            Outcome::Fenced => harness.states.lock().fenced_off += 1,
            Outcome::Unclear => {}
            outcome => bail!("the outcome of a save under token {old}, after {token}: {outcome:?}"),
        }
    }
    Ok(())
}

/// A stored checkpoint.
struct SavedState {
    number: u64,
    revision: String,
    fencing: Option<u64>,
}

fn latest(harness: &Harness<'_>, phase: &str) -> Result<Option<SavedState>> {
    let show = ["checkpoint", "show", "--strict", "--phase", phase];
    let command: Command = harness.tool().command(show.iter().chain(&ADDRESS));
    let ended = harness.finish(harness.begin(command, Vec::new(), false)?, None)?;
    match harness.outcome(&ended)? {
        Outcome::Done => {}
        Outcome::Missing => return Ok(None),
        outcome => bail!("the outcome of a read of the latest checkpoint: {outcome:?}"),
    }
    let line = ended.lines().next().context("nothing is shown")?;
    let shown: Value = serde_json::from_slice(line)?;
    Ok(Some(SavedState {
        number: shown
            .pointer("/data/n")
            .and_then(Value::as_u64)
            .context("no number")?,
        revision: shown
            .get("revision")
            .and_then(Value::as_str)
            .context("no revision")?
            .to_owned(),
        fencing: shown.get("fencing").and_then(Value::as_u64),
    }))
}

/// Checks that each successful save has incremented the number by one.
pub(super) fn check(harness: &Harness<'_>, tally: &mut Tally) -> Result<()> {
    let ledger = harness.states.lock();
    let mut won = 0;
    for (phase, saves) in &ledger.phases {
        let number = latest(harness, phase)?.map_or(0, |found| found.number);
        let least = saves.numbers.len() as u64;
        let most = least + saves.unclear;
        ensure!(
            (least..=most).contains(&number),
            "the {phase} checkpoint is number {number}; {least} saves have won, {} are unclear",
            saves.unclear
        );
        won += least;
    }
    ensure!(won > 0, "no save has won");
    let under_lock = latest(harness, "reduce")?;
    let (number, fencing) = under_lock.map_or((0, None), |found| (found.number, found.fencing));
    ledger.tokens.check(number).context("the last save")?;
    ensure!(
        number == 0 || fencing == Some(number),
        "the checkpoint of token {number} says {fencing:?}"
    );
    tally.add("compare-and-set saves that won, each over its own revision", won);
    tally.add("of those that lost, and were reported", ledger.conflicts);
    tally.add("saves under an old token, all refused", ledger.fenced_off);
    Ok(())
}
