//! Taking items, and what becomes of them then.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;

use prodigy_storage_backend::dead_letter::{facts, selects};
use prodigy_storage_backend::{
    Deadline, Durability, ItemId, Lease, LeaseToken, QueueEntry, Result, Select, Settled,
};
use prodigy_storage_layout::{Entry, JobAddress, Timestamp};

use super::known::Known;
use super::line::{self, encoded};
use super::rewrite::{Change, Changes};
use super::scan::Unit;
use crate::lockfile::FileLock;
use crate::store::Store;

/// A queue whose lock is held.
struct Held<'a> {
    path: PathBuf,
    known: Known,
    _lock: FileLock<'a>,
}

impl Store {
    pub(crate) fn queue_take(
        &self,
        job: &JobAddress,
        select: &Select,
        limit: usize,
        lease: Duration,
        deadline: Deadline,
    ) -> Result<Vec<QueueEntry>> {
        const OPERATION: &str = "queue take";
        let Some(held) = self.hold(OPERATION, job, deadline)? else {
            return Ok(Vec::new());
        };
        let now = self.now();
        let nanos = i64::try_from(lease.as_nanos()).unwrap_or(i64::MAX);
        let until = Timestamp::from_nanos(now.as_nanos().saturating_add(nanos));
        let named: Option<HashSet<&str>> = select
            .ids
            .as_ref()
            .map(|ids| ids.iter().map(ItemId::as_str).collect());
        let mut taken = Vec::new();
        let mut changes = Changes::default();
        if limit > 0 {
            self.queue_survey(
                OPERATION,
                &held.path,
                &held.known.file,
                deadline,
                |unit, bytes| {
                    let Unit::Item { start, seal, .. } = unit else {
                        return Ok(true);
                    };
                    if let Some(named) = &named
                        && line::id(bytes).is_none_or(|id| !named.contains(id.as_ref()))
                    {
                        return Ok(true);
                    }
                    let Some(mut entry) = line::read(bytes, *seal) else {
                        return Ok(true);
                    };
                    // An item of another program that tells no facts is taken only by its name.
                    let wanted = match facts(&entry.body) {
                        Ok(facts) => selects(select, &entry.id, &facts),
                        Err(_) => named.is_some() && select.signature.is_none() && select.not_after.is_none(),
                    };
                    if wanted && entry.is_pending(now) {
                        entry.lease = Some(Lease {
                            token: LeaseToken::random(),
                            until,
                        });
                        changes
                            .items
                            .insert(*start, Change::Line(encoded(&entry.body, entry.lease.as_ref())));
                        taken.push(entry);
                    }
                    Ok(taken.len() < limit)
                },
            )?;
        }
        self.release(OPERATION, held, changes, deadline)?;
        Ok(taken)
    }

    pub(crate) fn queue_ack(
        &self,
        job: &JobAddress,
        tokens: &[LeaseToken],
        deadline: Deadline,
    ) -> Result<Settled<LeaseToken>> {
        self.settle(
            "queue ack",
            job,
            tokens,
            LeaseToken::as_str,
            deadline,
            |bytes, unit| {
                let Unit::Item { seal, .. } = unit else {
                    return None;
                };
                Some((line::token(bytes, *seal)?.into_owned(), Change::Drop))
            },
        )
    }

    pub(crate) fn queue_nack(
        &self,
        job: &JobAddress,
        tokens: &[LeaseToken],
        deadline: Deadline,
    ) -> Result<Settled<LeaseToken>> {
        let wanted: HashSet<&str> = tokens.iter().map(LeaseToken::as_str).collect();
        self.settle(
            "queue nack",
            job,
            tokens,
            LeaseToken::as_str,
            deadline,
            |bytes, unit| {
                let Unit::Item { seal, .. } = unit else {
                    return None;
                };
                let token = line::token(bytes, *seal)?.into_owned();
                if !wanted.contains(token.as_str()) {
                    return None;
                }
                let mut entry = line::read(bytes, *seal)?;
                entry.lease = None;
                Some((token, Change::Line(encoded(&entry.body, entry.lease.as_ref()))))
            },
        )
    }

    pub(crate) fn queue_remove(
        &self,
        job: &JobAddress,
        ids: &[ItemId],
        deadline: Deadline,
    ) -> Result<Settled<ItemId>> {
        self.settle("queue remove", job, ids, ItemId::as_str, deadline, |bytes, _| {
            Some((line::id(bytes)?.into_owned(), Change::Drop))
        })
    }

    /// Changes the items whose key `change` tells, where it is among `keys`. A key that is named twice is settled
    /// once and then unknown.
    fn settle<K: Clone>(
        &self,
        operation: &'static str,
        job: &JobAddress,
        keys: &[K],
        text: impl Fn(&K) -> &str,
        deadline: Deadline,
        change: impl Fn(&[u8], &Unit) -> Option<(String, Change)>,
    ) -> Result<Settled<K>> {
        let mut settled = Settled {
            settled: Vec::new(),
            unknown: Vec::new(),
        };
        let Some(held) = self.hold(operation, job, deadline)? else {
            settled.unknown = keys.to_vec();
            return Ok(settled);
        };
        let wanted: HashSet<&str> = keys.iter().map(&text).collect();
        let mut found = HashSet::new();
        let mut changes = Changes::default();
        if !wanted.is_empty() {
            self.queue_survey(
                operation,
                &held.path,
                &held.known.file,
                deadline,
                |unit, bytes| {
                    if let Unit::Item { start, .. } = unit
                        && let Some((key, change)) = change(bytes, unit)
                        && wanted.contains(key.as_str())
                    {
                        changes.items.insert(*start, change);
                        found.insert(key);
                    }
                    Ok(true)
                },
            )?;
        }
        for key in keys {
            if found.remove(text(key)) {
                settled.settled.push(key.clone());
            } else {
                settled.unknown.push(key.clone());
            }
        }
        self.release(operation, held, changes, deadline)?;
        Ok(settled)
    }

    /// Locks a queue that is there and opens it; where there is none, nothing is made.
    fn hold(
        &self,
        operation: &'static str,
        job: &JobAddress,
        deadline: Deadline,
    ) -> Result<Option<Held<'_>>> {
        let path = Entry::Queue(job.clone()).path();
        if !self.options.read_only && self.queue_is_absent(operation, &path)? {
            return Ok(None);
        }
        self.prepare_write(operation, job)?;
        self.sole_writer(operation)?;
        let lock = self.lock_file(
            &Entry::QueueLock(job.clone()).path(),
            operation,
            "queue",
            deadline,
        )?;
        let known = self.queue_open(operation, &path, deadline)?;
        Ok(known.map(|known| Held {
            path,
            known,
            _lock: lock,
        }))
    }

    /// Stores the changes and gives the lock back.
    fn release(
        &self,
        operation: &'static str,
        held: Held<'_>,
        changes: Changes,
        deadline: Deadline,
    ) -> Result<()> {
        let known = if changes.is_empty() {
            held.known
        } else {
            self.queue_rewrite(
                operation,
                &held.path,
                &held.known,
                changes,
                Durability::Strict,
                deadline,
            )?
        };
        self.queues.keep(&held.path, known);
        Ok(())
    }
}
