//! An item that this caller took.

use std::collections::HashSet;
use std::time::Duration;

use parking_lot::Mutex;
use prodigy_storage_backend::dead_letter::Failure;
use prodigy_storage_backend::{Change, Claim, ItemId, Lease, LeaseToken, Result, Settled, Settlement};
use serde::de::DeserializeOwned;

use super::{Dlq, DlqItem, failed};

/// An item that this caller took, with its lease.
///
/// Dropping it releases the item, unless the item was settled or [kept](Self::keep): so a worker that returns
/// early, panics or is cancelled leaves no lease behind. The release is a separate write. If it fails, or the
/// process dies, the item is pending again when its lease ends.
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
#[derive(Debug)]
#[non_exhaustive]
#[must_use = "the item is released as soon as this is dropped"]
pub struct Taken {
    /// The item as it was when it was taken.
    pub item: DlqItem,
    /// The lease under which the item was taken.
    pub lease: Lease,
    pub(crate) dlq: Dlq,
}

impl Taken {
    pub(super) fn new(item: DlqItem, lease: Lease, dlq: Dlq) -> Self {
        dlq.inner.in_hand.add(lease.token.clone());
        Self { item, lease, dlq }
    }

    /// The key of the item.
    #[must_use]
    pub fn id(&self) -> &ItemId {
        &self.item.id
    }

    /// The token of the lease, with which the item is settled.
    #[must_use]
    pub fn token(&self) -> &LeaseToken {
        &self.lease.token
    }

    /// The data of the item.
    ///
    /// # Errors
    /// As [`DlqItem::data`].
    pub fn data<T: DeserializeOwned>(&self) -> Result<T> {
        self.item.data()
    }

    /// Makes the lease end this long after the present moment.
    ///
    /// # Errors
    /// As [`Dlq::settle`].
    pub fn extend(&self, lease: Duration) -> Result<Settled> {
        self.settle(Change::Extend(lease))
    }

    /// Acknowledges the item: the work is done, and the item is removed. If another failure of it was pushed since
    /// it was taken, it is released instead, and the outcome is [`Settled::Kept`].
    ///
    /// # Errors
    /// As [`Dlq::settle`].
    pub fn ack(&self) -> Result<Settled> {
        self.settle(Change::Remove)
    }

    /// Releases the item: after the delay it is pending again, with the last place of the queue.
    ///
    /// # Errors
    /// As [`Dlq::settle`].
    pub fn release(&self, delay: Duration) -> Result<Settled> {
        self.settle(Change::Release { delay })
    }

    /// Records that the item failed again: the failure is added to its history, and the item is pending again,
    /// with the last place of the queue.
    ///
    /// # Errors
    /// As [`Dlq::settle`].
    pub fn fail(&self, failure: Failure) -> Result<Settled> {
        let failed = failed(self.id(), failure, None)?;
        self.settle(Change::Fail(failed))
    }

    /// Parks the item for a person. Until it is unparked, a redrive takes it only by its key.
    ///
    /// # Errors
    /// As [`Dlq::settle`].
    pub fn park(&self, reason: Option<&str>) -> Result<Settled> {
        self.settle(Change::Park {
            reason: reason.map(str::to_owned),
        })
    }

    /// Makes the item stay leased when this value is dropped. It is then settled by its [token](Self::token), here
    /// or in another program; otherwise it is pending again when its lease ends.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use prodigy_storage::{DeadLetter, ItemId, Select, Settled, Storage};
    /// # let dlq = Storage::in_memory()?.repo("shop")?.job("mapreduce-7")?.dlq();
    /// # dlq.push(&DeadLetter::new(ItemId::new("a")?, 1))?;
    /// let taken = dlq.take(&Select::eligible(), 1, Duration::from_secs(60))?;
    /// let token = taken[0].token().clone();
    /// taken[0].keep();
    /// drop(taken);
    /// assert_eq!(dlq.ack(&[token])?, [Settled::Done]);
    /// # Ok::<(), prodigy_storage::StorageError>(())
    /// ```
    pub fn keep(&self) {
        self.dlq.inner.in_hand.remove(self.token());
    }

    /// A closure that releases the item; `None` if the item was settled or kept, or if this method was called
    /// before.
    pub(crate) fn let_go(&self) -> Option<impl FnOnce() + Send + use<>> {
        let is_open = self.dlq.inner.in_hand.remove(self.token());
        let (dlq, token) = (self.dlq.clone(), self.token().clone());
        is_open.then_some(move || release(&dlq, &[token]))
    }

    fn settle(&self, change: Change) -> Result<Settled> {
        self.dlq
            .settle_one(Settlement::new(Claim::from(self.token()), change))
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if let Some(release) = self.let_go() {
            release();
        }
    }
}

/// Releases items in one write.
#[cfg(feature = "tokio")]
pub(crate) fn release_all(taken: Vec<Taken>) {
    let Some(dlq) = taken.first().map(|first| first.dlq.clone()) else {
        return;
    };
    let tokens = taken.into_iter().map(|taken| {
        taken.keep();
        taken.token().clone()
    });
    release(&dlq, &tokens.collect::<Vec<_>>());
}

fn release(dlq: &Dlq, tokens: &[LeaseToken]) {
    if let Err(error) = dlq.release(tokens, Duration::ZERO) {
        let (items, error) = (tokens.len(), &error as &dyn std::error::Error);
        tracing::warn!(job = %dlq.job, items, error, "dropped items stay leased until their leases end");
    }
}

/// The tokens of the items that this handle has taken and that were neither settled nor kept.
#[derive(Debug, Default)]
pub(crate) struct InHand(Mutex<HashSet<LeaseToken>>);

impl InHand {
    fn add(&self, token: LeaseToken) {
        self.0.lock().insert(token);
    }

    /// Removes a token. Returns false if it was not in the set.
    fn remove(&self, token: &LeaseToken) -> bool {
        self.0.lock().remove(token)
    }

    /// Removes the tokens that these settlements name.
    pub(super) fn settled(&self, settlements: &[Settlement]) {
        let mut tokens = self.0.lock();
        for settlement in settlements {
            let keeps_the_lease = matches!(settlement.change, Change::Extend(_) | Change::Unpark);
            if let Claim::Lease(token) = &settlement.claim
                && !keeps_the_lease
            {
                tokens.remove(token);
            }
        }
    }
}
