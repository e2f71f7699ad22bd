//! Dead letters: the expected contents of each queue.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail, ensure};
use prodigy_storage_backend::reference::{self, Change};
use prodigy_storage_backend::{LeaseToken, QueueEntry, QueueStep, QueueStore, Select, Settled};
use prodigy_storage_file::FileBackend;
use prodigy_storage_layout::JobAddress;
use serde::Deserialize;

use super::certainty;
use crate::crash::Loss;
use crate::history::{Action, Answer, History, Op};
use crate::stage::{patience, work};

type Items = reference::Queue<String, String, LeaseToken>;

/// The expected queue; an item's failures are identified by their messages.
#[derive(Debug, Default)]
struct Queue {
    items: Items,
    /// True if the power failed after relaxed or unacknowledged writes: bytes of an earlier write may be zeros although
    /// later bytes were kept.
    holes: bool,
    /// True if an operation got no answer: its writes may exist without being durable.
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
    for (job, queue) in expected(history, loss)? {
        let mut found = BTreeSet::new();
        for step in backend.queue_scan(&job, &Select::any(), patience())? {
            let entry = match step? {
                QueueStep::Entry(entry) => entry,
                QueueStep::Damage(_) if queue.holes => continue,
                QueueStep::Damage(damage) => bail!("queue of {job}: damage that nobody caused: {damage}"),
                QueueStep::TooLarge(item) => bail!("queue of {job}: {item}"),
            };
            let key = entry.id.as_str().to_owned();
            compare(&queue.items, &key, &entry).with_context(|| format!("queue of {job}, item `{key}`"))?;
            ensure!(found.insert(key), "queue of {job}: `{}` is there twice", entry.id);
        }
        let checked = queue.items.check_found(|key| found.contains(key));
        checked.with_context(|| format!("queue of {job}"))?;
    }
    Ok(())
}

fn expected(history: &History, loss: Loss) -> Result<BTreeMap<JobAddress, Queue>> {
    let mut queues: BTreeMap<JobAddress, Queue> = BTreeMap::new();
    for op in history.ops() {
        match &op.action {
            Action::Push { job, .. }
            | Action::Take { job }
            | Action::Settle { job, .. }
            | Action::Nack { job, .. }
            | Action::Extend { job }
            | Action::Fail { job, .. }
            | Action::Compact { job } => queues.entry(job.clone()).or_default().take_in(op, loss)?,
            Action::PowerFailure => queues.values_mut().for_each(Queue::lose),
            Action::Flush if op.answer.is_some() => {
                queues
                    .values_mut()
                    .for_each(|queue| queue.items.sync(Some(op.process)));
            }
            _ => {}
        }
    }
    Ok(queues)
}

impl Queue {
    fn take_in(&mut self, op: &Op, loss: Loss) -> Result<()> {
        let answer = op.answer.as_ref().map(|(_, answer)| answer);
        self.unanswered |= answer.is_none();
        let done = answer.map(|_| Settled::Done);
        match &op.action {
            Action::Push {
                items, durability, ..
            } => {
                for (key, message) in items {
                    let sure = certainty(op, *durability, loss);
                    self.items.put(key.clone(), message.clone(), sure);
                }
            }
            Action::Take { .. } => match answer {
                Some(Answer::Taken(taken)) => {
                    // `Stage::take` checks the ends of leases, so no times are given here.
                    for (key, token) in taken {
                        self.items.take(key, token.clone(), 0, 0)?;
                    }
                }
                _ => self.items.take_perhaps(|_| true),
            },
            Action::Settle { keys, .. } => {
                for key in keys {
                    let kept = matches!(answer, Some(Answer::Kept(kept)) if kept.contains(key));
                    let outcome = if kept { Some(Settled::Kept) } else { done };
                    self.items.settle(key, Change::Remove, outcome);
                }
            }
            Action::Nack { keys, .. } => {
                for key in keys {
                    self.items.settle(key, Change::Release(None), done);
                }
            }
            Action::Fail { items, .. } => {
                for (key, message) in items {
                    self.items.settle(key, Change::Fail(message.clone()), done);
                }
            }
            Action::Compact { .. } if answer.is_some() => self.items.sync(None),
            _ => {}
        }
        Ok(())
    }

    fn lose(&mut self) {
        self.holes |= self.items.lose() || self.unanswered;
    }
}

fn compare(items: &Items, key: &String, entry: &QueueEntry) -> Result<()> {
    let item = items.get(key).context("it was removed, or nobody pushed it")?;
    ensure!(entry.verified, "it has no checksum");
    let body: Body = serde_json::from_str(entry.body.get()).context("it is no dead letter")?;
    ensure!(
        body.item_data == work(key),
        "its data are those of another: {}",
        body.item_data
    );
    let failures = body
        .failure_history
        .into_iter()
        .map(|failure| failure.error_message);
    let failures: Vec<String> = failures.collect();
    item.check(&failures, entry.lease.as_ref().map(|lease| &lease.token))?;
    Ok(())
}
