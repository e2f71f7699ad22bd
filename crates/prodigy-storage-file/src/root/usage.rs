//! The disk space that a store uses.

use std::io;
use std::path::Path;

use prodigy_storage_backend::{AreaUsage, Usage};
use prodigy_storage_layout::{DLQ, EVENTS, LOCKS, ORPHANED, QUARANTINE, RepoName, STATE, WORKTREES};

use super::{Root, is_misplaced};
use crate::fs::{DirEntry, FileKind};

const AREAS: [&str; 7] = [EVENTS, STATE, DLQ, WORKTREES, ORPHANED, LOCKS, QUARANTINE];
/// Areas with one folder per repository at their first level.
const BY_REPO: [&str; 5] = [EVENTS, STATE, DLQ, WORKTREES, ORPHANED];

/// The name for everything outside of these areas: `format.json`, and files of other programs.
const OTHER: &str = "other";
/// The largest number of unreadable files and folders that are named one by one.
const MOST_NAMED: usize = 100;

/// Bytes by area.
pub(super) fn by_area(root: &Root) -> Vec<(&'static str, u64)> {
    let mut measure = Measure::new(root);
    AREAS
        .iter()
        .map(|area| (*area, measure.below(Path::new(area)).1))
        .collect()
}

/// Files and bytes by area and repository.
pub(crate) fn usage(root: &Root) -> Usage {
    let mut measure = Measure::new(root);
    let mut areas = Vec::new();
    for area in AREAS {
        if !BY_REPO.contains(&area) {
            push(&mut areas, area, None, measure.below(Path::new(area)));
            continue;
        }
        let (repos, rest) = measure.sorted(Path::new(area), |entry| match entry.kind {
            FileKind::Folder => RepoName::new(&entry.name).ok(),
            _ => None,
        });
        for (entry, repo) in repos {
            let found = measure.below(&Path::new(area).join(entry.name));
            push(&mut areas, area, Some(repo), found);
        }
        push(&mut areas, area, None, measure.all(Path::new(area), rest));
    }
    let (_, rest) = measure.sorted(Path::new(""), |entry| AREAS.contains(&&*entry.name).then_some(()));
    push(&mut areas, OTHER, None, measure.all(Path::new(""), rest));
    let space = root.fs.space().ok();
    Usage {
        areas,
        free: space.map(|space| space.free),
        capacity: space.map(|space| space.capacity),
        unreadable: measure.unreadable,
        unreadable_count: measure.unreadable_count,
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

/// Counts files and bytes, and collects the files and folders that could not be read and so are not counted.
struct Measure<'a> {
    root: &'a Root,
    unreadable: Vec<String>,
    unreadable_count: u64,
}

impl<'a> Measure<'a> {
    fn new(root: &'a Root) -> Self {
        Self {
            root,
            unreadable: Vec::new(),
            unreadable_count: 0,
        }
    }

    /// The entries of a folder. A folder that was removed meanwhile has no entries.
    fn list(&mut self, folder: &Path) -> Vec<DirEntry> {
        self.root.fs.list(folder).unwrap_or_else(|error| {
            self.failed(folder, error);
            Vec::new()
        })
    }

    fn failed(&mut self, path: &Path, error: io::Error) {
        if error.kind() == io::ErrorKind::NotFound {
            return;
        }
        self.not_counted(|root| {
            let error = root.read_fault("measure usage", path, error);
            format!("{}: {}", error.target(), error.why())
        });
    }

    fn not_counted(&mut self, what: impl FnOnce(&Root) -> String) {
        self.unreadable_count += 1;
        if self.unreadable.len() < MOST_NAMED {
            self.unreadable.push(what(self.root));
        }
    }

    /// The entries of a folder in order of name: first those for which `known` returns a value, with this value; then the rest.
    fn sorted<T>(
        &mut self,
        folder: &Path,
        known: impl Fn(&DirEntry) -> Option<T>,
    ) -> (Vec<(DirEntry, T)>, Vec<DirEntry>) {
        let mut entries = self.list(folder);
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        let (mut found, mut rest) = (Vec::new(), Vec::new());
        for entry in entries {
            match known(&entry) {
                Some(what) => found.push((entry, what)),
                None => rest.push(entry),
            }
        }
        (found, rest)
    }

    /// Files and bytes below a folder.
    fn below(&mut self, folder: &Path) -> (u64, u64) {
        let entries = self.list(folder);
        self.all(folder, entries)
    }

    /// Files and bytes of these entries of a folder and of everything below them.
    fn all(&mut self, folder: &Path, entries: Vec<DirEntry>) -> (u64, u64) {
        let (mut files, mut bytes) = (0, 0);
        let mut folders = vec![(folder.to_owned(), entries)];
        while let Some((folder, entries)) = folders.pop() {
            for entry in entries {
                let path = folder.join(&entry.name);
                match entry.kind {
                    FileKind::Folder => {
                        let below = self.list(&path);
                        folders.push((path, below));
                    }
                    FileKind::File => match self.root.fs.metadata(&path) {
                        Ok(found) => {
                            files += 1;
                            bytes += found.len;
                        }
                        Err(error) => self.failed(&path, error),
                    },
                    FileKind::Other if is_misplaced(&path, FileKind::Other) => {
                        let what = self.root.describe_misplaced(&path);
                        self.not_counted(|root| format!("{}: {what}", root.absolute(&path).display()));
                    }
                    FileKind::Other => {}
                }
            }
        }
        (files, bytes)
    }
}
