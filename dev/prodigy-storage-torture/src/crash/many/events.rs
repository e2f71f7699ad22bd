//! The acknowledged events, which are compared with the stored ones.

use std::collections::{BTreeMap, HashSet};

use anyhow::{Context, Result, ensure};
use prodigy_storage_backend::reference::{Log, Reading};
use uuid::Uuid;

use super::harness::{Harness, REPO};
use crate::crash::section::Tally;
use crate::input::same_value;
use crate::segment;

/// The payload of an event: its sender, and its number.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Deserialize)]
pub(super) struct Sent {
    pub(super) by: String,
    pub(super) n: usize,
}

/// The acknowledged events by job, in the order of acknowledgement.
#[derive(Debug, Default)]
pub(super) struct EventLedger {
    jobs: BTreeMap<String, Vec<(Uuid, Sent)>>,
}

impl EventLedger {
    /// Adds acknowledged events.
    pub(super) fn note(&mut self, job: &str, fresh: Vec<(Uuid, Sent)>) {
        self.jobs.entry(job.to_owned()).or_default().extend(fresh);
    }

    /// The number of events of a job that are acknowledged so far.
    pub(super) fn known(&self, job: &str) -> usize {
        self.jobs.get(job).map_or(0, Vec::len)
    }

    /// Of the first `known` acknowledged events, the number of those that are not in `seen`.
    pub(super) fn count_missing(&self, job: &str, known: usize, seen: &Reading<Uuid>) -> usize {
        let acknowledged = self.jobs.get(job).map(Vec::as_slice).unwrap_or_default();
        acknowledged
            .iter()
            .take(known)
            .filter(|(id, _)| !seen.has(*id))
            .count()
    }

    /// Of the first `known` acknowledged events, the first one that is not in `seen`.
    pub(super) fn missing(&self, job: &str, known: usize, seen: &Reading<Uuid>) -> Option<Uuid> {
        let acknowledged = self.jobs.get(job).map(Vec::as_slice).unwrap_or_default();
        let ids = acknowledged.iter().take(known).map(|(id, _)| *id);
        ids.into_iter().find(|id| !seen.has(*id))
    }
}

/// The payload of an event, with a line of the input in it.
pub(super) fn payload(harness: &Harness<'_>, sent: &Sent) -> String {
    let Sent { by, n } = sent;
    format!(r#"{{"by":"{by}","n":{n},"line":{}}}"#, harness.input().at(*n))
}

/// Reads every job: each acknowledged event exists once, with its payload, and no event is stored twice.
pub(super) fn check(harness: &Harness<'_>, tally: &mut Tally) -> Result<()> {
    let ledger = harness.events.lock();
    ensure!(!ledger.jobs.is_empty(), "nothing was acknowledged at all");
    let (mut looked_for, mut others, mut segments) = (0, 0, 0);
    for (job, acknowledged) in &ledger.jobs {
        // Appends an event, by which a writer repairs the torn tail of the last killed one.
        let address = ["--repo", REPO, "--job", job];
        harness.tool().done(
            ["events", "append"].iter().chain(&address),
            br#"{"by":"the end","n":0,"line":null}"#,
        )?;
        let mut expected = Log::default();
        for (id, sent) in acknowledged {
            expected.store(*id, sent)?;
        }
        let answer = harness
            .tool()
            .run(["events", "cat"].iter().chain(&address), b"")?
            .expect_code(0)?;
        let mut payloads = HashSet::new();
        let compare = |id: Uuid, sent: Option<&&Sent>, event: &[u8]| {
            let found: Sent = serde_json::from_slice(event).context("no payload of ours")?;
            ensure!(
                payloads.insert(found.clone()),
                "{found:?} is stored under two ids"
            );
            let Some(sent) = sent else { return Ok(()) };
            same_value(&id.to_string(), payload(harness, sent).as_bytes(), event)
        };
        others += segment::events(&answer)
            .and_then(|events| expected.check(events, compare))
            .with_context(|| format!("job {job}"))?;
        looked_for += expected.durable().len();
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
