//! The names in the folder of a log that is copied, and the marks of removed segments that the copy gets.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::path::{Path, PathBuf};

use prodigy_storage_layout::{SegmentForm, SegmentName, Timestamp};

use crate::fs::{DirEntry, FileKind};
use crate::log::removed_mark::RemovedMark;
use crate::log::sealed_mark::SealedMark;
use crate::root::is_misplaced;

/// The segment of ours that has this name.
pub(super) fn own_segment(name: &str) -> Option<(SegmentName, SegmentForm)> {
    SegmentName::parse(name).filter(|(name, _)| name.is_canonical())
}

/// Marks of removed segments.
type Marks = Vec<RemovedMark>;

/// The names in the folder of a log, from several listings of the folder.
#[derive(Debug, Default)]
pub(super) struct LogNames {
    names: BTreeMap<String, FileKind>,
    /// The marks of removed segments that the last pass found, and the creation time of the oldest segment.
    last: Option<(Marks, Option<Timestamp>)>,
}

impl LogNames {
    /// Adds a pass over the folder. Returns true if it shows the same marks as the pass before it, and no segment was
    /// removed between the two.
    pub(super) fn add(&mut self, pass: Vec<DirEntry>) -> bool {
        let names = || pass.iter().map(|entry| entry.name.as_str());
        let mut marks: Marks = names().filter_map(RemovedMark::parse).collect();
        marks.sort_by_key(|mark| (mark.up_to(), mark.left()));
        let oldest = names().filter_map(own_segment).map(|(name, _)| name.made()).min();
        let found = Some((marks, oldest));
        let is_same = self.last == found;
        self.last = found;
        self.names
            .extend(pass.into_iter().map(|entry| (entry.name, entry.kind)));
        is_same
    }

    /// Each name, with its kind.
    pub(super) fn all(&self) -> impl Iterator<Item = (&str, FileKind)> {
        self.names.iter().map(|(name, kind)| (name.as_str(), *kind))
    }

    /// Each file except marks, with its name.
    pub(super) fn files(&self, folder: &Path) -> impl Iterator<Item = (PathBuf, &str)> {
        let files = self.all().map(|(name, kind)| (folder.join(name), name, kind));
        let files = files.filter(|(path, _, kind)| *kind == FileKind::File && !is_misplaced(path, *kind));
        let is_mark = |name: &str| SealedMark::parse(name).is_some() || RemovedMark::parse(name).is_some();
        files.filter_map(move |(path, name, _)| (!is_mark(name)).then_some((path, name)))
    }

    /// The marks of removed segments.
    pub(super) fn marks(&self) -> Marks {
        let last = self.last.iter();
        last.flat_map(|(marks, _)| marks.iter().copied()).collect()
    }

    fn has_made(&self, made: Timestamp) -> bool {
        let mut ours = self.names.keys().filter_map(|name| own_segment(name));
        ours.any(|(name, _)| name.made() == made)
    }

    /// The mark of the removal that took the segment with this creation time, and all older ones.
    pub(super) fn removal_of(&self, made: Timestamp) -> Option<RemovedMark> {
        let marks = self.marks();
        let own = RemovedMark::own(&marks, |made| self.has_made(made));
        RemovedMark::newest(own).filter(|mark| mark.up_to() >= made)
    }

    /// The marks for a copy that has all segments of this log. The segment that a removal left may be without events, and no
    /// restore brings it back: the mark then names the next one.
    pub(super) fn marks_beside(&self, kept: &Kept) -> Marks {
        let marks = self.marks().into_iter().map(|mark| match mark.left() {
            Some(left) if self.has_made(left) => kept.mark_of(mark, mark.up_to()),
            _ => mark,
        });
        marks.collect()
    }
}

/// The segments of ours that an archive holds of a log.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// The creation times of all of them, and of those with events.
    made: BTreeSet<Timestamp>,
    with_events: BTreeSet<Timestamp>,
    modified: Timestamp,
}

impl Kept {
    /// Adds a segment by its creation time, the length of its copy in bytes, and its mtime.
    pub(super) fn add(&mut self, made: Timestamp, len: u64, modified: Timestamp) {
        self.made.insert(made);
        if len > 0 {
            self.with_events.insert(made);
        }
        self.modified = self.modified.max(modified);
    }

    pub(super) fn has(&self, made: Timestamp) -> bool {
        self.made.contains(&made)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.made.is_empty()
    }

    /// The latest mtime of a segment.
    pub(super) fn modified(&self) -> Timestamp {
        self.modified
    }

    /// The mark of a removal that ended with the segment that was created at `up_to`, and left those that were created
    /// later.
    pub(super) fn mark_of(&self, mark: RemovedMark, up_to: Timestamp) -> RemovedMark {
        let later = (Bound::Excluded(up_to), Bound::Unbounded);
        let left = self.with_events.range(later).next();
        match left.or_else(|| self.made.range(later).next()) {
            Some(left) => mark.ended_with(up_to, *left),
            None => mark,
        }
    }
}
