//! Events: the expected contents of logs.

use std::collections::{BTreeMap, HashMap, HashSet};

use anyhow::{Context, Result, bail, ensure};
use prodigy_storage_backend::reference::{Certainty, Log, Reading};
use prodigy_storage_backend::{Cursor, ErrorKind, EventId, LogStore, ScanItem, ScanOptions};
use prodigy_storage_file::FileBackend;
use prodigy_storage_layout::JobAddress;
use serde::Deserialize;

use super::certainty;
use crate::crash::Loss;
use crate::history::{Action, Answer, History};
use crate::stage::patience;

/// The expected events of one log.
#[derive(Debug, Default)]
struct Expected<'a> {
    /// The acknowledged events.
    log: Log<EventId, &'a str>,
    /// Events that may exist, with their ids if they were given.
    may: HashMap<&'a str, Option<EventId>>,
    /// Batches that were not acknowledged: the first events of each may exist.
    batches: Vec<&'a [String]>,
    /// True if the power failed after relaxed writes: bytes of an earlier write may be zeros although later bytes were
    /// kept.
    holes: bool,
}

#[derive(Deserialize)]
struct Line {
    event: String,
}

pub(super) fn verify(history: &History, loss: Loss, backend: &FileBackend) -> Result<()> {
    for (job, expected) in expected(history, loss)? {
        let found = expected.read(backend, &job, &ScanOptions::all())?;
        expected
            .compare(&found)
            .with_context(|| format!("events of {job}"))?;
        for op in history.ops() {
            if let (Action::Scan { job: of }, Some((_, Answer::Scanned { cursor, given }))) =
                (&op.action, &op.answer)
                && *of == job
            {
                expected
                    .continue_from(backend, &job, cursor, given, loss)
                    .with_context(|| {
                        format!("events of {job}, from a cursor behind {} events", given.len())
                    })?;
            }
        }
    }
    Ok(())
}

/// Checks that a reader continues from a cursor that it had at the moment of the crash.
///
/// # Errors
/// A broken promise, with the expected and the found value.
pub(crate) fn resume(
    history: &History,
    loss: Loss,
    backend: &FileBackend,
    job: &JobAddress,
    cursor: &Cursor,
    given: &HashSet<EventId>,
) -> Result<()> {
    match expected(history, loss)?.remove(job) {
        Some(expected) => expected
            .continue_from(backend, job, cursor, given, loss)
            .with_context(|| {
                format!(
                    "events of {job}, from a cursor taken at the crash behind {} events",
                    given.len()
                )
            }),
        None => Ok(()),
    }
}

fn expected(history: &History, loss: Loss) -> Result<BTreeMap<JobAddress, Expected<'_>>> {
    let mut logs: BTreeMap<JobAddress, Expected<'_>> = BTreeMap::new();
    for op in history.ops() {
        match &op.action {
            Action::Append {
                job,
                payloads,
                given,
                durability,
                ..
            } => {
                let expected = logs.entry(job.clone()).or_default();
                let (ids, stored) = match &op.answer {
                    Some((_, Answer::Appended { ids, stored })) => (Some(ids), *stored),
                    _ => (given.as_ref(), 0),
                };
                let ids = (0..).map(|at: usize| ids.and_then(|ids| ids.get(at).copied()));
                let certainty = certainty(op, *durability, loss);
                for (payload, id) in payloads.iter().map(String::as_str).zip(ids) {
                    match (certainty, id) {
                        (Certainty::Durable, Some(id)) => expected.log.store(id, payload)?,
                        (Certainty::Relaxed(process), Some(id)) => {
                            expected.may.insert(payload, Some(id));
                            expected.log.store_relaxed(process, id, payload);
                        }
                        _ => {
                            expected.may.insert(payload, id);
                        }
                    }
                }
                match certainty {
                    // The sync of this append covers earlier writes of the process to the log.
                    Certainty::Durable if stored > 0 => expected.log.flush(op.process)?,
                    Certainty::Durable => {}
                    Certainty::Unclear if given.is_some() => {}
                    _ => expected.batches.push(payloads),
                }
            }
            Action::PowerFailure => {
                for expected in logs.values_mut() {
                    expected.holes |= expected.log.lose();
                }
            }
            Action::Flush if op.answer.is_some() => {
                for expected in logs.values_mut() {
                    expected.log.flush(op.process)?;
                }
            }
            _ => {}
        }
    }
    Ok(logs)
}

impl Expected<'_> {
    fn compare(&self, found: &[(EventId, String)]) -> Result<()> {
        let mut seen = HashSet::new();
        let events = found.iter().map(|(id, payload)| (*id, payload.as_str()));
        self.log.check(events, |id, stored, payload| {
            ensure!(seen.insert(payload), "`{payload:.20}` was read under two ids");
            match (stored, self.may.get(payload)) {
                (Some(stored), _) => ensure!(
                    *stored == payload,
                    "under {id} `{stored:.20}` was stored, `{payload:.20}` was read"
                ),
                (None, Some(Some(given))) => {
                    ensure!(
                        *given == id,
                        "`{payload:.20}` was given as {given}, and read as {id}"
                    );
                }
                (None, Some(None)) => {}
                (None, None) => bail!("`{payload:.20}` was read, which nobody appended, under {id}"),
            }
            Ok(())
        })?;
        for batch in &self.batches {
            let there: Vec<bool> = batch
                .iter()
                .map(|payload| seen.contains(payload.as_str()))
                .collect();
            ensure!(
                !there.windows(2).any(|pair| pair == [false, true]),
                "of a batch something stands without what came before it: {there:?}"
            );
        }
        Ok(())
    }

    fn continue_from(
        &self,
        backend: &FileBackend,
        job: &JobAddress,
        cursor: &Cursor,
        given: &HashSet<EventId>,
        loss: Loss,
    ) -> Result<()> {
        let found = match self.read(backend, job, &ScanOptions::after(cursor.clone())) {
            Err(error)
                if loss == Loss::Power
                    && given.iter().any(|id| self.log.get(*id).is_none())
                    && error.downcast_ref().is_some_and(
                        |error: &prodigy_storage_backend::StorageError| error.kind() == ErrorKind::CursorGap,
                    ) =>
            {
                // The cursor covers events that were never durable and are lost, so a reported gap is right.
                return Ok(());
            }
            other => other?,
        };
        // If a power loss removed an event that the reader has, the log may differ after it, and other events may be
        // returned again.
        let lost = loss == Loss::Power && {
            let all = self.read(backend, job, &ScanOptions::all())?;
            let stand: HashSet<EventId> = all.into_iter().map(|(id, _)| id).collect();
            given.iter().any(|id| !stand.contains(id))
        };
        let mut reading = Reading::default();
        for (id, payload) in &found {
            ensure!(
                lost || !given.contains(id),
                "`{payload:.20}` ({id}) was given before, and again"
            );
            reading.give(*id)?;
        }
        self.log.check_seen(|id| given.contains(&id) || reading.has(id))?;
        Ok(())
    }

    fn read(
        &self,
        backend: &FileBackend,
        job: &JobAddress,
        options: &ScanOptions,
    ) -> Result<Vec<(EventId, String)>> {
        let mut scan = backend.scan(job, options, patience())?;
        let mut found = Vec::new();
        while let Some(item) = scan.next()? {
            match item {
                ScanItem::Record(record) => {
                    ensure!(record.verified, "an event has no checksum: {}", record.line);
                    let line: Line = serde_json::from_str(record.line)
                        .with_context(|| format!("an event is no JSON: {}", record.line))?;
                    found.push((record.id, line.event));
                }
                ScanItem::Damage(_) if self.holes => {}
                ScanItem::Damage(damage) => bail!("damage that nobody caused: {damage}"),
                ScanItem::TooLarge(record) => bail!("{record}"),
            }
        }
        Ok(found)
    }
}
