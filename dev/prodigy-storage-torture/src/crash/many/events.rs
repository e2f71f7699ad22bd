//! The acknowledged events, and the stored ones at the end.

use std::collections::{BTreeMap, HashMap, HashSet};

use anyhow::{Context, Result, bail, ensure};
use uuid::Uuid;

use super::harness::{Harness, REPO};
use crate::crash::section::Tally;
use crate::input::same_value;
use crate::segment;

/// An event's payload: who sent it, and which of its own it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Deserialize)]
pub(super) struct Sent {
    pub(super) by: String,
    pub(super) n: usize,
}

/// The acknowledged events, by job, in the order of their acknowledgements.
#[derive(Debug, Default)]
pub(super) struct EventLedger {
    jobs: BTreeMap<String, Vec<(Uuid, Sent)>>,
}

impl EventLedger {
    /// Notes acknowledgements.
    pub(super) fn note(&mut self, job: &str, fresh: Vec<(Uuid, Sent)>) {
        self.jobs.entry(job.to_owned()).or_default().extend(fresh);
    }

    /// How many are acknowledged in a job by now.
    pub(super) fn known(&self, job: &str) -> usize {
        self.jobs.get(job).map_or(0, Vec::len)
    }

    /// How many of the first `known` are not among those seen.
    pub(super) fn count_missing(&self, job: &str, known: usize, seen: &HashSet<Uuid>) -> usize {
        let acknowledged = self.jobs.get(job).map(Vec::as_slice).unwrap_or_default();
        acknowledged
            .iter()
            .take(known)
            .filter(|(id, _)| !seen.contains(id))
            .count()
    }

    /// The first of the first `known` that is not among those seen.
    pub(super) fn missing(&self, job: &str, known: usize, seen: &HashSet<Uuid>) -> Option<Uuid> {
        let acknowledged = self.jobs.get(job).map(Vec::as_slice).unwrap_or_default();
        let ids = acknowledged.iter().take(known).map(|(id, _)| *id);
        ids.into_iter().find(|id| !seen.contains(id))
    }
}

/// The payload as it is sent.
pub(super) fn payload(harness: &Harness<'_>, sent: &Sent) -> String {
    let Sent { by, n } = sent;
    format!(r#"{{"by":"{by}","n":{n},"line":{}}}"#, harness.input().at(*n))
}

/// Reads every job: each acknowledged event is there once, with its payload, and none was stored twice.
pub(super) fn check(harness: &Harness<'_>, tally: &mut Tally) -> Result<()> {
    let ledger = harness.events.alone();
    ensure!(!ledger.jobs.is_empty(), "nothing was acknowledged at all");
    let (mut looked_for, mut others, mut segments) = (0, 0, 0);
    for (job, acknowledged) in &ledger.jobs {
        // One more writer mends what the last dead one left.
        let address = ["--repo", REPO, "--job", job];
        harness.tool().done(
            ["events", "append"].iter().chain(&address),
            br#"{"by":"the end","n":0,"line":null}"#,
        )?;
        let expected: HashMap<&Uuid, &Sent> = acknowledged.iter().map(|(id, sent)| (id, sent)).collect();
        let answer = harness
            .tool()
            .run(["events", "cat"].iter().chain(&address), b"")?
            .expect_code(0)?;
        let (mut seen, mut payloads) = (HashSet::new(), HashSet::new());
        let mut last = Uuid::nil();
        for line in answer.lines() {
            let record = segment::record(line)?;
            ensure!(record.id >= last, "job {job}: {} comes after {last}", record.id);
            last = record.id;
            let found: Sent = serde_json::from_str(record.event.get()).context("no payload of ours")?;
            ensure!(seen.insert(record.id), "job {job}: {} is read twice", record.id);
            ensure!(
                payloads.insert(found.clone()),
                "job {job}: {found:?} is stored under two ids"
            );
            match expected.get(&record.id) {
                Some(sent) => {
                    ensure!(
                        **sent == found,
                        "job {job}: {} holds {found:?}, sent was {sent:?}",
                        record.id
                    );
                    let sent = payload(harness, sent);
                    same_value(
                        &format!("job {job}: {}", record.id),
                        sent.as_bytes(),
                        record.event.get().as_bytes(),
                    )?;
                }
                None => others += 1,
            }
        }
        if let Some((id, sent)) = expected.iter().find(|(id, _)| !seen.contains(**id)) {
            bail!("job {job}: {sent:?} was acknowledged as {id} and is gone");
        }
        looked_for += expected.len();
        let disk = segment::check(harness.tool().base(), REPO, job)?;
        segments += disk.plain + disk.compressed;
    }
    tally.add(
        "acknowledged events, each there once with its payload",
        looked_for,
    );
    tally.add(
        "events stored and not acknowledged, as their process was killed",
        others,
    );
    tally.add("jobs", ledger.jobs.len());
    tally.add("segments", segments);
    Ok(())
}
