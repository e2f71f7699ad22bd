//! Things of another kind than belongs at their path of the layout: a link or a folder at the path of a file, a link in the place
//! of a folder.

use std::io;
use std::path::Path;

use prodigy_storage_backend::ForeignKind;
use prodigy_storage_layout::{
    DELETIONS, DLQ, EVENTS, Entry, IMPORTED, JobId, LOCKS, ORPHANED, QUARANTINE, RepoName, STATE, WORKTREES,
};

use super::Root;
use crate::fs::FileKind;

/// True if something of this kind is not what belongs at the path. A file with a name that a repository or a job could have may be
/// another program's: it is not counted.
pub(crate) fn is_misplaced(path: &Path, kind: FileKind) -> bool {
    let parts: Option<Vec<&str>> = path.iter().map(|part| part.to_str()).collect();
    let parts = parts.unwrap_or_default();
    match Entry::parse(path) {
        Some(Entry::Worktree(..)) => kind == FileKind::Other,
        Some(_) => kind != FileKind::File,
        None if is_only_ours(&parts) => kind != FileKind::Folder,
        None => kind == FileKind::Other && is_folder(&parts),
    }
}

/// True if the layout has a folder there, and no other program has a file.
fn is_only_ours(parts: &[&str]) -> bool {
    const AREAS: [&str; 9] = [
        EVENTS, DLQ, STATE, LOCKS, DELETIONS, IMPORTED, QUARANTINE, ORPHANED, WORKTREES,
    ];
    match parts {
        [area] => AREAS.contains(area),
        [DELETIONS, repo] => RepoName::new(*repo).is_ok(),
        _ => false,
    }
}

/// True if the layout has a folder there, below an area.
fn is_folder(parts: &[&str]) -> bool {
    match parts {
        [IMPORTED, _, ..] => true,
        // A lock with a name of several parts is in folders of these parts, except for the last.
        [LOCKS, folder, parts @ ..] => match folder.parse::<usize>() {
            Ok(number) => parts.len() < number,
            Err(_) => parts.len() < 2,
        },
        [STATE, repo, "mapreduce"] | [STATE, repo, "mapreduce", "jobs"] => RepoName::new(*repo).is_ok(),
        [STATE, repo, "documents"] | [STATE, repo, "documents", _] => RepoName::new(*repo).is_ok(),
        [EVENTS | DLQ, repo, job]
        | [STATE, repo, "mapreduce", "jobs", job]
        | [STATE, repo, "mapreduce", "jobs", job, "documents"]
        | [STATE, repo, "mapreduce", "jobs", job, "documents", _] => {
            RepoName::new(*repo).is_ok() && JobId::new(*job).is_ok()
        }
        [EVENTS | DLQ | STATE | ORPHANED | WORKTREES, repo] => RepoName::new(*repo).is_ok(),
        _ => false,
    }
}

impl Root {
    /// Counts something that a listing skips, if it is not of the kind that belongs at its path.
    pub(crate) fn pass_over(&self, path: &Path, kind: FileKind) {
        if is_misplaced(path, kind) {
            self.foreign.skip(ForeignKind::OtherThings, path, 1);
        }
    }

    /// Describes the thing at a path: for a link, where it leads.
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
            "state/shop/documents",
            "locks/1",
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
        for ours in ["deletions", "deletions/shop", "events"] {
            assert!(is(ours, FileKind::File) && is(ours, FileKind::Other), "{ours}");
        }
        for foreign in ["notes", "events/shop/j/notes", "state/shop/mine", "locks/1/x"] {
            assert!(!is(foreign, FileKind::Other), "{foreign}");
        }
    }
}
