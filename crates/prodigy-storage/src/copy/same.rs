//! Refuses a copy of a store to itself.

use prodigy_storage_backend::{Result, Revision, StorageError};
use prodigy_storage_layout::RepoName;

use crate::documents::DocumentOptions;
use crate::storage::Storage;

/// The repository, and the kind, of a document that is put into the target to see whether it appears in the
/// source.
const PROBE: &str = RepoName::PROBE;

/// Fails if source and target are the same store. A store can be reached in several ways, such as by links,
/// mounts, and names of hosts. So a document is put into the target, and must not appear in the source.
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
