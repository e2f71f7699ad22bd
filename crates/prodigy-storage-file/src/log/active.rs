//! A segment that this process writes to.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use prodigy_storage_backend::{EventId, record};
use prodigy_storage_layout::{SegmentName, Timestamp};

use crate::fs::{FsFile, SEALED_MODE};

/// A file whose syncs are shared and whose first failed sync is its last.
#[derive(Debug)]
pub(crate) struct SegmentFile {
    file: Box<dyn FsFile>,
    /// Held while it is synced: of two threads that sync one descriptor, only one is told of a failure.
    failed: Mutex<bool>,
    written: AtomicU64,
    synced: AtomicU64,
    /// Whether its name, and those of all folders above it, are known to survive power loss.
    named: AtomicBool,
}

impl SegmentFile {
    pub(crate) fn new(file: Box<dyn FsFile>) -> Self {
        Self {
            file,
            failed: Mutex::new(false),
            // What a dead process left in it was perhaps never synced.
            written: AtomicU64::new(1),
            synced: AtomicU64::new(0),
            named: AtomicBool::new(false),
        }
    }

    pub(crate) fn file(&self) -> &dyn FsFile {
        &*self.file
    }

    /// Counts a write.
    pub(crate) fn touch(&self) {
        self.written.fetch_add(1, Ordering::Release);
    }

    /// Whether something was written since the last sync.
    pub(crate) fn is_dirty(&self) -> bool {
        self.written.load(Ordering::Acquire) > self.synced.load(Ordering::Acquire) || !self.is_named()
    }

    pub(crate) fn is_named(&self) -> bool {
        self.named.load(Ordering::Acquire)
    }

    pub(crate) fn set_named(&self) {
        self.named.store(true, Ordering::Release);
    }

    /// Makes what was written before the call survive power loss. After a failure it fails for ever.
    pub(crate) fn sync(&self) -> io::Result<()> {
        let mut failed = self.failed.lock();
        if *failed {
            return Err(io::Error::other("an earlier sync of this file failed"));
        }
        let target = self.written.load(Ordering::Acquire);
        let synced = if self.is_named() {
            self.file.sync()
        } else {
            self.file.sync_all()
        };
        // Whoever removed the file by hand took with it what is written to it now.
        let synced = synced.and_then(|()| {
            if self.file.metadata()?.links == 0 {
                return Err(io::Error::new(
                    io::ErrorKind::NotFound,
                    "the segment was removed under its writer",
                ));
            }
            Ok(())
        });
        match synced {
            Ok(()) => {
                self.synced.fetch_max(target, Ordering::AcqRel);
                Ok(())
            }
            Err(error) => {
                *failed = true;
                Err(error)
            }
        }
    }

    /// Marks the segment as sealed, durably.
    pub(crate) fn seal(&self) -> io::Result<()> {
        self.file.set_mode(SEALED_MODE)?;
        self.file.sync_all()
    }
}

/// A segment that this process holds.
#[derive(Debug)]
pub(crate) struct Active {
    pub(crate) name: SegmentName,
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<SegmentFile>,
    /// Where the next record goes.
    pub(crate) len: u64,
    /// The newest id in it.
    pub(crate) last: Option<EventId>,
    /// The time of its last record.
    pub(crate) time: Option<Timestamp>,
}

/// How far a clock may step back without a new segment: the records of a segment then keep the time of its last one.
const LARGEST_CLAMP: i64 = 1_000_000_000;

impl Active {
    /// Cuts off what a failed write left behind the last record.
    ///
    /// What was cut may be on the disk already, so the cut is synced: records of a write that was reported as failed
    /// must not come back after a loss of power.
    pub(crate) fn take_back(&self) -> io::Result<()> {
        let file = self.file.file();
        if file.metadata()?.len == self.len {
            return Ok(());
        }
        file.set_len(self.len)?;
        self.file.touch();
        self.file.sync()
    }

    /// Whether a failed write stands behind the last record.
    pub(crate) fn is_torn(&self) -> bool {
        let found = self.file.file().metadata();
        found.is_ok_and(|found| found.len > self.len)
    }

    /// Whether its last record is so far ahead of the clock that nothing may be appended now: times do not decrease within
    /// a segment, and an event's time is at most a second from the clock's.
    pub(crate) fn is_ahead_of(&self, now: Timestamp) -> bool {
        let allowed = now.as_nanos().saturating_add(LARGEST_CLAMP);
        self.time.is_some_and(|time| time.as_nanos() > allowed)
    }

    /// The time of a record that is appended now.
    pub(crate) fn stamp(&self, now: Timestamp) -> Timestamp {
        let now = record::stated_time(now);
        self.time.map_or(now, |time| time.max(now))
    }

    /// Whether a record of this id may be appended: ids ascend within a segment, from its lower bound on.
    pub(crate) fn takes(&self, id: EventId) -> bool {
        match self.last {
            Some(last) => last < id,
            None => EventId::floor(self.name.lower()) <= id,
        }
    }
}
