//! A writer's turn: the use of a queue under its lock, with an index that matches both files.
//!
//! Writers only append to the array and to the journal. So a process that has a queue's index only reads the bytes that
//! were added since its last turn. A turn adds its own writes to the index at once.
//!
//! **Durability.** A strict writer writes under the lock, releases the lock, syncs, and then acknowledges. Its sync
//! also covers bytes that other writers wrote to the same file before and did not sync. Before it writes to one file,
//! it syncs the other one if that has unsynced bytes. So after a power failure, a number of the counter is missing in
//! three cases only: the file has blanks at its place, its write was relaxed, or it follows all acknowledged changes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use prodigy_storage_backend::record::{self, Checksum};
use prodigy_storage_backend::{
    Deadline, Durability, ErrorKind, ItemId, LeaseToken, QueueEntry, QueueMark, Result, StorageError,
};
use prodigy_storage_layout::{Entry, JobAddress, Part};
use serde_json::value::RawValue;

use super::blanks;
use super::compact::Unreadable;
use super::files::{ItemsFile, JournalFile, OpenFile, QueueFiles, Seam};
use super::index::{Flags, Location, NewItem};
use super::intake::Change;
use super::line::{self, ItemChecksum};
use super::record::{JournalLine, Verb, encode, encode_header, parse, parse_large};
use super::standing::{MOST, Standing};
use super::{CLOSING, Queues};
use crate::root::{LockedFile, Replace, Root, TempFile, io_cause};

/// The number of steps between two checks of the deadline.
pub(super) const STRIDE: usize = 256;

/// A queue whose lock is held, with its files and its index.
#[derive(Debug)]
pub(super) struct Turn<'q> {
    pub(super) queues: &'q Queues,
    pub(super) operation: &'static str,
    pub(super) items_path: PathBuf,
    pub(super) journal_path: PathBuf,
    pub(super) deadline: Deadline,
    pub(super) files: QueueFiles,
    /// Encoded records, to be appended to the journal by [`commit`](Self::commit).
    pending: Vec<u8>,
    /// True if the index has changes that are not in the files yet. The index is dropped if the turn ends like this.
    pub(super) ahead: bool,
    /// True if this process had no index of the queue before this turn.
    pub(super) is_new: bool,
    /// The files that a compaction replaced. They may still be in use after a failure, so they are synced at the end.
    pub(super) replaced: Vec<Arc<super::files::Syncer>>,
    /// `None` while the queue is read before this process has the lock.
    pub(super) lock: Option<LockedFile<'q>>,
}

impl<'q> Turn<'q> {
    /// Takes the lock, and reads the bytes that were added since this process's last turn.
    pub(super) fn begin(
        queues: &'q Queues,
        operation: &'static str,
        job: &JobAddress,
        purpose: &str,
        deadline: Deadline,
    ) -> Result<Self> {
        Self::begin_within(queues, operation, job, purpose, deadline, deadline)
    }

    /// Like [`begin`](Self::begin), with a separate deadline `wait` for taking the lock.
    pub(super) fn begin_within(
        queues: &'q Queues,
        operation: &'static str,
        job: &JobAddress,
        purpose: &str,
        wait: Deadline,
        deadline: Deadline,
    ) -> Result<Self> {
        let mut turn = Self {
            queues,
            operation,
            files: QueueFiles::default(),
            items_path: Entry::Queue(job.clone()).path(),
            journal_path: Entry::QueueJournal(job.clone()).path(),
            deadline,
            pending: Vec::new(),
            ahead: true,
            is_new: true,
            replaced: Vec::new(),
            lock: None,
        };
        let lock = Entry::QueueLock(job.clone()).path();
        if queues.root.fs.metadata_by_path(&lock).is_err() {
            // Checked here, too, because taking the lock creates the folder of the queue.
            queues.root.refuse_moved(operation, &Part::Job(job.clone()))?;
            // No lock file is created beside a file of another program, since it is a sign that the file is ours.
            queues.check_before_lock(operation, &turn.items_path, &turn.journal_path, deadline)?;
        }
        let lock = LockedFile::take_often(&queues.root, &lock, operation, purpose, wait, &mut |ahead| {
            turn.load_ahead(ahead);
        })?;
        turn.lock = Some(lock);
        queues.root.check_takes_writes(operation, job)?;
        turn.catch_up()?;
        turn.ahead = false;
        if queues.is_distrusted(&turn.items_path) {
            turn.compact(Unreadable::Kept)?;
            queues.trust(&turn.items_path);
        }
        turn.files.index.wake(&*queues.root.options.clock);
        Ok(turn)
    }

    /// Releases the lock. Then syncs the written bytes, unless `durability` is relaxed.
    pub(super) fn end(mut self, durability: Durability) -> Result<()> {
        let queues = self.queues;
        let root = &queues.root;
        let folder = self.folder().to_owned();
        let mut syncers = std::mem::take(&mut self.replaced);
        let items = self.files.items.as_ref().map(|items| &items.open);
        let journal = self.files.journal.as_ref().map(|journal| &journal.open);
        syncers.extend(
            items
                .into_iter()
                .chain(journal)
                .map(|open| Arc::clone(&open.syncer)),
        );
        let linked = Arc::clone(&self.files.linked);
        let (operation, path) = (self.operation, self.items_path.clone());
        drop(self);
        if durability == Durability::Relaxed {
            return Ok(());
        }
        for syncer in syncers {
            syncer.sync(root).map_err(|error| {
                queues.distrust(&path);
                unknown(queues, operation, &syncer.path, "the sync failed", error)
            })?;
        }
        if !linked.load(Ordering::Acquire) {
            root.sync_folder(&folder)
                .map_err(|error| match is_absent(&error) {
                    // The lock was free, and a deletion of the job took it.
                    true => StorageError::new(
                        ErrorKind::Deleted,
                        operation,
                        root.absolute(&path).display(),
                        "the job was deleted during the call",
                    ),
                    false => unknown(queues, operation, &path, "its folder could not be synced", error),
                })?;
            linked.store(true, Ordering::Release);
        }
        Ok(())
    }

    pub(super) fn folder(&self) -> &Path {
        self.items_path.parent().unwrap_or(Path::new(""))
    }

    /// True if the file of items exists.
    pub(super) fn exists(&self) -> bool {
        self.files.items.is_some()
    }

    /// The open journal or the open file of items, or `None` if it does not exist, and its path.
    pub(super) fn file(&self, in_journal: bool) -> (Option<&OpenFile>, &Path) {
        let (items, journal) = (&self.files.items, &self.files.journal);
        match in_journal {
            true => (journal.as_ref().map(|file| &file.open), &self.journal_path),
            false => (items.as_ref().map(|file| &file.open), &self.items_path),
        }
    }

    /// Syncs this file before the other one is written. Does nothing for a relaxed write.
    fn sync_first(&self, in_journal: bool, durability: Durability) -> Result<()> {
        let (Some(open), path) = self.file(in_journal) else {
            return Ok(());
        };
        if durability == Durability::Relaxed {
            return Ok(());
        }
        open.syncer.sync(&self.queues.root).map_err(|error| {
            self.queues.distrust(&self.items_path);
            self.queues.root.write_fault(self.operation, path, error)
        })
    }

    /// The bytes at a location in a file, or in a record that is still to be written.
    fn bytes_at(&self, location: Location) -> Result<Vec<u8>> {
        let written = match location.in_journal {
            true => self.files.journal.as_ref().map_or(0, |journal| journal.end),
            false => u64::MAX,
        };
        if location.offset >= written {
            let from = usize::try_from(location.offset - written).unwrap_or(usize::MAX);
            let to = from.saturating_add(usize::try_from(location.len).unwrap_or(usize::MAX));
            return Ok(self.pending.get(from..to).unwrap_or_default().to_vec());
        }
        let (file, path) = self.file(location.in_journal);
        let mut bytes = vec![0; usize::try_from(location.len).unwrap_or_default()];
        let read = match file {
            Some(open) => open
                .file
                .read_full_at(&mut bytes, location.offset)
                .map_err(|error| self.queues.root.write_fault(self.operation, path, error))?,
            None => 0,
        };
        bytes.truncate(read);
        Ok(bytes)
    }

    /// The current state of an item. `None` if its bytes can't be read, or if it is larger than the limit.
    pub(super) fn entry(&self, at: u32) -> Result<Option<QueueEntry>> {
        let index = &self.files.index;
        if index.is(at, Flags::LARGE) {
            return Ok(None);
        }
        let location = index.location(at);
        let bytes = self.bytes_at(location)?;
        let found = match location.in_journal {
            true => contents(&bytes),
            false => read_line(&bytes).map(|stored| stored.entry),
        };
        let Some(mut entry) = found else {
            return Ok(None);
        };
        let standing = match index.hold(at) {
            None => Some(Standing::default()),
            Some(hold) if hold.text == location => standing_in(&bytes, location.in_journal),
            Some(hold) => standing_in(&self.bytes_at(hold.text)?, hold.text.in_journal),
        };
        let Some(standing) = standing else {
            return Ok(None);
        };
        entry.place = QueueMark(index.place(at));
        entry.lease = standing.lease;
        entry.delay = standing.delay;
        if index.is(at, Flags::UNBORN) {
            entry.revision = QueueMark(index.birth(at));
        }
        Ok(Some(entry))
    }

    /// The token of the lease on an item; `None` if it has no lease.
    pub(super) fn token_of(&self, at: u32) -> Result<Option<LeaseToken>> {
        let Some(hold) = self.files.index.hold(at) else {
            return Ok(None);
        };
        let standing = standing_in(&self.bytes_at(hold.text)?, hold.text.in_journal);
        Ok(standing
            .and_then(|standing| standing.lease)
            .map(|lease| lease.token))
    }

    pub(super) fn id_of(&self, at: u32) -> Result<Option<String>> {
        const MOST: u64 = 8 << 10;
        let mut location = self.files.index.location(at);
        if !self.files.index.is(at, Flags::LARGE) {
            let bytes = self.bytes_at(location)?;
            return Ok(match location.in_journal {
                true => contents(&bytes).map(|entry| entry.id.to_string()),
                false => line::id(&bytes).map(std::borrow::Cow::into_owned),
            });
        }
        location.len = location.len.min(MOST);
        let head = self.bytes_at(location)?;
        Ok(match location.in_journal {
            true => parse_large(&head).and_then(|record| line::head_id(record.item.as_bytes())),
            false => line::head_id(&head),
        })
    }

    /// The items with this id, the latest first. In a file of ours, at most one item has it.
    pub(super) fn with_id(&mut self, id: &ItemId) -> Result<Vec<u32>> {
        let mut found = Vec::new();
        for at in self.files.index.with_hash(self.queues.hash(id.as_str())) {
            if self.id_of(at)?.as_deref() == Some(id.as_str()) {
                found.push(at);
            }
        }
        Ok(found)
    }

    // Changes of items.

    /// The next number of the counter.
    pub(super) fn next(&mut self) -> Result<u64> {
        self.ahead = true;
        self.files.counter += 1;
        if self.files.counter > MOST {
            return Err(too_many(&self.queues.root, self.operation, &self.items_path));
        }
        Ok(self.files.counter)
    }

    /// Adds the record of a change to those that [`commit`](Self::commit) writes, and applies the change to the index.
    pub(super) fn change(
        &mut self,
        at: u32,
        number: u64,
        verb: Verb,
        standing: &Standing,
        item: Option<&RawValue>,
    ) {
        if self.pending.is_empty() {
            match &self.files.journal {
                // A new journal states the counter and the number of items before its first record. Without a journal,
                // no item was removed yet, so the counter is the number of items; after damage, only the readable items
                // are known.
                None => {
                    let items = match self.files.spoilt {
                        true => self.files.index.len() as u64,
                        false => number - 1,
                    };
                    self.files.begun = Some((number - 1, items));
                    encode_header(&mut self.pending, number - 1, items);
                }
                Some(journal) if journal.is_open => self.pending.push(b'\n'),
                Some(_) => {}
            }
        }
        let written = self.files.journal.as_ref().map_or(0, |journal| journal.end);
        let start = self.pending.len();
        let birth = self.files.index.birth(at);
        encode(&mut self.pending, number, birth, verb, standing, item);
        let text = self
            .pending
            .get(start..self.pending.len() - 1)
            .unwrap_or_default();
        let location = Location {
            in_journal: true,
            offset: written + start as u64,
            len: text.len() as u64,
        };
        if let Some(JournalLine::Record(record)) = parse(text) {
            let change = Change::of(self.queues, &record, location, false);
            self.files.apply(&change);
        }
    }

    /// Appends the encoded records of this turn to the journal.
    pub(super) fn commit(&mut self, durability: Durability) -> Result<()> {
        let bytes = std::mem::take(&mut self.pending);
        if bytes.is_empty() {
            return Ok(());
        }
        let (queues, path) = (self.queues, self.journal_path.clone());
        let root = &queues.root;
        let fault = |error| root.write_fault(self.operation, &path, error);
        let is_strict = durability == Durability::Strict;
        self.sync_first(false, durability)?;
        let queue = self.files.bytes();
        match &mut self.files.journal {
            None => {
                let mut temp = TempFile::create(
                    root,
                    self.operation,
                    self.items_path.parent().unwrap_or(Path::new("")),
                )?;
                temp.append(&bytes).map_err(|error| temp.fault(error))?;
                temp.publish(&path, Replace::Over)?;
                drop(temp);
                let len = bytes.len() as u64;
                self.files.journal = Some(JournalFile {
                    open: OpenFile::open(root, &path, len).map_err(fault)?,
                    end: len,
                    seam: Seam::of(&bytes),
                    len,
                    is_open: false,
                });
                self.files.linked = Arc::default();
            }
            Some(journal) => {
                let written = blanks::write(&journal.open, &bytes, journal.end, journal.len, queue);
                journal.len = match written {
                    Ok(len) => len,
                    Err(error) => {
                        return Err(match journal.open.file.set_len(journal.end) {
                            Ok(()) => {
                                journal.len = journal.end;
                                fault(error)
                            }
                            Err(again) => {
                                let why =
                                    format!("only in part ({error:#}), and the part could not be cut off");
                                unknown(queues, self.operation, &path, &why, again)
                            }
                        });
                    }
                };
                journal.end += bytes.len() as u64;
                journal.seam = Seam::of(&bytes);
                journal.is_open = false;
                journal.open.syncer.wrote(journal.end);
            }
        }
        if !is_strict {
            root.sync_file_later(&path)?;
        }
        self.ahead = false;
        Ok(())
    }

    /// Writes new items over the closing bracket and the blanks after it, in one write, whatever the length of the
    /// queue. `new` is the body, the id and the birth of each item.
    pub(super) fn push(&mut self, new: &[(&RawValue, &ItemId, u64)], durability: Durability) -> Result<()> {
        let (queues, path) = (self.queues, self.items_path.clone());
        let root = &queues.root;
        let fault = |error| root.write_fault(self.operation, &path, error);
        let is_strict = durability == Durability::Strict;
        self.sync_first(true, durability)?;
        let queue = self.files.bytes();
        let mut bytes = match &self.files.items {
            None => vec![b'['],
            Some(_) => Vec::new(),
        };
        let from = self.files.items.as_ref().map_or(0, |items| items.end);
        let mut any = self.files.items.as_ref().is_some_and(|items| items.any);
        let mut places = Vec::with_capacity(new.len());
        for (body, _, birth) in new {
            bytes.extend_from_slice(if any { super::SEPARATOR } else { b"\n" });
            let start = bytes.len();
            line::encode_new(&mut bytes, body, *birth);
            places.push((start as u64, (bytes.len() - start) as u64));
            any = true;
        }
        let end = from + bytes.len() as u64;
        let seam = Seam::of(&bytes);
        bytes.extend_from_slice(CLOSING);
        match &mut self.files.items {
            None => {
                TempFile::write_whole(root, self.operation, &path, &[&bytes], Replace::Never, durability)?;
                let len = bytes.len() as u64;
                self.files.items = Some(ItemsFile {
                    open: OpenFile::open(root, &path, len).map_err(fault)?,
                    end,
                    seam,
                    len,
                    any,
                    plain: true,
                    ends_blank: true,
                });
                if is_strict && self.files.journal.is_none() {
                    self.files.linked.store(true, Ordering::Release);
                }
            }
            Some(items) => {
                // The closing bracket that another program wrote may be longer than ours. It is replaced first, so that
                // no part remains.
                let closed = if items.ends_blank { Ok(()) } else { close(items) };
                let written =
                    closed.and_then(|()| blanks::write(&items.open, &bytes, items.end, items.len, queue));
                items.len = match written {
                    Ok(len) => len,
                    Err(error) => {
                        return Err(match close(items) {
                            Ok(()) => fault(error),
                            Err(again) => {
                                let why =
                                    format!("only in part ({error:#}), and the part could not be cut off");
                                unknown(queues, self.operation, &path, &why, again)
                            }
                        });
                    }
                };
                items.open.syncer.wrote(end + CLOSING.len() as u64);
                (items.end, items.seam, items.any) = (end, seam, any);
                if !is_strict {
                    root.sync_file_later(&path)?;
                }
            }
        }
        for ((body, id, birth), (start, len)) in new.iter().zip(places) {
            let (parked, odd) = line::eligibility(body.get().as_bytes());
            let new = NewItem {
                birth: *birth,
                hash: queues.hash(id.as_str()),
                location: Location {
                    in_journal: false,
                    offset: from + start,
                    len,
                },
                parked,
                odd,
                large: false,
                rough: false,
            };
            if self.files.index.push(&new).is_none() {
                return Err(too_many(root, self.operation, &path));
            }
        }
        self.ahead = !self.pending.is_empty();
        Ok(())
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if !self.ahead {
            self.queues
                .keep(&self.items_path, std::mem::take(&mut self.files));
        }
    }
}

/// Parses a line of the file of items.
pub(super) fn read_line(bytes: &[u8]) -> Option<line::Stored> {
    let checksum = match record::check_crc(bytes) {
        Checksum::Valid => ItemChecksum::Valid,
        _ if line::is_framed(bytes) => ItemChecksum::BadFrame,
        Checksum::Missing => ItemChecksum::Missing,
        Checksum::Mismatch => return None,
    };
    line::read(bytes, checksum)
}

/// Parses the item in a record of the journal.
pub(super) fn contents(bytes: &[u8]) -> Option<QueueEntry> {
    if record::check_crc(bytes) != Checksum::Valid {
        return None;
    }
    let Some(JournalLine::Record(record)) = parse(bytes) else {
        return None;
    };
    Some(QueueEntry {
        id: ItemId::new(line::id(record.item.as_bytes())?).ok()?,
        body: RawValue::from_string(record.item.to_owned()).ok()?,
        lease: None,
        delay: None,
        revision: QueueMark(record.change),
        place: QueueMark(0),
        verified: true,
    })
}

/// The place, the lease and the delay that a line of one of the files states.
pub(super) fn standing_in(bytes: &[u8], in_journal: bool) -> Option<Standing> {
    if !in_journal {
        return read_line(bytes).map(|stored| stored.standing());
    }
    if record::check_crc(bytes) != Checksum::Valid {
        return None;
    }
    match parse(bytes)? {
        JournalLine::Record(record) => record.standing.read(record.change),
        JournalLine::Header { .. } => None,
    }
}

/// Closes the array after its last item, and cuts off everything after that. The file is cut before the bracket is
/// written, since half an item after the bracket would be damage. The cut leaves space for the bracket, which a full
/// disk might not provide again.
pub(super) fn close(items: &mut ItemsFile) -> std::io::Result<()> {
    let len = items.end + CLOSING.len() as u64;
    let file = &items.open.file;
    if file.metadata()?.len > len {
        file.set_len(len)?;
        file.sync()?;
    }
    file.write_all_at(CLOSING, items.end)?;
    (items.len, items.ends_blank) = (len, true);
    Ok(())
}

pub(super) fn too_many(root: &Root, operation: &'static str, path: &Path) -> StorageError {
    StorageError::new(
        ErrorKind::QueueFull,
        operation,
        root.absolute(path).display(),
        "the counter of the queue has reached its largest number, so the queue takes no more items or changes",
    )
    .with_hint("push to the queue of another job")
}

/// True if the system found nothing at the path of a call.
fn is_absent(error: &StorageError) -> bool {
    io_cause(error).is_some_and(|cause| cause.kind() == std::io::ErrorKind::NotFound)
}

/// The error for a write whose outcome is unknown.
pub(super) fn unknown(
    queues: &Queues,
    operation: &'static str,
    path: &Path,
    why: &str,
    error: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> StorageError {
    StorageError::new(
        ErrorKind::OutcomeUnknown,
        operation,
        queues.root.absolute(path).display(),
        format!("the data was written, but {why}: it may be stored, and it may be lost in a power failure"),
    )
    .with_hint("read the items again, and repeat the call; the file is then opened and checked again")
    .with_source(error)
}
