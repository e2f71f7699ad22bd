//! Items, and a walk through them.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Delay, ItemId, Lease};
use crate::clock::Clock;
use crate::error::Result;
use crate::log::{Damage, TooLarge};

/// An item to put: a JSON object with at least `item_id` and `item_data`.
///
/// [`dead_letter::normalise`](crate::dead_letter::normalise) makes one from what a caller pushes.
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
    /// Its key: the body's `item_id`.
    pub id: ItemId,
    /// The whole object, on one line.
    pub body: Box<RawValue>,
}

/// A number of a queue's counter. Each change of a queue takes the next one, so a greater number is a later change.
///
/// Numbers of two queues have nothing to do with each other.
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

/// An item as it is stored.
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
    /// Its key.
    pub id: ItemId,
    /// The whole object, without what the queue adds to it.
    pub body: Box<RawValue>,
    /// The claim on it, if it was taken; it may have ended.
    pub lease: Option<Lease>,
    /// How long it has to wait, if it was released with a delay; that may have passed.
    pub delay: Option<Delay>,
    /// The change that gave it its contents: a push, a merge, an edit, parking. What leaves the contents as they are (a
    /// lease, a release) does not count. [`Claim::Revision`](super::Claim::Revision) compares it.
    pub revision: QueueMark,
    /// Its place: items are taken in the order of their places. An item gets its place when it is first put, and a new
    /// one, at the end, whenever it is taken, released, or failed.
    pub place: QueueMark,
    /// Whether it is stored with a checksum that holds.
    pub verified: bool,
}

/// The state of an item now: whether it can be taken, and if not, why.
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
    /// Neither a claim nor a delay holds it.
    Pending,
    /// It was released with a delay that lasts.
    Delayed,
    /// A claim holds it.
    Leased,
}

impl QueueEntry {
    /// Its state now. Whether it is eligible is in its body.
    #[must_use]
    pub fn state(&self, clock: &dyn Clock) -> ItemState {
        ItemState::of(self.lease.as_ref(), self.delay.as_ref(), clock)
    }
}

impl ItemState {
    /// The state of an item with this lease and this delay.
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

/// One step through a queue.
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
    /// Bytes that are no item; reading continues behind them.
    Damage(Damage),
    /// An item that is larger than the reader's limit; reading continues behind it.
    TooLarge(TooLarge),
}

/// A walk through a queue in the order in which items were first put; each item's last state once.
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

/// A queue in numbers.
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
    /// Items in all.
    pub items: u64,
    /// Eligible items that neither a claim nor a delay holds.
    pub pending: u64,
    /// Items that a claim holds.
    pub leased: u64,
    /// Eligible items that were released with a delay that lasts.
    pub delayed: u64,
    /// Items that are not eligible, and that no claim holds.
    pub parked: u64,
    /// Items of other programs whose facts can't be read, or that are too large to be read, if no claim holds them. They
    /// are counted in none of the four above, and are taken only by their id.
    pub unreadable: u64,
    /// Bytes that the queue takes where it is stored.
    pub bytes: u64,
    /// The last change so far: with [`Select::until`](super::Select::until) the bound of a run through the items that
    /// are there now.
    pub mark: QueueMark,
}
