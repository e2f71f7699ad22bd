//! The two open files of a queue, and the state that this process keeps about them.

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

/// Syncs a file. Threads that wait for a sync at the same time share one.
#[derive(Debug)]
pub(super) struct Syncer {
    pub(super) path: PathBuf,
    file: Arc<dyn FsFile>,
    /// The offset at which the written items or records end.
    written: AtomicU64,
    /// The offset up to which all bytes are known to survive power loss.
    synced: Mutex<u64>,
    failed: AtomicBool,
}

impl Syncer {
    /// Records that items or records are written up to `end`. Blanks after it need no sync.
    pub(super) fn wrote(&self, end: u64) {
        self.written.store(end, Ordering::Release);
    }

    /// Records that bytes from the offset `from` on were changed and have to be synced again.
    pub(super) fn changed(&self, from: u64) {
        let mut synced = self.synced.lock();
        *synced = (*synced).min(from);
    }

    /// True if a sync failed, so that the state of the file on the disk is unknown.
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
            // After a failed sync, a second one would succeed without storing the lost bytes.
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

/// An open file of a queue, with its identity.
#[derive(Clone, Debug)]
pub(super) struct OpenFile {
    /// The file stays open, so that the system can't give its identity to another file.
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

/// The last bytes that this process read or wrote of a file, with the checksum of the last line. If the file has other
/// bytes at that place, a backup was copied into it, although its identity and perhaps its length are the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seam([u8; SEAM]);

/// The length of `","crc":"xxxxxxxx"}`, with which a line ends.
const SEAM: usize = 16;

impl Seam {
    /// Keeps the last [`SEAM`] bytes of these.
    pub(super) fn of(bytes: &[u8]) -> Self {
        let mut seam = [0; SEAM];
        for (to, from) in seam.iter_mut().rev().zip(bytes.iter().rev()) {
            *to = *from;
        }
        Self(seam)
    }

    /// Reads the [`SEAM`] bytes before `end`, and fills `next` with the bytes after `end`. Returns the former, and the
    /// number of bytes in `next`.
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

/// The open file of items: a JSON array.
#[derive(Debug)]
pub(super) struct ItemsFile {
    pub(super) open: OpenFile,
    /// The offset at which the last item ends. The next push is written there.
    pub(super) end: u64,
    /// The last bytes before `end`, with which a later turn checks that the file was not replaced by a backup.
    pub(super) seam: Seam,
    /// The length of the file, including the blanks after the closing bracket.
    pub(super) len: u64,
    /// True if the array has an element, so that a comma must precede the next one.
    pub(super) any: bool,
    /// True if an item can be appended after the last one. Otherwise the queue has to be compacted first.
    pub(super) plain: bool,
    /// True if the closing bracket that we write, and blanks, are all that comes after `end`.
    pub(super) ends_blank: bool,
}

impl ItemsFile {
    /// A file of items that is open but not read yet.
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

    /// The length of the file, without the blanks at its end.
    pub(super) fn bytes(&self) -> u64 {
        match self.ends_blank {
            true => self.end + CLOSING.len() as u64,
            false => self.len,
        }
    }

    /// Reads the last bytes before `end`. Also returns true if our closing bracket follows there.
    pub(super) fn look(&self) -> io::Result<(Seam, bool)> {
        let mut closing = [0; CLOSING.len()];
        let (seam, behind) = Seam::read(&*self.open.file, self.end, &mut closing)?;
        Ok((seam, behind == CLOSING.len() && closing == CLOSING))
    }

    /// True if only blanks follow our closing bracket.
    pub(super) fn has_only_blanks(&self) -> io::Result<bool> {
        let end = blanks::end_of_text(&*self.open.file, self.len)?;
        Ok(end == self.end + CLOSING.len() as u64)
    }
}

/// The open journal of a queue.
#[derive(Debug)]
pub(super) struct JournalFile {
    pub(super) open: OpenFile,
    /// The offset at which the last record ends. The next record is written there.
    pub(super) end: u64,
    /// The last bytes before `end`, with which a later turn checks that the file was not replaced by a backup.
    pub(super) seam: Seam,
    /// The length of the file, including the blanks after the last record.
    pub(super) len: u64,
    /// True if the last line does not end with a line break.
    pub(super) is_open: bool,
}

impl JournalFile {
    /// A journal that is open but not read yet.
    pub(super) fn unread(open: OpenFile) -> Self {
        Self {
            open,
            end: 0,
            seam: Seam::default(),
            len: 0,
            is_open: false,
        }
    }

    /// Reads the last bytes before `end`. Also returns true if no record begins there.
    pub(super) fn look(&self) -> io::Result<(Seam, bool)> {
        let mut next = [0];
        let (seam, behind) = Seam::read(&*self.open.file, self.end, &mut next)?;
        Ok((seam, behind == 0 || next == [BLANK]))
    }
}

/// The state of a queue at the end of this process's last turn (the use of the queue under its lock).
#[derive(Debug, Default)]
pub(super) struct QueueFiles {
    pub(super) items: Option<ItemsFile>,
    pub(super) journal: Option<JournalFile>,
    pub(super) index: Index,
    /// The last number that the queue's counter has given to a change.
    pub(super) counter: u64,
    /// The number of the last change that the array includes. Records of the journal up to this number have no effect.
    pub(super) folded: u64,
    /// The counter and the number of items when the journal was created, if its first line states both.
    pub(super) begun: Option<(u64, u64)>,
    /// The number of removals in the journal whose item is not in the file of items any more.
    pub(super) gone: u64,
    /// True if the line of an item does not state its birth, so that no record can refer to it. The queue is then
    /// compacted before such an item changes.
    pub(super) rough: bool,
    /// The byte ranges of array elements that another program wrote. They stay as they are.
    pub(super) others: Vec<(u64, u64)>,
    /// True if some bytes of a file are damaged.
    pub(super) spoilt: bool,
    /// True if the names of both files are known to survive power loss.
    pub(super) linked: Arc<AtomicBool>,
    /// After a failed compaction: the number of dead bytes at which the next one is tried.
    pub(super) retry_at: u64,
}

impl QueueFiles {
    /// The length of both files, without the blanks at their ends.
    pub(super) fn bytes(&self) -> u64 {
        let items = self.items.as_ref().map_or(0, ItemsFile::bytes);
        items + self.journal.as_ref().map_or(0, |journal| journal.end)
    }

    /// Estimates the number of bytes that a compaction would free.
    pub(super) fn dead_bytes(&self) -> u64 {
        const FRAME: u64 = 64;
        let between = super::SEPARATOR.len() as u64 * self.index.len() as u64;
        let others: u64 = self.others.iter().map(|(start, end)| end - start).sum();
        let living = self.index.living_bytes() + others + between + FRAME;
        self.bytes().saturating_sub(living)
    }

    /// Cuts off the blanks at the end of both files.
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

    /// Raises the counter and the last included change to the numbers found in items.
    pub(super) fn note(&mut self, highest: Highest) {
        self.counter = self.counter.max(highest.number);
        self.folded = self.folded.max(highest.change);
    }

    /// Completes the index after both files were read.
    pub(super) fn loaded(&mut self) {
        self.counter = self.index.bear_the_rest(self.counter);
        self.index.loaded();
    }

    /// The number of items whose lines are missing although no record removed them. 0 if damaged lines may be those
    /// items.
    pub(super) fn missing(&self) -> u64 {
        match self.begun {
            Some((counter, items)) if !self.spoilt => {
                items.saturating_sub(self.index.born_up_to(counter) + self.gone)
            }
            _ => 0,
        }
    }

    /// Applies a change from the journal to the index, unless the array already includes it.
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
