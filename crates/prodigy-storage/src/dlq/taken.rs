//! An item in hand.

use std::collections::HashSet;
use std::time::Duration;

use parking_lot::Mutex;
use prodigy_storage_backend::dead_letter::Failure;
use prodigy_storage_backend::{Change, Claim, ItemId, Lease, LeaseToken, Result, Settled, Settlement};
use serde::de::DeserializeOwned;

use super::{Dlq, DlqItem, failed};

/// An item that this caller took, with the claim on it.
///
/// Dropping it releases the item, unless it was settled or [kept](Self::keep): a worker that returns early, panics or is cancelled
/// leaves no lease behind. The release is a write of its own. If it fails, or the process dies, the item is pending again when
/// its lease ends.
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
    /// The item.
    pub item: DlqItem,
    /// The claim on it.
    pub lease: Lease,
    dlq: Dlq,
}

impl Taken {
    pub(super) fn new(item: DlqItem, lease: Lease, dlq: Dlq) -> Self {
        dlq.inner.in_hand.add(lease.token.clone());
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

    /// Dropping it no longer releases the item: the program settles it by its [token](Self::token), or another one does, or its lease ends.
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

    /// The release that is left to do when it is dropped, once.
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

/// The tokens of all items in hand that were neither settled nor kept.
#[derive(Debug, Default)]
pub(crate) struct InHand(Mutex<HashSet<LeaseToken>>);

impl InHand {
    fn add(&self, token: LeaseToken) {
        self.0.lock().insert(token);
    }

    /// False if it is not there.
    fn remove(&self, token: &LeaseToken) -> bool {
        self.0.lock().remove(token)
    }

    /// Removes the tokens of items that were settled.
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
