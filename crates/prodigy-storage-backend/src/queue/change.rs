//! Changes of stored items.

use std::time::Duration;

use serde_json::value::RawValue;

use crate::dead_letter::{normalise_for, same_id};
use crate::error::{Result, StorageError};

use super::{ItemId, LeaseToken, QueueItem, QueueMark};

/// Names the item to change, and the condition for the change.
///
/// ```
/// use prodigy_storage_backend::{Claim, ItemId, QueueEntry};
///
/// /// The item as it was read: another program's change in between is noticed.
/// fn as_read(entry: &QueueEntry) -> Claim {
///     Claim::Revision(entry.id.clone(), entry.revision)
/// }
/// # let _ = Claim::Item(ItemId::new("a")?);
/// # Ok::<(), prodigy_storage_backend::StorageError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "a backend has to check each")]
pub enum Claim {
    /// The item that was taken under this token. It is still valid after the lease has ended, until another worker
    /// takes the item.
    Lease(LeaseToken),
    /// The item with this id, even if a worker holds it. Meant for people who operate the queue.
    Item(ItemId),
    /// The item with this id, if its contents are still those of [`QueueEntry::revision`](super::QueueEntry::revision):
    /// compare-and-set.
    Revision(ItemId, QueueMark),
}

impl From<LeaseToken> for Claim {
    fn from(token: LeaseToken) -> Self {
        Self::Lease(token)
    }
}

impl From<&LeaseToken> for Claim {
    fn from(token: &LeaseToken) -> Self {
        Self::Lease(token.clone())
    }
}

impl From<ItemId> for Claim {
    fn from(id: ItemId) -> Self {
        Self::Item(id)
    }
}

impl From<&ItemId> for Claim {
    fn from(id: &ItemId) -> Self {
        Self::Item(id.clone())
    }
}

/// A change of an item. Every change that has an effect ends the item's lease, except [`Extend`](Self::Extend).
///
/// [`dead_letter::changed`](crate::dead_letter::changed) returns the contents after a change.
///
/// ```
/// use std::time::Duration;
/// use prodigy_storage_backend::Change;
///
/// let later = Change::Release { delay: Duration::from_secs(600) };
/// let aside = Change::Park { reason: Some("needs a licence".into()) };
/// # let _ = (later, aside);
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Change {
    /// Removes the item, because its work is done or a person wants it removed. Under [`Claim::Lease`] the item is
    /// released instead if its contents were changed since it was taken: [`Settled::Kept`].
    Remove,
    /// Makes the lease end this long after the present moment. Only under [`Claim::Lease`].
    Extend(Duration),
    /// Makes the item pending again after the delay, with the last place of the queue. An earlier delay is
    /// replaced.
    Release {
        /// The delay; with zero the item is pending at once.
        delay: Duration,
    },
    /// Records another failure: it is merged into the item ([`fail`](crate::dead_letter::fail)), and the item is
    /// pending again, with the last place of the queue. The item keeps its `item_data`, since the worker's may be
    /// old. If the pushed item is not eligible, the item is parked in the same step.
    Fail(QueueItem),
    /// Sets the item aside for a person: `reprocess_eligible` becomes false, `manual_review_required` true, and
    /// `parked_reason` the given text. No failure is added. Parking, unparking and editing change neither the
    /// place nor the delay.
    Park {
        /// The reason. With `None`, an item that is already parked keeps its reason.
        reason: Option<String>,
    },
    /// Makes a parked item eligible again. An item that is not parked is left unchanged and keeps its lease:
    /// [`Settled::Already`].
    Unpark,
    /// Replaces the contents of the item. The id has to be the same.
    Edit(Box<RawValue>),
}

/// One change of one item.
///
/// ```
/// use prodigy_storage_backend::{Backend, Change, Claim, Deadline, LeaseToken, Result, Settled, Settlement};
/// use prodigy_storage_layout::JobAddress;
///
/// fn acknowledge(backend: &dyn Backend, job: &JobAddress, token: LeaseToken) -> Result<bool> {
///     let settlement = Settlement::new(Claim::Lease(token), Change::Remove);
///     let settled = backend.queue_settle(job, &[settlement], None, Deadline::never())?;
///     Ok(settled.iter().all(|settled| settled.is_done()))
/// }
/// ```
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "a backend has to apply each field")]
pub struct Settlement {
    /// The item to change.
    pub claim: Claim,
    /// The change.
    pub change: Change,
}

impl Settlement {
    /// A settlement with this claim and this change.
    #[must_use]
    pub fn new(claim: Claim, change: Change) -> Self {
        Self { claim, change }
    }

    /// Refuses a change that would be invalid for every item, before the item is searched.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) for contents that are not an item or have another id
    /// than the claim, and for an extension without a token.
    pub fn check(&self, operation: &'static str) -> Result<()> {
        let (operation, pushed) = match &self.change {
            Change::Extend(_) => {
                return match &self.claim {
                    Claim::Lease(_) => Ok(()),
                    Claim::Item(id) | Claim::Revision(id, _) => Err(StorageError::invalid(
                        operation,
                        id,
                        "only the holder of a lease can extend it, by its token",
                    )),
                };
            }
            Change::Fail(item) => ("fail item", &item.body),
            Change::Edit(contents) => ("edit item", contents),
            _ => return Ok(()),
        };
        let item = normalise_for(operation, pushed)?;
        match &self.claim {
            Claim::Item(id) | Claim::Revision(id, _) => same_id(id, &item.id, operation),
            Claim::Lease(_) => Ok(()),
        }
    }
}

/// The outcome of one [`Settlement`].
///
/// ```
/// use prodigy_storage_backend::Settled;
///
/// assert!(Settled::Done.is_done());
/// assert!(!Settled::Kept.is_done() && !Settled::Unknown.is_done());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Settled {
    /// The change was made.
    Done,
    /// The item was released instead of removed, because another failure of it was pushed while the worker had it,
    /// and the worker has not seen that failure.
    Kept,
    /// Nothing was changed: the item was removed, or another worker has taken it since.
    Unknown,
    /// Nothing was changed: the item does not have the revision that the claim names.
    Changed,
    /// Nothing was changed: the item is not parked.
    Already,
}

impl Settled {
    /// True if the change was made.
    #[must_use]
    pub fn is_done(self) -> bool {
        self == Self::Done
    }
}

/// The result of a push. Each pushed item is counted once, in one of the fields.
///
/// ```
/// use prodigy_storage_backend::PutReport;
///
/// assert_eq!(PutReport::default().added, 0);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PutReport {
    /// Items whose key was new.
    pub added: usize,
    /// Items that were merged into a stored item with the same key.
    pub merged: usize,
    /// Items that were pushed before; the stored items are unchanged.
    pub known: usize,
}

impl PutReport {
    /// The numbers of items that were new, merged, and pushed before.
    #[must_use]
    pub fn new(added: usize, merged: usize, known: usize) -> Self {
        Self { added, merged, known }
    }
}

/// The result of a compaction.
///
/// ```
/// use prodigy_storage_backend::Compaction;
///
/// let compaction = Compaction::new(5000, 1200);
/// assert_eq!(compaction.before - compaction.after, 3800);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Compaction {
    /// The size of the queue before the compaction, in bytes.
    pub before: u64,
    /// The size of the queue now, in bytes.
    pub after: u64,
}

impl Compaction {
    /// A compaction that reduced the queue from `before` to `after` bytes.
    #[must_use]
    pub fn new(before: u64, after: u64) -> Self {
        Self { before, after }
    }
}
