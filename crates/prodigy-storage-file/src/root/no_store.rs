//! Distinguishes the root of a store from a folder of something else.

use std::path::Path;

use prodigy_storage_layout::{
    DELETIONS, DLQ, EVENTS, Entry, IMPORTED, LOCKS, MOVED, ORPHANED, QUARANTINE, STATE, WORKTREES,
};

use super::Root;
use crate::fs::TEMP_PREFIX;

/// The names in a root of which one is enough to know it as a store, beside `format.json`. A root that another program
/// wrote has no `format.json`.
const AREAS: [&str; 10] = [
    EVENTS, DLQ, STATE, ORPHANED, LOCKS, DELETIONS, MOVED, QUARANTINE, IMPORTED, WORKTREES,
];
/// The names that a root may have before anything is stored in it: the configuration of the user, and the folder of a file
/// system for lost files.
const BEFORE: [&str; 4] = ["config.yml", "config.yaml", "config.toml", "lost+found"];

/// True for the name of a file in the root that belongs to the user and not to the store.
pub(crate) fn is_of_user(name: &str) -> bool {
    BEFORE.contains(&name)
}

/// True if the folder at the path of the root holds something, and nothing of a store: its path may be mistyped. A
/// temporary file is what a writer leaves that died before the store had its first file.
pub(crate) fn is_no_store(root: &Root) -> bool {
    let Ok(entries) = root.fs.list(Path::new("")) else {
        return false;
    };
    let is_ours = |name: &str| AREAS.contains(&name) || Entry::Format.path() == Path::new(name);
    entries
        .iter()
        .any(|entry| !is_of_user(&entry.name) && !entry.name.starts_with(TEMP_PREFIX))
        && !entries.iter().any(|entry| is_ours(&entry.name))
}
