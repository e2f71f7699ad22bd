//! The two files of a queue, as a process knows them.

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

/// Makes what was written to a file survive power loss, once for all threads that wait for it.
#[derive(Debug)]
pub(super) struct Syncer {
    pub(super) path: PathBuf,
    file: Arc<dyn FsFile>,
    /// The end of what is written.
    written: AtomicU64,
    /// Up to where everything survives power loss, as far as this process knows.
    synced: Mutex<u64>,
    failed: AtomicBool,
}

impl Syncer {
    /// Notes that items or records are written up to `end`. What is behind that does not count.
    pub(super) fn wrote(&self, end: u64) {
        self.written.store(end, Ordering::Release);
    }

    /// Notes that bytes from `from` on were changed.
    pub(super) fn changed(&self, from: u64) {
        let mut synced = self.synced.lock();
        *synced = (*synced).min(from);
    }

    /// Whether a sync failed: the state of the file is not known any more.
    pub(super) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// Syncs what is written by now.
    pub(super) fn sync(&self, root: &Root) -> io::Result<()> {
        let wanted = self.written.load(Ordering::Acquire);
        let mut synced = self.synced.lock();
        if *synced >= wanted {
            return Ok(());
        }
        if self.has_failed() {
            // A second sync would succeed, and mean nothing.
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
    /// Kept open, so that no other file can have its identity.
    pub(super) file: Arc<dyn FsFile>,
    pub(super) identity: (u64, u64),
    pub(super) syncer: Arc<Syncer>,
}

impl OpenFile {
    /// Opens a file of which `synced` bytes are known to survive power loss.
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

/// The last bytes that are known of a file, with the checksum of its last line. If others are there, a backup was copied into
/// the file: it has the same identity, and perhaps the same length.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seam([u8; SEAM]);

/// `","crc":"xxxxxxxx"}` ends a line.
const SEAM: usize = 16;

impl Seam {
    /// The last of these bytes.
    pub(super) fn of(bytes: &[u8]) -> Self {
        let mut seam = [0; SEAM];
        for (to, from) in seam.iter_mut().rev().zip(bytes.iter().rev()) {
            *to = *from;
        }
        Self(seam)
    }

    /// Those before `end` in a file. What is behind it goes to `next`; gives how many bytes that are.
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
    /// Where the next item goes: behind the last one.
    pub(super) end: u64,
    /// The bytes before that.
    pub(super) seam: Seam,
    /// The whole length, with the blanks behind the closing bracket.
    pub(super) len: u64,
    /// Whether anything is before the end.
    pub(super) any: bool,
    /// Whether a new item can be written behind the last one; else the queue has to be compacted first.
    pub(super) plain: bool,
    /// Whether our closing bracket and nothing but blanks are behind the end.
    pub(super) ends_blank: bool,
}

impl ItemsFile {
    /// Bytes without the blanks at the end.
    pub(super) fn bytes(&self) -> u64 {
        match self.ends_blank {
            true => self.end + CLOSING.len() as u64,
            false => self.len,
        }
    }

    /// The bytes before the end, and whether our closing bracket is behind it.
    pub(super) fn look(&self) -> io::Result<(Seam, bool)> {
        let mut closing = [0; CLOSING.len()];
        let (seam, behind) = Seam::read(&*self.open.file, self.end, &mut closing)?;
        Ok((seam, behind == CLOSING.len() && closing == CLOSING))
    }

    /// Whether nothing but blanks is behind our closing bracket.
    pub(super) fn has_only_blanks(&self) -> io::Result<bool> {
        let end = blanks::end_of_text(&*self.open.file, self.len)?;
        Ok(end == self.end + CLOSING.len() as u64)
    }
}

/// The journal.
#[derive(Debug)]
pub(super) struct JournalFile {
    pub(super) open: OpenFile,
    /// Where the next record goes.
    pub(super) end: u64,
    /// The bytes before that.
    pub(super) seam: Seam,
    /// The whole length, with the blanks behind the last record.
    pub(super) len: u64,
    /// Whether the line before that has no line end.
    pub(super) is_open: bool,
}

impl JournalFile {
    /// The bytes before the end, and whether no record begins there.
    pub(super) fn look(&self) -> io::Result<(Seam, bool)> {
        let mut next = [0];
        let (seam, behind) = Seam::read(&*self.open.file, self.end, &mut next)?;
        Ok((seam, behind == 0 || next == [BLANK]))
    }
}

/// A queue, as it was when its lock was last held.
#[derive(Debug, Default)]
pub(super) struct QueueFiles {
    pub(super) items: Option<ItemsFile>,
    pub(super) journal: Option<JournalFile>,
    pub(super) index: Index,
    /// The last number that was given.
    pub(super) counter: u64,
    /// The greatest change that is part of the file of items: a record that is not greater is there already.
    pub(super) folded: u64,
    /// Whether an item has no birth that a record could name: the queue is compacted before one changes.
    pub(super) rough: bool,
    /// Elements of another program in the array: they are kept as they are.
    pub(super) others: Vec<(u64, u64)>,
    /// Whether a part of a file is damaged.
    pub(super) spoilt: bool,
    /// Whether the names of both files survive power loss.
    pub(super) linked: Arc<AtomicBool>,
    /// The dead bytes at which a compaction is tried again after one that failed.
    pub(super) retry_at: u64,
}

impl QueueFiles {
    /// Bytes of both files, without the blanks at their ends.
    pub(super) fn bytes(&self) -> u64 {
        let items = self.items.as_ref().map_or(0, ItemsFile::bytes);
        items + self.journal.as_ref().map_or(0, |journal| journal.end)
    }

    /// Bytes that a compaction would free, about.
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

    /// Notes the numbers of items.
    pub(super) fn note(&mut self, highest: Highest) {
        self.counter = self.counter.max(highest.number);
        self.folded = self.folded.max(highest.change);
    }

    /// Makes a change, unless the array has it already.
    pub(super) fn apply(&mut self, change: &Change) {
        let number = change.apply(&mut self.index, self.folded);
        self.counter = self.counter.max(number);
    }

    /// Whether a sync of any of the files has failed.
    pub(super) fn has_failed(&self) -> bool {
        let items = self.items.as_ref().map(|items| &items.open);
        let journal = self.journal.as_ref().map(|journal| &journal.open);
        items
            .into_iter()
            .chain(journal)
            .any(|open| open.syncer.has_failed())
    }
}
