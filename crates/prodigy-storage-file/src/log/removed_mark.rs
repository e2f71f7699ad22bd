//! The mark of removed segments, which states where a log begins now.
//!
//! It is a file in the folder of the log, `.removed-{begun}-{newest id}-{up to}-{left}-{checks}`. Its name states that the
//! log's first segment was created at `begun`, that the segments of ours created up to `up to` are removed (even if their
//! files still exist), that none of their ids is above the newest id, and that the oldest segment that was left was
//! created at `left`. The mark is durable before the first file is removed. So for every reader an interrupted removal is
//! complete, and the next removal deletes the remaining files. A cursor that does not cover the removed segments gets
//! `CursorGap`.
//!
//! A person may copy the mark to the folder of another log, whose segments it would hide. So a mark counts only beside
//! the segment of `left`, which stays until a newer mark replaces this one. It hides only the segments that its removal
//! took, which `checks` identify: a short hash of the creation time and the last id of each.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use prodigy_storage_backend::{ErrorKind, EventId, Result, StorageError};
use prodigy_storage_layout::{SegmentName, Stamp, Timestamp};
use xxhash_rust::xxh3::xxh3_64;

use super::clock::StepClock;
use super::search;
use super::segment_ref::SegmentRef;
use crate::root::Root;

const PREFIX: &str = ".removed-";
/// The length of an id in a name.
const ID: usize = 36;
/// The largest number of segments that a mark identifies: a name has at most 255 bytes.
pub(super) const MOST: usize = 16;
/// The number of digits of each check.
const DIGITS: usize = 6;

/// Identifies removed segments: a check of each, and 0 behind the last one. A mark of an earlier version has none.
type Checks = [u32; MOST];

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
    /// The segments that the removal took.
    pub(super) checks: Checks,
}

/// The checks of these segments, each given by its creation time and its last id.
pub(super) fn checks_of(segments: impl Iterator<Item = (Timestamp, Option<EventId>)>) -> Checks {
    let mut checks = [0; MOST];
    for (slot, (made, last)) in checks.iter_mut().zip(segments) {
        *slot = check_of(made, last);
    }
    checks
}

fn check_of(made: Timestamp, last: Option<EventId>) -> u32 {
    let last = last.map(|id| id.to_string()).unwrap_or_default();
    let bytes = [&made.as_nanos().to_le_bytes(), last.as_bytes()].concat();
    let bits = xxh3_64(&bytes) & 0x00ff_ffff;
    // 0 means no segment.
    u32::try_from(bits).unwrap_or_default().max(1)
}

fn parse_checks(text: &str) -> Option<Checks> {
    let mut checks = [0; MOST];
    let (texts, rest) = text.as_bytes().as_chunks::<DIGITS>();
    if !rest.is_empty() || texts.len() > MOST {
        return None;
    }
    for (slot, text) in checks.iter_mut().zip(texts) {
        *slot = u32::from_str_radix(std::str::from_utf8(text).ok()?, 16).ok()?;
    }
    Some(checks)
}

impl RemovedMark {
    /// Parses the name of a mark; `None` for any other name.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let time = |text| {
            Stamp::parse(text)
                .filter(Stamp::is_canonical)
                .map(|stamp| stamp.time())
        };
        let (begun, rest) = name.strip_prefix(PREFIX)?.split_once('-')?;
        let (newest, rest) = rest.split_at_checked(ID)?;
        let mut rest = rest.strip_prefix('-')?.split('-');
        let mark = Self {
            begun: time(begun)?,
            newest: newest.parse().ok()?,
            up_to: time(rest.next()?)?,
            left: match rest.next() {
                Some(left) => Some(time(left)?),
                None => None,
            },
            checks: parse_checks(rest.next().unwrap_or_default())?,
        };
        (mark.name() == name && mark.is_sound()).then_some(mark)
    }

    /// False if the times contradict each other. No removal makes such a mark: its name was changed.
    fn is_sound(self) -> bool {
        self.begun <= self.up_to && self.left.is_none_or(|left| self.up_to < left)
    }

    fn name(self) -> String {
        let left = self.left.map(|left| format!("-{left}")).unwrap_or_default();
        let checks: String = self.checks().map(|check| format!("{check:0DIGITS$x}")).collect();
        let dash = if checks.is_empty() { "" } else { "-" };
        format!(
            "{PREFIX}{}-{}-{}{left}{dash}{checks}",
            self.begun, self.newest, self.up_to
        )
    }

    pub(super) fn checks(&self) -> impl Iterator<Item = u32> {
        self.checks.into_iter().take_while(|check| *check > 0)
    }

    /// False for a mark of an earlier version, which hides every segment up to a time.
    pub(crate) fn has_checks(self) -> bool {
        self.checks().next().is_some()
    }

    /// True if the segment that a removal left is there, by its creation time: the mark then belongs to this log.
    pub(super) fn belongs_beside(self, is_here: impl Fn(Timestamp) -> bool) -> bool {
        self.left.is_none_or(is_here)
    }

    /// The creation time of the newest removed segment.
    #[cfg(feature = "backup")]
    pub(crate) fn up_to(self) -> Timestamp {
        self.up_to
    }

    /// The creation time of the oldest segment that was left.
    #[cfg(feature = "backup")]
    pub(crate) fn left(self) -> Option<Timestamp> {
        self.left
    }

    /// The mark of the same removal if it had ended with the segment that was created at `up_to`, and had left the one that
    /// was created at `left`. A cursor that it reports as a gap may have read all that was removed, but never the reverse.
    #[cfg(feature = "backup")]
    pub(crate) fn ended_with(self, up_to: Timestamp, left: Timestamp) -> Self {
        let left = Some(left);
        Self { up_to, left, ..self }
    }

    /// The marks that belong to a log with these segments.
    pub(crate) fn own(marks: &[Self], is_here: impl Fn(Timestamp) -> bool) -> impl Iterator<Item = Self> {
        let marks = marks.iter().copied();
        marks.filter(move |mark| mark.belongs_beside(&is_here))
    }

    pub(crate) fn newest(marks: impl Iterator<Item = Self>) -> Option<Self> {
        marks.max_by_key(|mark| (mark.up_to, mark.newest))
    }

    pub(crate) fn path(self, folder: &Path) -> PathBuf {
        folder.join(self.name())
    }

    /// True if the mark may state that this segment is removed: it was created early enough.
    pub(super) fn covers(self, name: &SegmentName) -> bool {
        name.is_canonical() && name.made() <= self.up_to
    }

    /// True if the mark states that this segment, whose file still exists, is removed. Also true if the file has been
    /// removed by now.
    pub(super) fn hides(
        self,
        root: &Arc<Root>,
        folder: &Path,
        name: &SegmentName,
        clock: &mut StepClock,
    ) -> Result<bool> {
        if !self.covers(name) || !self.has_checks() {
            return Ok(self.covers(name));
        }
        let segment = SegmentRef::new(root, folder, name);
        Ok(self.identifies(name.made(), search::last_id_of(segment, clock)?) || segment.is_gone())
    }

    /// True if the removal took a segment with this creation time and last id.
    pub(super) fn identifies(self, made: Timestamp, last: Option<EventId>) -> bool {
        let check = check_of(made, last);
        self.checks().any(|its| its == check)
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
            checks: checks_of([(begun, None), (begun.next(), Some(EventId::MAX))].into_iter()),
        };
        let full = RemovedMark {
            checks: checks_of((0..40).map(|nanos| (Timestamp::from_nanos(nanos), None))),
            ..mark
        };
        let without_checks = RemovedMark {
            checks: [0; MOST],
            ..mark
        };
        let old = RemovedMark {
            left: None,
            ..without_checks
        };
        assert!(full.name().len() < 255);
        for mark in [mark, full, without_checks, old] {
            assert_eq!(RemovedMark::parse(&mark.name()), Some(mark));
        }
        for name in [
            mark.name() + "x",
            mark.name().replace(".removed", "removed"),
            mark.name().replace('T', "_"),
            mark.name().to_uppercase(),
            full.name() + "000001",
            format!("{PREFIX}{begun}-{begun}"),
            RemovedMark {
                begun: mark.up_to.next(),
                ..mark
            }
            .name(),
            RemovedMark {
                up_to: Timestamp::MAX,
                ..mark
            }
            .name(),
            PREFIX.to_owned(),
        ] {
            assert_eq!(RemovedMark::parse(&name), None, "{name}");
        }
    }
}
