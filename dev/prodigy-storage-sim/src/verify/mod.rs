//! The promises that must hold after a crash.

mod deletions;
mod documents;
mod events;
mod fences;
mod locks;
mod queues;

use std::collections::HashSet;

use anyhow::Result;
use prodigy_storage_backend::reference::Certainty;
use prodigy_storage_backend::{Cursor, Durability, EventId};
use prodigy_storage_file::FileBackend;
use prodigy_storage_layout::JobAddress;

use deletions::Possible;

use crate::crash::Loss;
use crate::history::{History, Op};

/// Reads everything that the history wrote, and compares it with the promises:
///
/// - Acknowledged data exists once, with its payload, under its id. Data whose removal was acknowledged is gone.
/// - Data of an unacknowledged operation is whole or absent; a prefix of a batch of events may exist.
/// - No damage is reported, because a crash causes none.
/// - A cursor continues without losing or repeating acknowledged events.
/// - A job whose deletion was acknowledged is gone. A job whose deletion was begun exists completely or not at all, and
///   in the latter case no cursor into its log continues.
/// - A removal of old events happened completely or not at all, and no cursor that does not cover it continues.
/// - No fencing token was issued twice.
/// - No fencing mark is below the token of a write, acknowledged or only visible, relaxed or strict.
///
/// If all processes died, a relaxed write counts as acknowledged; if the power failed, it counts as started only,
/// unless it was flushed.
///
/// # Errors
/// A broken promise, with the expected and the found value.
pub fn verify(history: &History, loss: Loss, backend: &FileBackend) -> Result<()> {
    any_of(history, |possible| {
        let history = &possible.history();
        events::verify(history, loss, backend)?;
        documents::verify(history, loss, backend)?;
        queues::verify(history, loss, backend)?;
        possible.verify(backend)
    })?;
    deletions::verify(history, backend)?;
    locks::verify(history, backend)?;
    fences::verify(history, backend)
}

/// Succeeds if `verify` succeeds for one of the possible histories: each unacknowledged deletion happened or did not.
fn any_of(history: &History, verify: impl Fn(&Possible) -> Result<()>) -> Result<()> {
    let mut outcome = Ok(());
    for possible in deletions::possible(history) {
        outcome = verify(&possible);
        if outcome.is_ok() {
            break;
        }
    }
    outcome
}

/// Checks that a reader continues from a cursor that it had at the moment of the crash.
///
/// # Errors
/// A broken promise, with the expected and the found value.
pub(crate) fn resume(
    history: &History,
    loss: Loss,
    backend: &FileBackend,
    job: &JobAddress,
    cursor: &Cursor,
    given: &HashSet<EventId>,
) -> Result<()> {
    any_of(history, |possible| {
        if possible.misses(job, given) && deletions::is_gap(backend, job, cursor) {
            return Ok(());
        }
        events::resume(&possible.history(), loss, backend, job, cursor, given)
    })
}

/// True if data that was acknowledged with this durability survives the loss.
fn holds(durability: Durability, loss: Loss) -> bool {
    durability == Durability::Strict || loss == Loss::Death
}

/// Whether an operation's data must exist after the loss: surely, only if it was synced later, or not at all.
fn certainty(op: &Op, durability: Durability, loss: Loss) -> Certainty {
    match op.answer {
        None => Certainty::Unclear,
        Some(_) if holds(durability, loss) => Certainty::Durable,
        Some(_) => Certainty::Relaxed(op.process),
    }
}
