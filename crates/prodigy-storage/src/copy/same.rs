//! Refuses a copy of a store to itself or into its own folder.

use std::path::{Path, PathBuf};

use prodigy_storage_backend::{Result, Revision, StorageError};
use prodigy_storage_config::BackendKind;
use prodigy_storage_layout::RepoName;

use crate::documents::DocumentOptions;
use crate::storage::Storage;

/// The repository, and the kind, of a document that is put into the target to see whether it appears in the
/// source.
const PROBE: &str = RepoName::PROBE;

/// Fails if the folder of the target is below the folder of the source: its files would be strays there.
pub(super) fn refuse_inside(source: &Storage, target: &Storage) -> Result<()> {
    let folder = |storage: &Storage| {
        let config = storage.config();
        (config.backend == BackendKind::File).then(|| real(&config.file.base_dir))
    };
    let (Some(from), Some(to)) = (folder(source), folder(target)) else {
        return Ok(());
    };
    if to == from || !to.starts_with(&from) {
        return Ok(());
    }
    let why = format!(
        "{} is within the folder of the source, {}",
        to.display(),
        from.display()
    );
    Err(StorageError::invalid("copy", target.capabilities().backend, why)
        .with_hint("name a folder outside of the source as the target"))
}

/// The path without links, as far as it exists.
#[expect(
    clippy::disallowed_methods,
    reason = "it only compares the places of two roots"
)]
fn real(path: &Path) -> PathBuf {
    for ancestor in path.ancestors() {
        if let (Ok(found), Ok(rest)) = (ancestor.canonicalize(), path.strip_prefix(ancestor)) {
            return match rest.as_os_str().is_empty() {
                true => found,
                false => found.join(rest),
            };
        }
    }
    path.to_owned()
}

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
