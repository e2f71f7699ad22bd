//! Compaction: writes a new file of items that includes all changes of the journal, and a new, empty journal.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use prodigy_storage_backend::{Compaction, Deadline, Durability, ErrorKind, Result, StorageError};
use prodigy_storage_layout::{Entry, JobAddress};

use super::files::{ItemsFile, JournalFile, OpenFile, QueueFiles, Seam};
use super::index::{Flags, Index, Location};
use super::journal::{JournalScanner, Piece};
use super::line::{self, ItemChecksum, Numbers};
use super::record::encode_header;
use super::scan::{Fragment, Scanner};
use super::standing::Standing;
use super::turn::{STRIDE, Turn};
use super::{CLOSING, Queues, SEPARATOR};
use crate::fs::FsFile;
use crate::root::{CHECKSUM, Quarantine, Replace, TempFile, count};

/// The number of bytes written at once.
const CHUNK: usize = 256 << 10;
/// The largest number of bytes of damage that one file of the quarantine holds.
const PIECE: u64 = 64 << 20;
/// The smallest number of dead bytes (those that a compaction would free) that is worth a compaction.
const FEW: u64 = 64 << 10;
/// The length below which a queue is small: its file of items is compacted when a process closes the store, to hold
/// only pending items.
pub(super) const SMALL: u64 = 1 << 20;

/// How a compaction handles an item whose bytes can't be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// The compaction fails, and changes nothing.
    Kept,
    /// The item's bytes are copied to the quarantine, and the item is removed.
    Quarantined,
    /// The item is removed. Its bytes, like all damage, were already copied to the quarantine.
    Dropped,
}

struct Output<'t, 'r> {
    temp: &'t TempFile<'r>,
    offset: u64,
    buffer: Vec<u8>,
    any: bool,
}

impl Output<'_, '_> {
    /// Writes what separates this line from the line before, and returns the offset of the line.
    fn separate(&mut self) -> u64 {
        self.buffer
            .extend_from_slice(if self.any { SEPARATOR } else { b"\n" });
        self.any = true;
        self.offset + self.buffer.len() as u64
    }

    fn flush_if_full(&mut self) -> io::Result<()> {
        if self.buffer.len() < CHUNK {
            return Ok(());
        }
        self.flush()
    }

    fn flush(&mut self) -> io::Result<()> {
        self.temp.file().write_all_at(&self.buffer, self.offset)?;
        self.offset += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Copies a range of bytes from another file.
    fn copy(&mut self, from: &dyn FsFile, start: u64, end: u64) -> io::Result<()> {
        let mut at = start;
        while at < end {
            let old = self.buffer.len();
            let more = usize::try_from(end - at).unwrap_or(CHUNK).min(CHUNK);
            self.buffer.resize(old + more, 0);
            let read = from.read_full_at(self.buffer.get_mut(old..).unwrap_or_default(), at)?;
            self.buffer.truncate(old + read);
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            at += read as u64;
            self.flush_if_full()?;
        }
        Ok(())
    }
}

impl Queues {
    pub(crate) fn queue_compact(&self, job: &JobAddress, deadline: Deadline) -> Result<Compaction> {
        const OPERATION: &str = "queue compact";
        let path = Entry::Queue(job.clone()).path();
        if !self.root.options.read_only && self.is_absent(OPERATION, &path)? {
            return Ok(Compaction::default());
        }
        self.root.prepare_write(OPERATION, job)?;
        let mut turn = Turn::begin(self, OPERATION, job, "queue", deadline)?;
        let before = turn.files.bytes();
        if turn.is_worth_it() {
            turn.compact(Unreadable::Quarantined)?;
        } else {
            turn.cut_blanks()?;
        }
        let after = turn.files.bytes();
        turn.end(Durability::Strict)?;
        Ok(Compaction::new(before, after))
    }

    /// Compacts small queues that this process changed, so that their files show exactly their items. Skips a queue
    /// whose lock another process holds.
    pub(crate) fn tidy(&self, deadline: Deadline) -> Result<()> {
        if self.root.options.read_only {
            return Ok(());
        }
        self.tidy_each(self.untidy(), deadline)
    }

    /// Like [`tidy`](Self::tidy) when the store is closed, for the queues that this process has open. Ignores errors.
    pub(crate) fn close(&self, deadline: Deadline) {
        if !self.root.options.read_only && !std::thread::panicking() {
            // Errors are ignored: the queue is correct without a compaction.
            let _ = self.tidy_each(self.worked_on(), deadline);
        }
    }

    /// Compacts small queues that a process left uncompacted when it died. Skips a queue whose lock another process
    /// holds.
    pub(crate) fn open(&self, deadline: Deadline) {
        const OPERATION: &str = "compact queue";
        if self.root.options.read_only {
            return;
        }
        for job in self.jobs() {
            if deadline.has_passed() {
                return;
            }
            if !self.is_left_behind(&job) || self.root.prepare_write(OPERATION, &job).is_err() {
                continue;
            }
            let at_once = Deadline::after(Duration::ZERO);
            let tidied = Turn::begin_within(self, OPERATION, &job, "queue", at_once, deadline);
            // Errors are ignored: the queue is correct without a compaction.
            let _ = tidied.and_then(|turn| turn.end_tidy());
        }
    }

    /// True if a queue is small and its journal has a record, so that a process died while it used the queue. A process
    /// that closes the store leaves no records in small queues.
    fn is_left_behind(&self, job: &JobAddress) -> bool {
        let len = |entry: Entry| self.root.fs.metadata(&entry.path()).map(|found| found.len);
        let journal = len(Entry::QueueJournal(job.clone())).unwrap_or_default();
        journal > HEADER_AT_MOST && len(Entry::Queue(job.clone())).is_ok_and(|items| items < SMALL)
    }

    fn tidy_each(&self, paths: Vec<PathBuf>, deadline: Deadline) -> Result<()> {
        const OPERATION: &str = "compact queue";
        for path in paths {
            let Some(Entry::Queue(job)) = Entry::parse(&path) else {
                continue;
            };
            deadline.check(OPERATION, &path.display(), "its turn")?;
            // Taking the lock of a queue that another process deleted would create its folder again.
            if self.is_absent(OPERATION, &path)? {
                continue;
            }
            // An error is only logged: the queue is correct without a compaction.
            let turn = Turn::begin(self, OPERATION, &job, "queue", deadline);
            let tidied = turn.and_then(|turn| turn.end_tidy());
            if let Err(error) = tidied {
                tracing::warn!(path = %path.display(), %error, "a queue could not be compacted");
            }
        }
        Ok(())
    }
}

impl Turn<'_> {
    /// Compacts the queue if it is small, so that its file shows exactly its items. The queue is correct without this.
    pub(super) fn tidy(&mut self) {
        if !self.is_small() || self.files.rough || self.files.spoilt || !self.is_worth_it() {
            return;
        }
        if let Err(error) = self.compact(Unreadable::Kept) {
            tracing::warn!(path = %self.items_path.display(), %error, "a queue could not be compacted");
        }
    }

    /// Compacts the queue if it is small, cuts off its blanks, and ends the turn (the use of the queue under its lock).
    fn end_tidy(mut self) -> Result<()> {
        self.tidy();
        if self.is_small() {
            self.cut_blanks()?;
        }
        self.end(Durability::Strict)
    }

    /// Compacts a small queue at this process's first turn, since another process may have died before it could.
    pub(super) fn tidy_if_new(&mut self) {
        if self.is_new {
            self.tidy();
        }
    }

    fn is_small(&self) -> bool {
        self.files
            .items
            .as_ref()
            .is_some_and(|items| items.bytes() < SMALL)
    }

    /// Cuts off the blanks at the end of both files.
    fn cut_blanks(&mut self) -> Result<()> {
        let (root, operation, path) = (&self.queues.root, self.operation, &self.items_path);
        self.files
            .cut_blanks()
            .map_err(|error| root.write_fault(operation, path, error))
    }

    /// True if a compaction would change the queue: its journal has records, or some of its lines are damaged or
    /// irregular.
    pub(super) fn is_worth_it(&self) -> bool {
        let header = |journal: &JournalFile| journal.end <= HEADER_AT_MOST;
        let is_bare = self.files.journal.as_ref().is_none_or(header);
        self.exists() && (self.files.rough || self.files.spoilt || !is_bare)
    }

    /// Compacts if there are more dead bytes than living ones. If that fails, the writes of this turn are kept.
    pub(super) fn compact_if_due(&mut self) {
        let dead = self.files.dead_bytes();
        if dead <= FEW.max(self.files.index.living_bytes()) || dead < self.files.retry_at || !self.exists() {
            return;
        }
        if let Err(error) = self.compact(Unreadable::Kept) {
            tracing::warn!(path = %self.items_path.display(), %error, "a queue could not be compacted");
            self.files.retry_at = dead + dead / 2;
        }
    }

    /// Replaces both files. The new array holds the current items, and the new journal is empty.
    ///
    /// The new array gets its name, durably, before the new journal does. In between, and after a crash there, the
    /// records of the old journal have no effect, since each changed line of the new array states the number of its
    /// last change.
    pub(super) fn compact(&mut self, unreadable: Unreadable) -> Result<()> {
        let Some(items) = &self.files.items else {
            return Ok(());
        };
        let items_file = std::sync::Arc::clone(&items.open.file);
        let is_plain = items.plain;
        if self.files.spoilt && unreadable != Unreadable::Dropped {
            self.keep_damage()?;
        }
        let (queues, operation) = (self.queues, self.operation);
        let root = &queues.root;
        let folder = self.items_path.parent().unwrap_or(Path::new("")).to_owned();
        let mut temp = TempFile::create(root, operation, &folder)?;
        let counter = self.files.counter;
        let mut new = Index::load();
        let mut out = Output {
            temp: &temp,
            offset: 0,
            buffer: vec![b'['],
            any: false,
        };
        let read = |error| root.write_fault(operation, &self.items_path, error);
        let write = |error| temp.fault(error);
        let mut others = Vec::with_capacity(self.files.others.len());
        for (start, end) in &self.files.others {
            let to = out.separate();
            out.copy(&*items_file, *start, *end).map_err(read)?;
            others.push((to, to + (end - start)));
        }
        let mut count_down = STRIDE;
        let all: Vec<u32> = self.files.index.living().collect();
        // Missing items still count as missing after a compaction. Only a repair, which reports them, resets their
        // number.
        let missing = match unreadable {
            Unreadable::Dropped => 0,
            _ => self.files.missing(),
        };
        let mut counted = all.len() as u64 + missing;
        let mut next = all.iter().copied().peekable();
        while let Some(at) = next.next() {
            count_down -= 1;
            if count_down == 0 {
                count_down = STRIDE;
                self.deadline
                    .check(operation, &self.items_path.display(), "the queue to be compacted")?;
            }
            if self.is_as_written(at) {
                // Adjacent lines are copied with one call.
                let first = self.files.index.location(at);
                let start = out.separate();
                let mut copied = |at: u32, location: Location| {
                    let location = Location {
                        offset: start + (location.offset - first.offset),
                        ..location
                    };
                    take_up(&self.files.index, &mut new, at, location);
                };
                copied(at, first);
                let mut end = first.offset + first.len;
                while is_plain
                    && let Some(neighbour) = next.peek().copied()
                    && self.is_as_written(neighbour)
                    && self.files.index.location(neighbour).offset == end + SEPARATOR.len() as u64
                {
                    let location = self.files.index.location(neighbour);
                    copied(neighbour, location);
                    end = location.offset + location.len;
                    next.next();
                }
                out.copy(&*items_file, first.offset, end).map_err(read)?;
                continue;
            }
            if self.files.index.is(at, Flags::LARGE) {
                let offset = out.separate();
                let len = self.copy_large(&mut out, at)?;
                let location = Location {
                    in_journal: false,
                    offset,
                    len,
                };
                take_up(&self.files.index, &mut new, at, location);
                continue;
            }
            let Some(entry) = self.entry(at)? else {
                self.set_aside(at, unreadable)?;
                counted -= 1;
                continue;
            };
            let standing = Standing {
                place: entry.place.0,
                lease: entry.lease,
                delay: entry.delay,
            };
            let birth = self.files.index.birth(at);
            let numbers = Numbers {
                birth,
                change: if self.files.index.is(at, Flags::STIRRED) {
                    counter
                } else {
                    0
                },
                revision: entry.revision.0,
            };
            let offset = out.separate();
            let before = out.buffer.len();
            line::encode(&mut out.buffer, &entry.body, numbers, &standing);
            let len = (out.buffer.len() - before) as u64;
            let location = Location {
                in_journal: false,
                offset,
                len,
            };
            take_up(&self.files.index, &mut new, at, location);
            out.flush_if_full().map_err(write)?;
        }
        let any = out.any;
        let end = out.offset + out.buffer.len() as u64;
        out.buffer.extend_from_slice(CLOSING);
        out.flush().map_err(write)?;
        let mut header = Vec::new();
        encode_header(&mut header, counter, counted);
        // The new array and a new journal replace the old files.
        self.put_in_place(&mut temp, &header)?;
        drop(temp);
        new.loaded();
        let len = end + CLOSING.len() as u64;
        let open = |path: &Path, len| {
            OpenFile::open(root, path, len).map_err(|error| root.write_fault(operation, path, error))
        };
        let items = open(&self.items_path, len)?;
        let (seam, _) = Seam::read(&*items.file, end, &mut [])
            .map_err(|error| root.read_fault(operation, &self.items_path, error))?;
        self.files = QueueFiles {
            items: Some(ItemsFile {
                open: items,
                end,
                seam,
                len,
                any,
                plain: true,
                ends_blank: true,
            }),
            journal: Some(JournalFile {
                open: open(&self.journal_path, header.len() as u64)?,
                end: header.len() as u64,
                seam: Seam::of(&header),
                len: header.len() as u64,
                is_open: false,
            }),
            index: new,
            counter,
            begun: Some((counter, counted)),
            folded: counter,
            others,
            ..QueueFiles::default()
        };
        self.files.index.wake(&*root.options.clock);
        self.files
            .linked
            .store(true, std::sync::atomic::Ordering::Release);
        self.replaced.clear();
        self.ahead = false;
        count(&root.counters.queue_rewrites, 1);
        tracing::debug!(path = %self.items_path.display(), bytes = len, "queue compacted");
        Ok(())
    }

    /// True if the item has not changed since its line in the file of items was written.
    fn is_as_written(&self, at: u32) -> bool {
        let index = &self.files.index;
        ![Flags::STIRRED, Flags::UNBORN, Flags::ROUGH]
            .iter()
            .any(|flag| index.is(at, *flag))
            && !index.location(at).in_journal
    }

    /// Renames the new files to their names.
    fn put_in_place(&mut self, temp: &mut TempFile<'_>, header: &[u8]) -> Result<()> {
        let root = &self.queues.root;
        let folder = self.items_path.parent().unwrap_or(Path::new("")).to_owned();
        let mut journal = TempFile::create(root, self.operation, &folder)?;
        journal.append(header).map_err(|error| journal.fault(error))?;
        // If this fails, the old files may stay in use, so they are kept for the sync at the end of the turn.
        let items = self.files.items.as_ref().map(|items| &items.open);
        let old = self.files.journal.as_ref().map(|journal| &journal.open);
        let syncers = items
            .into_iter()
            .chain(old)
            .map(|open| std::sync::Arc::clone(&open.syncer));
        self.replaced = syncers.collect();
        // Keeps the mtime of the old files: a compaction does not count as a write to the job.
        let mut written = None;
        for open in items.into_iter().chain(old) {
            let found = open.file.metadata().map_err(|error| temp.fault(error))?;
            written = written.max(Some(found.modified));
        }
        if let Some(written) = written {
            let set = |new: &TempFile<'_>| new.file().set_modified(written).map_err(|error| new.fault(error));
            set(temp)?;
            set(&journal)?;
        }
        self.ahead = true;
        temp.publish(&self.items_path, Replace::Over)?;
        root.sync_folder(&folder)?;
        journal.publish(&self.journal_path, Replace::Over)?;
        root.sync_folder(&folder)
    }

    /// Copies an item that is larger than this process reads, and adds its birth (the counter's number when it was
    /// added). Returns the new length.
    fn copy_large(&self, out: &mut Output<'_, '_>, at: u32) -> Result<u64> {
        let from = self.files.index.location(at);
        let (open, _) = self.file(from.in_journal);
        // A record of the journal this large was written by a process with a larger limit, and only such a process can
        // compact it.
        let (Some(open), false, true) = (open, from.in_journal, self.files.index.is(at, Flags::UNBORN))
        else {
            let why = format!(
                "the item at offset {} is larger than `max_record_size` allows to read",
                from.offset
            );
            let path = self.queues.root.absolute(&self.items_path);
            return Err(
                StorageError::new(ErrorKind::TooLarge, self.operation, path.display(), why)
                    .with_hint("raise `max_record_size`, then compact the queue"),
            );
        };
        let birth = self.files.index.birth(at);
        let fault = |error| {
            self.queues
                .root
                .write_fault(self.operation, &self.items_path, error)
        };
        let mut end = vec![0; line::TRAILER.min(usize::try_from(from.len).unwrap_or(line::TRAILER))];
        let rest = from.offset + from.len - end.len() as u64;
        open.file.read_full_at(&mut end, rest).map_err(fault)?;
        // If the line has a checksum, it gets a new one.
        let is_sealed = end.starts_with(CHECKSUM);
        let body = from.len - if is_sealed { line::TRAILER as u64 } else { 1 };
        let (mut sum, mut done) = (0, 0);
        let mut piece = vec![0; CHUNK];
        while done < body {
            let most = usize::try_from(body - done).unwrap_or(CHUNK).min(CHUNK);
            let room = piece.get_mut(..most).unwrap_or_default();
            let read = open.file.read_full_at(room, from.offset + done).map_err(fault)?;
            let bytes = piece.get(..read).unwrap_or_default();
            if read == 0 {
                return Err(fault(io::ErrorKind::UnexpectedEof.into()));
            }
            sum = prodigy_storage_backend::record::checksum_on(sum, bytes);
            out.buffer.extend_from_slice(bytes);
            out.flush_if_full().map_err(|error| out.temp.fault(error))?;
            done += read as u64;
        }
        let birth = line::birth_field(birth);
        out.buffer.extend_from_slice(birth.as_bytes());
        if !is_sealed {
            out.buffer.push(b'}');
            return Ok(body + birth.len() as u64 + 1);
        }
        sum = prodigy_storage_backend::record::checksum_on(sum, birth.as_bytes());
        out.buffer.extend_from_slice(CHECKSUM);
        out.buffer
            .extend_from_slice(&prodigy_storage_backend::record::hex8(sum));
        out.buffer.extend_from_slice(b"\"}");
        Ok(body + birth.len() as u64 + line::TRAILER as u64)
    }

    fn set_aside(&self, at: u32, unreadable: Unreadable) -> Result<()> {
        match unreadable {
            Unreadable::Kept => Err(self.unreadable(at)),
            Unreadable::Dropped => Ok(()),
            Unreadable::Quarantined => {
                let location = self.files.index.location(at);
                let (Some(open), path) = self.file(location.in_journal) else {
                    return Ok(());
                };
                self.keep_bytes(&*open.file, path, location.offset, location.offset + location.len)
            }
        }
    }

    /// The error for an item whose bytes can't be read.
    pub(super) fn unreadable(&self, at: u32) -> StorageError {
        let location = self.files.index.location(at);
        let (_, path) = self.file(location.in_journal);
        StorageError::new(
            ErrorKind::Damaged,
            self.operation,
            self.queues.root.absolute(path).display(),
            format!("the item at offset {} can't be read", location.offset),
        )
        .with_hint("look at the disk, and run the doctor: it moves what is damaged to the quarantine")
    }

    /// Copies the damaged bytes of both files to the quarantine.
    fn keep_damage(&self) -> Result<()> {
        let root = &self.queues.root;
        let limit = root.options.largest_read();
        if let Some(items) = &self.files.items {
            let fault = |error| root.write_fault(self.operation, &self.items_path, error);
            let file = std::sync::Arc::clone(&items.open.file);
            let mut scanner = Scanner::new(std::sync::Arc::clone(&file), limit).map_err(fault)?;
            while let Some(fragment) = scanner.next().map_err(fault)? {
                let (start, end) = match fragment {
                    Fragment::Damage { start, end, .. } => (start, end),
                    Fragment::Item {
                        start,
                        range,
                        checksum,
                    } if !is_item(scanner.bytes(range.clone()), checksum) => {
                        (start, start + range.len() as u64)
                    }
                    _ => continue,
                };
                self.keep_bytes(&*file, &self.items_path, start, end)?;
            }
        }
        if let Some(journal) = &self.files.journal {
            let fault = |error| root.write_fault(self.operation, &self.journal_path, error);
            let file = std::sync::Arc::clone(&journal.open.file);
            let mut scanner = JournalScanner::new(std::sync::Arc::clone(&file), limit, 0).map_err(fault)?;
            while let Some(piece) = scanner.next().map_err(fault)? {
                let (start, end) = match piece {
                    Piece::Damage { start, end, .. } => (start, end),
                    Piece::Line { start, range }
                        if super::record::parse(scanner.bytes(range.clone())).is_none() =>
                    {
                        (start, start + range.len() as u64)
                    }
                    _ => continue,
                };
                self.keep_bytes(&*file, &self.journal_path, start, end)?;
            }
        }
        Ok(())
    }

    /// Copies a range of damaged bytes to the quarantine, in pieces of limited length.
    fn keep_bytes(&self, file: &dyn FsFile, path: &Path, mut start: u64, end: u64) -> Result<()> {
        while start < end {
            let piece = (end - start).min(PIECE);
            let mut bytes = vec![0; piece as usize];
            let read = file
                .read_full_at(&mut bytes, start)
                .map_err(|error| self.queues.root.write_fault(self.operation, path, error))?;
            bytes.truncate(read);
            if bytes.iter().any(|byte| *byte != 0) {
                Quarantine::of(&self.queues.root).keep(path, start, &bytes)?;
            }
            start += piece;
        }
        Ok(())
    }
}

/// An upper bound for the length of a journal's first line, in bytes.
const HEADER_AT_MOST: u64 = 96;

/// True if these bytes can be added to the index as an item.
pub(super) fn is_item(bytes: &[u8], checksum: ItemChecksum) -> bool {
    line::outline(bytes, checksum, |_| 0).is_some() && line::id(bytes).is_some()
}

fn take_up(old: &Index, new: &mut Index, at: u32, location: Location) {
    let (item, stand) = old.moved_to(at, location);
    if let Some(to) = new.push(&item)
        && let Some(stand) = stand
    {
        new.stand(to, &stand);
        let is_changed = old.is(at, Flags::CHANGED);
        new.set(to, Flags::CHANGED, is_changed);
    }
}
