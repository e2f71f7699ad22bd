//! Events: what logs have to give.

use std::collections::{BTreeMap, HashMap, HashSet};

use anyhow::{Context, Result, bail, ensure};
use prodigy_storage_backend::{Cursor, ErrorKind, EventId, LogStore, ScanItem, ScanOptions};
use prodigy_storage_file::FileBackend;
use prodigy_storage_layout::JobAddress;
use serde::Deserialize;

use super::holds;
use crate::crash::Loss;
use crate::history::{Action, Answer, History};
use crate::stage::patience;

/// The expected events of one log.
#[derive(Debug, Default)]
struct Expected<'a> {
    /// The acknowledged events, by id.
    must: BTreeMap<EventId, &'a str>,
    /// Events that may be there, each with its id if it was given.
    may: HashMap<&'a str, Option<EventId>>,
    /// Batches of which a prefix may be there.
    batches: Vec<&'a [String]>,
    /// Events that a loss of power takes unless they are flushed, by process.
    relaxed: HashMap<u32, Vec<(EventId, &'a str)>>,
    /// Whether the power failed over relaxed writes: what one of them left may be zeros below what a later one left.
    holes: bool,
}

#[derive(Deserialize)]
struct Line {
    event: String,
}

pub(super) fn verify(history: &History, loss: Loss, backend: &FileBackend) -> Result<()> {
    for (job, expected) in expected(history, loss) {
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
                    .go_on(backend, &job, cursor, given, loss)
                    .with_context(|| {
                        format!("events of {job}, from a cursor behind {} events", given.len())
                    })?;
            }
        }
    }
    Ok(())
}

/// Continues from a cursor that a reader took at the moment of the crash.
///
/// # Errors
/// The expected and the found value.
pub(crate) fn resume(
    history: &History,
    loss: Loss,
    backend: &FileBackend,
    job: &JobAddress,
    cursor: &Cursor,
    given: &HashSet<EventId>,
) -> Result<()> {
    match expected(history, loss).remove(job) {
        Some(expected) => expected
            .go_on(backend, job, cursor, given, loss)
            .with_context(|| {
                format!(
                    "events of {job}, from a cursor taken at the crash behind {} events",
                    given.len()
                )
            }),
        None => Ok(()),
    }
}

fn expected(history: &History, loss: Loss) -> BTreeMap<JobAddress, Expected<'_>> {
    let mut logs: BTreeMap<JobAddress, Expected<'_>> = BTreeMap::new();
    for op in history.ops() {
        match &op.action {
            Action::Append {
                job,
                payloads,
                given,
                durability,
            } => {
                let log = logs.entry(job.clone()).or_default();
                match &op.answer {
                    Some((_, Answer::Appended { ids, stored })) => {
                        let events = ids.iter().copied().zip(payloads.iter().map(String::as_str));
                        if holds(*durability, loss) {
                            log.must.extend(events);
                            // Its sync covered what this process had written to the log before.
                            if *stored > 0 {
                                log.keep(op.process);
                            }
                        } else {
                            log.may.extend(
                                payloads
                                    .iter()
                                    .zip(ids)
                                    .map(|(payload, id)| (payload.as_str(), Some(*id))),
                            );
                            log.batches.push(payloads);
                            log.relaxed.entry(op.process).or_default().extend(events);
                        }
                    }
                    _ => {
                        let ids = |at: usize| given.as_ref().and_then(|given| given.get(at).copied());
                        let events = payloads.iter().enumerate();
                        log.may
                            .extend(events.map(|(at, payload)| (payload.as_str(), ids(at))));
                        if given.is_none() {
                            log.batches.push(payloads);
                        }
                    }
                }
            }
            Action::PowerFailure => {
                for log in logs.values_mut() {
                    log.holes |= log.relaxed.drain().count() > 0;
                }
            }
            Action::Flush if op.answer.is_some() => {
                for log in logs.values_mut() {
                    log.keep(op.process);
                }
            }
            _ => {}
        }
    }
    logs
}

impl Expected<'_> {
    /// Marks the relaxed writes of a process as durable.
    fn keep(&mut self, process: u32) {
        self.must
            .extend(self.relaxed.remove(&process).unwrap_or_default());
    }

    fn compare(&self, found: &[(EventId, String)]) -> Result<()> {
        let mut seen: HashMap<&str, EventId> = HashMap::new();
        let mut last = EventId::MIN;
        for (id, payload) in found {
            ensure!(*id > last, "ids ascend: {id} came behind {last}");
            last = *id;
            let shown: String = payload.chars().take(20).collect();
            if seen.insert(payload, *id).is_some() {
                bail!("`{shown}` was read twice");
            }
            match self.must.get(id) {
                Some(expected) => ensure!(
                    *expected == payload,
                    "under {id} `{expected:.20}` was stored, `{shown}` was read"
                ),
                None => match self.may.get(payload.as_str()) {
                    Some(Some(given)) => {
                        ensure!(given == id, "`{shown}` was given as {given}, and read as {id}");
                    }
                    Some(None) => {}
                    None => bail!("`{shown}` was read, which nobody appended, under {id}"),
                },
            }
        }
        for (id, payload) in &self.must {
            ensure!(
                seen.get(payload) == Some(id),
                "`{payload:.20}` was acknowledged as {id}, and is not there"
            );
        }
        for batch in &self.batches {
            let there: Vec<bool> = batch
                .iter()
                .map(|payload| seen.contains_key(payload.as_str()))
                .collect();
            ensure!(
                !there.windows(2).any(|pair| pair == [false, true]),
                "of a batch something stands without what came before it: {there:?}"
            );
        }
        Ok(())
    }

    fn go_on(
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
                    && given.iter().any(|id| !self.must.contains_key(id))
                    && error.downcast_ref().is_some_and(
                        |error: &prodigy_storage_backend::StorageError| error.kind() == ErrorKind::CursorGap,
                    ) =>
            {
                // The cursor was behind events that were never acknowledged as durable, and they are gone: it reports the gap.
                return Ok(());
            }
            other => other?,
        };
        // Where a power loss took an event that was given, the others may be given again: no one knows what was appended
        // in its place.
        let lost = loss == Loss::Power && {
            let all = self.read(backend, job, &ScanOptions::all())?;
            let stand: HashSet<EventId> = all.into_iter().map(|(id, _)| id).collect();
            given.iter().any(|id| !stand.contains(id))
        };
        let mut seen = HashSet::new();
        for (id, payload) in &found {
            ensure!(
                lost || !given.contains(id),
                "`{payload:.20}` ({id}) was given before, and again"
            );
            ensure!(seen.insert(*id), "`{payload:.20}` ({id}) was given twice");
        }
        for (id, payload) in &self.must {
            ensure!(
                given.contains(id) || seen.contains(id),
                "`{payload:.20}` ({id}) was acknowledged, and passed over"
            );
        }
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
