//! The dead letters of a job.

mod item;
mod redrive;
mod scan;
mod taken;

use std::sync::Arc;
use std::time::Duration;

use prodigy_storage_backend::dead_letter::{DeadLetter, Failure, normalise};
use prodigy_storage_backend::{
    Backend, Change, Claim, Compaction, Deadline, Fence, ItemId, LeaseToken, PutReport, QueueItem,
    QueueSummary, Result, Select, Settled, Settlement, StorageError, to_raw,
};
use prodigy_storage_layout::JobAddress;
use serde::Serialize;
use serde_json::value::RawValue;

pub use item::{DlqItem, DlqSummary, SignatureCount, SignatureCounts, SignatureGroups};
pub use redrive::{Outcome, PassedOver, RedriveError, RedriveOptions, RedriveReport};
pub use scan::DlqScan;
pub(crate) use scan::RepeatedItems;
pub(crate) use taken::InHand;
pub use taken::Taken;
#[cfg(feature = "tokio")]
pub(crate) use taken::release_all;

use crate::call::operation::{COMPACT, GET_ITEM, Operation, PUSH, SETTLE, SUMMARISE_ITEMS, TAKE};
use crate::storage::Inner;

/// The dead-letter queue of a job. It stores items that failed, under their `item_id`, until they are acknowledged
/// or removed.
///
/// An item that is taken stays stored. If it is not settled, it is pending again when its lease ends, so nothing
/// is lost if the worker's process dies. A parked item waits for a person: no redrive takes it.
///
/// ```
/// use std::time::Duration;
/// use prodigy_storage::{DeadLetter, Failure, ItemId, Select, Storage};
///
/// let dlq = Storage::in_memory()?.repo("shop")?.job("mapreduce-7")?.dlq();
/// let letter = DeadLetter::new(ItemId::new("src/a.rs")?, "review this file");
/// dlq.push(&letter.failure(Failure::new("Timeout", "no answer in 30s")))?;
///
/// let taken = dlq.take(&Select::eligible(), 1, Duration::from_secs(60))?;
/// taken[0].park(Some("the file is gone"))?;
/// assert_eq!(dlq.summary()?.parked, 1);
/// # Ok::<(), prodigy_storage::StorageError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Dlq {
    inner: Arc<Inner>,
    pub(crate) job: JobAddress,
    /// The fencing token that each write carries.
    fence: Option<Fence>,
}

impl Dlq {
    pub(crate) fn new(inner: Arc<Inner>, job: JobAddress, fence: Option<Fence>) -> Self {
        Self { inner, job, fence }
    }

    /// Pushes an item. If the id is known, the push is merged into the stored item: the history and the failure
    /// count grow, and the first attempt is kept. A failure counts only once: if the history has a failure with
    /// the same time and number or, where the push leaves one of these out, a failure whose other fields are
    /// equal. A push without failures and without `last_attempt` does not count as an attempt.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) and [`TooLarge`](crate::ErrorKind::TooLarge) if the item
    /// is refused; other errors of the backend.
    pub fn push<T: Serialize>(&self, letter: &DeadLetter<T>) -> Result<PutReport> {
        self.put(&[self.item(letter)?])
    }

    pub(crate) fn item<T: Serialize>(&self, letter: &DeadLetter<T>) -> Result<QueueItem> {
        letter.to_item()
    }

    /// Pushes an item as JSON: an object with at least `item_id` and `item_data`. Unknown fields are kept.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn push_raw(&self, item: &RawValue) -> Result<PutReport> {
        self.put(&[self.raw_item(item)?])
    }

    pub(crate) fn raw_item(&self, item: &RawValue) -> Result<QueueItem> {
        normalise(item)
    }

    /// Pushes items in one write: [`DeadLetter`]s, [`RawValue`]s, or other values that serialise as such objects.
    ///
    /// # Errors
    /// As [`push`](Self::push). If one item is refused, none is stored.
    pub fn push_batch<T: Serialize>(&self, items: impl IntoIterator<Item = T>) -> Result<PutReport> {
        self.put(&self.items(items)?)
    }

    pub(crate) fn items<T: Serialize>(&self, items: impl IntoIterator<Item = T>) -> Result<Vec<QueueItem>> {
        let items = items.into_iter().map(|item| {
            let raw = to_raw(&item).map_err(|fault| fault.refused("push items", &self.job))?;
            normalise(&raw)
        });
        items.collect()
    }

    pub(crate) fn put(&self, items: &[QueueItem]) -> Result<PutReport> {
        if items.is_empty() {
            return Ok(PutReport::default());
        }
        self.call(PUSH, |backend, deadline| {
            backend.queue_put(
                &self.job,
                items,
                self.inner.config.durability,
                self.fence.as_ref(),
                deadline,
            )
        })
    }

    /// Reads one item; `None` if the queue does not have it.
    ///
    /// # Errors
    /// The errors of the backend.
    pub fn get(&self, id: &ItemId) -> Result<Option<DlqItem>> {
        let found = self.call(GET_ITEM, |backend, deadline| {
            backend.queue_get(&self.job, id, deadline)
        })?;
        Ok(found.map(|entry| DlqItem::new(entry, &*self.inner.clock)))
    }

    /// The selected items in their present state, in the order of their first push. Damage is returned as an `Err`
    /// of kind [`Damaged`](crate::ErrorKind::Damaged), and an item that is larger than `max_record_size` as an
    /// `Err` of kind [`TooLarge`](crate::ErrorKind::TooLarge). After both, the iterator continues with the next
    /// item.
    ///
    /// # Errors
    /// The errors of the backend.
    pub fn scan(&self, select: &Select) -> Result<DlqScan> {
        let items = RepeatedItems::begin(&self.inner, &self.job, select)?;
        Ok(DlqScan::new(items, Arc::clone(&self.inner.clock)))
    }

    /// Summaries of the selected items, without their data, in the order of [`scan`](Self::scan).
    ///
    /// # Errors
    /// As [`scan`](Self::scan).
    pub fn list(&self, select: &Select) -> Result<impl Iterator<Item = Result<DlqSummary>> + use<>> {
        Ok(self.scan(select)?.map(|item| item?.summary()))
    }

    /// The selected items, grouped by signature, with the largest group first. Items that can't be read are in no
    /// group; the result has their errors.
    ///
    /// # Errors
    /// The errors of the backend.
    pub fn by_signature(&self, select: &Select) -> Result<SignatureCounts> {
        let mut found = SignatureCounts::default();
        let mut groups = SignatureGroups::default();
        for summary in self.list(select)? {
            let summary = match summary {
                Ok(summary) => summary,
                Err(error) if is_passed_over(&error) => {
                    found.leave_out(error);
                    continue;
                }
                Err(error) => return Err(error),
            };
            groups.add(summary);
        }
        found.groups = groups.into_vec();
        Ok(found)
    }

    /// The counts of the queue's items.
    ///
    /// # Errors
    /// The errors of the backend.
    pub fn summary(&self) -> Result<QueueSummary> {
        self.call(SUMMARISE_ITEMS, |backend, deadline| {
            backend.queue_summary(&self.job, deadline)
        })
    }

    /// Takes up to `limit` of the selected pending items, each under a lease of this length, in the order of their
    /// places. The leases are stored before the call returns, and the items stay stored. If a [`Taken`] is dropped
    /// before it is settled, its item is released.
    ///
    /// # Errors
    /// The errors of the backend.
    pub fn take(&self, select: &Select, limit: usize, lease: Duration) -> Result<Vec<Taken>> {
        let entries = self.call(TAKE, |backend, deadline| {
            backend.queue_take(&self.job, select, limit, lease, self.fence.as_ref(), deadline)
        })?;
        entries
            .into_iter()
            .map(|entry| {
                let lease = entry.lease.clone().ok_or_else(|| self.without_lease(&entry.id))?;
                let item = DlqItem::new(entry, &*self.inner.clock);
                Ok(Taken::new(item, lease, self.clone()))
            })
            .collect()
    }

    /// Makes the leases of these tokens end this long after the present moment.
    ///
    /// # Errors
    /// As [`settle`](Self::settle).
    pub fn extend(&self, tokens: &[LeaseToken], lease: Duration) -> Result<Vec<Settled>> {
        self.settle_each(tokens, || Change::Extend(lease))
    }

    /// Acknowledges the items of these tokens: their work is done, and they are removed. If another failure of an
    /// item was pushed since it was taken, the item is released instead, and its outcome is [`Settled::Kept`].
    ///
    /// # Errors
    /// As [`settle`](Self::settle).
    pub fn ack(&self, tokens: &[LeaseToken]) -> Result<Vec<Settled>> {
        self.settle_each(tokens, || Change::Remove)
    }

    /// Releases these items, by token or by key: after the delay they are pending again, with the last places of
    /// the queue. By key, an operator can end another worker's lease.
    ///
    /// # Errors
    /// As [`settle`](Self::settle).
    pub fn release(
        &self,
        items: impl IntoIterator<Item: Into<Claim>>,
        delay: Duration,
    ) -> Result<Vec<Settled>> {
        self.settle_each(items, || Change::Release { delay })
    }

    /// Records that the item of this token failed again: the failure is added to its history, and the item is
    /// pending again, with the last place of the queue. `id` has to be the key of that item.
    ///
    /// # Errors
    /// As [`settle`](Self::settle).
    pub fn fail(&self, token: &LeaseToken, id: &ItemId, failure: Failure) -> Result<Settled> {
        let failed = failed(id, failure, None)?;
        self.settle_one(Settlement::new(Claim::from(token), Change::Fail(failed)))
    }

    /// Parks these items for a person, by token or by key. Until they are unparked, a redrive takes them only if
    /// it selects them by key. Without a reason, an item that is already parked keeps its reason.
    ///
    /// # Errors
    /// As [`settle`](Self::settle).
    pub fn park(
        &self,
        items: impl IntoIterator<Item: Into<Claim>>,
        reason: Option<&str>,
    ) -> Result<Vec<Settled>> {
        self.settle_each(items, || Change::Park {
            reason: reason.map(str::to_owned),
        })
    }

    /// Makes these parked items eligible again. An item that is not parked is left unchanged and keeps its lease:
    /// [`Settled::Already`].
    ///
    /// # Errors
    /// As [`settle`](Self::settle).
    pub fn unpark(&self, ids: &[ItemId]) -> Result<Vec<Settled>> {
        self.settle_each(ids, || Change::Unpark)
    }

    /// Replaces the contents of an item, unless they were changed since `read` was read: then the outcome is
    /// [`Settled::Changed`]. The new contents are checked and completed like a push.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for contents that are not an item or have another id; otherwise
    /// as [`settle`](Self::settle).
    pub fn edit(&self, read: &DlqItem, contents: &RawValue) -> Result<Settled> {
        let claim = Claim::Revision(read.id.clone(), read.revision);
        self.settle_one(Settlement::new(claim, Change::Edit(contents.to_owned())))
    }

    /// Removes the items with these keys, even if workers have them.
    ///
    /// # Errors
    /// As [`settle`](Self::settle).
    pub fn remove(&self, ids: &[ItemId]) -> Result<Vec<Settled>> {
        self.settle_each(ids, || Change::Remove)
    }

    /// Changes stored items in one write, in the given order. Returns the outcome of each change.
    ///
    /// # Errors
    /// The errors of the backend. It is no error if an item no longer exists: the outcome is [`Settled::Unknown`].
    pub fn settle(&self, settlements: &[Settlement]) -> Result<Vec<Settled>> {
        if settlements.is_empty() {
            return Ok(Vec::new());
        }
        let settled = self.call(SETTLE, |backend, deadline| {
            backend.queue_settle(&self.job, settlements, self.fence.as_ref(), deadline)
        })?;
        self.inner.in_hand.settled(settlements);
        Ok(settled)
    }

    fn settle_each(
        &self,
        items: impl IntoIterator<Item: Into<Claim>>,
        change: impl Fn() -> Change,
    ) -> Result<Vec<Settled>> {
        let each = items
            .into_iter()
            .map(|item| Settlement::new(item.into(), change()));
        self.settle(&each.collect::<Vec<_>>())
    }

    fn settle_one(&self, settlement: Settlement) -> Result<Settled> {
        let settled = self.settle(&[settlement])?;
        settled
            .first()
            .copied()
            .ok_or_else(|| self.broken("settle items", "the backend does not report the outcome"))
    }

    /// Frees the space of settled items, whatever the cost. The backend also does so by itself from time to time.
    ///
    /// # Errors
    /// The errors of the backend.
    pub fn compact(&self) -> Result<Compaction> {
        self.call(COMPACT, |backend, deadline| {
            backend.queue_compact(&self.job, deadline)
        })
    }

    /// Calls `work` once with each of the selected items that exist when the run starts. An item is settled by the
    /// outcome of its `work`, and its lease is extended meanwhile.
    ///
    /// An item may lose its lease even so, if the process is suspended or the backend can't be reached. Such an
    /// item is not settled, and counts in [`RedriveReport::lost`].
    ///
    /// A run that takes nothing does not mean that nothing is left: an item that another worker has taken, or had
    /// when it died, comes back when its lease ends, and a released one after its delay. A program that ends
    /// when no item can come back compares `items` and `parked` in the [`summary`](Self::summary) after each run.
    ///
    /// # Errors
    /// The errors of the backend, with the report so far. After an error no further work starts. Work that has
    /// started is finished, and items whose work has not started are released.
    ///
    /// # Panics
    /// If `work` panics. Its item is released, other work that has started is finished and its items are settled,
    /// and then the panic continues.
    ///
    /// ```
    /// use prodigy_storage::{DeadLetter, Failure, ItemId, Outcome, RedriveOptions, Select, Storage};
    ///
    /// let dlq = Storage::in_memory()?.repo("shop")?.job("mapreduce-7")?.dlq();
    /// for n in 0..3 {
    ///     dlq.push(&DeadLetter::new(ItemId::new(format!("item-{n}"))?, n))?;
    /// }
    /// let options = RedriveOptions::new().concurrency(2).max_attempts(Some(5));
    /// let report = dlq.redrive(Select::eligible(), &options, |item| match item.data::<u32>() {
    ///     Ok(1) => Outcome::failed(Failure::new("Odd", "1 is an odd number")),
    ///     Ok(_) => Outcome::Done,
    ///     Err(error) => Outcome::park(error.to_string()),
    /// })?;
    /// assert_eq!((report.taken, report.done, report.failed), (3, 2, 1));
    /// # Ok::<(), prodigy_storage::StorageError>(())
    /// ```
    pub fn redrive(
        &self,
        select: Select,
        options: &RedriveOptions,
        work: impl Fn(&DlqItem) -> Outcome + Sync,
    ) -> Result<RedriveReport, RedriveError> {
        redrive::redrive(self, select, options, &work)
    }

    /// Calls the backend, with a deadline that begins now.
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
        self.broken(
            "take items",
            &format!("the backend gave item {id} without a lease"),
        )
    }

    fn broken(&self, operation: &'static str, why: &str) -> StorageError {
        StorageError::new(crate::ErrorKind::Io, operation, &self.job, why.to_owned())
    }
}

/// An item with only this failure, to be merged into the stored item, which keeps its data. With a reason, the
/// item is parked too.
fn failed(id: &ItemId, failure: Failure, parks: Option<String>) -> Result<QueueItem> {
    let mut letter = DeadLetter::new(id.clone(), ()).failure(failure);
    if parks.is_some() {
        letter = letter.eligible(false).review(true);
        letter.parked_reason = parks;
    }
    letter.to_item()
}

/// True for an error that concerns a single item: the iterator continues with the next item.
fn is_passed_over(error: &StorageError) -> bool {
    matches!(
        error.kind(),
        crate::ErrorKind::Damaged | crate::ErrorKind::Foreign | crate::ErrorKind::TooLarge
    )
}
