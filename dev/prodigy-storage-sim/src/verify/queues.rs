//! Dead letters: what each queue has to hold.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use prodigy_storage_backend::{QueueEntry, QueueStep, QueueStore, Select};
use prodigy_storage_file::FileBackend;
use prodigy_storage_layout::JobAddress;
use serde::Deserialize;

use super::holds;
use crate::crash::Loss;
use crate::history::{Action, Answer, History, Op};
use crate::stage::patience;

/// How sure a failure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sure {
    /// It has to be there.
    Must,
    /// It was written by this process, and goes with the power.
    Relaxed(u32),
    /// No acknowledgement arrived.
    Perhaps,
}

/// The known state of one item.
#[derive(Clone, Debug, Default)]
struct Item {
    /// It has to be there.
    must: bool,
    /// It may be there.
    may: bool,
    /// Its failures, in the order in which they were pushed.
    failures: Vec<(String, Sure)>,
    /// By which token it is taken, for sure.
    token: Option<String>,
    /// True if an unacknowledged take may hold it, or no take at all.
    loose: bool,
}

#[derive(Debug, Default)]
struct Queue {
    items: BTreeMap<String, Item>,
    /// Whether the power failed over writes that were not acknowledged, or relaxed: what one of them left may be zeros below
    /// what a later one left.
    holes: bool,
    /// Whether an operation got no answer: its writes may be there, and not durable.
    unanswered: bool,
}

#[derive(Deserialize)]
struct Body {
    item_data: String,
    failure_history: Vec<Failure>,
}

#[derive(Deserialize)]
struct Failure {
    error_message: String,
}

pub(super) fn verify(history: &History, loss: Loss, backend: &FileBackend) -> Result<()> {
    for (job, queue) in told(history, loss) {
        let mut left = queue.items;
        for step in backend.queue_scan(&job, &Select::any(), patience())? {
            let entry = match step? {
                QueueStep::Entry(entry) => entry,
                QueueStep::Damage(_) if queue.holes => continue,
                QueueStep::Damage(damage) => bail!("queue of {job}: damage that nobody caused: {damage}"),
                QueueStep::TooLarge(item) => bail!("queue of {job}: {item}"),
            };
            let key = entry.id.as_str().to_owned();
            let Some(item) = left.remove(&key) else {
                bail!("queue of {job}: `{key}` stands there twice, or nobody pushed it");
            };
            item.compare(&entry)
                .with_context(|| format!("queue of {job}, item `{key}`"))?;
        }
        if let Some((key, _)) = left.iter().find(|(_, item)| item.must) {
            bail!("queue of {job}: `{key}` was acknowledged, and is not there");
        }
    }
    Ok(())
}

fn told(history: &History, loss: Loss) -> BTreeMap<JobAddress, Queue> {
    let mut queues: BTreeMap<JobAddress, Queue> = BTreeMap::new();
    for op in history.ops() {
        match &op.action {
            Action::Push { job, .. }
            | Action::Take { job }
            | Action::Settle { job, .. }
            | Action::Nack { job, .. }
            | Action::Extend { job }
            | Action::Fail { job, .. }
            | Action::Compact { job } => queues.entry(job.clone()).or_default().take_in(op, loss),
            Action::PowerFailure => queues.values_mut().for_each(Queue::lose),
            Action::Flush if op.answer.is_some() => {
                queues.values_mut().for_each(|queue| queue.keep(Some(op.process)));
            }
            _ => {}
        }
    }
    queues
}

impl Queue {
    fn take_in(&mut self, op: &Op, loss: Loss) {
        let answered = op.answer.is_some();
        self.unanswered |= !answered;
        match &op.action {
            Action::Push {
                items, durability, ..
            } => {
                let sure = match (answered, holds(*durability, loss)) {
                    (false, _) => Sure::Perhaps,
                    (true, false) => Sure::Relaxed(op.process),
                    (true, true) => Sure::Must,
                };
                for (key, message) in items {
                    let item = self.items.entry(key.clone()).or_default();
                    item.may = true;
                    item.must |= sure == Sure::Must;
                    item.failures.push((message.clone(), sure));
                }
                if sure == Sure::Must {
                    self.keep(None);
                }
            }
            Action::Take { .. } => match &op.answer {
                Some((_, Answer::Taken(taken))) => {
                    self.keep_if(!taken.is_empty());
                    for (key, token) in taken {
                        if let Some(item) = self.items.get_mut(key) {
                            item.token = Some(token.as_str().to_owned());
                            item.loose = false;
                        }
                    }
                }
                _ => self.items.values_mut().for_each(|item| item.loose = true),
            },
            Action::Settle { keys, .. } => {
                self.keep_if(answered && keys.iter().any(|key| self.items.contains_key(key)));
                let kept = match &op.answer {
                    Some((_, Answer::Kept(kept))) => kept.as_slice(),
                    _ => &[],
                };
                for key in keys {
                    if kept.contains(key) {
                        if let Some(item) = self.items.get_mut(key) {
                            item.token = None;
                        }
                    } else if answered {
                        self.items.insert(key.clone(), Item::default());
                    } else if let Some(item) = self.items.get_mut(key) {
                        // A later item under this key may start again.
                        item.must = false;
                        item.loose = true;
                        item.failures
                            .iter_mut()
                            .for_each(|(_, sure)| *sure = Sure::Perhaps);
                    }
                }
            }
            Action::Nack { keys, .. } => {
                self.keep_if(answered && !keys.is_empty());
                for key in keys {
                    if let Some(item) = self.items.get_mut(key) {
                        item.loose = !answered;
                        item.token = item.token.take().filter(|_| !answered);
                    }
                }
            }
            Action::Fail { items, .. } => {
                self.keep_if(answered && !items.is_empty());
                for (key, message) in items {
                    if let Some(item) = self.items.get_mut(key) {
                        let sure = if answered { Sure::Must } else { Sure::Perhaps };
                        item.failures.push((message.clone(), sure));
                        item.loose = !answered;
                        item.token = item.token.take().filter(|_| !answered);
                    }
                }
            }
            Action::Compact { .. } => self.keep_if(answered && !self.items.is_empty()),
            _ => {}
        }
    }

    /// A strict write makes the whole file durable, including the writes of other processes.
    fn keep_if(&mut self, strict: bool) {
        if strict {
            self.keep(None);
        }
    }

    /// Marks relaxed writes as lost: nothing makes them durable any more.
    fn lose(&mut self) {
        self.holes |= self.unanswered;
        for (_, sure) in self.items.values_mut().flat_map(|item| &mut item.failures) {
            if matches!(sure, Sure::Relaxed(_)) {
                *sure = Sure::Perhaps;
                self.holes = true;
            }
        }
    }

    /// Marks the relaxed writes of one process, or of all, as durable.
    fn keep(&mut self, process: Option<u32>) {
        for item in self.items.values_mut() {
            for (_, sure) in &mut item.failures {
                if let Sure::Relaxed(by) = *sure
                    && process.is_none_or(|process| process == by)
                {
                    *sure = Sure::Must;
                    item.must = true;
                }
            }
        }
    }
}

impl Item {
    fn compare(&self, entry: &QueueEntry) -> Result<()> {
        ensure!(self.may, "it was acknowledged or removed, and stands there");
        ensure!(entry.verified, "it has no checksum");
        let body: Body = serde_json::from_str(entry.body.get()).context("it is no dead letter")?;
        ensure!(
            body.item_data == format!("work on {}", entry.id),
            "its data are those of another: {}",
            body.item_data
        );
        let found: Vec<&str> = body
            .failure_history
            .iter()
            .map(|failure| failure.error_message.as_str())
            .collect();
        let mut rest = found.iter();
        let told = |sure: &dyn Fn(Sure) -> bool| -> Vec<&str> {
            let failures = self.failures.iter().filter(|(_, is)| sure(*is));
            failures.map(|(message, _)| message.as_str()).collect()
        };
        let has = told(&|sure| sure == Sure::Must);
        ensure!(
            has.iter().all(|message| rest.any(|found| found == message)),
            "of the failures {has:?} not all are there, in order: {found:?}"
        );
        let known = told(&|_| true);
        ensure!(
            found.iter().all(|message| known.contains(message)),
            "nobody told of all these failures: {found:?}"
        );
        let token = entry.lease.as_ref().map(|lease| lease.token.as_str());
        ensure!(
            self.loose || token == self.token.as_deref(),
            "it was taken by {:?}, and is by {token:?}",
            self.token
        );
        Ok(())
    }
}
