//! Refuses a copy of a store to itself.

use prodigy_storage_backend::{Result, Revision, StorageError};
use prodigy_storage_layout::RepoName;

use crate::documents::DocumentOptions;
use crate::storage::Storage;

/// The repository of the probe, a document that is deleted as soon as it was looked for.
const PROBE: &str = RepoName::PROBE;

/// A store can be reached in many ways: by links, mounts, and the names of hosts. So a document that is put into the target
/// must not appear in the source.
pub(super) fn refuse(source: &Storage, target: &Storage) -> Result<()> {
    let name = format!("probe-{}", Revision::random());
    let probe = target.repo(PROBE)?.documents(PROBE)?;
    probe.put(&name, &(), DocumentOptions::new())?;
    let seen = source.repo(PROBE)?.documents(PROBE)?.get_raw(&name);
    probe.delete(&name, DocumentOptions::new())?;
    if seen?.is_none() {
        return Ok(());
    }
    let why = "source and target are the same store";
    Err(StorageError::invalid("copy", target.capabilities().backend, why)
        .with_hint("name another folder, database or schema as the target"))
}
