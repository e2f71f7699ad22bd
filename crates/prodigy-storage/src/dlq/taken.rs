//! An item in hand.

use std::time::Duration;

use prodigy_storage_backend::dead_letter::Failure;
use prodigy_storage_backend::{Change, Claim, ItemId, Lease, LeaseToken, Result, Settled, Settlement};
use serde::de::DeserializeOwned;

use super::{Dlq, DlqItem, failed};

/// An item that this caller took, with the claim on it.
///
/// Dropping it does nothing: the item is pending again when its lease ends.
///
/// ```
/// use std::time::Duration;
/// use prodigy_storage::{DeadLetter, ItemId, Select, Settled, Storage};
///
/// let dlq = Storage::in_memory()?.repo("shop")?.job("mapreduce-7")?.dlq();
/// dlq.push(&DeadLetter::new(ItemId::new("a")?, 1))?;
/// for taken in dlq.take(&Select::eligible(), 10, Duration::from_secs(60))? {
///     assert_eq!(taken.data::<u32>()?, 1);
///     assert_eq!(taken.ack()?, Settled::Done);
/// }
/// # Ok::<(), prodigy_storage::StorageError>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Taken {
    /// The item.
    pub item: DlqItem,
    /// The claim on it.
    pub lease: Lease,
    dlq: Dlq,
}

impl Taken {
    pub(super) fn new(item: DlqItem, lease: Lease, dlq: Dlq) -> Self {
        Self { item, lease, dlq }
    }

    /// Its key.
    #[must_use]
    pub fn id(&self) -> &ItemId {
        &self.item.id
    }

    /// The token that settles the item.
    #[must_use]
    pub fn token(&self) -> &LeaseToken {
        &self.lease.token
    }

    /// The work item.
    ///
    /// # Errors
    /// As [`DlqItem::data`].
    pub fn data<T: DeserializeOwned>(&self) -> Result<T> {
        self.item.data()
    }

    /// Its lease lasts this long from now on.
    ///
    /// # Errors
    /// As [`Dlq::settle`].
    pub fn extend(&self, lease: Duration) -> Result<Settled> {
        self.settle(Change::Extend(lease))
    }

    /// It is done, and goes; [`Settled::Kept`] if a failure was pushed meanwhile.
    ///
    /// # Errors
    /// As [`Dlq::settle`].
    pub fn ack(&self) -> Result<Settled> {
        self.settle(Change::Remove)
    }

    /// It is pending again, behind all others, after a delay.
    ///
    /// # Errors
    /// As [`Dlq::settle`].
    pub fn release(&self, delay: Duration) -> Result<Settled> {
        self.settle(Change::Release { delay })
    }

    /// It failed again: the failure is added to its history, and it is pending behind all others.
    ///
    /// # Errors
    /// As [`Dlq::settle`].
    pub fn fail(&self, failure: Failure) -> Result<Settled> {
        let failed = failed(self.id(), failure, None)?;
        self.settle(Change::Fail(failed))
    }

    /// A person has to look at it: no redrive takes it until it is unparked.
    ///
    /// # Errors
    /// As [`Dlq::settle`].
    pub fn park(&self, reason: Option<&str>) -> Result<Settled> {
        self.settle(Change::Park {
            reason: reason.map(str::to_owned),
        })
    }

    fn settle(&self, change: Change) -> Result<Settled> {
        self.dlq
            .settle_one(Settlement::new(Claim::from(self.token()), change))
    }
}
