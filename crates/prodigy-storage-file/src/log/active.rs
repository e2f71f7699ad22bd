//! A segment that this process writes to.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use prodigy_storage_backend::{EventId, record};
use prodigy_storage_layout::{SegmentName, Timestamp};

use crate::fs::{CLOSED_MODE, FsFile, SEALED_MODE};

/// An open segment file. Its syncs are shared by threads, and after the first failed sync it refuses any further sync.
#[derive(Debug)]
pub(crate) struct SegmentFile {
    file: Box<dyn FsFile>,
    identity: OnceLock<(u64, u64)>,
    /// True after a failed sync. Locked during a sync: if two threads sync one descriptor, the kernel reports a failure
    /// to only one of them.
    failed: Mutex<bool>,
    written: AtomicU64,
    synced: AtomicU64,
    /// True if the name of the file, and those of all folders above it, are known to survive a power loss.
    named: AtomicBool,
    /// True once the segment is synced and sealed. Its plain form may then be replaced by a compressed one.
    sealed: AtomicBool,
}

impl SegmentFile {
    pub(crate) fn new(file: Box<dyn FsFile>) -> Self {
        Self {
            file,
            identity: OnceLock::new(),
            failed: Mutex::new(false),
            // Counts as one write, since the bytes of the segment's earlier writer may never have been synced.
            written: AtomicU64::new(1),
            synced: AtomicU64::new(0),
            named: AtomicBool::new(false),
            sealed: AtomicBool::new(false),
        }
    }

    pub(crate) fn file(&self) -> &dyn FsFile {
        &*self.file
    }

    /// The identity of the file. No other file can get the same identity while this one is open.
    pub(crate) fn identity(&self) -> io::Result<(u64, u64)> {
        if let Some(known) = self.identity.get() {
            return Ok(*known);
        }
        let found = self.file.metadata()?.identity;
        Ok(*self.identity.get_or_init(|| found))
    }

    /// Counts a write, which the next sync has to cover.
    pub(crate) fn touch(&self) {
        self.written.fetch_add(1, Ordering::Release);
    }

    /// True if bytes were written since the last sync.
    pub(crate) fn is_dirty(&self) -> bool {
        self.written.load(Ordering::Acquire) > self.synced.load(Ordering::Acquire) || !self.is_named()
    }

    pub(crate) fn is_named(&self) -> bool {
        self.named.load(Ordering::Acquire)
    }

    pub(crate) fn set_named(&self) {
        self.named.store(true, Ordering::Release);
    }

    /// Makes everything that was written before the call survive a power loss. After a failure every later call
    /// fails.
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
    ///
    /// A reader does not name a sealed segment in its cursor any more. So the segment gets its last mode only when it is
    /// certain that no power loss makes it an open one again, to which the next writer would append.
    pub(crate) fn seal(&self) -> io::Result<()> {
        self.close()?;
        self.file.set_mode(SEALED_MODE)?;
        self.sealed.store(true, Ordering::Release);
        Ok(())
    }

    /// Marks the segment as closed, durably: no writer continues it, and a cursor keeps its place in it.
    pub(crate) fn close(&self) -> io::Result<()> {
        self.file.set_mode(CLOSED_MODE)?;
        self.file.sync_all()
    }

    /// True once this process has sealed the segment.
    pub(crate) fn is_sealed(&self) -> bool {
        self.sealed.load(Ordering::Acquire)
    }
}

/// A segment that this process appends to.
#[derive(Debug)]
pub(crate) struct Active {
    pub(crate) name: SegmentName,
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<SegmentFile>,
    /// The offset at which the next record is written.
    pub(crate) len: u64,
    /// The newest id in the segment.
    pub(crate) last: Option<EventId>,
    /// The time of the last record in the segment.
    pub(crate) time: Option<Timestamp>,
    /// True if the last record has no line break at its end, because a write failed there.
    pub(crate) unended: bool,
}

/// The largest step back of the clock, in nanoseconds, that does not end a segment. Until the clock has caught up, new
/// records get the time of the segment's last record.
const LARGEST_CLAMP: i64 = 1_000_000_000;

impl Active {
    /// After a failed write of `bytes`, the number of them that are in the file after the last record.
    ///
    /// Compares them with the file, because readers see the file and not the result of the write.
    fn reached(&self, bytes: &[u8]) -> io::Result<usize> {
        let file = self.file.file();
        let behind = file.metadata()?.len.saturating_sub(self.len);
        let behind = usize::try_from(behind).unwrap_or(usize::MAX).min(bytes.len());
        let mut found = vec![0; behind];
        let read = file.read_full_at(&mut found, self.len)?;
        let same = found.iter().zip(bytes).take(read).take_while(|(a, b)| a == b);
        Ok(same.count())
    }

    /// After a failed write of `bytes`, which has one record per line: keeps the records that are whole in the file,
    /// and cuts off a torn one after them. Returns the number of kept records.
    ///
    /// Readers may already have returned each of the whole records, even one without a line break at its end, because
    /// its checksum matches. If the line break is missing, the next write begins with it.
    ///
    /// The cut is synced. Otherwise, a power loss could restore torn bytes under records that are written later.
    pub(crate) fn keep_whole(&mut self, bytes: &[u8]) -> io::Result<u64> {
        let reached = self.reached(bytes)?;
        let (mut kept, mut end, mut unended) = (0, 0, self.unended);
        if self.unended {
            // The first byte of the write is the line break that was missing at the end of the file.
            end = usize::from(reached > 0);
            unended = end == 0;
        }
        while let Some(line) = bytes.get(end..).and_then(|rest| memchr::memchr(b'\n', rest)) {
            if end + line > reached || line == 0 {
                break;
            }
            let record = record::read_line(bytes.get(end..end + line).unwrap_or_default());
            self.last = record.ok().map(|record| record.id).or(self.last);
            unended = end + line == reached;
            end += line + usize::from(!unended);
            kept += 1;
        }
        self.len += end as u64;
        self.unended = unended;
        if end > 0 {
            self.file.touch();
        }
        let file = self.file.file();
        if file.metadata()?.len > self.len {
            file.set_len(self.len)?;
            self.file.touch();
            self.file.sync()?;
        }
        Ok(kept)
    }

    /// True if the file has bytes of a failed write after the last record.
    pub(crate) fn is_torn(&self) -> bool {
        let found = self.file.file().metadata();
        found.is_ok_and(|found| found.len > self.len)
    }

    /// True if the last record is so far ahead of the clock that no record may be appended: times do not decrease
    /// within a segment, and the time of an event must not differ from the clock by more than one second.
    pub(crate) fn is_ahead_of(&self, now: Timestamp) -> bool {
        let allowed = now.as_nanos().saturating_add(LARGEST_CLAMP);
        self.time.is_some_and(|time| time.as_nanos() > allowed)
    }

    /// The time for a record that is appended now.
    pub(crate) fn stamp(&self, now: Timestamp) -> Timestamp {
        let now = record::stated_time(now);
        self.time.map_or(now, |time| time.max(now))
    }

    /// True if a record with this id may be appended: the ids of a segment ascend, beginning at its lower bound.
    pub(crate) fn takes(&self, id: EventId) -> bool {
        match self.last {
            Some(last) => last < id,
            None => EventId::floor(self.name.lower()) <= id,
        }
    }
}
