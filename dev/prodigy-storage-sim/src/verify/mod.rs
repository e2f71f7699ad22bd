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

/// Reads everything that the history is about, and compares.
///
/// - Acknowledged data is there: once, with its payload, under its id. Data whose removal was acknowledged is gone.
/// - Data of an unacknowledged operation is whole or absent; of a batch of events a prefix may be there.
/// - No damage is reported: nobody caused any.
/// - A cursor continues without losing or repeating acknowledged events.
/// - A job whose deletion was acknowledged is gone, one whose deletion was begun is there whole or gone whole, and no cursor
///   into its log continues.
/// - A removal of old events was made whole or not at all, and no cursor that does not cover it continues.
/// - No fencing token was given twice.
/// - No fencing mark is behind a write that carried a token, acknowledged or only visible, relaxed or not.
///
/// A relaxed write counts as acknowledged if all processes died, and as only begun if the power failed, unless it
/// was flushed.
///
/// # Errors
/// The expected and the found value.
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

/// Holds if it does for one of the possible histories: each job that was being deleted is there whole, or gone whole.
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

/// Continues from a cursor that a reader took at the moment of the crash.
///
/// # Errors
/// The expected and the found value.
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

/// Whether what was acknowledged with this durability outlives the loss.
fn holds(durability: Durability, loss: Loss) -> bool {
    durability == Durability::Strict || loss == Loss::Death
}

/// How sure an operation of this durability is after the loss.
fn certainty(op: &Op, durability: Durability, loss: Loss) -> Certainty {
    match op.answer {
        None => Certainty::Unclear,
        Some(_) if holds(durability, loss) => Certainty::Durable,
        Some(_) => Certainty::Relaxed(op.process),
    }
}
