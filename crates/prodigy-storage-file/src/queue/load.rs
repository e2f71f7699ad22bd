//! Reading the files of a queue into the index of a process: all of them, or the bytes that were added since.

use std::path::Path;
use std::sync::Arc;

use prodigy_storage_backend::{ErrorKind, Result, StorageError};

use super::files::{ItemsFile, JournalFile, OpenFile, QueueFiles};
use super::index::{Flags, Index, Location, NewItem, Stand};
use super::journal::{JournalScanner, Piece};
use super::line::{self, ItemChecksum, Outline};
use super::record::{JournalLine, Record, VERSION, Verb, parse, parse_large};
use super::scan::{Fragment, Scanner};
use super::turn::{STRIDE, Turn, close, too_many};
use super::{CLOSING, Queues};
use crate::fs::{Metadata, OpenMode};
use crate::root::{Quarantine, Root, TempFile};

impl Turn<'_> {
    /// Reads what was added since the last turn of this process.
    pub(super) fn catch_up(&mut self) -> Result<()> {
        let found_items = self.look(&self.items_path)?;
        let found_journal = self.look(&self.journal_path)?;
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
        // A journal that was made since says nothing about what is known already.
        let is_new_journal = journal.is_none() && found_journal.is_some();
        if files.has_failed()
            || !is_same(items, found_items)
            || !(is_new_journal || is_same(journal, found_journal))
            || files.items.as_ref().is_some_and(|items| !items.plain)
        {
            self.files = QueueFiles::default();
            TempFile::sweep_all(&self.queues.root, self.folder());
        }
        if self.files.items.is_none() && found_items.is_some() {
            self.files.items = Some(ItemsFile {
                open: self.open(&self.items_path)?,
                end: 0,
                len: 0,
                any: false,
                plain: false,
                ends_blank: false,
            });
            self.files.index = Index::load();
        }
        if self.files.journal.is_none() && found_journal.is_some() {
            self.files.journal = Some(JournalFile {
                open: self.open(&self.journal_path)?,
                end: 0,
                len: 0,
                is_open: false,
            });
            // Its writer may have been a relaxed one.
            self.files.linked = Arc::default();
        }
        if !self.read_items(found_items.map_or(0, |found| found.len))? {
            // Another program wrote there: all is read again.
            self.files = QueueFiles::default();
            return self.catch_up();
        }
        self.read_journal(found_journal.map_or(0, |found| found.len))?;
        let files = &mut self.files;
        files.counter = files.index.bear_the_rest(files.counter);
        files.index.loaded();
        if self.files.spoilt && !self.files.rough {
            self.drop_twins()?;
        }
        Ok(())
    }

    fn open(&self, path: &Path) -> Result<OpenFile> {
        OpenFile::open(&self.queues.root, path, 0)
            .map_err(|error| self.queues.root.write_fault(self.operation, path, error))
    }

    /// The metadata of a file, which gets its own bytes if it has a second name.
    fn look(&self, path: &Path) -> Result<Option<Metadata>> {
        match self.queues.root.fs.metadata(path) {
            Ok(found) if found.links > 1 => {
                if path == self.items_path && self.queues.is_absent(self.operation, &self.journal_path)? {
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

    /// Reads what was added to the file of items, and mends its end. False if not all that was added is a push of ours.
    fn read_items(&mut self, len: u64) -> Result<bool> {
        let (queues, operation, path) = (self.queues, self.operation, self.items_path.clone());
        let root = &queues.root;
        let fault = |error| root.write_fault(operation, &path, error);
        let files = &mut self.files;
        let Some(items) = &mut files.items else {
            return Ok(true);
        };
        // A push goes over the closing bracket, and over blanks where there are enough of them.
        let is_as_long = items.ends_blank && len == items.len;
        if is_as_long && items.is_closed().map_err(fault)? {
            return Ok(true);
        }
        let is_first = items.end == 0;
        let file = Arc::clone(&items.open.file);
        if (is_first || !items.plain) && files.journal.is_none() {
            queues.check_queue(operation, &path, &file, self.deadline)?;
        }
        let limit = root.options.largest_read();
        let scanner = Scanner::resume(file, limit, items.end, items.any).map_err(fault)?;
        let mut scanner = if is_as_long {
            scanner.up_to_blanks()
        } else {
            scanner
        };
        let mut count = 0;
        while let Some(fragment) = scanner.next().map_err(fault)? {
            count += 1;
            if count % STRIDE == 0 {
                self.deadline
                    .check(operation, &path.display(), "the queue to be read")?;
            }
            let is_push = match &fragment {
                Fragment::Item { checksum, .. } => *checksum == ItemChecksum::Valid,
                Fragment::TooLarge { .. } => true,
                Fragment::Damage { .. } | Fragment::Foreign { .. } => false,
            };
            if !is_first && !is_push {
                return Ok(false);
            }
            let (start, len, outline, id, large) = match fragment {
                Fragment::Item {
                    start,
                    range,
                    checksum,
                } => {
                    let bytes = scanner.bytes(range);
                    let outline = line::outline(bytes, checksum, |token| queues.token_hash(token));
                    let rough = checksum != ItemChecksum::Valid;
                    let id = line::id(bytes).map(|id| queues.hash(&id));
                    (
                        start,
                        bytes.len() as u64,
                        outline.map(|outline| (outline, rough)),
                        id,
                        false,
                    )
                }
                Fragment::TooLarge { start, end, head, .. } => {
                    let id = line::head_id(&head).map_or(0, |id| queues.hash(&id));
                    let numbers = line::large_numbers(&*items.open.file, start..end).map_err(fault)?;
                    let outline = Outline {
                        numbers,
                        place: numbers.birth,
                        ..Outline::default()
                    };
                    (start, end - start, Some((outline, false)), Some(id), true)
                }
                Fragment::Foreign { start, end } => {
                    files.others.push((start, end));
                    continue;
                }
                Fragment::Damage { start, end, why } => {
                    tracing::warn!(path = %path.display(), offset = start, bytes = end - start, why, "damage in a queue");
                    files.spoilt = true;
                    continue;
                }
            };
            let (Some((outline, rough)), Some(hash)) = (outline, id) else {
                tracing::warn!(path = %path.display(), offset = start, "an item of a queue can't be read");
                files.spoilt = true;
                continue;
            };
            let numbers = outline.numbers;
            let is_next = numbers.birth > files.index.last_birth();
            if !is_first && !is_next {
                return Ok(false);
            }
            let new = NewItem {
                birth: numbers.birth,
                hash,
                location: Location {
                    in_journal: false,
                    offset: start,
                    len,
                },
                parked: outline.parked,
                odd: outline.odd,
                large,
                rough,
            };
            let Some(at) = files.index.push(&new) else {
                return Err(too_many(root, operation, &path));
            };
            if outline.place != numbers.birth || outline.hold.is_some() {
                files.index.stand(
                    at,
                    &Stand {
                        place: outline.place,
                        hold: outline.hold,
                        text: new.location,
                        taken: false,
                    },
                );
                let is_changed = outline.hold.is_some() && numbers.revision > outline.place;
                files.index.set(at, Flags::CHANGED, is_changed);
            }
            files.folded = files.folded.max(numbers.change);
            let highest = numbers
                .birth
                .max(numbers.change)
                .max(numbers.revision)
                .max(outline.place);
            files.counter = files.counter.max(highest);
        }
        let array = scanner.array();
        if !is_first && !array.plain {
            return Ok(false);
        }
        items.end = array.end;
        items.any = array.any;
        items.plain = array.plain;
        items.len = scanner.len();
        items.open.syncer.wrote(items.end + CLOSING.len() as u64);
        items.ends_blank = array.plain
            && array.closed
            && array.tail.is_none()
            && items.is_closed().map_err(fault)?
            && (is_as_long || items.has_only_blanks().map_err(fault)?);
        let (last, is_rough) = files.index.bear_the_first();
        files.counter = files.counter.max(last);
        files.rough |= !array.plain || is_rough;
        if array.tail.is_some() || !array.closed {
            self.mend_items(array.tail)?;
        }
        Ok(true)
    }

    /// Closes the array behind the last item, after a writer that died.
    fn mend_items(&mut self, tail: Option<u64>) -> Result<()> {
        let (root, path) = (&self.queues.root, &self.items_path);
        let fault = |error| root.write_fault(self.operation, path, error);
        let Some(items) = &mut self.files.items else {
            return Ok(());
        };
        // It may be in memory only: a loss of power that took it, and not what mends it, would leave a hole.
        items.open.file.sync().map_err(fault)?;
        if let Some(tail) = tail {
            // It was never acknowledged.
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

    /// Reads what was added to the journal, and cuts what a dead writer left of a record.
    fn read_journal(&mut self, len: u64) -> Result<()> {
        let (queues, operation, path) = (self.queues, self.operation, self.journal_path.clone());
        let fault = |error| queues.root.write_fault(operation, &path, error);
        let Some(journal) = &self.files.journal else {
            return Ok(());
        };
        let is_as_long = len == journal.len && journal.end > 0;
        if is_as_long && journal.ends_here().map_err(fault)? {
            return Ok(());
        }
        let file = Arc::clone(&journal.open.file);
        let limit = queues.root.options.largest_read();
        let scanner = JournalScanner::new(Arc::clone(&file), limit, journal.end).map_err(fault)?;
        let mut scanner = if is_as_long {
            scanner.up_to_blanks()
        } else {
            scanner
        };
        let mut count = 0;
        while let Some(piece) = scanner.next().map_err(fault)? {
            count += 1;
            if count % STRIDE == 0 {
                self.deadline
                    .check(operation, &path.display(), "the queue to be read")?;
            }
            let (start, end) = match piece {
                Piece::Line { start, range } => {
                    let bytes = scanner.bytes(range);
                    let end = start + bytes.len() as u64;
                    match parse(bytes) {
                        Some(JournalLine::Header { version, counter }) => {
                            check_version(&queues.root, operation, &path, version)?;
                            self.files.counter = self.files.counter.max(counter);
                            continue;
                        }
                        Some(JournalLine::Record(record)) => {
                            let location = Location {
                                in_journal: true,
                                offset: start,
                                len: end - start,
                            };
                            apply(queues, &mut self.files, &record, location, false);
                            continue;
                        }
                        None => (start, end),
                    }
                }
                Piece::TooLarge { start, end, head } => {
                    if let Some(record) = parse_large(&head) {
                        let location = Location {
                            in_journal: true,
                            offset: start,
                            len: end - start,
                        };
                        apply(queues, &mut self.files, &record, location, true);
                        continue;
                    }
                    (start, end)
                }
                Piece::Damage { start, end, .. } => (start, end),
            };
            tracing::warn!(path = %path.display(), offset = start, bytes = end - start, "damage in the journal of a queue");
            self.files.spoilt = true;
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
        }
        Ok(())
    }

    /// Of items with one id the one with the higher birth counts. Only damage leaves two of ours.
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

/// Adds a record to an index.
pub(super) fn apply(
    queues: &Queues,
    files: &mut QueueFiles,
    record: &Record<'_>,
    location: Location,
    large: bool,
) {
    files.counter = files.counter.max(record.change);
    let index = &mut files.index;
    let Some(at) = index.find(record.birth) else {
        return;
    };
    if record.change <= files.folded || index.is(at, Flags::DEAD) || index.is(at, Flags::UNBORN) {
        return;
    }
    if record.verb == Verb::Remove {
        index.remove(at);
        return;
    }
    let hold = match record.standing.claim() {
        Some(claim) => {
            claim.map(|claim| (claim.token.map_or(0, |token| queues.token_hash(token)), claim.end))
        }
        None => return,
    };
    if record.verb.has_item() {
        let (parked, odd) = match large {
            true => (false, false),
            false => line::eligibility(record.item.as_bytes()),
        };
        index.rewrite(at, location, parked, odd, large);
    }
    if record.verb.has_standing() {
        let stand = Stand {
            place: record.standing.place.unwrap_or(record.change),
            hold,
            text: location,
            taken: record.verb == Verb::Lease,
        };
        index.stand(at, &stand);
    }
}

/// Refuses a journal of a later version.
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
