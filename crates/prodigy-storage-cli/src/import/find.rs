//! Finds the files of other programs below a folder, and the job or repository of each.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::own::FORMAT;
use crate::errors::{Failure, Result};
use crate::output::shown;

/// The deepest level of folders that are entered.
const DEEPEST: usize = 16;

/// The folders at the top of a root that hold data to import.
const AREAS: [&str; 6] = [
    "events",
    "dlq",
    "state",
    "orphaned_worktrees",
    "mapreduce",
    "sessions",
];

/// The name of a project's own folder.
pub(super) const LOCAL: &str = ".prodigy";

/// The beginning of the names of the folders, in a project's own, with what was imported from it.
pub(crate) const MIGRATED: &str = "migrated";

/// The folder with the data that a path means: the folder `.prodigy` in it, or the path itself. Fails for a folder that holds
/// nothing to import.
pub(super) fn folder(path: &Path) -> Result<PathBuf> {
    let is_store = path.join(FORMAT).is_file();
    let local = path.join(LOCAL);
    if local.is_dir() && !is_store {
        return Ok(local);
    }
    let has_data = is_store || path.ends_with(LOCAL) || AREAS.iter().any(|area| path.join(area).is_dir());
    if has_data || !path.is_dir() {
        return Ok(path.to_owned());
    }
    let what = format!(
        "import {}: it is no root of Prodigy and no folder `{LOCAL}` of a project: it has none of the folders {}",
        shown(path),
        AREAS.join(", ")
    );
    Err(Failure::usage(what).hint(format!(
        "name the folder that has them, such as `PROJECT/{LOCAL}`, or the project itself"
    )))
}

/// The kind of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// Events, one per line.
    Events,
    /// The state of a job.
    Checkpoint,
    /// An item, or an array of items.
    Letters,
    /// The orphaned worktrees of a job.
    Orphans,
    /// A document of a job, of this kind.
    JobDocument(&'static str),
    /// A document of a repository, of this kind.
    RepoDocument(&'static str),
}

/// A file to import.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ImportFile {
    pub(super) path: PathBuf,
    pub(super) kind: Kind,
    pub(super) repo: Option<String>,
    pub(super) job: Option<String>,
}

/// The files below a folder, by kind.
#[derive(Debug, Default)]
pub(super) struct Files {
    pub(super) found: Vec<ImportFile>,
    /// Indexes of dead letters, which have no data of their own.
    pub(super) indexes: Vec<PathBuf>,
    /// Files of unknown kinds.
    pub(super) unknown: Vec<PathBuf>,
    /// Links, and other things that are not files. They are not read.
    pub(super) other: Vec<PathBuf>,
}

impl Files {
    /// Searches a folder. Links are not followed.
    pub(super) fn below(folder: &Path) -> io::Result<Self> {
        let mut files = Self::default();
        files.enter(folder, &mut Vec::new())?;
        files.find_repositories();
        files
            .found
            .sort_by(|a, b| (&a.repo, &a.job, a.kind, &a.path).cmp(&(&b.repo, &b.job, b.kind, &b.path)));
        Ok(files)
    }

    fn enter(&mut self, folder: &Path, parts: &mut Vec<String>) -> io::Result<()> {
        let mut entries = fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let kind = entry.file_type()?;
            let Ok(name) = entry.file_name().into_string() else {
                self.unknown.push(entry.path());
                continue;
            };
            parts.push(name);
            if kind.is_file() {
                self.file(entry.path(), parts);
            } else if !kind.is_dir() || parts.len() >= DEEPEST || has_the_name_of_a_file(parts) {
                self.other.push(entry.path());
            } else if !is_of_the_store(parts) {
                self.enter(&entry.path(), parts)?;
            }
            parts.pop();
        }
        Ok(())
    }

    fn file(&mut self, path: PathBuf, parts: &[String]) {
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        match classify(&parts) {
            Class::Data(kind, repo, job) => self.found.push(ImportFile {
                path,
                kind,
                repo: repo.map(str::to_owned),
                job: job.map(str::to_owned),
            }),
            Class::Nothing if parts.last() == Some(&"index.json") => self.indexes.push(path),
            Class::Nothing => {}
            Class::Unknown => self.unknown.push(path),
        }
    }

    /// Assigns files without a repository to the repository of their job, or to the only repository.
    fn find_repositories(&mut self) {
        let mut of_jobs: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let mut all = BTreeSet::new();
        for file in &self.found {
            if let Some(repo) = &file.repo {
                all.insert(repo.clone());
                if let Some(job) = &file.job {
                    of_jobs.entry(job.clone()).or_default().insert(repo.clone());
                }
            }
        }
        for file in self.found.iter_mut().filter(|file| file.repo.is_none()) {
            let repos = file.job.as_ref().and_then(|job| of_jobs.get(job)).unwrap_or(&all);
            if repos.len() == 1 {
                file.repo = repos.first().cloned();
            }
        }
    }
}

/// True if a folder is part of the store's own structure and has nothing to import.
fn is_of_the_store(parts: &[String]) -> bool {
    match parts {
        // The originals that an earlier `migrate` took over.
        [folder] if folder.starts_with(MIGRATED) => true,
        [folder] => [
            "locks",
            "deletions",
            "imported",
            "moved",
            "quarantine",
            "worktrees",
        ]
        .contains(&folder.as_str()),
        [.., folder] => folder == ".git",
        [] => false,
    }
}

/// True if a folder is at a path where the store keeps a file of a job.
fn has_the_name_of_a_file(parts: &[String]) -> bool {
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    matches!(classify(&parts), Class::Data(_, Some(_), Some(_)))
}

/// The meaning of a path: a file to import, or something else.
enum Class<'p> {
    Data(Kind, Option<&'p str>, Option<&'p str>),
    /// A file without data of its own: an index, or a lock file.
    Nothing,
    Unknown,
}

fn classify<'p>(parts: &[&'p str]) -> Class<'p> {
    let stem = |file: &'p str| file.strip_suffix(".json");
    let (kind, repo, job) = match *parts {
        [.., "index.json"]
        | ["resume_locks", ..]
        | ["format.json"]
        | [.., "items.lock" | "items.journal"] => {
            return Class::Nothing;
        }
        ["events", repo, job, file] if file.contains(".jsonl") => (Kind::Events, Some(repo), Some(job)),
        ["events", job, file] if file.contains(".jsonl") => (Kind::Events, None, Some(job)),
        ["mapreduce", "dlq", job, "items", file]
        | ["dlq" | "state", .., "mapreduce", "dlq", job, "items", file]
            if stem(file).is_some() =>
        {
            let repo = match *parts {
                ["dlq" | "state", repo, ..] if repo != "mapreduce" => Some(repo),
                _ => None,
            };
            (Kind::Letters, repo, Some(job))
        }
        ["dlq", repo, job, "items", file] if stem(file).is_some() => (Kind::Letters, Some(repo), Some(job)),
        ["dlq", job, "items", file] if stem(file).is_some() => (Kind::Letters, None, Some(job)),
        ["dlq", repo, job, "items.json" | "dlq-items.json"] => (Kind::Letters, Some(repo), Some(job)),
        ["dlq", job, "items.json" | "dlq-items.json"] => (Kind::Letters, None, Some(job)),
        ["orphaned_worktrees", repo, file] if stem(file).is_some() => (Kind::Orphans, Some(repo), stem(file)),
        ["orphaned_worktrees", file] if stem(file).is_some() => (Kind::Orphans, None, stem(file)),
        ["state", repo, "mapreduce", "jobs", job, file] => match state(file) {
            Some(kind) => (kind, Some(repo), Some(job)),
            None => return Class::Unknown,
        },
        ["state", "mapreduce", "jobs", job, file] | ["mapreduce", "jobs", job, file] => match state(file) {
            Some(kind) => (kind, None, Some(job)),
            None => return Class::Unknown,
        },
        ["state", "reduce_checkpoints", job, file] if stem(file).is_some() => {
            (Kind::Checkpoint, None, Some(job))
        }
        ["state", repo, "mappings", file] if stem(file).is_some() => {
            (Kind::RepoDocument("mappings"), Some(repo), None)
        }
        ["sessions", file] if stem(file).is_some() => (Kind::RepoDocument("sessions"), None, None),
        _ => return Class::Unknown,
    };
    Class::Data(kind, repo, job)
}

/// The kind of a file in the folder of a job's state.
fn state(file: &str) -> Option<Kind> {
    match file {
        "metadata.json" => Some(Kind::JobDocument("metadata")),
        // The store writes these marker files itself.
        "finished.json" | "fencing.json" => None,
        _ if [".json", ".json.gz", ".json.zst", ".checkpoint.gz"]
            .iter()
            .any(|end| file.ends_with(end)) =>
        {
            Some(Kind::Checkpoint)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_path_says_what_it_is() {
        let of = |path: &'static str| match classify(&path.split('/').collect::<Vec<_>>()) {
            Class::Data(kind, repo, job) => Some((kind, repo, job)),
            _ => None,
        };
        let (shop, job) = (Some("shop"), Some("j"));
        for (path, expected) in [
            ("events/shop/j/events-1.2.jsonl.gz", (Kind::Events, shop, job)),
            ("events/j/events-1.jsonl", (Kind::Events, None, job)),
            (
                "dlq/shop/j/mapreduce/dlq/j/items/a.json",
                (Kind::Letters, shop, job),
            ),
            (
                "state/shop/mapreduce/dlq/j/items/a.json",
                (Kind::Letters, shop, job),
            ),
            ("mapreduce/dlq/j/items/a.json", (Kind::Letters, None, job)),
            ("dlq/j/items.json", (Kind::Letters, None, job)),
            ("orphaned_worktrees/shop/j.json", (Kind::Orphans, shop, job)),
            (
                "state/shop/mapreduce/jobs/j/job-state.json",
                (Kind::Checkpoint, shop, job),
            ),
            (
                "state/shop/mapreduce/jobs/j/cp-1.checkpoint.gz",
                (Kind::Checkpoint, shop, job),
            ),
            (
                "state/shop/mapreduce/jobs/j/metadata.json",
                (Kind::JobDocument("metadata"), shop, job),
            ),
            (
                "state/reduce_checkpoints/j/reduce-checkpoint-v1-1.json",
                (Kind::Checkpoint, None, job),
            ),
            (
                "state/shop/mappings/j.json",
                (Kind::RepoDocument("mappings"), shop, None),
            ),
            ("sessions/s.json", (Kind::RepoDocument("sessions"), None, None)),
        ] {
            assert_eq!(of(path), Some(expected), "{path}");
        }
        for path in [
            "format.json",
            "resume_locks/j.lock",
            "dlq/shop/j/index.json",
            "notes.txt",
            "project/mapreduce/dlq/j/items/a.json",
            "events/x",
        ] {
            assert_eq!(of(path), None, "{path}");
        }
    }
}
