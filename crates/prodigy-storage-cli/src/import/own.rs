//! Imports a store of this program, which may be a project's own folder. Its jobs are exported and imported, because
//! its files alone do not show their meaning: a journal, for example, says which dead letters are removed.

use std::path::{Path, PathBuf};

use prodigy_storage::Storage;

use super::find::Files;
use super::store::Importer;
use crate::app::App;
use crate::errors::{Failure, Result};
use crate::job::repositories;
use crate::{export, new_file};

/// A folder with this file is a store.
pub(super) const FORMAT: &str = "format.json";

/// Opens the store in this folder for reading, if the folder is a store.
pub(super) fn store(folder: &Path) -> Result<Option<Storage>> {
    if !folder.join(FORMAT).is_file() {
        return Ok(None);
    }
    let builder = Storage::builder().read_only(true).flag("backend", "file");
    Ok(Some(builder.flag("backend_config.base_dir", folder).open()?))
}

/// The folders of a store with its data.
const AREAS: [&str; 7] = [
    "events",
    "dlq",
    "state",
    "locks",
    "orphaned_worktrees",
    "deletions",
    "moved",
];

/// The root of the store that this file or folder is a part of.
pub(super) fn around(path: &Path) -> Option<PathBuf> {
    let path = path.canonicalize().ok()?;
    path.ancestors().find_map(|part| {
        let root = part.parent()?;
        let is_area = part
            .file_name()
            .is_some_and(|name| AREAS.iter().any(|area| name == *area));
        (is_area && root.join(FORMAT).is_file()).then(|| root.to_owned())
    })
}

/// True if the folder is the root of this store, or a copy of it: both have the same store name in `format.json`.
pub(super) fn is_copy(storage: &Storage, folder: &Path) -> bool {
    let format = |folder: &Path| std::fs::read(folder.join(FORMAT)).ok();
    let root = storage.capabilities().root.and_then(|root| format(&root));
    root.is_some() && root == format(folder)
}

/// Removes the store's own files from the list. The remaining files are from other programs.
pub(super) fn leave_out(files: &mut Files, folder: &Path) {
    let is_other = |path: &Path| {
        let relative = path.strip_prefix(folder).unwrap_or(path);
        let parts: Vec<_> = relative.iter().map(|part| part.to_string_lossy()).collect();
        let parts: Vec<&str> = parts.iter().map(AsRef::as_ref).collect();
        !is_own(&parts)
    };
    files.found.retain(|file| is_other(&file.path));
    files.unknown.retain(|path| is_other(path));
}

fn is_own(parts: &[&str]) -> bool {
    match parts {
        ["events" | "orphaned_worktrees" | "locks", ..] | ["dlq", _, _, _] => true,
        ["state", _, "repository.json"] | ["state", _, "documents", ..] => true,
        ["state", _, "mapreduce", "jobs", _, "documents", ..] => true,
        ["state", _, "mapreduce", "jobs", _, file] => {
            file.contains("-checkpoint") || ["finished.json", "fencing.json"].contains(file)
        }
        _ => false,
    }
}

/// Imports every job of the store, and the documents of its repositories.
pub(super) fn import(
    app: &mut App<'_>,
    source: &Storage,
    storage: &Storage,
    importer: &mut Importer<'_>,
    under: Option<&str>,
) -> Result<()> {
    let folder = tempfile::tempdir().map_err(Failure::output)?;
    for name in repositories(source) {
        let from = source.repo(name?)?;
        let to = storage.repo(under.unwrap_or(from.name().as_str()))?;
        for job in from.jobs() {
            let job = from.job(job?)?;
            let file = folder.path().join("job.jsonl");
            let mut damaged = Vec::new();
            new_file::write(&file, |out| export::write(&job, out, &mut damaged))?;
            export::report(app, &damaged);
            let shown = format!("export of {}", job.address());
            super::import_lines(storage, importer, (&file, &shown), under, None)?;
            std::fs::remove_file(&file).map_err(Failure::output)?;
        }
        for info in from.all_documents() {
            let info = info?;
            let Some(found) = from.documents(info.kind.as_str())?.get_raw(info.name.as_str())? else {
                continue;
            };
            let place = format!("{} of {}", info.name, from.name());
            let documents = to.documents(info.kind.as_str())?;
            importer.value(&documents, &place, info.name.as_str(), &found.data)?;
            importer.count_as("documents");
        }
    }
    Ok(())
}
