//! Reads the files of a queue into this process's index: whole files, or only the bytes that were added since.

use std::path::Path;
use std::sync::Arc;

use prodigy_storage_backend::{ErrorKind, Result, StorageError};

use super::CLOSING;
use super::compact::SMALL;
use super::files::{ItemsFile, JournalFile, OpenFile, QueueFiles};
use super::index::{Flags, Index};
use super::intake::{Half, Highest, IntakePiece, Noted, Stopped, add, piece_of, read_journal};
use super::journal::JournalScanner;
use super::record::VERSION;
use super::scan::Scanner;
use super::turn::{STRIDE, Turn, close, too_many};
use crate::fs::{Metadata, OpenMode};
use crate::root::{Ahead, Quarantine, Root, TempFile};

/// The extent to which a file of items was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Read {
    All,
    /// The file was read up to its middle; another thread reads the second half.
    Half,
    /// Reading stopped at bytes that a push of ours does not write.
    Foreign,
}

impl Turn<'_> {
    /// Reads the bytes that were added since this process's last turn, or whole files if they were replaced.
    pub(super) fn catch_up(&mut self) -> Result<()> {
        let found_items = self.look(false)?;
        let found_journal = self.look(true)?;
        let files = &self.files;
        let items = files.items.as_ref().map(|items| (items.open.identity, items.end));
        let journal = files
            .journal
            .as_ref()
            .map(|journal| (journal.open.identity, journal.end));
        let is_same = |known: Option<((u64, u64), u64)>, found: Option<Metadata>| match (known, found) {
            (Some((identity, end)), Some(found)) => identity == found.identity && found.len >= end,
            (None, None) => true,
            _ => false,
        };
        // A journal that was created after this process's last turn has no records of changes that are already in the
        // index.
        let is_new_journal = journal.is_none() && found_journal.is_some();
        let is_other = files.has_failed()
            || !is_same(items, found_items)
            || !(is_new_journal || is_same(journal, found_journal))
            || files.items.as_ref().is_some_and(|items| !items.plain);
        if is_other || self.is_new {
            TempFile::sweep_all(&self.queues.root, self.folder());
        }
        if is_other {
            self.files = QueueFiles::default();
        }
        if self.files.items.is_none() && found_items.is_some() {
            self.files.items = Some(ItemsFile::unread(self.open(&self.items_path)?));
            self.files.index = Index::load();
        }
        if self.files.journal.is_none() && found_journal.is_some() {
            self.files.journal = Some(JournalFile::unread(self.open(&self.journal_path)?));
            // The writer that created the file may not have synced the folder, if its write was relaxed.
            self.files.linked = Arc::default();
        }
        if !self.read_items(found_items.map_or(0, |found| found.len))?
            || !self.read_journal(found_journal.map_or(0, |found| found.len))?
        {
            // Another program wrote to a file, or a backup was copied into it, so both files are read again from the
            // beginning.
            self.files = QueueFiles::default();
            return self.catch_up();
        }
        self.files.loaded();
        if self.files.spoilt && !self.files.rough {
            self.drop_twins()?;
        }
        Ok(())
    }

    /// Reads a long queue before this process has the lock, if the queue is unknown here or another process has
    /// compacted it. Others may write meanwhile: under the lock, the result is checked like that of an earlier turn. It
    /// is dropped if it is not whole. Errors are ignored.
    pub(super) fn load_ahead(&mut self, ahead: Ahead) {
        match ahead {
            Ahead::Next => {
                let known = self.queues.known(&self.items_path);
                self.is_new = known.is_none();
                self.files = known.unwrap_or_default();
                if !self.is_new {
                    return;
                }
            }
            Ahead::Waits => {
                let found = self.queues.root.fs.metadata_by_path(&self.items_path);
                let known = self.files.items.as_ref().map(|items| items.open.identity);
                if found.ok().map(|found| found.identity) == known {
                    return;
                }
            }
        }
        if !self.load_unlocked().unwrap_or_default() {
            self.files = QueueFiles::default();
        }
    }

    /// Reads both files without the lock, and writes nothing. Returns false if they are not as our writers leave them.
    fn load_unlocked(&mut self) -> Result<bool> {
        let root = &self.queues.root;
        let len = match root.fs.metadata(&self.items_path) {
            Ok(found) if found.len >= SMALL && found.links == 1 => found.len,
            _ => return Ok(false),
        };
        // Opens the journal before the array: if a compaction comes in between, the array includes all changes of that
        // journal.
        let journal = match self.queues.is_absent(self.operation, &self.journal_path)? {
            true => None,
            false => Some(JournalFile::unread(self.open(&self.journal_path)?)),
        };
        self.files = QueueFiles {
            journal,
            items: Some(ItemsFile::unread(self.open(&self.items_path)?)),
            index: Index::load(),
            ..QueueFiles::default()
        };
        let mut is_whole = self.read_items(len)?;
        if let Some(journal) = &self.files.journal {
            let fault = |error| root.write_fault(self.operation, &self.journal_path, error);
            let len = journal.open.file.metadata().map_err(fault)?.len;
            is_whole = is_whole && self.read_journal(len)?;
        }
        let is_plain = self.files.items.as_ref().is_some_and(|items| items.plain);
        self.files.loaded();
        Ok(is_whole && is_plain && !self.files.rough && !self.files.spoilt)
    }

    fn open(&self, path: &Path) -> Result<OpenFile> {
        OpenFile::open(&self.queues.root, path, 0)
            .map_err(|error| self.queues.root.write_fault(self.operation, path, error))
    }

    /// The metadata of one of the two files. If the file has a second hard link, it is first replaced by a copy.
    fn look(&self, in_journal: bool) -> Result<Option<Metadata>> {
        let (open, path) = self.file(in_journal);
        // The path leads to the file that is open here. The lock file in the same folder was already opened without
        // following links, so this path need not be resolved step by step.
        if let Some(open) = open
            && let Ok(found) = self.queues.root.fs.metadata_by_path(path)
            && found.identity == open.identity
            && found.links == 1
        {
            return Ok(Some(found));
        }
        match self.queues.root.fs.metadata(path) {
            Ok(found) if found.links > 1 => {
                if !in_journal && self.queues.is_absent(self.operation, &self.journal_path)? {
                    let file = self.queues.root.fs.open(path, OpenMode::Read);
                    let file =
                        file.map_err(|error| self.queues.root.write_fault(self.operation, path, error))?;
                    self.queues
                        .check_queue(self.operation, path, &file.into(), self.deadline)?;
                }
                self.queues.unshare(self.operation, path, self.deadline).map(Some)
            }
            Ok(found) => Ok(Some(found)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.queues.root.write_fault(self.operation, path, error)),
        }
    }

    /// Reads the bytes that were added to the file of items, and repairs its end. Returns false if the bytes before
    /// them have changed, or if not all of them were pushed by this backend.
    fn read_items(&mut self, len: u64) -> Result<bool> {
        let (queues, operation, path) = (self.queues, self.operation, self.items_path.clone());
        let root = &queues.root;
        let fault = |error| root.write_fault(operation, &path, error);
        let files = &mut self.files;
        let Some(items) = &mut files.items else {
            return Ok(true);
        };
        // A push overwrites the closing bracket, and blanks if there are enough, so the length alone does not show it.
        let is_as_long = items.ends_blank && len == items.len;
        let is_first = items.end == 0;
        if !is_first {
            let (seam, is_closed) = items.look().map_err(fault)?;
            if seam != items.seam {
                return Ok(false);
            }
            if is_as_long && is_closed {
                return Ok(true);
            }
        }
        let file = Arc::clone(&items.open.file);
        if (is_first || !items.plain) && files.journal.is_none() {
            queues.check_queue(operation, &path, &file, self.deadline)?;
        }
        let limit = root.options.largest_read();
        let scanner = Scanner::resume(Arc::clone(&file), limit, items.end, items.any).map_err(fault)?;
        let mut scanner = if is_as_long {
            scanner.up_to_blanks()
        } else {
            scanner
        };
        let second = match is_first {
            true => Half::begin(&*file, len).map_err(fault)?,
            false => None,
        };
        let read = match second {
            None => self.read_fragments(&mut scanner, is_first, None)?,
            Some(from) => std::thread::scope(|scope| {
                let deadline = self.deadline;
                let second = std::thread::Builder::new()
                    .spawn_scoped(scope, move || Half::read(queues, file, limit, from, deadline));
                let read = self.read_fragments(&mut scanner, is_first, Some(from))?;
                let half = second.ok().and_then(|second| second.join().ok()).flatten();
                if let (Read::Half, Some(half)) = (read, half)
                    && self.files.index.append(half.index)
                {
                    self.files.note(half.highest);
                    scanner = half.scanner;
                    return Ok(Read::All);
                }
                self.read_fragments(&mut scanner, is_first, None)
            })?,
        };
        if read == Read::Foreign {
            return Ok(false);
        }
        let files = &mut self.files;
        let Some(items) = &mut files.items else {
            return Ok(true);
        };
        let array = scanner.array();
        if !is_first && !array.plain {
            return Ok(false);
        }
        items.end = array.end;
        items.any = array.any;
        items.plain = array.plain;
        items.len = scanner.len();
        items.open.syncer.wrote(items.end + CLOSING.len() as u64);
        let (seam, is_closed) = items.look().map_err(fault)?;
        items.seam = seam;
        items.ends_blank = array.plain
            && array.closed
            && array.tail.is_none()
            && is_closed
            && (is_as_long || items.has_only_blanks().map_err(fault)?);
        let (last, is_rough) = files.index.bear_the_first();
        files.counter = files.counter.max(last);
        files.rough |= !array.plain || is_rough;
        if array.tail.is_some() || !array.closed {
            if self.lock.is_none() {
                return Ok(false);
            }
            self.mend_items(array.tail)?;
        }
        Ok(true)
    }

    /// Adds the scanner's fragments to the index, up to the end of the file, or to an item that ends at `until`.
    fn read_fragments(&mut self, scanner: &mut Scanner, is_first: bool, until: Option<u64>) -> Result<Read> {
        let (queues, operation, path) = (self.queues, self.operation, &self.items_path);
        let fault = |error| queues.root.write_fault(operation, path, error);
        let files = &mut self.files;
        let mut highest = Highest::default();
        let mut count = 0;
        let read = loop {
            if until.is_some_and(|until| scanner.array().is_plain_at(until)) {
                break Read::Half;
            }
            let Some(fragment) = scanner.next().map_err(fault)? else {
                break Read::All;
            };
            count += 1;
            if count % STRIDE == 0 {
                self.deadline
                    .check(operation, &path.display(), "the queue to be read")?;
            }
            let (new, outline) = match piece_of(queues, scanner, fragment).map_err(fault)? {
                IntakePiece::Item(new, outline) => (new, outline),
                _ if !is_first => return Ok(Read::Foreign),
                IntakePiece::Other(start, end) => {
                    files.others.push((start, end));
                    continue;
                }
                IntakePiece::Damage { start, end, why } => {
                    tracing::warn!(path = %path.display(), offset = start, bytes = end - start, why, "damage in a queue");
                    files.spoilt = true;
                    continue;
                }
            };
            if !is_first && (new.rough || new.birth <= files.index.last_birth()) {
                return Ok(Read::Foreign);
            }
            if !add(&mut files.index, &mut highest, &new, &outline) {
                return Err(too_many(&queues.root, operation, path));
            }
        };
        files.note(highest);
        Ok(read)
    }

    /// Closes the array after its last item, which a writer that died did not do.
    fn mend_items(&mut self, tail: Option<u64>) -> Result<()> {
        let (root, path) = (&self.queues.root, &self.items_path);
        let fault = |error| root.write_fault(self.operation, path, error);
        let Some(items) = &mut self.files.items else {
            return Ok(());
        };
        // The last items may not be on the disk yet. If a power failure lost them but kept what is written behind them,
        // the file would have a hole.
        items.open.file.sync().map_err(fault)?;
        if let Some(tail) = tail {
            // The bytes of the unfinished push were never acknowledged.
            let bytes = items.open.file.read_to_end(tail, u64::MAX).map_err(fault)?;
            Quarantine::of(root).keep(path, tail, bytes.trim_ascii_end())?;
        }
        if items.plain {
            close(items).map_err(fault)?;
        } else if let Some(tail) = tail {
            items.open.file.set_len(tail).map_err(fault)?;
            items.len = tail;
        }
        items.open.syncer.changed(0);
        Ok(())
    }

    /// Reads the records that were added to the journal, and cuts off an unfinished one. Returns false if the bytes
    /// before them have changed.
    fn read_journal(&mut self, len: u64) -> Result<bool> {
        let (queues, operation, path) = (self.queues, self.operation, self.journal_path.clone());
        let fault = |error| queues.root.write_fault(operation, &path, error);
        let Some(journal) = &self.files.journal else {
            return Ok(true);
        };
        let is_as_long = len == journal.len && journal.end > 0;
        if journal.end > 0 {
            let (seam, ends_here) = journal.look().map_err(fault)?;
            if seam != journal.seam {
                return Ok(false);
            }
            if is_as_long && ends_here {
                return Ok(true);
            }
        }
        let file = Arc::clone(&journal.open.file);
        let limit = queues.root.options.largest_read();
        let scanner = JournalScanner::of_len(Arc::clone(&file), limit, journal.end, len);
        let scanner = if is_as_long {
            scanner.up_to_blanks()
        } else {
            scanner
        };
        let (files, mut count) = (&mut self.files, 0);
        let is_unlocked = self.lock.is_none();
        let mut is_of_later_items = false;
        let scanner = read_journal(queues, scanner, |noted| {
            count += 1;
            if count % STRIDE == 0 {
                self.deadline
                    .check(operation, &path.display(), "the queue to be read")?;
            }
            match noted {
                Noted::Header {
                    version,
                    counter,
                    items,
                } => {
                    check_version(&queues.root, operation, &path, version)?;
                    files.counter = files.counter.max(counter);
                    files.begun = items.map(|items| (counter, items));
                }
                Noted::Change(change) => {
                    let is_counted = files.begun.is_some_and(|(counter, _)| change.birth() <= counter);
                    if is_counted && change.is_removal() && files.index.find(change.birth()).is_none() {
                        files.gone += 1;
                    }
                    is_of_later_items |= change.birth() > files.index.last_birth();
                    files.apply(&change);
                }
                Noted::Damage { start, end } => {
                    tracing::warn!(path = %path.display(), offset = start, bytes = end - start, "damage in the journal of a queue");
                    files.spoilt = true;
                }
            }
            Ok(())
        })
        .map_err(|stopped| match stopped {
            Stopped::Read(error) => fault(error),
            Stopped::Taken(error) => error,
        })?;
        // Without the lock, others may have pushed items after the array was read, or may be about to write the end of
        // a line.
        if is_unlocked && (is_of_later_items || scanner.is_open() || scanner.tail().is_some()) {
            return Ok(false);
        }
        let mut len = scanner.len();
        if let Some(tail) = scanner.tail() {
            let bytes = file.read_to_end(tail, u64::MAX).map_err(fault)?;
            let bytes = bytes.trim_ascii();
            if bytes.iter().any(|byte| *byte != 0) {
                Quarantine::of(&queues.root).keep(&path, tail, bytes)?;
            }
            file.set_len(tail).map_err(fault)?;
            len = tail;
        }
        if let Some(journal) = &mut self.files.journal {
            journal.is_open = scanner.is_open();
            (journal.end, journal.len) = (scanner.end().min(len), len);
            if scanner.tail().is_some() {
                journal.open.syncer.changed(0);
            }
            journal.open.syncer.wrote(journal.end);
            (journal.seam, _) = journal.look().map_err(fault)?;
        }
        Ok(true)
    }

    /// Of two items of ours with the same id, removes the older one. This happens only after damage.
    fn drop_twins(&mut self) -> Result<()> {
        for (older, newer) in self.files.index.twins() {
            let is_ours =
                |at| !self.files.index.is(at, Flags::UNBORN) && !self.files.index.is(at, Flags::DEAD);
            if is_ours(older) && is_ours(newer) && self.id_of(older)? == self.id_of(newer)? {
                self.files.index.remove(older);
            }
        }
        Ok(())
    }
}

/// Fails if a later version wrote the journal.
pub(super) fn check_version(root: &Root, operation: &'static str, path: &Path, version: u64) -> Result<()> {
    if version <= VERSION {
        return Ok(());
    }
    Err(StorageError::new(
        ErrorKind::NewerFormat,
        operation,
        root.absolute(path).display(),
        format!("the journal has version {version}, this program reads up to version {VERSION}"),
    )
    .with_hint("use the newer version of this program that wrote it"))
}
