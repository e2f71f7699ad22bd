//! The mark of removed segments: the new beginning of a log.
//!
//! It is a file in the folder of the log, `.removed-{begun}-{newest id}-{up to}`. Its name states that the first
//! segment of this log was created at `begun`, that each segment of ours that was created up to `up to` is removed,
//! whether its file still exists or not, and that none of their ids is above the newest id. The mark is durable
//! before the first file is removed. So for every reader an interrupted removal is complete, and the next one removes
//! the rest. A cursor that does not cover the removed segments gets `CursorGap`.

use std::path::{Path, PathBuf};

use prodigy_storage_backend::{ErrorKind, EventId, StorageError};
use prodigy_storage_layout::{SegmentName, Stamp, Timestamp};

use crate::root::Root;

const PREFIX: &str = ".removed-";

/// A mark, as its name states it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RemovedMark {
    /// When the first segment of the log was made: cursors know the log by it.
    pub(super) begun: Timestamp,
    /// The newest of the removed ids.
    pub(super) newest: EventId,
    /// When the newest of the removed segments was made.
    pub(super) up_to: Timestamp,
}

impl RemovedMark {
    /// Reads the name of a mark; `None` for any other name.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let (begun, rest) = name.strip_prefix(PREFIX)?.split_once('-')?;
        let (newest, up_to) = rest.rsplit_once('-')?;
        let time = |text| {
            Stamp::parse(text)
                .filter(Stamp::is_canonical)
                .map(|stamp| stamp.time())
        };
        let mark = Self {
            begun: time(begun)?,
            newest: newest.parse().ok()?,
            up_to: time(up_to)?,
        };
        (mark.name() == name).then_some(mark)
    }

    fn name(self) -> String {
        format!("{PREFIX}{}-{}-{}", self.begun, self.newest, self.up_to)
    }

    pub(super) fn path(self, folder: &Path) -> PathBuf {
        folder.join(self.name())
    }

    /// True if a segment is removed.
    pub(super) fn covers(self, name: &SegmentName) -> bool {
        name.is_canonical() && name.made() <= self.up_to
    }

    /// The error of a reader that needs what is removed.
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
        };
        assert_eq!(RemovedMark::parse(&mark.name()), Some(mark));
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
