//! The health check of the files that a command needs to find its repository, and a new log its first name.

use std::path::Path;

use prodigy_storage_backend::{Check, ErrorKind, Severity, StorageError};
use prodigy_storage_layout::{DELETIONS, Document, RepoName, STATE};

use super::{DocumentRead, Documents};

const HEALTH: &str = "check health";
/// The largest number of files that are read.
const MOST: usize = 10_000;
/// The largest number of files that are named.
const NAMED: usize = 5;

impl Documents {
    /// Finds registry entries, and notes about deleted logs, that are damaged: commands in such a repository fail.
    pub(crate) fn health(&self) -> Option<Check> {
        let mut damaged = self.damaged_entries();
        damaged.extend(self.damaged_notes());
        let count = damaged.len();
        if count == 0 {
            return None;
        }
        damaged.truncate(NAMED);
        let mut found = damaged.join("; ");
        if count > NAMED {
            found.push_str(&format!("; and {} more", count - NAMED));
        }
        let check = Check::new("repositories", Severity::Failure, found);
        Some(check.with_hint("run `prodigy-storage doctor`: it gives the command that mends each"))
    }

    fn damaged_entries(&self) -> Vec<String> {
        let repos = self
            .root
            .names_in(HEALTH, Path::new(STATE))
            .unwrap_or_default()
            .into_iter();
        let repos = repos
            .filter_map(|entry| RepoName::new(&entry.name).ok())
            .take(MOST);
        repos
            .filter_map(
                |repo| match self.look(HEALTH, &Document::Repository(repo).path()) {
                    Ok(DocumentRead::Damaged(error, _)) => Some(describe(&error)),
                    _ => None,
                },
            )
            .collect()
    }

    fn damaged_notes(&self) -> Vec<String> {
        let notes = self
            .root
            .names_in(HEALTH, Path::new(DELETIONS))
            .unwrap_or_default()
            .into_iter();
        let repos = notes.filter_map(|entry| RepoName::new(entry.name.strip_suffix(".json")?).ok());
        repos
            .take(MOST)
            .filter_map(|repo| self.root.newest_deleted(&repo).err())
            .filter(|error| error.kind() == ErrorKind::Damaged)
            .map(|error| describe(&error))
            .collect()
    }
}

fn describe(error: &StorageError) -> String {
    format!("{}: {}", error.target(), error.why())
}
