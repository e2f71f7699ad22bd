//! The counters of a root.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use prodigy_storage_backend::Stats;

/// The counters of a root, from which [`Stats`](prodigy_storage_backend::Stats) are made.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) appends: AtomicU64,
    pub(crate) events: AtomicU64,
    pub(crate) appended_bytes: AtomicU64,
    pub(crate) syncs: AtomicU64,
    pub(crate) sealed: AtomicU64,
    pub(crate) compressed: AtomicU64,
    /// The number of cursors that named an event which was no longer in its segment.
    pub(crate) rewound: AtomicU64,
    pub(crate) documents: AtomicU64,
    pub(crate) queue_rewrites: AtomicU64,
}

impl Counters {
    /// Adds these counters to the statistics.
    pub(crate) fn add_to(&self, stats: &mut Stats) {
        for (name, counter) in [
            ("log.appends", &self.appends),
            ("log.events", &self.events),
            ("log.bytes", &self.appended_bytes),
            ("log.sealed", &self.sealed),
            ("log.compressed", &self.compressed),
            ("log.rewound", &self.rewound),
            ("file.syncs", &self.syncs),
            ("document.writes", &self.documents),
            ("queue.rewrites", &self.queue_rewrites),
        ] {
            stats.add(name, counter.load(Ordering::Relaxed));
        }
    }

    /// Counts and traces a sync that is about to begin.
    pub(crate) fn sync(&self, path: &Path) {
        count(&self.syncs, 1);
        tracing::trace!(path = %path.display(), "sync");
    }
}

pub(crate) fn count(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}
