//! Storage as a user opens it, and checks of its contents.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use prodigy_storage::Durability;
use prodigy_storage::{EventId, Job, Storage, StorageConfig};

use crate::event::{Digest, Event};

/// The namespace that all works use.
pub(crate) const REPO: &str = "bench";
/// The job that most works use.
pub(crate) const JOB: &str = "job";

/// The default configuration with this root and durability.
pub(crate) fn config(root: &Path, strict: bool) -> StorageConfig {
    let mut config = StorageConfig::default();
    config.file.base_dir = root.to_owned();
    config.durability = if strict {
        Durability::Strict
    } else {
        Durability::Relaxed
    };
    config
}

/// The root that [`open`] uses in a folder.
pub(crate) fn root(folder: &Path) -> PathBuf {
    folder.join("root")
}

/// Opens storage with its root in a folder.
pub(crate) fn open(folder: &Path, strict: bool) -> Result<Storage> {
    Ok(Storage::with_config(config(&root(folder), strict))?)
}

/// The job that most works use.
pub(crate) fn job(storage: &Storage) -> Result<Job> {
    Ok(storage.repo(REPO)?.job(JOB)?)
}

/// The digest of the log's events, and their ids in order. Fails if a record is unverified.
pub(crate) fn stored(job: &Job) -> Result<(Digest, Vec<EventId>)> {
    let (mut digest, mut ids) = (Digest::default(), Vec::new());
    for event in job.events().read::<Event>()? {
        let event = event?;
        ensure!(event.verified, "{} has no checksum", event.id);
        digest.add(&event.event);
        ids.push(event.id);
    }
    Ok((digest, ids))
}

/// Checks that the log has exactly the events of the digest, under these ids.
pub(crate) fn check(job: &Job, wanted: Digest, mut ids: Vec<EventId>) -> Result<()> {
    let (digest, stored) = stored(job)?;
    digest.must_be(wanted)?;
    ids.sort_unstable();
    ensure!(stored == ids, "the ids in the log are not those that were given");
    Ok(())
}
