//! Changes of stored items.

use std::time::Duration;

use serde_json::value::RawValue;

use crate::dead_letter::{normalise_for, same_id};
use crate::error::{Result, StorageError};

use super::{ItemId, LeaseToken, QueueItem, QueueMark};

/// Says which item is meant, and on which condition.
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
    /// The item that this token took. Counts also after the lease has ended, while no one else took the item.
    Lease(LeaseToken),
    /// The item with this id, whichever worker holds it: for an operator.
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

/// A change of an item. Everything but [`Extend`](Self::Extend) ends a lease on it, if it changes anything.
///
/// [`dead_letter::changed`](crate::dead_letter::changed) gives the contents after it.
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
    /// It goes: an acknowledgement, or an operator's removal. Under [`Claim::Lease`] an item stays whose contents were
    /// changed since it was taken: [`Settled::Kept`].
    Remove,
    /// Its lease lasts this long from now on. Only under [`Claim::Lease`].
    Extend(Duration),
    /// It is pending again, behind all other items, once the delay has passed. A delay that it had is replaced.
    Release {
        /// Zero: at once.
        delay: Duration,
    },
    /// It failed again: the pushed failure is merged into it ([`fail`](crate::dead_letter::fail)), and it goes behind
    /// all other items, pending. Its data stay: those of the worker may be old. A pushed item that is not eligible parks
    /// it in the same step.
    Fail(QueueItem),
    /// A person has to look at it: `reprocess_eligible` becomes false, `manual_review_required` true, `parked_reason` the
    /// given text, or the one that it was parked with before. No failure is added. Place and delay stay, as with unparking
    /// and editing.
    Park {
        /// Why; `None` keeps the reason of an item that is parked already.
        reason: Option<String>,
    },
    /// It is eligible again: the opposite of parking. An item that is not parked is left alone, with its lease:
    /// [`Settled::Already`].
    Unpark,
    /// It gets these contents, under the same id.
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
    /// Which item.
    pub claim: Claim,
    /// The change.
    pub change: Change,
}

impl Settlement {
    /// This change, on this condition.
    #[must_use]
    pub fn new(claim: Claim, change: Change) -> Self {
        Self { claim, change }
    }

    /// Refuses what no item could be given, before the item is looked for.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) for contents that are no item, or name another id than
    /// the claim; for an extension without a token.
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
    /// It was carried out.
    Done,
    /// The item was released instead of removed: its contents were changed while it was taken (a failure was pushed
    /// meanwhile), so what was done with it does not settle them.
    Kept,
    /// Nothing was done: another worker took the item since, or it is gone.
    Unknown,
    /// Nothing was done: the contents have another revision than the one that the claim names.
    Changed,
    /// Nothing was done: the item is not parked, so there is nothing to unpark.
    Already,
}

impl Settled {
    /// Whether the change was carried out.
    #[must_use]
    pub fn is_done(self) -> bool {
        self == Self::Done
    }
}

/// The result of a put of items. Each item counts once.
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
    /// Items that were merged into one of the same key.
    pub merged: usize,
    /// Items that were pushed before: the one of their key stays as it is.
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
    /// Bytes that the queue took before it.
    pub before: u64,
    /// Bytes that it takes now.
    pub after: u64,
}

impl Compaction {
    /// From one number of bytes to another.
    #[must_use]
    pub fn new(before: u64, after: u64) -> Self {
        Self { before, after }
    }
}
