//! Refuses a copy of a store to itself, into its own folder or among files of something else, and a move of what was moved to another place.

use std::path::{Path, PathBuf};

use prodigy_storage_backend::{ErrorKind, Moved, PageOptions, Result, Revision, StorageError};
use prodigy_storage_config::BackendKind;
use prodigy_storage_layout::{EVENTS, LOCKS, Part, RepoName, STATE};

use super::COPY;
use crate::call::operation::LIST_MOVED;
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
    if to == from {
        return Err(is_same(target));
    }
    if !to.starts_with(&from) {
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

/// Fails if the folder of the target has files, and none of a store: its path may be mistyped, and the store would be spread
/// among them. The temporary file of a copy that was killed at its very beginning does not count.
#[expect(
    clippy::disallowed_methods,
    reason = "it only looks at the names in the folder"
)]
pub(super) fn refuse_folder_of_others(target: &Storage) -> Result<()> {
    const OF_STORE: [&str; 4] = ["format.json", EVENTS, STATE, LOCKS];
    let config = target.config();
    if config.backend != BackendKind::File {
        return Ok(());
    }
    let folder = &config.file.base_dir;
    let Ok(entries) = folder.read_dir() else {
        return Ok(());
    };
    let mut names = entries.flatten().map(|entry| entry.file_name());
    if names.all(|name| name.to_string_lossy().starts_with(".tmp-"))
        || OF_STORE.iter().any(|name| folder.join(name).exists())
    {
        return Ok(());
    }
    let why = "the folder has files, and none of a store";
    Err(StorageError::new(ErrorKind::Refused, COPY, folder.display(), why)
        .with_hint("name a store, an empty folder, or one that does not exist yet"))
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
    Err(is_same(target))
}

fn is_same(target: &Storage) -> StorageError {
    let why = "source and target are the same store";
    StorageError::invalid("copy", target.capabilities().backend, why)
        .with_hint("name another folder, database or schema as the target")
}

/// The marks of a part and of the parts that contain it.
pub(super) fn marks_over(source: &Storage, part: &Part) -> Result<Vec<Moved>> {
    let inner = source.inner();
    let deadline = inner.deadline();
    // At most three marks cover a part: its own, that of its repository, and that of the store. They come before
    // those of the parts within it.
    let covering = PageOptions::default().limit(3);
    let found = inner.caller.call(LIST_MOVED, part, deadline, |backend| {
        backend.moved(part, &covering, deadline)
    })?;
    let mut marks = found.entries;
    marks.retain(|moved| moved.part.contains(part));
    Ok(marks)
}

/// Fails if a part of the source, or a larger part that contains it, was moved to another place than this: there
/// would be two places that take its writes.
pub(super) fn refuse_moved(source: &Storage, part: &Part, place: &str) -> Result<()> {
    let marks = marks_over(source, part)?;
    match marks.iter().find(|moved| !leads_to(moved, place)) {
        None => Ok(()),
        Some(moved) => Err(moved.refused(COPY, part).with_hint(format!(
            "copy from there to move it on; if nobody writes there, `{}` takes the mark away; \
             `--keep-source` copies what is here, and moves nothing; a copy to the same place continues the move",
            Moved::reopening(&moved.part)
        ))),
    }
}

/// True if a part of the source, or a larger part that contains it, was moved to this place.
pub(super) fn is_moved(source: &Storage, part: &Part, place: &str) -> Result<bool> {
    Ok(marks_over(source, part)?
        .iter()
        .any(|moved| leads_to(moved, place)))
}

/// True if a mark names this place. One folder has several paths.
pub(super) fn leads_to(moved: &Moved, place: &str) -> bool {
    moved.to == place
        || (Path::new(place).is_absolute() && real(Path::new(&moved.to)) == real(Path::new(place)))
}
