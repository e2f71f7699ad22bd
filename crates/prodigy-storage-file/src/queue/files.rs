//! The two open files of a queue, and what this process knows of them.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use super::CLOSING;
use super::blanks::{self, BLANK};
use super::index::Index;
use super::intake::{Change, Highest};
use crate::fs::{FsFile, OpenMode};
use crate::root::Root;

/// Syncs a file once for all threads that wait for it.
#[derive(Debug)]
pub(super) struct Syncer {
    pub(super) path: PathBuf,
    file: Arc<dyn FsFile>,
    /// The end of the written items or records.
    written: AtomicU64,
    /// The offset up to which all bytes survive power loss, as far as this process knows.
    synced: Mutex<u64>,
    failed: AtomicBool,
}

impl Syncer {
    /// Notes that items or records are written up to `end`. Blanks behind it do not count.
    pub(super) fn wrote(&self, end: u64) {
        self.written.store(end, Ordering::Release);
    }

    /// Notes that bytes from offset `from` on were changed, and have to be synced again.
    pub(super) fn changed(&self, from: u64) {
        let mut synced = self.synced.lock();
        *synced = (*synced).min(from);
    }

    /// True if a sync failed: the state of the file is unknown.
    pub(super) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// Syncs all bytes that were written before this call.
    pub(super) fn sync(&self, root: &Root) -> io::Result<()> {
        let wanted = self.written.load(Ordering::Acquire);
        let mut synced = self.synced.lock();
        if *synced >= wanted {
            return Ok(());
        }
        if self.has_failed() {
            // A second sync would succeed without storing the lost bytes.
            return Err(io::Error::other("an earlier sync of this file failed"));
        }
        let written = self.written.load(Ordering::Acquire);
        root.counters.sync(&self.path);
        match self.file.sync() {
            Ok(()) => {
                *synced = written;
                Ok(())
            }
            Err(error) => {
                self.failed.store(true, Ordering::Release);
                Err(error)
            }
        }
    }
}

/// An open file.
#[derive(Clone, Debug)]
pub(super) struct OpenFile {
    /// Kept open, so that the system can't give its identity to another file.
    pub(super) file: Arc<dyn FsFile>,
    pub(super) identity: (u64, u64),
    pub(super) syncer: Arc<Syncer>,
}

impl OpenFile {
    /// Opens a file whose first `synced` bytes are known to survive power loss.
    pub(super) fn open(root: &Root, path: &Path, synced: u64) -> io::Result<Self> {
        let file: Arc<dyn FsFile> = root.fs.open(path, OpenMode::Write)?.into();
        let found = file.metadata()?;
        let syncer = Arc::new(Syncer {
            path: path.to_owned(),
            file: Arc::clone(&file),
            written: AtomicU64::new(found.len),
            synced: Mutex::new(synced),
            failed: AtomicBool::new(false),
        });
        Ok(Self {
            file,
            identity: found.identity,
            syncer,
        })
    }
}

/// The last known bytes of a file, with the checksum of its last line. If the file has other bytes there, a backup was
/// copied into it: the file keeps its identity, and perhaps its length.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seam([u8; SEAM]);

/// The length of `","crc":"xxxxxxxx"}`, which ends a line.
const SEAM: usize = 16;

impl Seam {
    /// The seam that ends these bytes.
    pub(super) fn of(bytes: &[u8]) -> Self {
        let mut seam = [0; SEAM];
        for (to, from) in seam.iter_mut().rev().zip(bytes.iter().rev()) {
            *to = *from;
        }
        Self(seam)
    }

    /// Reads the seam before `end`, and the bytes behind `end` into `next`. Returns the seam and the number of bytes in
    /// `next`.
    pub(super) fn read(file: &dyn FsFile, end: u64, next: &mut [u8]) -> io::Result<(Self, usize)> {
        let mut bytes = [0; SEAM + CLOSING.len()];
        let before = usize::try_from(end).unwrap_or(SEAM).min(SEAM);
        let room = bytes.get_mut(..before + next.len()).unwrap_or_default();
        let read = file.read_full_at(room, end - before as u64)?;
        let (known, behind) = room.split_at(before.min(read));
        for (to, from) in next.iter_mut().zip(behind) {
            *to = *from;
        }
        Ok((Self::of(known), read.saturating_sub(before)))
    }
}

/// The file of items.
#[derive(Debug)]
pub(super) struct ItemsFile {
    pub(super) open: OpenFile,
    /// The end of the last item, where the next push is written.
    pub(super) end: u64,
    /// The bytes before `end`.
    pub(super) seam: Seam,
    /// The length of the file, with the blanks behind the closing bracket.
    pub(super) len: u64,
    /// True if the array has an element.
    pub(super) any: bool,
    /// True if a new item can be written behind the last one. Otherwise the queue has to be compacted first.
    pub(super) plain: bool,
    /// True if only our closing bracket and blanks are behind `end`.
    pub(super) ends_blank: bool,
}

impl ItemsFile {
    /// A file that is open and not read yet.
    pub(super) fn unread(open: OpenFile) -> Self {
        Self {
            open,
            end: 0,
            seam: Seam::default(),
            len: 0,
            any: false,
            plain: false,
            ends_blank: false,
        }
    }

    /// The length of the file without the blanks at its end.
    pub(super) fn bytes(&self) -> u64 {
        match self.ends_blank {
            true => self.end + CLOSING.len() as u64,
            false => self.len,
        }
    }

    /// Reads the bytes before `end`. True if our closing bracket is behind it.
    pub(super) fn look(&self) -> io::Result<(Seam, bool)> {
        let mut closing = [0; CLOSING.len()];
        let (seam, behind) = Seam::read(&*self.open.file, self.end, &mut closing)?;
        Ok((seam, behind == CLOSING.len() && closing == CLOSING))
    }

    /// True if only blanks are behind our closing bracket.
    pub(super) fn has_only_blanks(&self) -> io::Result<bool> {
        let end = blanks::end_of_text(&*self.open.file, self.len)?;
        Ok(end == self.end + CLOSING.len() as u64)
    }
}

/// The journal.
#[derive(Debug)]
pub(super) struct JournalFile {
    pub(super) open: OpenFile,
    /// The end of the last record, where the next record is written.
    pub(super) end: u64,
    /// The bytes before `end`.
    pub(super) seam: Seam,
    /// The length of the file, with the blanks behind the last record.
    pub(super) len: u64,
    /// True if the last line has no line end.
    pub(super) is_open: bool,
}

impl JournalFile {
    /// A journal that is open and not read yet.
    pub(super) fn unread(open: OpenFile) -> Self {
        Self {
            open,
            end: 0,
            seam: Seam::default(),
            len: 0,
            is_open: false,
        }
    }

    /// Reads the bytes before `end`. True if no record begins there.
    pub(super) fn look(&self) -> io::Result<(Seam, bool)> {
        let mut next = [0];
        let (seam, behind) = Seam::read(&*self.open.file, self.end, &mut next)?;
        Ok((seam, behind == 0 || next == [BLANK]))
    }
}

/// The state of a queue when this process last held its lock.
#[derive(Debug, Default)]
pub(super) struct QueueFiles {
    pub(super) items: Option<ItemsFile>,
    pub(super) journal: Option<JournalFile>,
    pub(super) index: Index,
    /// The last number of the counter that was used.
    pub(super) counter: u64,
    /// The greatest change that is part of the array. Records up to this number are already applied.
    pub(super) folded: u64,
    /// The counter and the number of items when the journal began, if its first line has both.
    pub(super) begun: Option<(u64, u64)>,
    /// The number of removals in the journal whose item has no line any more.
    pub(super) gone: u64,
    /// True if an item has no birth that a record could name. The queue is compacted before such an item changes.
    pub(super) rough: bool,
    /// Byte ranges of another program's elements in the array, which are kept as they are.
    pub(super) others: Vec<(u64, u64)>,
    /// True if a part of a file is damaged.
    pub(super) spoilt: bool,
    /// True if the names of both files survive power loss.
    pub(super) linked: Arc<AtomicBool>,
    /// The number of dead bytes at which a compaction is tried again after a failed one.
    pub(super) retry_at: u64,
}

impl QueueFiles {
    /// The length of both files without the blanks at their ends.
    pub(super) fn bytes(&self) -> u64 {
        let items = self.items.as_ref().map_or(0, ItemsFile::bytes);
        items + self.journal.as_ref().map_or(0, |journal| journal.end)
    }

    /// An estimate of the bytes that a compaction would free.
    pub(super) fn dead_bytes(&self) -> u64 {
        const FRAME: u64 = 64;
        let between = super::SEPARATOR.len() as u64 * self.index.len() as u64;
        let others: u64 = self.others.iter().map(|(start, end)| end - start).sum();
        let living = self.index.living_bytes() + others + between + FRAME;
        self.bytes().saturating_sub(living)
    }

    /// Cuts the blanks at the end of both files.
    pub(super) fn cut_blanks(&mut self) -> io::Result<()> {
        if let Some(items) = &mut self.items
            && items.len > items.bytes()
        {
            let len = items.bytes();
            items.open.file.set_len(len)?;
            items.len = len;
        }
        if let Some(journal) = &mut self.journal
            && journal.len > journal.end
        {
            journal.open.file.set_len(journal.end)?;
            journal.len = journal.end;
        }
        Ok(())
    }

    /// Raises the counters to the numbers of items that were read.
    pub(super) fn note(&mut self, highest: Highest) {
        self.counter = self.counter.max(highest.number);
        self.folded = self.folded.max(highest.change);
    }

    /// Ends the reading of both files.
    pub(super) fn loaded(&mut self) {
        self.counter = self.index.bear_the_rest(self.counter);
        self.index.loaded();
    }

    /// The number of items that have no line although nothing removed them. Damaged lines may be those of missing items.
    pub(super) fn missing(&self) -> u64 {
        match self.begun {
            Some((counter, items)) if !self.spoilt => {
                items.saturating_sub(self.index.born_up_to(counter) + self.gone)
            }
            _ => 0,
        }
    }

    /// Applies a change to the index, unless the array already includes it.
    pub(super) fn apply(&mut self, change: &Change) {
        let number = change.apply(&mut self.index, self.folded);
        self.counter = self.counter.max(number);
    }

    /// True if a sync of one of the files failed.
    pub(super) fn has_failed(&self) -> bool {
        let items = self.items.as_ref().map(|items| &items.open);
        let journal = self.journal.as_ref().map(|journal| &journal.open);
        items
            .into_iter()
            .chain(journal)
            .any(|open| open.syncer.has_failed())
    }
}
