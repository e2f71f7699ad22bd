//! The facts that a writer keeps about segments, so that it does not read them again.

use std::collections::{HashMap, HashSet};

use prodigy_storage_backend::EventId;
use prodigy_storage_layout::SegmentName;

/// The largest number of segments whose last id is kept.
const MOST: usize = 4096;

/// The last ids of sealed segments, and the suspect segments.
#[derive(Debug, Default)]
pub(crate) struct SegmentIndex {
    sealed: HashMap<SegmentName, Option<EventId>>,
    suspect: HashSet<SegmentName>,
}

impl SegmentIndex {
    /// The last id of a sealed segment.
    pub(crate) fn last(&self, name: &SegmentName) -> Option<Option<EventId>> {
        self.sealed.get(name).copied()
    }

    /// Remembers the last id of a sealed segment.
    pub(crate) fn learn(&mut self, name: &SegmentName, last: Option<EventId>) {
        if self.sealed.len() >= MOST {
            self.sealed.clear();
        }
        self.sealed.insert(name.clone(), last);
    }

    /// Forgets the last ids. A suspect segment stays suspect.
    pub(crate) fn forget(&mut self) {
        self.sealed.clear();
    }

    /// Marks a segment whose sync failed: the bytes that a reader sees may not be on the disk.
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
