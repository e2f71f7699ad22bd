//! Working through the items of a queue.

use std::collections::HashSet;
use std::time::Duration;

use prodigy_storage_backend::dead_letter::{DeadLetter, Failure};
use prodigy_storage_backend::{ItemId, LeaseToken, Result, Select};
use prodigy_storage_layout::Timestamp;
use serde_json::value::RawValue;

use super::Dlq;
use super::item::{DlqItem, Taken};
use crate::storage::Inner;

/// How to redrive; `Default` takes 16 items at a time for five minutes.
#[derive(Clone, Copy, Debug)]
pub struct RedriveOptions {
    /// How long an item may take, and the other items of its batch with it.
    pub lease: Duration,
    /// Items to take at a time; 0 counts as 1.
    pub batch: usize,
    /// Items to take in all; without a bound if `None`.
    pub limit: Option<usize>,
}

impl Default for RedriveOptions {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(300),
            batch: 16,
            limit: None,
        }
    }
}

/// The outcome of the work on an item.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// It is done, and goes.
    Done,
    /// It failed again: the failure is added to its history, and it stays.
    Failed(Box<Failure>),
    /// It stays as it is, pending when the run ends.
    GiveBack,
}

impl Outcome {
    /// It failed again, like this.
    #[must_use]
    pub fn failed(failure: Failure) -> Self {
        Self::Failed(Box::new(failure))
    }
}

/// The result of a redrive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RedriveReport {
    /// Only items whose last attempt is not after this were taken.
    pub bound: Timestamp,
    /// Items that are done.
    pub done: usize,
    /// Items that failed again.
    pub failed: usize,
    /// Items that were given back as they were.
    pub given_back: usize,
    /// Items that were worked on, and whose lease ended and was taken by another before they were settled: their work
    /// may be done twice.
    pub lost: usize,
}

pub(crate) fn redrive(
    dlq: &Dlq,
    inner: &Inner,
    mut select: Select,
    options: RedriveOptions,
    mut work: impl FnMut(&DlqItem) -> Outcome,
) -> Result<RedriveReport> {
    let now = inner.clock.now();
    let bound = select.not_after.map_or(now, |given| given.min(now));
    select.not_after = Some(bound);
    let mut report = RedriveReport {
        bound,
        ..RedriveReport::default()
    };
    // Items that stay. This run must not take them again, whatever their lease and the clock do.
    let mut stays: HashSet<ItemId> = HashSet::new();
    let mut held: Vec<LeaseToken> = Vec::new();
    let mut held_again: HashSet<ItemId> = HashSet::new();
    let mut left = options.limit.unwrap_or(usize::MAX);
    let mut outcome = Ok(());
    while left > 0 {
        let batch = match dlq.take(&select, options.batch.max(1).min(left), options.lease) {
            Ok(batch) => batch,
            Err(error) => {
                outcome = Err(error);
                break;
            }
        };
        if batch.is_empty() {
            break;
        }
        // An item that stays may come again if the clock does not advance, or steps back. It is held until the run ends,
        // so that those behind it get their turn.
        let (again, fresh): (Vec<_>, Vec<_>) =
            batch.into_iter().partition(|taken| stays.contains(taken.id()));
        let newly_held = again
            .iter()
            .filter(|taken| held_again.insert(taken.id().clone()))
            .count();
        held.extend(again.into_iter().map(|taken| taken.lease.token));
        if fresh.is_empty() && newly_held == 0 {
            // Even those that were held came again: leases end faster than the run goes.
            break;
        }
        left = left.saturating_sub(fresh.len());
        outcome = settle(dlq, fresh, &mut work, &mut report, &mut stays, &mut held);
        if outcome.is_err() {
            break;
        }
    }
    // Also after a failure, so that nothing waits for the end of its lease that need not. Tokens that are unknown by
    // now hold nothing any more.
    let given_back = dlq.nack(&held).map(drop);
    outcome.and(given_back).map(|()| report)
}

fn settle(
    dlq: &Dlq,
    batch: Vec<Taken>,
    work: &mut impl FnMut(&DlqItem) -> Outcome,
    report: &mut RedriveReport,
    stays: &mut HashSet<ItemId>,
    held: &mut Vec<LeaseToken>,
) -> Result<()> {
    let mut done = Vec::new();
    let mut failed = Vec::new();
    let mut pushed = Vec::new();
    for taken in batch {
        match work(&taken.item) {
            Outcome::Done => done.push(taken.lease.token),
            Outcome::Failed(failure) => {
                pushed.push(again(&taken.item, *failure)?);
                stays.insert(taken.item.id);
                failed.push(taken.lease.token);
            }
            Outcome::GiveBack => {
                report.given_back += 1;
                stays.insert(taken.item.id);
                held.push(taken.lease.token);
            }
        }
    }
    let acknowledged = dlq.ack(&done)?;
    report.done += acknowledged.settled.len();
    report.lost += acknowledged.unknown.len();
    // The failure first: an item given back without it would look as if it had not been tried.
    dlq.push_batch(pushed)?;
    let returned = dlq.nack(&failed)?;
    report.failed += returned.settled.len();
    report.lost += returned.unknown.len();
    Ok(())
}

/// The item as a push of this one failure: what it has besides is kept by the merge.
fn again(item: &DlqItem, failure: Failure) -> Result<DeadLetter<Box<RawValue>>> {
    let mut letter = item.letter::<Box<RawValue>>()?;
    letter.first_attempt = None;
    letter.last_attempt = None;
    letter.failure_count = None;
    letter.error_signature = None;
    letter.failure_history = vec![failure];
    Ok(letter)
}
