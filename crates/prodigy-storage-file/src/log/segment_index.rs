//! Facts about segments that a writer stores, so that it does not read them again.

use std::collections::{HashMap, HashSet};

use prodigy_storage_backend::EventId;
use prodigy_storage_layout::SegmentName;

/// The largest number of segments whose last id is stored.
const MOST: usize = 4096;

/// The last ids of sealed segments, and the suspect segments.
#[derive(Debug, Default)]
pub(crate) struct SegmentIndex {
    sealed: HashMap<SegmentName, Option<EventId>>,
    suspect: HashSet<SegmentName>,
}

impl SegmentIndex {
    /// The last id of a sealed segment, if it is stored. The inner `None` is for a segment without events.
    pub(crate) fn last(&self, name: &SegmentName) -> Option<Option<EventId>> {
        self.sealed.get(name).copied()
    }

    /// Stores the last id of a sealed segment.
    pub(crate) fn learn(&mut self, name: &SegmentName, last: Option<EventId>) {
        if self.sealed.len() >= MOST {
            self.sealed.clear();
        }
        self.sealed.insert(name.clone(), last);
    }

    /// Removes the stored last ids. A suspect segment stays suspect.
    pub(crate) fn forget(&mut self) {
        self.sealed.clear();
    }

    /// Marks a segment as suspect, because a sync of it failed: its bytes can be read, but may not be on the disk.
    pub(crate) fn mark_suspect(&mut self, name: &SegmentName) {
        self.suspect.insert(name.clone());
    }

    /// True if any segment is suspect.
    pub(crate) fn has_suspects(&self) -> bool {
        !self.suspect.is_empty()
    }

    pub(crate) fn is_suspect(&self, name: &SegmentName) -> bool {
        self.suspect.contains(name)
    }
}
