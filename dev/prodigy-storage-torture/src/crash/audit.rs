//! Checks the contents of the store after all kills.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::random::{JOB, Ledger, REPO};
use super::section::Tally;
use crate::input::{Input, same_value};
use crate::segment;
use crate::tool::Tool;

/// Compares all data with the acknowledged events, in three ways: as the tool's records, as its payloads, and in the
/// files.
pub(super) fn audit(tool: &Tool, input: &Input, ledger: &Ledger, kills: u32) -> Result<Tally> {
    let address = ["--repo", REPO, "--job", JOB];
    let records = tool
        .run(["events", "cat"].iter().chain(&address), b"")?
        .expect_code(0)?;
    let payloads = tool
        .run(["events", "cat", "--payload"].iter().chain(&address), b"")?
        .expect_code(0)?;
    let mut plain = payloads.lines();
    let unacknowledged = ledger
        .log
        .check(segment::events(&records)?, |id, position, found| {
            let payload = plain
                .next()
                .context("`events cat --payload` gives fewer events than `events cat`")?;
            same_value(&format!("payload of {id}"), found, payload)?;
            position.map_or(Ok(()), |position| {
                same_value(&format!("event {id}"), input.at(*position).as_bytes(), found)
            })
        })?;
    ensure!(
        plain.next().is_none(),
        "`events cat --payload` gives more events than `events cat`"
    );
    let disk = segment::check(tool.base(), REPO, JOB)?;
    let quarantine = tool.base().join("quarantine");
    let mut tally = Tally::default();
    tally.add("kills at random moments", kills);
    tally.add(
        "acknowledged events, each stored once, its payload the one sent",
        ledger.log.durable().len(),
    );
    tally.add(
        "of them sent again under their ids, and stored once still",
        ledger.sent_again,
    );
    tally.add(
        "stored but not acknowledged: the process died in between",
        unacknowledged,
    );
    tally.add(
        "segments, every line whole, every checksum right",
        disk.plain + disk.compressed,
    );
    tally.add(
        "torn tails in quarantine, none of them acknowledged",
        crate::tree::files(&quarantine)?.len(),
    );
    Ok(tally)
}

/// Fails if the doctor has a finding.
pub(super) fn is_sound(tool: &Tool) -> Result<()> {
    let answer = tool.run(["--json", "doctor"], b"")?.expect_code(0)?;
    for line in answer.lines() {
        let finding: Value = serde_json::from_slice(line)?;
        let severity = finding.get("severity").and_then(Value::as_str);
        ensure!(
            !matches!(severity, Some("damage" | "warning")),
            "the doctor found {finding}"
        );
    }
    Ok(())
}
