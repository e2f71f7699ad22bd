//! What takes the space.

use std::path::{Path, PathBuf};

use prodigy_storage_backend::{AreaUsage, Usage};
use prodigy_storage_layout::{DLQ, EVENTS, LOCKS, ORPHANED, QUARANTINE, RepoName, STATE, WORKTREES};

use crate::fs::FileKind;
use crate::store::Store;

const AREAS: [&str; 7] = [EVENTS, STATE, DLQ, WORKTREES, ORPHANED, LOCKS, QUARANTINE];
/// Areas whose first level is repositories.
const BY_REPO: [&str; 5] = [EVENTS, STATE, DLQ, WORKTREES, ORPHANED];

/// Bytes by area.
pub(crate) fn by_area(store: &Store) -> Vec<(&'static str, u64)> {
    AREAS
        .iter()
        .map(|area| (*area, measure(store, PathBuf::from(area)).1))
        .collect()
}

/// Files and bytes by area and repository.
pub(crate) fn usage(store: &Store) -> Usage {
    let mut areas = Vec::new();
    for area in AREAS {
        if !BY_REPO.contains(&area) {
            push(&mut areas, area, None, measure(store, PathBuf::from(area)));
            continue;
        }
        let mut names: Vec<String> = store
            .fs
            .list(Path::new(area))
            .unwrap_or_default()
            .into_iter()
            .filter(|entry| entry.kind == FileKind::Folder)
            .map(|entry| entry.name)
            .collect();
        names.sort();
        for name in names {
            if let Ok(repo) = RepoName::new(&name) {
                push(
                    &mut areas,
                    area,
                    Some(repo),
                    measure(store, Path::new(area).join(&name)),
                );
            }
        }
    }
    let space = store.fs.space().ok();
    Usage {
        areas,
        free: space.map(|space| space.free),
        capacity: space.map(|space| space.capacity),
    }
}

fn push(areas: &mut Vec<AreaUsage>, area: &str, repo: Option<RepoName>, (files, bytes): (u64, u64)) {
    if files > 0 {
        areas.push(AreaUsage {
            area: area.to_owned(),
            repo,
            files,
            bytes,
        });
    }
}

/// Files and bytes below a folder; what can't be read counts nothing.
fn measure(store: &Store, folder: PathBuf) -> (u64, u64) {
    let (mut files, mut bytes) = (0, 0);
    let mut folders = vec![folder];
    while let Some(folder) = folders.pop() {
        for entry in store.fs.list(&folder).unwrap_or_default() {
            let path = folder.join(&entry.name);
            match entry.kind {
                FileKind::Folder => folders.push(path),
                FileKind::File => {
                    if let Ok(found) = store.fs.metadata(&path) {
                        files += 1;
                        bytes += found.len;
                    }
                }
                FileKind::Other => {}
            }
        }
    }
    (files, bytes)
}
