//! The health check of registry entries, notes about deleted logs, and fencing marks: if such a file is damaged,
//! commands or writes fail.

use std::path::Path;

use prodigy_storage_backend::{Check, ErrorKind, Severity, StorageError};
use prodigy_storage_layout::{DELETIONS, Document, JobAddress, JobId, RepoName, STATE, jobs_folder};

use super::{DocumentRead, Documents, misshapen};

const HEALTH: &str = "check health";
/// The largest number of files that one check reads.
const MOST: usize = 10_000;
/// The largest number of damaged files that a message names.
const NAMED: usize = 5;

impl Documents {
    /// Finds damaged registry entries and notes about deleted logs, which make commands in their repository fail. Also
    /// finds damaged fencing marks, which make fenced writes to their job fail.
    pub(crate) fn health(&self) -> Vec<Check> {
        let repos = self.repos();
        let entries = repos.iter().cloned().map(Document::Repository);
        let mut damaged = self.damaged(entries);
        damaged.extend(self.damaged_notes());
        let jobs = repos.iter().flat_map(|repo| {
            let names = self.root.names_in(HEALTH, &jobs_folder(repo)).unwrap_or_default();
            let jobs = names.into_iter().filter_map(|entry| JobId::new(&entry.name).ok());
            jobs.map(|job| Document::Fencing(JobAddress::new(repo.clone(), job)))
        });
        let checks = [
            check("repositories", damaged),
            check("fencing marks", self.damaged(jobs)),
        ];
        checks.into_iter().flatten().collect()
    }

    fn repos(&self) -> Vec<RepoName> {
        let names = self.root.names_in(HEALTH, Path::new(STATE)).unwrap_or_default();
        let repos = names
            .into_iter()
            .filter_map(|entry| RepoName::new(&entry.name).ok());
        repos.take(MOST).collect()
    }

    fn damaged(&self, documents: impl Iterator<Item = Document>) -> Vec<String> {
        let documents = documents.take(MOST);
        documents
            .filter_map(|document| {
                let path = document.path();
                match self.look(HEALTH, &path) {
                    Ok(DocumentRead::Damaged(error, _)) => Some(describe(&error)),
                    Ok(DocumentRead::Valid(found)) => misshapen(&document, &found)
                        .map(|why| format!("{}: {why}", self.root.absolute(&path).display())),
                    _ => None,
                }
            })
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

fn check(name: &'static str, mut damaged: Vec<String>) -> Option<Check> {
    let count = damaged.len();
    if count == 0 {
        return None;
    }
    damaged.truncate(NAMED);
    let mut found = damaged.join("; ");
    if count > NAMED {
        found.push_str(&format!("; and {} more", count - NAMED));
    }
    let check = Check::new(name, Severity::Failure, found);
    Some(
        check
            .with_hint("the doctor says what is lost")
            .with_command("prodigy-storage doctor --repair"),
    )
}

fn describe(error: &StorageError) -> String {
    format!("{}: {}", error.target(), error.why())
}
