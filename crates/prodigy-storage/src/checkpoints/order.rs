//! Orders the saves of all phases of a job.
//!
//! The names of all checkpoints except setup hold a stamp, and the backend makes these stamps ascend over all
//! phases. The setup checkpoint always has the same name, and its time is in its body. So a save of setup reads
//! the newest stamps, and a save of another phase reads the time of the setup checkpoint.

use std::collections::HashMap;

use parking_lot::Mutex;
use prodigy_storage_backend::{Added, Deadline, ErrorKind, Result, Revision};
use prodigy_storage_layout::{Document, DocumentScope, JobAddress, Phase, Stamp, Timestamp};

use super::body;
use crate::storage::Inner;

/// The number of jobs for which the time of the setup checkpoint is cached.
const JOBS: usize = 256;

/// The times of setup checkpoints, with the revision that each belongs to, so that a setup checkpoint is read only
/// once.
#[derive(Debug, Default)]
pub(crate) struct Setups(Mutex<HashMap<JobAddress, (Revision, Timestamp)>>);

impl Setups {
    fn recall(&self, job: &JobAddress, revision: Revision) -> Option<Timestamp> {
        let setups = self.0.lock();
        setups
            .get(job)
            .filter(|(known, _)| *known == revision)
            .map(|(_, time)| *time)
    }

    fn keep(&self, job: &JobAddress, revision: Revision, time: Timestamp) {
        let mut setups = self.0.lock();
        if setups.len() >= JOBS {
            setups.clear();
        }
        setups.insert(job.clone(), (revision, time));
    }
}

/// The time of a save that starts now: the clock's time or, if the newest checkpoint is not older than that, 1 ns
/// after it. For a save of setup, that is the newest of the other phases; for all others, the setup checkpoint.
///
/// If the newest checkpoint can't be read, the clock's time is used: the save itself will report the failure.
pub(super) fn time(inner: &Inner, job: &JobAddress, phase: Phase, deadline: Deadline) -> Timestamp {
    let after = match phase {
        Phase::Setup => newest_stamp(inner, job, deadline),
        _ => time_of_setup(inner, job, deadline),
    };
    let after = after.unwrap_or_else(|error| {
        tracing::warn!(%job, %phase, error = &error as &dyn std::error::Error, "the order of a save follows the clock alone");
        None
    });
    let now = inner.clock.now();
    after.map_or(now, |after| now.max(after.next()))
}

/// Caches the time of a setup checkpoint that this handle saved.
pub(super) fn saved(inner: &Inner, job: &JobAddress, phase: Phase, added: &Added, time: Timestamp) {
    if phase == Phase::Setup {
        inner.setups.keep(job, added.revision, time);
    }
}

/// The newest stamp of all phases except setup. Stamps of another program are ignored, since they depend on that
/// program's clock.
fn newest_stamp(inner: &Inner, job: &JobAddress, deadline: Deadline) -> Result<Option<Timestamp>> {
    let mut newest = None;
    for entry in inner.list(&DocumentScope::Job(job.clone()), deadline) {
        let entry = entry?;
        let stamp = entry.document.stamp().filter(|stamp| stamp.is_canonical());
        newest = newest.max(stamp.map(Stamp::time));
    }
    Ok(newest)
}

fn time_of_setup(inner: &Inner, job: &JobAddress, deadline: Deadline) -> Result<Option<Timestamp>> {
    let setup = Document::Setup(job.clone());
    let Some(revision) = inner.caller.revision(&setup, deadline)? else {
        return Ok(None);
    };
    if let Some(known) = inner.setups.recall(job, revision) {
        return Ok(Some(known));
    }
    let (revision, time) = match inner.caller.get(&setup, deadline) {
        Ok(Some(stored)) => (stored.revision(), body::saved_at(&stored)),
        Ok(None) => return Ok(None),
        // It counts as a checkpoint without a time, since readers skip it.
        Err(error) if matches!(error.kind(), ErrorKind::Damaged | ErrorKind::Foreign) => (revision, None),
        Err(error) => return Err(error),
    };
    // If another program wrote the setup checkpoint, it raises no other time.
    let time = time.unwrap_or(Timestamp::MIN);
    inner.setups.keep(job, revision, time);
    Ok(Some(time))
}
