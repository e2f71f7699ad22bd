//! The mark of removed segments, which states where a log begins now.
//!
//! It is a file in the folder of the log, `.removed-{begun}-{newest id}-{up to}-{left}`. Its name states that the log's
//! first segment was created at `begun`, that all segments of ours created up to `up to` are removed (even if their
//! files still exist), that none of their ids is above the newest id, and that the oldest segment that was left was
//! created at `left`. The mark is durable before the first file is removed. So for every reader an interrupted removal is
//! complete, and the next removal deletes the remaining files. A cursor that does not cover the removed segments gets
//! `CursorGap`.
//!
//! A person may copy the mark to the folder of another log, whose segments it would hide. So a mark counts only beside
//! the segment of `left`, which stays until a newer mark replaces this one.

use std::path::{Path, PathBuf};

use prodigy_storage_backend::{ErrorKind, EventId, StorageError};
use prodigy_storage_layout::{SegmentName, Stamp, Timestamp};

use crate::root::Root;

const PREFIX: &str = ".removed-";

/// The contents of a mark's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RemovedMark {
    /// The creation time of the log's first segment, by which cursors identify the log.
    pub(super) begun: Timestamp,
    /// The newest id in the removed segments.
    pub(super) newest: EventId,
    /// The creation time of the newest removed segment.
    pub(super) up_to: Timestamp,
    /// The creation time of the oldest segment that was left. A mark of an earlier version has none, and always counts.
    pub(super) left: Option<Timestamp>,
}

impl RemovedMark {
    /// Parses the name of a mark; `None` for any other name.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let (begun, rest) = name.strip_prefix(PREFIX)?.split_once('-')?;
        let (rest, last) = rest.rsplit_once('-')?;
        let (newest, up_to, left) = match rest.parse() {
            Ok(newest) => (newest, last, None),
            Err(_) => {
                let (newest, up_to) = rest.rsplit_once('-')?;
                (newest.parse().ok()?, up_to, Some(last))
            }
        };
        let time = |text| {
            Stamp::parse(text)
                .filter(Stamp::is_canonical)
                .map(|stamp| stamp.time())
        };
        let mark = Self {
            begun: time(begun)?,
            newest,
            up_to: time(up_to)?,
            left: match left {
                Some(left) => Some(time(left)?),
                None => None,
            },
        };
        (mark.name() == name).then_some(mark)
    }

    fn name(self) -> String {
        let left = self.left.map(|left| format!("-{left}")).unwrap_or_default();
        format!("{PREFIX}{}-{}-{}{left}", self.begun, self.newest, self.up_to)
    }

    /// True if the segment that a removal left is there, by its creation time: the mark then belongs to this log.
    pub(super) fn belongs_beside(self, is_here: impl Fn(Timestamp) -> bool) -> bool {
        self.left.is_none_or(is_here)
    }

    /// The newest of the marks that belong to a log with these segments.
    pub(super) fn newest(marks: &[Self], is_here: impl Fn(Timestamp) -> bool) -> Option<Self> {
        let own = marks.iter().copied().filter(|mark| mark.belongs_beside(&is_here));
        own.max_by_key(|mark| mark.up_to)
    }

    pub(crate) fn path(self, folder: &Path) -> PathBuf {
        folder.join(self.name())
    }

    /// True if the mark states that this segment is removed.
    pub(super) fn covers(self, name: &SegmentName) -> bool {
        name.is_canonical() && name.made() <= self.up_to
    }

    /// The error for a cursor before the end of the removed segments.
    pub(super) fn gap(self, root: &Root, folder: &Path) -> StorageError {
        let why = format!(
            "events that were not read yet are removed: each segment that was made up to {} is gone",
            self.up_to.to_rfc3339()
        );
        StorageError::new(ErrorKind::CursorGap, "scan", root.absolute(folder).display(), why)
            .with_hint("begin without a cursor: the scan then starts with the oldest event that is left")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_reads_back_and_any_other_name_is_none() {
        let begun = Timestamp::from_nanos(1_800_000_000_123_456_789);
        let mark = RemovedMark {
            begun,
            newest: EventId::floor(begun),
            up_to: begun.next(),
            left: Some(begun.next().next()),
        };
        let old = RemovedMark { left: None, ..mark };
        for mark in [mark, old] {
            assert_eq!(RemovedMark::parse(&mark.name()), Some(mark));
        }
        for name in [
            mark.name() + "x",
            mark.name().replace(".removed", "removed"),
            mark.name().replace('T', "_"),
            format!("{PREFIX}{begun}-{begun}"),
            PREFIX.to_owned(),
        ] {
            assert_eq!(RemovedMark::parse(&name), None, "{name}");
        }
    }
}
