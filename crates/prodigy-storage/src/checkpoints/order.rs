//! The order of saves over the phases of a job.
//!
//! The stamps in the names of all phases except setup ascend together, which the backend ensures. The setup checkpoint
//! has only one name, and its time is in its body. So a save of setup reads the newest names, and a save of another
//! phase reads the time of setup.

use std::collections::HashMap;

use parking_lot::Mutex;
use prodigy_storage_backend::{Added, Deadline, ErrorKind, Result, Revision};
use prodigy_storage_layout::{Document, DocumentScope, JobAddress, Phase, Stamp, Timestamp};

use super::body;
use crate::storage::Inner;

/// The number of jobs for which the time of the setup checkpoint is cached.
const JOBS: usize = 256;

/// The times of setup checkpoints, by revision, so that each setup checkpoint is read only once.
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

/// The time of a save that starts now: the clock's time or, if that is not later, 1 ns after the newest checkpoint of
/// the other phases.
///
/// If the check fails, the clock's time is used: the save itself will report the same failure.
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

/// The newest stamp of the other phases. The name of another program's checkpoint has its writer's clock, and is
/// ignored.
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
        // Readers skip it too.
        Err(error) if matches!(error.kind(), ErrorKind::Damaged | ErrorKind::Foreign) => (revision, None),
        Err(error) => return Err(error),
    };
    // A setup checkpoint without a time of ours does not raise any other time.
    let time = time.unwrap_or(Timestamp::MIN);
    inner.setups.keep(job, revision, time);
    Ok(Some(time))
}
