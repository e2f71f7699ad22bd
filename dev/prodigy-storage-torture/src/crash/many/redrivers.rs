//! Roles that push dead letters, and roles that take them.

use anyhow::{Context, Result, bail, ensure};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::harness::{ADDRESS, Harness, Outcome};
use super::letters::{How, Span};
use crate::input::joined;

/// Items of this name are given back always, so that their failures add up.
const KEPT: &str = "kept";

/// Pushes new items, and failures of some that are kept.
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
            .map(|id| format!(r#"{{"item_id":"{id}","item_data":{{"of":"{id}"}}}}"#))
            .collect();
        let command = harness.tool().command(["dlq", "push"].iter().chain(&ADDRESS));
        let ended = harness.call(command, joined(lines.iter().map(String::as_str)), &mut random)?;
        let outcome = harness.outcome(&ended)?;
        ensure!(
            matches!(outcome, Outcome::Done | Outcome::Unclear),
            "{}",
            ended.unexpected("a push")
        );
        let mut ledger = harness.letters.alone();
        for id in &ids {
            ledger.pushed(id, outcome == Outcome::Done);
        }
        harness.did(ids.len());
    }
    Ok(())
}

/// Takes some, and acknowledges them, gives them back, or forgets them.
pub(super) fn redriver(harness: &Harness<'_>, number: usize) -> Result<()> {
    let mut random = harness.random(number);
    while harness.is_open() {
        let limit = random.usize(1..9).to_string();
        let length = SignedDuration::from_secs(random.choice([1, 3, 60, 60]).unwrap_or(60));
        let lease = format!("{}s", length.as_secs());
        let take = ["dlq", "take", "--limit", limit.as_str(), "--lease", &lease];
        let (ended, taken) = timed(harness, &take, &[], &mut random)?;
        if harness.outcome(&ended)? == Outcome::Missing {
            continue;
        }
        let (mut ack, mut nack) = (Vec::new(), Vec::new());
        for line in ended.lines() {
            let item: Value = serde_json::from_slice(line).context("no item")?;
            let text = |key: &str| {
                item.get(key)
                    .and_then(Value::as_str)
                    .with_context(|| format!("no {key}"))
            };
            let (id, token) = (text("item_id")?, text("lease_token")?.to_owned());
            // It counts from some moment in the call, whatever the clock of the process says.
            let until = taken.start + length;
            harness.letters.alone().took(id, token.clone(), taken, until)?;
            harness.did(1);
            match random.u8(..4) {
                _ if id.starts_with(KEPT) => nack.push(token),
                0 => {}
                1 => nack.push(token),
                _ => ack.push(token),
            }
        }
        settle(harness, "ack", &ack, How::Acked, &mut random)?;
        settle(harness, "release", &nack, How::Given, &mut random)?;
    }
    Ok(())
}

fn settle(
    harness: &Harness<'_>,
    word: &str,
    tokens: &[String],
    how: How,
    random: &mut fastrand::Rng,
) -> Result<()> {
    if tokens.is_empty() {
        return Ok(());
    }
    let (ended, span) = timed(harness, &["--json", "dlq", word], tokens, random)?;
    let outcome = harness.outcome(&ended)?;
    let mut ledger = harness.letters.alone();
    let Some(line) = ended.lines().next() else {
        ensure!(
            outcome == Outcome::Unclear,
            "{}",
            ended.unexpected("what was settled")
        );
        return tokens
            .iter()
            .try_for_each(|token| ledger.settled(token, span, How::Unclear));
    };
    let answer: Value = serde_json::from_slice(line)?;
    for token in tokens {
        let among = |key: &str| {
            let list = answer.get(key).and_then(Value::as_array);
            list.is_some_and(|list| list.iter().any(|other| other.as_str() == Some(token)))
        };
        match (among("settled"), among("kept"), among("unknown")) {
            (true, false, false) => ledger.settled(token, span, how)?,
            (false, true, false) => ledger.settled(token, span, How::Given)?,
            (false, false, true) => ledger.settled(token, span, How::Refused)?,
            _ => bail!("the answer for token {token}: {answer}"),
        }
        harness.did(1);
    }
    Ok(())
}

/// A call with when it was.
fn timed(
    harness: &Harness<'_>,
    words: &[&str],
    more: &[String],
    random: &mut fastrand::Rng,
) -> Result<(crate::crash::power::process::Ended, Span)> {
    let mut command = harness.tool().command(words.iter().chain(&ADDRESS));
    command.args(more);
    let start = Timestamp::now();
    let ended = harness.call(command, Vec::new(), random)?;
    let end = Timestamp::now();
    Ok((ended, Span { start, end }))
}
