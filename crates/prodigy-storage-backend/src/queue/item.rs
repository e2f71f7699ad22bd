//! The items of a queue, and walks through them.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Delay, ItemId, Lease};
use crate::clock::Clock;
use crate::error::Result;
use crate::log::{Damage, TooLarge};

/// An item to push: a JSON object with at least `item_id` and `item_data`.
///
/// [`dead_letter::normalise`](crate::dead_letter::normalise) makes an item from what a caller pushes.
///
/// ```
/// use prodigy_storage_backend::dead_letter::DeadLetter;
/// use prodigy_storage_backend::{ItemId, QueueItem};
///
/// let item: QueueItem = DeadLetter::new(ItemId::new("a")?, 1).to_item()?;
/// assert!(item.body.get().starts_with(r#"{"item_id":"a","item_data":1,"#));
/// # Ok::<(), prodigy_storage_backend::StorageError>(())
/// ```
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "a backend has to store each field")]
pub struct QueueItem {
    /// The key: the `item_id` of the body.
    pub id: ItemId,
    /// The whole object, on one line.
    pub body: Box<RawValue>,
}

/// A number of a queue's counter. Each change of a queue takes the next number, so a greater number is a later change.
///
/// Numbers of different queues can't be compared.
///
/// ```
/// use prodigy_storage_backend::QueueMark;
///
/// assert!(QueueMark(7) < QueueMark(8));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
#[expect(clippy::exhaustive_structs, reason = "it is a number")]
pub struct QueueMark(pub u64);

/// A stored item.
///
/// ```
/// use prodigy_storage_backend::{QueueEntry, Result};
/// use prodigy_storage_backend::dead_letter::facts;
///
/// fn describe(entry: &QueueEntry) -> Result<String> {
///     let facts = facts(&entry.body)?;
///     Ok(format!("{} failed {} times", entry.id, facts.failure_count))
/// }
/// ```
#[derive(Clone, Debug)]
#[expect(
    clippy::exhaustive_structs,
    reason = "backends make it: each has to fill in a new field"
)]
pub struct QueueEntry {
    /// The key of the item.
    pub id: ItemId,
    /// The whole object, without the fields that the queue adds.
    pub body: Box<RawValue>,
    /// The lease of the item, if it was taken; the lease may have ended.
    pub lease: Option<Lease>,
    /// The delay of the item, if it was released with one; the delay may have ended.
    pub delay: Option<Delay>,
    /// The change that wrote the present contents: a push, a merge, an edit or a parking. A lease or a release does not
    /// change the contents. [`Claim::Revision`](super::Claim::Revision) compares this number.
    pub revision: QueueMark,
    /// The place of the item: items are taken in the order of their places. An item gets its place with the first push,
    /// and a new place at the end whenever it is taken, released, or failed.
    pub place: QueueMark,
    /// True if the item is stored with a checksum that matches.
    pub verified: bool,
}

/// The present state of an item, as far as leases and delays decide it.
///
/// ```
/// use prodigy_storage_backend::{ItemState, QueueEntry, SystemClock};
///
/// fn is_free(entry: &QueueEntry) -> bool {
///     entry.state(&SystemClock) == ItemState::Pending
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_enums,
    reason = "an item is in exactly one of these states"
)]
pub enum ItemState {
    /// The item has neither a lease nor a delay that lasts.
    Pending,
    /// The item was released with a delay that has not ended.
    Delayed,
    /// The item has a lease that has not ended.
    Leased,
}

impl QueueEntry {
    /// The present state of the item. Whether it is eligible is stated in its body.
    #[must_use]
    pub fn state(&self, clock: &dyn Clock) -> ItemState {
        ItemState::of(self.lease.as_ref(), self.delay.as_ref(), clock)
    }
}

impl ItemState {
    /// The present state of an item with this lease and this delay.
    #[must_use]
    pub fn of(lease: Option<&Lease>, delay: Option<&Delay>, clock: &dyn Clock) -> Self {
        if lease.is_some_and(|lease| !lease.has_ended(clock)) {
            Self::Leased
        } else if delay.is_some_and(|delay| !delay.has_ended(clock)) {
            Self::Delayed
        } else {
            Self::Pending
        }
    }
}

/// One step of a walk through a queue.
///
/// ```
/// use prodigy_storage_backend::{Backend, Deadline, QueueStep, Result, Select};
/// use prodigy_storage_layout::JobAddress;
///
/// fn parked(backend: &dyn Backend, job: &JobAddress) -> Result<usize> {
///     let select = Select::any().with(prodigy_storage_backend::Eligible::No);
///     let mut found = 0;
///     for step in backend.queue_scan(job, &select, Deadline::never())? {
///         if let QueueStep::Entry(_) = step? {
///             found += 1;
///         }
///     }
///     Ok(found)
/// }
/// ```
#[derive(Debug)]
#[expect(
    clippy::exhaustive_enums,
    reason = "a reader has to handle each: one that is skipped is lost to it"
)]
pub enum QueueStep {
    /// An item.
    Entry(QueueEntry),
    /// Bytes that are not an item; reading continues behind them.
    Damage(Damage),
    /// An item that is larger than the reader's limit; reading continues behind it.
    TooLarge(TooLarge),
}

/// A walk through the items of a queue in the order of their first push. Each item is returned once, in its present
/// state.
///
/// ```
/// use prodigy_storage_backend::{QueueScan, QueueStep, Result};
///
/// fn count(scan: QueueScan<'_>) -> Result<usize> {
///     let steps: Vec<QueueStep> = scan.collect::<Result<_>>()?;
///     Ok(steps.iter().filter(|step| matches!(step, QueueStep::Entry(_))).count())
/// }
/// # let _ = count;
/// ```
pub type QueueScan<'a> = Box<dyn Iterator<Item = Result<QueueStep>> + Send + 'a>;

/// The counts of a queue's items.
///
/// ```
/// use prodigy_storage_backend::QueueSummary;
///
/// let empty = QueueSummary::default();
/// assert_eq!((empty.items, empty.mark.0), (0, 0));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueSummary {
    /// The number of all items.
    pub items: u64,
    /// Eligible items without a lease or a delay that lasts.
    pub pending: u64,
    /// Items with a lease that lasts.
    pub leased: u64,
    /// Eligible items that were released with a delay that lasts.
    pub delayed: u64,
    /// Items that are not eligible and have no lease that lasts.
    pub parked: u64,
    /// Items without a lease that lasts whose fields can't be read, or that are too large to be read. They are not
    /// counted in the four numbers above, and are taken only by their id.
    pub unreadable: u64,
    /// Damaged places of the queue. Items that were there are in none of the numbers above.
    pub damaged: u64,
    /// The stored size of the queue in bytes.
    pub bytes: u64,
    /// The last change. With [`Select::until`](super::Select::until) it bounds a run to the items that exist now.
    pub mark: QueueMark,
}
