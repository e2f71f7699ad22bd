//! Finds data of the store under a name that nothing reads, such as a folder that was renamed by hand.
//!
//! The names in such a folder, and the marks in its files, tell the path that it had.

use std::path::{Path, PathBuf};

use prodigy_storage_backend::record;
use prodigy_storage_layout::{
    DELETIONS, DLQ, DOCUMENTS, DocumentKind, EVENTS, Entry, Folder, LOCKS, MOVED, ORPHANED, STATE,
    SegmentForm, WORKTREES,
};

use super::{Root, has_checksum, is_zstd};
use crate::fs::{DirEntry, FileKind, OpenMode, TEMP_PREFIX};

/// The largest number of files that are read to recognise a folder.
const MOST_FILES: usize = 1000;
/// The number of first bytes of a file in which marks are searched.
const HEAD: usize = 64 << 10;
/// The largest depth of folders below the one that was renamed.
const DEEPEST: usize = 8;
/// The names that folders have at fixed places of the layout.
const FIXED: [&str; 12] = [
    EVENTS,
    DLQ,
    STATE,
    ORPHANED,
    DELETIONS,
    MOVED,
    LOCKS,
    WORKTREES,
    "mapreduce",
    "jobs",
    DOCUMENTS,
    "repositories",
];
/// The first bytes of a queue that has items, and of a journal.
const QUEUE: [&[u8]; 2] = [b"[\n{", b"{\"journal\":"];

/// A file or folder with data of the store under a name that nothing reads.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Displaced {
    pub(crate) path: PathBuf,
    /// The path that it had; `None` if it is unknown.
    pub(crate) right: Option<PathBuf>,
    /// True if there is something at that path.
    pub(crate) is_taken: bool,
}

/// The parts of a file or folder that have a right place, if it is not part of the layout; empty if none of it is data of the store.
pub(crate) fn displaced(root: &Root, path: &Path, kind: FileKind) -> Vec<Displaced> {
    if kind == FileKind::Other || Entry::parse(path).is_some() {
        return Vec::new();
    }
    Search {
        root,
        left: MOST_FILES,
    }
    .displaced(path, kind)
}

/// A search for the path that a file or folder had.
struct Search<'a> {
    root: &'a Root,
    left: usize,
}

impl Search<'_> {
    /// The parts of a file or folder that have a right place; empty if none of it is data of the store.
    fn displaced(&mut self, path: &Path, kind: FileKind) -> Vec<Displaced> {
        for (right, is_similar) in candidates(path, kind) {
            self.left = MOST_FILES;
            if self.holds(path, &right, kind, is_similar, 0) {
                return self.moves(path, &right, kind);
            }
        }
        self.left = MOST_FILES;
        match self.has_data(path, kind, 0) {
            true => vec![Displaced {
                path: path.to_owned(),
                right: None,
                is_taken: false,
            }],
            false => Vec::new(),
        }
    }

    fn entries(&mut self, folder: &Path) -> Vec<DirEntry> {
        let mut entries = self.root.fs.list(folder).unwrap_or_default();
        entries.retain(|entry| entry.kind != FileKind::Other && !entry.name.starts_with(TEMP_PREFIX));
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        entries.truncate(self.left);
        self.left -= entries.len();
        entries
    }

    /// True if a file here would be data of the store at its path below `right`.
    fn holds(&mut self, path: &Path, right: &Path, kind: FileKind, is_similar: bool, depth: usize) -> bool {
        let entry = Entry::parse(right);
        if kind == FileKind::File {
            return entry.is_some_and(|entry| self.is_entry(path, &entry, is_similar));
        }
        if matches!(entry, Some(Entry::Worktree(..))) {
            return is_similar;
        }
        depth < DEEPEST
            && self.entries(path).into_iter().any(|entry| {
                let (path, right) = (path.join(&entry.name), right.join(&entry.name));
                self.holds(&path, &right, entry.kind, is_similar, depth + 1)
            })
    }

    /// True if a file has the marks of an entry. The files of locks and marks have none, so their folder has to be recognised by its
    /// name.
    fn is_entry(&self, path: &Path, entry: &Entry, is_similar: bool) -> bool {
        let head = self.head(path);
        match entry {
            Entry::Segment(_, name, SegmentForm::Plain) => name.is_canonical() && has_record(&head),
            Entry::Segment(_, name, SegmentForm::Zstd) => name.is_canonical() && is_zstd(&head),
            Entry::Segment(..) => false,
            Entry::Queue(_) | Entry::QueueJournal(_) => has_checksum(&head),
            Entry::Document(_) => begins_as_ours(&head),
            Entry::Compressed(_) => is_zstd(&head),
            Entry::QueueLock(_) | Entry::Worktree(..) | Entry::Format => false,
            _ => is_similar && head.first() == Some(&b'{'),
        }
    }

    fn head(&self, path: &Path) -> Vec<u8> {
        let mut head = vec![0; HEAD];
        let file = self.root.fs.open(path, OpenMode::Read);
        let read = file.and_then(|file| file.read_full_at(&mut head, 0));
        head.truncate(read.unwrap_or_default());
        head
    }

    /// True if there are data of the store, under whatever names.
    fn has_data(&mut self, path: &Path, kind: FileKind, depth: usize) -> bool {
        if kind == FileKind::File {
            let head = self.head(path);
            let is_queue = QUEUE.iter().any(|mark| head.starts_with(mark)) && has_checksum(&head);
            return is_queue || begins_as_ours(&head) || has_record(&head);
        }
        depth < DEEPEST
            && self.entries(path).into_iter().any(|entry| {
                let path = path.join(&entry.name);
                self.has_data(&path, entry.kind, depth + 1)
            })
    }

    /// The largest parts of a folder whose right places are free, and the folder itself if a part has no free place.
    fn moves(&mut self, path: &Path, right: &Path, kind: FileKind) -> Vec<Displaced> {
        self.left = MOST_FILES;
        let (mut free, mut is_taken) = (Vec::new(), false);
        self.add_moves(path, right, kind, &mut free, &mut is_taken);
        if is_taken {
            free.push(Displaced {
                path: path.to_owned(),
                right: Some(right.to_owned()),
                is_taken,
            });
        }
        free
    }

    fn add_moves(
        &mut self,
        path: &Path,
        right: &Path,
        kind: FileKind,
        free: &mut Vec<Displaced>,
        is_taken: &mut bool,
    ) {
        let found = self.root.fs.metadata(right).map(|found| found.kind);
        match (kind, found) {
            (_, Err(error)) if error.kind() == std::io::ErrorKind::NotFound => free.push(Displaced {
                path: path.to_owned(),
                right: Some(right.to_owned()),
                is_taken: false,
            }),
            (FileKind::Folder, Ok(FileKind::Folder)) if is_divisible(right) => {
                for entry in self.entries(path) {
                    let (path, right) = (path.join(&entry.name), right.join(&entry.name));
                    if entry.kind == FileKind::Folder || Entry::parse(&right).is_some() {
                        self.add_moves(&path, &right, entry.kind, free, is_taken);
                    }
                }
            }
            _ => *is_taken = true,
        }
    }
}

/// True if the layout has a folder at this path.
pub(crate) fn is_folder(path: &Path) -> bool {
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    let is_of_kind = path
        .parent()
        .is_some_and(|parent| parent.ends_with(DOCUMENTS) && parent.starts_with(STATE));
    Folder::parse(path).is_some() && (!is_of_kind || DocumentKind::new(name).is_ok())
}

/// True if the parts of a folder are independent. Those of the folder of a job are not: the segments of a log belong together, and a
/// journal belongs to its items.
fn is_divisible(folder: &Path) -> bool {
    let is_of_documents = folder.iter().any(|part| part == DOCUMENTS);
    is_of_documents || !matches!(Folder::parse(folder), None | Some(Folder::Job(_)))
}

/// The paths that a file or folder may have had, the most similar first, and whether the names are similar.
fn candidates(path: &Path, kind: FileKind) -> Vec<(PathBuf, bool)> {
    let parent = path.parent().unwrap_or(Path::new(""));
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
        return Vec::new();
    };
    let lower = name.to_lowercase();
    if kind == FileKind::File {
        let mut found = Vec::new();
        for text in [name, &lower] {
            let text = text.trim_start_matches(is_added);
            let ends = text.char_indices().filter(|(_, char)| is_added(*char));
            let ends = ends.map(|(at, _)| at).chain([text.len()]);
            let mut paths: Vec<_> = ends
                .filter_map(|end| Some(parent.join(text.get(..end)?)))
                .collect();
            paths.retain(|right| right != path && Entry::parse(right).is_some());
            found.extend(paths.into_iter().rev().map(|right| (right, true)));
        }
        return found;
    }
    let is_fixed = |right: &Path| is_folder(right) && !is_folder(&parent.join("any"));
    let mut found: Vec<_> = FIXED
        .iter()
        .map(|fixed| (parent.join(fixed), lower.contains(fixed)))
        .filter(|(right, _)| is_fixed(right))
        .collect();
    found.sort_by_key(|(_, is_similar)| !is_similar);
    let inner = name.trim_matches(is_added);
    let is_allowed = |char: &char| !char.is_control() && *char != '\\';
    for inner in [inner.to_owned(), inner.chars().filter(is_allowed).collect()] {
        let right = parent.join(inner);
        if right != path && right != parent && is_folder(&right) && !is_fixed(&right) {
            found.push((right, true));
        }
    }
    found
}

/// True for a character that people put before or behind a name to take a file away, as in `.name` and `name.old`.
fn is_added(char: char) -> bool {
    matches!(char, '.' | '_' | '-' | '~' | ' ' | '#')
}

/// True if a line is a record of a log. A line without a checksum may be of another program.
fn has_record(bytes: &[u8]) -> bool {
    bytes
        .split(|byte| *byte == b'\n')
        .any(|line| record::read_line(line).is_ok_and(|record| record.verified))
}

/// True if a file begins like the envelope of a document.
fn begins_as_ours(bytes: &[u8]) -> bool {
    bytes.starts_with(b"{\"format\":1,\"revision\":\"")
}
