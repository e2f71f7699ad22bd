//! What is in the store after all the kills.

use std::collections::HashSet;

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;
use uuid::Uuid;

use super::{JOB, Ledger, REPO};
use crate::input::{Input, same_value};
use crate::segment;
use crate::tool::Tool;

/// What a run came to.
#[derive(Debug, Serialize)]
pub(super) struct Figures {
    pub(super) seed: u64,
    pub(super) seconds: f64,
    kills: u32,
    acknowledged: usize,
    sent_again: usize,
    /// Stored by a process that died before it could say so.
    unacknowledged: usize,
    segments: usize,
    quarantined: usize,
}

impl Figures {
    /// For a person.
    pub(super) fn print(&self) {
        println!(
            "  killed                      {:>7} times in {:.1} s",
            self.kills, self.seconds
        );
        println!(
            "  acknowledged events         {:>7} each stored once, its payload the one sent",
            self.acknowledged
        );
        println!(
            "  sent again under their ids  {:>7} and stored once still",
            self.sent_again
        );
        println!(
            "  stored, not acknowledged    {:>7} (allowed: the process died in between)",
            self.unacknowledged
        );
        println!(
            "  segments                    {:>7} every line whole, every checksum right",
            self.segments
        );
        println!(
            "  torn tails in quarantine    {:>7} (none of them was acknowledged)",
            self.quarantined
        );
        println!("crash: nothing lost, nothing torn, nothing twice");
    }
}

/// Reads everything back, three ways: the tool's records, the tool's payloads, and the files themselves.
pub(super) fn audit(tool: &Tool, input: &Input, ledger: &Ledger, kills: u32) -> Result<Figures> {
    let address = ["--repo", REPO, "--job", JOB];
    let records = tool
        .run(["events", "cat"].iter().chain(&address), b"")?
        .expect_code(0)?;
    let payloads = tool
        .run(["events", "cat", "--payload"].iter().chain(&address), b"")?
        .expect_code(0)?;
    let (mut seen, mut unacknowledged) = (HashSet::<Uuid>::new(), 0);
    let mut plain = payloads.lines();
    for line in records.lines() {
        let record = segment::record(line)?;
        ensure!(seen.insert(record.id), "{} is stored twice", record.id);
        let found = record.event.get().as_bytes();
        let payload = plain
            .next()
            .context("`events cat --payload` gives fewer events than `events cat`")?;
        same_value(&format!("payload of {}", record.id), found, payload)?;
        match ledger.acknowledged.get(&record.id) {
            Some(position) => same_value(
                &format!("event {}", record.id),
                input.at(*position).as_bytes(),
                found,
            )?,
            None => unacknowledged += 1,
        }
    }
    ensure!(
        plain.next().is_none(),
        "`events cat --payload` gives more events than `events cat`"
    );
    let lost: Vec<&Uuid> = ledger
        .acknowledged
        .keys()
        .filter(|id| !seen.contains(id))
        .collect();
    if let Some(first) = lost.first() {
        bail!(
            "{} acknowledged events are not there, {first} for one",
            lost.len()
        );
    }
    let disk = segment::check(tool.base(), REPO, JOB)?;
    let quarantine = tool.base().join("quarantine");
    Ok(Figures {
        seed: 0,
        seconds: 0.0,
        kills,
        acknowledged: ledger.acknowledged.len(),
        sent_again: ledger.sent_again,
        unacknowledged,
        segments: disk.plain + disk.compressed,
        quarantined: crate::tree::files(&quarantine)?.len(),
    })
}
