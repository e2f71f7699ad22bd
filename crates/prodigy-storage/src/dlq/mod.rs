//! The dead letters of a job.

mod item;
mod redrive;
mod scan;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use prodigy_storage_backend::dead_letter::{DeadLetter, normalise};
use prodigy_storage_backend::{
    Backend, Deadline, ItemId, LeaseToken, PutReport, QueueItem, Result, Select, Settled, StorageError,
    to_raw,
};
use prodigy_storage_layout::JobAddress;
use serde::Serialize;
use serde_json::value::RawValue;

pub use item::{DlqItem, DlqSummary, SignatureCount, Taken};
pub use redrive::{Outcome, RedriveOptions, RedriveReport};
pub use scan::DlqScan;

use crate::call::operation::{ACKNOWLEDGE, GET_ITEM, Operation, PUSH, RELEASE, REMOVE, SCAN_ITEMS, TAKE};
use crate::storage::Inner;

/// The dead-letter queue of a job: items that failed, by `item_id`, until they are acknowledged or removed.
///
/// A taken item stays stored. One that is not acknowledged is pending again when its lease ends, so that a redriver
/// that dies loses nothing.
#[derive(Clone, Debug)]
pub struct Dlq {
    inner: Arc<Inner>,
    job: JobAddress,
}

impl Dlq {
    pub(crate) fn new(inner: Arc<Inner>, job: JobAddress) -> Self {
        Self { inner, job }
    }

    /// Pushes an item. One with a known id is merged: its history grows, its count rises, its first attempt stays.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) and [`TooLarge`](crate::ErrorKind::TooLarge) for an item that
    /// is refused; what else the backend says.
    pub fn push<T: Serialize>(&self, letter: &DeadLetter<T>) -> Result<PutReport> {
        self.put(&[letter.to_item(self.inner.clock.now())?])
    }

    /// Pushes an item as JSON: an object with at least `item_id` and `item_data`. Unknown fields are kept.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn push_raw(&self, item: &RawValue) -> Result<PutReport> {
        self.put(&[normalise(item, self.inner.clock.now())?])
    }

    /// Pushes items in one write: [`DeadLetter`]s, [`RawValue`]s, or anything that serialises as such an object.
    ///
    /// # Errors
    /// As [`push`](Self::push). Where one item is refused, none is stored.
    pub fn push_batch<T: Serialize>(&self, items: impl IntoIterator<Item = T>) -> Result<PutReport> {
        let now = self.inner.clock.now();
        let items = items
            .into_iter()
            .map(|item| {
                let raw = to_raw(&item).map_err(|fault| fault.refused("push items", &self.job))?;
                normalise(&raw, now)
            })
            .collect::<Result<Vec<_>>>()?;
        self.put(&items)
    }

    fn put(&self, items: &[QueueItem]) -> Result<PutReport> {
        if items.is_empty() {
            return Ok(PutReport::default());
        }
        self.call(PUSH, |backend, deadline| {
            backend.queue_put(&self.job, items, self.inner.durability, deadline)
        })
    }

    /// One item.
    ///
    /// # Errors
    /// The errors of the backend.
    pub fn get(&self, id: &ItemId) -> Result<Option<DlqItem>> {
        let found = self.call(GET_ITEM, |backend, deadline| {
            backend.queue_get(&self.job, id, deadline)
        })?;
        Ok(found.map(DlqItem::from))
    }

    /// All items as they are stored now, in the order in which they were first pushed. Damage is an `Err` item of
    /// kind [`Damaged`](crate::ErrorKind::Damaged), an item that is larger than `max_record_size` one of kind
    /// [`TooLarge`](crate::ErrorKind::TooLarge); reading continues behind both.
    ///
    /// # Errors
    /// The errors of the backend.
    pub fn scan(&self) -> Result<DlqScan> {
        self.call(SCAN_ITEMS, |backend, deadline| {
            backend.queue_scan(&self.job, deadline)
        })
        .map(DlqScan::new)
    }

    /// Summaries of all items without their data, as [`scan`](Self::scan).
    ///
    /// # Errors
    /// As [`scan`](Self::scan).
    pub fn list(&self) -> Result<impl Iterator<Item = Result<DlqSummary>> + use<>> {
        Ok(self.scan()?.map(|item| item?.summary()))
    }

    /// How many items there are by their signature, the most frequent first. Items that are damaged or larger than `max_record_size` are not counted.
    ///
    /// # Errors
    /// The errors of the backend.
    pub fn by_signature(&self) -> Result<Vec<SignatureCount>> {
        let mut counts: BTreeMap<Option<String>, SignatureCount> = BTreeMap::new();
        for summary in self.list()? {
            let summary = match summary {
                Ok(summary) => summary,
                Err(error) if is_passed_over(&error) => continue,
                Err(error) => return Err(error),
            };
            let count = counts
                .entry(summary.signature)
                .or_insert_with_key(|signature| SignatureCount {
                    signature: signature.clone(),
                    ..SignatureCount::default()
                });
            count.items += 1;
            count.eligible += u64::from(summary.eligible);
            count.review += u64::from(summary.review);
        }
        let mut counts: Vec<_> = counts.into_values().collect();
        // Stable: those of one frequency stay in the order of their signatures.
        counts.sort_by_key(|count| std::cmp::Reverse(count.items));
        Ok(counts)
    }

    /// Takes up to `limit` pending items for `lease`, oldest first. The leases are stored before the call returns.
    ///
    /// # Errors
    /// The errors of the backend.
    pub fn take(&self, select: &Select, limit: usize, lease: Duration) -> Result<Vec<Taken>> {
        let entries = self.call(TAKE, |backend, deadline| {
            backend.queue_take(&self.job, select, limit, lease, deadline)
        })?;
        entries
            .into_iter()
            .map(|entry| {
                let lease = entry.lease.clone().ok_or_else(|| self.without_lease(&entry.id))?;
                Ok(Taken {
                    item: DlqItem::from(entry),
                    lease,
                })
            })
            .collect()
    }

    /// Removes the items that these tokens took: they are done.
    ///
    /// # Errors
    /// The errors of the backend. A token that names nothing any more is no error: see [`Settled::unknown`].
    pub fn ack(&self, tokens: &[LeaseToken]) -> Result<Settled<LeaseToken>> {
        if tokens.is_empty() {
            return Ok(nothing());
        }
        self.call(ACKNOWLEDGE, |backend, deadline| {
            backend.queue_ack(&self.job, tokens, deadline)
        })
    }

    /// Gives the items that these tokens took back: they are pending at once.
    ///
    /// # Errors
    /// As [`ack`](Self::ack).
    pub fn nack(&self, tokens: &[LeaseToken]) -> Result<Settled<LeaseToken>> {
        if tokens.is_empty() {
            return Ok(nothing());
        }
        self.call(RELEASE, |backend, deadline| {
            backend.queue_nack(&self.job, tokens, deadline)
        })
    }

    /// Removes items, taken or not.
    ///
    /// # Errors
    /// As [`ack`](Self::ack).
    pub fn remove(&self, ids: &[ItemId]) -> Result<Settled<ItemId>> {
        if ids.is_empty() {
            return Ok(nothing());
        }
        self.call(REMOVE, |backend, deadline| {
            backend.queue_remove(&self.job, ids, deadline)
        })
    }

    /// Works through the items that are selected, as they are when it begins: an item that fails again is not taken
    /// twice in one run. Items are taken in small batches; each batch is settled before the next is taken, so that a
    /// redriver that dies does at most one batch again.
    ///
    /// # Errors
    /// The errors of the backend. Items that were taken and not settled are pending again when their lease ends.
    pub fn redrive(
        &self,
        select: Select,
        options: RedriveOptions,
        work: impl FnMut(&DlqItem) -> Outcome,
    ) -> Result<RedriveReport> {
        redrive::redrive(self, &self.inner, select, options, work)
    }

    /// Makes one operation on the queue, within the deadline of a call that begins now.
    fn call<T>(
        &self,
        operation: Operation,
        mut try_once: impl FnMut(&dyn Backend, Deadline) -> Result<T>,
    ) -> Result<T> {
        let deadline = self.inner.deadline();
        self.inner.caller.call(operation, &self.job, deadline, |backend| {
            try_once(backend, deadline)
        })
    }

    fn without_lease(&self, id: &ItemId) -> StorageError {
        let why = "the backend gave an item without a lease";
        StorageError::new(
            crate::ErrorKind::Io,
            "take items",
            format_args!("{} {id}", self.job),
            why,
        )
    }
}

/// Whether an item could not be given, and those behind it can.
fn is_passed_over(error: &StorageError) -> bool {
    matches!(
        error.kind(),
        crate::ErrorKind::Damaged | crate::ErrorKind::TooLarge
    )
}

fn nothing<K>() -> Settled<K> {
    Settled {
        settled: Vec::new(),
        unknown: Vec::new(),
    }
}
