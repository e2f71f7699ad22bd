//! Checks the dead letters of the shared job at the end.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use prodigy_storage_backend::reference::Stored;
use serde_json::Value;

use super::harness::{ADDRESS, Harness};
use crate::crash::section::Tally;
use crate::tool::Tool;

/// The stored items of a job by id. Fails if an item has the data of another. Empty if the job does not exist.
pub(in crate::crash) fn stored(tool: &Tool, address: &[&str]) -> Result<BTreeMap<String, Stored>> {
    let answer = tool.run(["--json", "dlq", "list"].iter().chain(address), b"")?;
    if answer.code() == Some(4) {
        return Ok(BTreeMap::new());
    }
    let answer = answer.expect_code(0)?;
    let mut stored = BTreeMap::new();
    for line in answer.lines() {
        let item: Value = serde_json::from_slice(line)?;
        let id = item.get("item_id").and_then(Value::as_str).context("no id")?;
        let of = item.pointer("/item_data/of").and_then(Value::as_str);
        ensure!(of == Some(id), "item {id} has the data of {of:?}");
        let failures = item.get("failure_count").and_then(Value::as_u64);
        let one = Stored {
            failures: failures.with_context(|| format!("no failure_count in {item}"))?,
            eligible: item.get("reprocess_eligible") != Some(&Value::Bool(false)),
            taken: item.get("lease_until").is_some(),
        };
        let before = stored.insert(id.to_owned(), one);
        ensure!(before.is_none(), "item {id} is there twice");
    }
    Ok(stored)
}

/// Checks that every item had one holder at a time, that acknowledged items are gone, and that the others exist.
pub(super) fn check(harness: &Harness<'_>, tally: &mut Tally) -> Result<()> {
    let counts = harness.letters.lock().check(&stored(harness.tool(), &ADDRESS)?)?;
    ensure!(counts.takes > 0, "nothing was taken");
    tally.add("dead letters", counts.items);
    tally.add("takes, none while another had the item", counts.takes);
    tally.add("of them acknowledged, each gone", counts.removed);
    Ok(())
}
