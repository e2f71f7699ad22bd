//! Entries of the wrong kind for their path: a link or a folder at the path of a file, or a link or a file at the path
//! of a folder.

use std::io;
use std::path::Path;

use prodigy_storage_backend::ForeignKind;
use prodigy_storage_layout::{DELETIONS, DOCUMENTS, EVENTS, Entry, Folder, LOCKS, RepoName, STATE};

use super::Root;
use crate::fs::FileKind;

/// True if an entry of this kind does not belong at the path. A file at the path of a repository's or job's folder may
/// belong to another program, so it does not count here; [`InTheWay`](super::InTheWay), which knows the other areas,
/// reports it.
pub(crate) fn is_misplaced(path: &Path, kind: FileKind) -> bool {
    match (Entry::parse(path), Folder::parse(path)) {
        (Some(Entry::Worktree(..)), _) => kind == FileKind::Other,
        (Some(_), _) => kind != FileKind::File,
        (None, None) => false,
        (None, Some(Folder::Store)) => kind != FileKind::Folder,
        (None, Some(_)) if is_ours_alone(path) => kind != FileKind::Folder,
        (None, Some(_)) => kind == FileKind::Other,
    }
}

/// True if no other program could have a file at the path of this folder.
fn is_ours_alone(folder: &Path) -> bool {
    let parts: Vec<_> = folder.iter().collect();
    match parts[..] {
        [area, ..] if area == DELETIONS || area == LOCKS => true,
        // The audit log is in a repository under a reserved name.
        [area, repo, ..] if repo == RepoName::AUDIT => area == EVENTS || area == STATE,
        [area, _, name] => area == STATE && (name == DOCUMENTS || name == "mapreduce"),
        [area, _, _, name] if name == "jobs" => area == STATE,
        [area, _, documents, _] => area == STATE && documents == DOCUMENTS,
        [area, _, _, _, _, documents] | [area, _, _, _, _, documents, _] => {
            area == STATE && documents == DOCUMENTS
        }
        _ => false,
    }
}

impl Root {
    /// Counts an entry that a listing skips, if it is of the wrong kind for its path.
    pub(crate) fn pass_over(&self, path: &Path, kind: FileKind) {
        if is_misplaced(path, kind) {
            self.foreign.skip(ForeignKind::OtherThings, path, 1);
        }
    }

    /// Describes an entry of the wrong kind for its path. For a link, states its target.
    pub(crate) fn describe_misplaced(&self, path: &Path) -> String {
        match (
            self.fs.metadata(path).map(|found| found.kind),
            self.fs.link_target(path),
        ) {
            (_, Ok(target)) => format!("a link to {}", target.display()),
            (Ok(FileKind::Folder), _) => "a folder at the path of a file".to_owned(),
            (Ok(FileKind::File), _) => "a file at the path of a folder".to_owned(),
            (Err(error), _) if error.kind() == io::ErrorKind::NotFound => "nothing any more".to_owned(),
            _ => "neither a file nor a folder".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_place_of_the_layout_has_its_kind() {
        const JOB: &str = "state/shop/mapreduce/jobs/j";
        let is = |path: &str, kind| is_misplaced(Path::new(path), kind);
        for file in [
            "dlq/shop/j/items.json",
            "state/shop/repository.json",
            "deletions/shop/j.json",
            "moved/store.json",
            "moved/jobs/shop/j.json",
            &format!("{JOB}/fencing.json"),
            &format!("{JOB}/setup-checkpoint.json"),
        ] {
            assert!(is(file, FileKind::Folder) && is(file, FileKind::Other), "{file}");
            assert!(!is(file, FileKind::File), "{file}");
        }
        for folder in [
            "events/shop",
            "dlq/shop/j",
            JOB,
            "state/mapreduce",
            "moved/jobs/shop",
        ] {
            assert!(
                is(folder, FileKind::Other) && !is(folder, FileKind::Folder),
                "{folder}"
            );
            assert!(
                !is(folder, FileKind::File),
                "a file there may be another program's: {folder}"
            );
        }
        for ours in [
            "deletions",
            "deletions/shop",
            "events",
            "events/_audit",
            "events/_audit/clean",
            "state/_audit",
            "locks/1",
            "locks/state/shop",
            "locks/3/a/b",
            "state/shop/documents",
            "state/shop/documents/notes",
            "state/shop/mapreduce",
            "state/shop/mapreduce/jobs",
            &format!("{JOB}/documents"),
            &format!("{JOB}/documents/notes"),
        ] {
            assert!(is(ours, FileKind::File) && is(ours, FileKind::Other), "{ours}");
        }
        for foreign in ["notes", "events/shop/j/notes", "state/shop/mine", "locks/1/x"] {
            assert!(!is(foreign, FileKind::Other), "{foreign}");
        }
    }
}
