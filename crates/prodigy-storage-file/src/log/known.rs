//! What a writer remembers of the segments of others.

use std::collections::{HashMap, HashSet};

use prodigy_storage_backend::EventId;
use prodigy_storage_layout::SegmentName;

/// Segments whose last id is remembered at most.
const MOST: usize = 4096;

/// Last ids of sealed segments, and segments whose contents are in doubt.
#[derive(Debug, Default)]
pub(crate) struct Known {
    sealed: HashMap<SegmentName, Option<EventId>>,
    doubtful: HashSet<SegmentName>,
}

impl Known {
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

    /// Forgets what was read. What is in doubt stays so.
    pub(crate) fn forget(&mut self) {
        self.sealed.clear();
    }

    /// A sync of this segment failed: what is read from it may not be on the disk.
    pub(crate) fn doubt(&mut self, name: &SegmentName) {
        self.doubtful.insert(name.clone());
    }

    /// Whether any segment is in doubt.
    pub(crate) fn has_doubts(&self) -> bool {
        !self.doubtful.is_empty()
    }

    pub(crate) fn is_doubtful(&self, name: &SegmentName) -> bool {
        self.doubtful.contains(name)
    }
}
