//! What has to be true after a crash, of all that was told.

mod documents;
mod events;
mod fences;
mod locks;
mod queues;

use anyhow::Result;
use prodigy_storage_backend::Durability;
use prodigy_storage_file::FileBackend;

use crate::crash::Loss;
use crate::story::Story;

/// Reads everything that the story is about, and compares.
///
/// - What was acknowledged is there: once, with its payload, under its id; and what was acknowledged as gone is gone.
/// - What was begun and not acknowledged is whole or absent; of a batch of events a prefix may stand.
/// - No damage is told: nobody caused any.
/// - A cursor goes on without losing or repeating what was acknowledged.
/// - No fencing token was given twice.
/// - No fencing mark is behind a write that carried a token, acknowledged or only visible, relaxed or not.
///
/// What was relaxed counts as acknowledged where every process died, and as only begun where the power failed, unless it
/// was flushed.
///
/// # Errors
/// What was expected, and what was found.
pub fn verify(story: &Story, loss: Loss, backend: &FileBackend) -> Result<()> {
    events::verify(story, loss, backend)?;
    documents::verify(story, loss, backend)?;
    queues::verify(story, loss, backend)?;
    locks::verify(story, backend)?;
    fences::verify(story, backend)
}

/// Whether what was acknowledged with this durability outlives the loss.
fn holds(durability: Durability, loss: Loss) -> bool {
    durability == Durability::Strict || loss == Loss::Death
}

pub(crate) use events::resume;
