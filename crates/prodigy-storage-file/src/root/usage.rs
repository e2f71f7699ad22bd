//! Measures the disk space that a store uses.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use prodigy_storage_backend::{AreaUsage, Usage};
use prodigy_storage_layout::{DLQ, EVENTS, LOCKS, ORPHANED, QUARANTINE, RepoName, STATE, WORKTREES};

use super::{Root, is_misplaced};
use crate::fs::{FileKind, FsFolder};

const AREAS: [&str; 7] = [EVENTS, STATE, DLQ, WORKTREES, ORPHANED, LOCKS, QUARANTINE];
/// The areas that have a folder for each repository.
const BY_REPO: [&str; 5] = [EVENTS, STATE, DLQ, WORKTREES, ORPHANED];

/// The name for everything outside of the areas: `format.json`, and files of other programs.
const OTHER: &str = "other";
/// The depth from which on a folder is closed before the folders in it are opened. A worktree may be deep, and each
/// open folder takes two descriptors and a buffer.
const STREAMED: usize = 8;
/// The largest number of unreadable files and folders whose paths are reported.
const MOST_NAMED: usize = 100;

/// The number of bytes in each area.
pub(super) fn by_area(root: &Root) -> Vec<(&'static str, u64)> {
    let mut measure = Measure::new(root);
    let areas = AREAS.iter();
    let mut sums: Vec<_> = areas
        .map(|area| (*area, measure.below(Path::new(area), 0).bytes))
        .collect();
    sums.push((OTHER, measure.others().bytes));
    sums
}

/// The number of bytes below these folders. What can't be read is not counted.
pub(crate) fn bytes_below(root: &Root, folders: &[PathBuf]) -> u64 {
    let mut measure = Measure::new(root);
    folders.iter().map(|folder| measure.below(folder, 0).bytes).sum()
}

/// The number of files and bytes, by area and by repository.
pub(crate) fn usage(root: &Root) -> Usage {
    let mut measure = Measure::new(root);
    let mut areas = Vec::new();
    for area in AREAS {
        let path = Path::new(area);
        let mut repos = BTreeSet::new();
        let rest = measure.folder(path, 0, &mut |name, kind| {
            let is_repo = kind == FileKind::Folder && BY_REPO.contains(&area);
            match RepoName::new(name) {
                Ok(repo) if is_repo => repos.insert(repo),
                _ => false,
            }
        });
        for repo in repos {
            let found = measure.below(&path.join(repo.as_str()), 0);
            push(&mut areas, area, Some(repo), found);
        }
        push(&mut areas, area, None, rest);
    }
    let rest = measure.others();
    push(&mut areas, OTHER, None, rest);
    let space = root.fs.space().ok();
    Usage {
        areas,
        free: space.map(|space| space.free),
        capacity: space.map(|space| space.capacity),
        unreadable: measure.unreadable,
        unreadable_count: measure.unreadable_count,
    }
}

fn push(areas: &mut Vec<AreaUsage>, area: &str, repo: Option<RepoName>, found: Sum) {
    if found.files > 0 {
        areas.push(AreaUsage {
            area: area.to_owned(),
            repo,
            files: found.files,
            bytes: found.bytes,
        });
    }
}

/// A number of files, and their total size in bytes.
#[derive(Clone, Copy, Default)]
struct Sum {
    files: u64,
    bytes: u64,
}

impl Sum {
    fn add(&mut self, other: Self) {
        self.files += other.files;
        self.bytes += other.bytes;
    }
}

/// Counts files and bytes. Also collects the paths that could not be read, which are not counted.
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

    /// Counts everything outside of the areas.
    fn others(&mut self) -> Sum {
        self.folder(Path::new(""), 0, &mut |name, _| AREAS.contains(&name))
    }

    /// Counts everything below a folder. A folder that was removed meanwhile has nothing in it.
    fn below(&mut self, path: &Path, depth: usize) -> Sum {
        self.folder(path, depth, &mut |_, _| false)
    }

    /// Counts everything below a folder, except the entries that `is_left_out` selects. The names in a folder are not
    /// collected in memory, except at depths from [`STREAMED`] on.
    fn folder(
        &mut self,
        path: &Path,
        depth: usize,
        is_left_out: &mut dyn FnMut(&str, FileKind) -> bool,
    ) -> Sum {
        let mut sum = Sum::default();
        let opened = match self.root.fs.folder(path) {
            Ok(opened) => opened,
            Err(error) => {
                self.failed(path, error);
                return sum;
            }
        };
        let mut deeper = Vec::new();
        let names = opened.names(&mut |name, kind| {
            if is_left_out(name, kind) {
                return;
            }
            match kind {
                FileKind::Folder if depth < STREAMED => sum.add(self.below(&path.join(name), depth + 1)),
                FileKind::Folder => deeper.push(name.to_owned()),
                _ => sum.add(self.one(&*opened, path, name, kind)),
            }
        });
        if let Err(error) = names {
            self.failed(path, error);
        }
        drop(opened);
        for name in deeper {
            sum.add(self.below(&path.join(name), depth + 1));
        }
        sum
    }

    /// Counts an entry of a folder that is not a folder itself.
    fn one(&mut self, opened: &dyn FsFolder, folder: &Path, name: &str, kind: FileKind) -> Sum {
        if kind == FileKind::File {
            match opened.metadata_of(name.as_ref()) {
                Ok(found) => {
                    return Sum {
                        files: 1,
                        bytes: found.len,
                    };
                }
                Err(error) => self.failed(&folder.join(name), error),
            }
            return Sum::default();
        }
        let path = folder.join(name);
        if is_misplaced(&path, kind) {
            let what = self.root.describe_misplaced(&path);
            self.not_counted(|root| format!("{}: {what}", root.absolute(&path).display()));
        }
        Sum::default()
    }
}
