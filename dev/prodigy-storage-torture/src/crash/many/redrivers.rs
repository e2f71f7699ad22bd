//! Roles that push dead letters, and roles that take and settle them.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use jiff::Timestamp;
use prodigy_storage_backend::Settled;
use prodigy_storage_backend::reference::{Change, Span};
use serde_json::Value;

use super::harness::{ADDRESS, Harness, Outcome};
use crate::crash::power::process::Ended;
use crate::input::joined;

/// The prefix of items that are always released, so that their failures accumulate.
const KEPT: &str = "kept";

/// Pushes new items, and failures of existing ones.
pub(super) fn pusher(harness: &Harness<'_>, number: usize) -> Result<()> {
    let mut random = harness.random(number);
    let mut next = 0;
    while harness.is_open() {
        let mut ids: Vec<String> = (0..random.usize(1..12))
            .map(|of| format!("item-{number}-{}", next + of))
            .collect();
        next += ids.len();
        if random.bool() {
            ids.push(format!("{KEPT}-{}", random.u8(..5)));
        }
        let lines: Vec<String> = ids
            .iter()
            .map(|id| {
                // An item stores a failure once, so each push has a new failure.
                format!(
                    r#"{{"item_id":"{id}","item_data":{{"of":"{id}"}},"failure_history":[{{"error_message":"{number}-{next}"}}]}}"#
                )
            })
            .collect();
        let command = harness.tool().command(["dlq", "push"].iter().chain(&ADDRESS));
        let input = joined(lines.iter().map(String::as_str));
        let (ended, span) = timed(harness, command, input, &mut random)?;
        let outcome = harness.outcome(&ended)?;
        ensure!(
            matches!(outcome, Outcome::Done | Outcome::Unclear),
            "{}",
            ended.unexpected("a push")
        );
        let mut ledger = harness.letters.lock();
        for id in &ids {
            ledger.push(id.clone(), span, outcome == Outcome::Done);
        }
        harness.did(ids.len());
    }
    Ok(())
}

/// Takes items, and acknowledges, releases or abandons them.
pub(super) fn redriver(harness: &Harness<'_>, number: usize) -> Result<()> {
    let mut random = harness.random(number);
    while harness.is_open() {
        let limit = random.usize(1..9).to_string();
        let length = Duration::from_secs(random.choice([1, 3, 60, 60]).unwrap_or(60));
        let lease = format!("{}s", length.as_secs());
        let take = ["dlq", "take", "--limit", limit.as_str(), "--lease", &lease];
        let command = harness.tool().command(take.iter().chain(&ADDRESS));
        let (ended, span) = timed(harness, command, Vec::new(), &mut random)?;
        if harness.outcome(&ended)? == Outcome::Missing {
            continue;
        }
        let (mut ack, mut release) = (Vec::new(), Vec::new());
        for line in ended.lines() {
            let item: Value = serde_json::from_slice(line).context("no item")?;
            let text = |key: &str| {
                let text = item.get(key).and_then(Value::as_str).map(str::to_owned);
                text.with_context(|| format!("no {key}"))
            };
            let taken = (text("item_id")?, text("lease_token")?);
            // The lease began during the call, whatever the process's clock says. So it ends at the earliest at the
            // call's start plus the lease's length.
            let until = span.start.saturating_add(nanos(length.as_nanos()));
            let (id, token) = taken.clone();
            harness.letters.lock().take(id, token, span, until)?;
            harness.did(1);
            match random.u8(..4) {
                _ if taken.0.starts_with(KEPT) => release.push(taken),
                0 => {}
                1 => release.push(taken),
                _ => ack.push(taken),
            }
        }
        settle(harness, "ack", &ack, Change::Remove, &mut random)?;
        settle(harness, "release", &release, Change::Release(None), &mut random)?;
    }
    Ok(())
}

/// Settles taken items, given as ids and tokens.
fn settle(
    harness: &Harness<'_>,
    word: &str,
    taken: &[(String, String)],
    change: Change<()>,
    random: &mut fastrand::Rng,
) -> Result<()> {
    if taken.is_empty() {
        return Ok(());
    }
    let mut command = harness
        .tool()
        .command(["--json", "dlq", word].iter().chain(&ADDRESS));
    command.args(taken.iter().map(|(_, token)| token));
    let (ended, span) = timed(harness, command, Vec::new(), random)?;
    let answer: Option<Value> = match ended.lines().next() {
        Some(line) => Some(serde_json::from_slice(line)?),
        None => None,
    };
    let outcome = harness.outcome(&ended)?;
    ensure!(
        answer.is_some() || outcome == Outcome::Unclear,
        "{}",
        ended.unexpected("what was settled")
    );
    for (id, token) in taken {
        let among = |answer: &Value, key: &str| {
            let list = answer.get(key).and_then(Value::as_array);
            list.is_some_and(|list| list.iter().any(|other| other.as_str() == Some(token)))
        };
        let settled = match &answer {
            None => None,
            Some(answer) => {
                let names = [
                    ("settled", Settled::Done),
                    ("kept", Settled::Kept),
                    ("unknown", Settled::Unknown),
                ];
                let mut settled = names.iter().filter(|(name, _)| among(answer, name));
                let (Some((_, outcome)), None) = (settled.next(), settled.next()) else {
                    bail!("the answer for token {token}: {answer}");
                };
                harness.did(1);
                Some(*outcome)
            }
        };
        let mut ledger = harness.letters.lock();
        ledger.settle(id.clone(), Some(token.clone()), change, span, settled);
    }
    Ok(())
}

/// Makes a call. Returns its result with the times of its begin and end.
fn timed(
    harness: &Harness<'_>,
    command: Command,
    input: Vec<u8>,
    random: &mut fastrand::Rng,
) -> Result<(Ended, Span)> {
    let now = || nanos(Timestamp::now().as_nanosecond().unsigned_abs());
    let start = now();
    let ended = harness.call(command, input, random)?;
    Ok((ended, Span { start, end: now() }))
}

fn nanos(nanos: u128) -> u64 {
    u64::try_from(nanos).unwrap_or(u64::MAX)
}
