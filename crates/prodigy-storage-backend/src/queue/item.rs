//! The items of a queue, and iteration over them.

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
    /// The key, equal to the `item_id` of the body.
    pub id: ItemId,
    /// The JSON object, on one line.
    pub body: Box<RawValue>,
}

/// A value of a queue's counter. Each change of a queue takes the next number, so a greater number means a later
/// change.
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
    /// The JSON object, without the fields that the queue adds.
    pub body: Box<RawValue>,
    /// The lease of the item, if it is or was taken; the lease may have ended.
    pub lease: Option<Lease>,
    /// The delay with which the item was released, if any; the delay may have ended.
    pub delay: Option<Delay>,
    /// The number of the change that wrote the present contents: a push, a merge, an edit or a parking. A take or
    /// a release does not change the contents. [`Claim::Revision`](super::Claim::Revision) compares this number.
    pub revision: QueueMark,
    /// The place of the item: items are taken in the order of their places. The first push gives an item its
    /// place; each take, release and failure gives it a new place after all others.
    pub place: QueueMark,
    /// True if the item is stored with a checksum that matches.
    pub verified: bool,
}

/// Whether an item is leased, delayed or neither. This does not say whether the item is eligible or parked.
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
    /// The item has no lease and no delay, or both have ended.
    Pending,
    /// The item was released with a delay that has not ended.
    Delayed,
    /// The item has a lease that has not ended.
    Leased,
}

impl QueueEntry {
    /// Whether the item is leased, delayed or neither at present. A parked item has these states too: the fields
    /// of its body say whether it is parked.
    #[must_use]
    pub fn state(&self, clock: &dyn Clock) -> ItemState {
        ItemState::of(self.lease.as_ref(), self.delay.as_ref(), clock)
    }
}

impl ItemState {
    /// The present state of an item that has this lease and this delay.
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

/// One step of the iteration over a queue.
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
    /// Bytes that are not an item. The next step continues after them.
    Damage(Damage),
    /// An item that is larger than the reader's limit. The next step continues after it.
    TooLarge(TooLarge),
}

/// Iterates over the items of a queue in the order of their first push. Each item is returned once, in its present
/// state. A transient error does not end the iterator: its next step is tried again.
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

/// The numbers of a queue's items, by state.
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
    /// Eligible items whose lease and delay, if any, have ended.
    pub pending: u64,
    /// Items with a lease that has not ended.
    pub leased: u64,
    /// Eligible items with a delay that has not ended.
    pub delayed: u64,
    /// Items that are not eligible, except those with a lease that has not ended.
    pub parked: u64,
    /// Items that can't be read: their fields have wrong types, or they are too large. They are taken only by
    /// their id. An item with a lease that has not ended counts as leased instead.
    pub unreadable: u64,
    /// Damaged places in the queue. Items that were stored there are in none of the numbers above.
    pub damaged: u64,
    /// The stored size of the queue in bytes.
    pub bytes: u64,
    /// The number of the queue's last change. With [`Select::until`](super::Select::until) it limits a run to the
    /// items that exist now.
    pub mark: QueueMark,
}
