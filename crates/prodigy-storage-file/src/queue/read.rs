//! Reading a queue: no lock is taken and nothing is written.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use prodigy_storage_backend::{
    Damage, Deadline, ErrorKind, ItemId, QueueEntry, QueueScan, QueueStep, Result, StorageError, TooLarge,
};
use prodigy_storage_layout::{Entry, JobAddress, queue_folder, state_folder};

use super::Queues;
use super::line::{self, ItemChecksum, TRAILER};
use super::owner;
use super::scan::{ArrayState, Fragment, Scanner};
use super::state::STRIDE;
use crate::fs::{DirEntry, FileKind, FsFile, OpenMode};
use crate::root::{ForeignKind, Root};

impl Queues {
    pub(crate) fn queue_get(
        &self,
        job: &JobAddress,
        id: &ItemId,
        deadline: Deadline,
    ) -> Result<Option<QueueEntry>> {
        const OPERATION: &str = "queue get";
        self.skip_dead_letters(OPERATION, job, deadline)?;
        let path = Entry::Queue(job.clone()).path();
        let Some(file) = self.queue_file(OPERATION, &path)? else {
            return Ok(None);
        };
        let mut found = None;
        let (mut damage, mut large, mut others) = (None, None, Vec::new());
        self.queue_survey(OPERATION, &path, &file, deadline, |fragment, bytes| {
            match fragment {
                Fragment::Item { checksum, .. }
                    if line::id(bytes).is_some_and(|found| found == id.as_str()) =>
                {
                    found = line::read(bytes, *checksum);
                }
                Fragment::Item { .. } => {}
                Fragment::Damage { start, end, .. } => damage = damage.or(Some((*start, *end))),
                Fragment::Foreign { start, end } => others.push((*start, *end)),
                Fragment::TooLarge {
                    start,
                    end,
                    checksum,
                    head,
                } => {
                    let item = self.too_large_item(&path, *start..*end, *checksum, head);
                    // An item that does not state its id may be it.
                    if item.id.as_deref().is_none_or(|found| found == id.as_str()) {
                        large = large.take().or(Some(item));
                    }
                }
            }
            Ok(found.is_none())
        })?;
        for (start, end) in &others {
            let foreign = &self.root.foreign;
            foreign.skip_line(ForeignKind::DeadLetters, &path, *start, end - start);
        }
        if let (None, Some(large)) = (&found, large) {
            return Err(large.into());
        }
        if found.is_none() && (damage.is_some() || !others.is_empty()) && !self.queue_is_ours(&path, &file)? {
            if let Some((start, end)) = damage {
                let foreign = &self.root.foreign;
                foreign.skip_line(ForeignKind::DeadLetters, &path, start, end - start);
            }
            let why = "no item of that id can be read: the file belongs to another program, and is not an array of items";
            return Err(self.anothers_queue(OPERATION, &path, why));
        }
        match (found, damage) {
            (None, Some((start, end))) => Err(StorageError::new(
                ErrorKind::Damaged,
                OPERATION,
                self.root.absolute(&path).display(),
                format!(
                    "no readable item has the id `{id}`, but {} bytes at offset {start} are damaged and may be it",
                    end - start
                ),
            )
            .with_hint("the other items are readable; push the item again if its data is known")),
            (found, _) => Ok(found),
        }
    }

    pub(crate) fn queue_scan(&self, job: &JobAddress, deadline: Deadline) -> Result<QueueScan<'static>> {
        const OPERATION: &str = "queue scan";
        self.skip_dead_letters(OPERATION, job, deadline)?;
        let path = Entry::Queue(job.clone()).path();
        let Some(file) = self.queue_file(OPERATION, &path)? else {
            return Ok(Box::new(std::iter::empty()));
        };
        let scanner = Scanner::new(Arc::clone(&file), self.root.options.largest_read())
            .map_err(|error| self.root.read_fault(OPERATION, &path, error))?;
        Ok(Box::new(Walk {
            scanner: Some(scanner),
            file,
            root: Arc::clone(&self.root),
            ours: None,
            place: self.root.absolute(&path).display().to_string(),
            path,
            ahead: None,
        }))
    }

    /// The report of an item that is larger than the limit.
    pub(super) fn too_large_item(
        &self,
        path: &Path,
        bytes: Range<u64>,
        checksum: ItemChecksum,
        head: &[u8],
    ) -> TooLarge {
        let place = self.root.absolute(path).display().to_string();
        too_large(place, self.root.options.max_record_size, bytes, checksum, head)
    }

    /// Notes the items of another program, which no operation on the queue reads: a file each, below the queue's folder
    /// or, by its earlier layout, below the repository's state; and one file for all, or an index, in the queue's folder.
    pub(super) fn skip_dead_letters(
        &self,
        operation: &'static str,
        job: &JobAddress,
        deadline: Deadline,
    ) -> Result<()> {
        let items_in = |folder: &Path| {
            deadline.check(operation, &folder.display(), "its turn")?;
            let names = self.root.names_in(operation, folder)?;
            Ok::<_, StorageError>(names.iter().filter(is_json).count() as u64)
        };
        for place in [queue_folder(job), state_folder(&job.repo)] {
            let folder = place.join("mapreduce/dlq").join(job.job.as_str()).join("items");
            self.root
                .foreign
                .skip(ForeignKind::DeadLetters, &folder, items_in(&folder)?);
        }
        // The same files beside the queue.
        let folder = queue_folder(job);
        let items = items_in(&folder.join("items"))?;
        let names = self.root.names_in(operation, &folder)?;
        let has = |name: &str| names.iter().any(|entry| is_json(&entry) && entry.name == name);
        // An index lists the items, and says something alone where none is there.
        let index = u64::from(items == 0 && has("index.json"));
        let count = items + index + u64::from(has("dlq-items.json"));
        self.root.foreign.skip(ForeignKind::DeadLetters, &folder, count);
        Ok(())
    }

    /// True if a queue's file is ours. Only then can it be damaged.
    pub(super) fn queue_is_ours(&self, path: &Path, file: &Arc<dyn FsFile>) -> Result<bool> {
        owner::is_ours(&**file).map_err(|error| self.root.read_fault("read queue", path, error))
    }

    /// Refuses to change another program's file that holds anything else than items.
    pub(super) fn check_queue(
        &self,
        operation: &'static str,
        path: &Path,
        file: &Arc<dyn FsFile>,
        deadline: Deadline,
    ) -> Result<()> {
        if self.queue_is_ours(path, file)? {
            return Ok(());
        }
        let mut is_read = true;
        let array = self.queue_survey(operation, path, file, deadline, |fragment, _| {
            is_read = !matches!(fragment, Fragment::Damage { .. } | Fragment::Foreign { .. });
            Ok(is_read)
        })?;
        if is_read && array.tail.is_none() {
            return Ok(());
        }
        let why = "the file belongs to another program and is not an array of items; nothing was changed";
        Err(self.anothers_queue(operation, path, why))
    }

    fn anothers_queue(&self, operation: &'static str, path: &Path, why: &'static str) -> StorageError {
        StorageError::new(
            ErrorKind::Foreign,
            operation,
            self.root.absolute(path).display(),
            why,
        )
        .with_hint(
            "if no other program needs the file, look at it and move it out of the root: the next push then begins a queue there",
        )
    }

    pub(super) fn queue_is_absent(&self, operation: &'static str, path: &Path) -> Result<bool> {
        match self.root.fs.metadata(path) {
            Ok(_) => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
            Err(error) => Err(self.root.read_fault(operation, path, error)),
        }
    }

    pub(super) fn queue_file(&self, operation: &'static str, path: &Path) -> Result<Option<Arc<dyn FsFile>>> {
        match self.root.fs.open(path, OpenMode::Read) {
            Ok(file) => Ok(Some(file.into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.root.read_fault(operation, path, error)),
        }
    }

    /// Shows every fragment, with an item's bytes, until `visit` says false.
    pub(super) fn queue_survey(
        &self,
        operation: &'static str,
        path: &Path,
        file: &Arc<dyn FsFile>,
        deadline: Deadline,
        mut visit: impl FnMut(&Fragment, &[u8]) -> Result<bool>,
    ) -> Result<ArrayState> {
        let fault = |error| self.root.read_fault(operation, path, error);
        let mut scanner = Scanner::new(Arc::clone(file), self.root.options.largest_read()).map_err(fault)?;
        let mut fragments = 0;
        while let Some(fragment) = scanner.next().map_err(fault)? {
            fragments += 1;
            if fragments % STRIDE == 0 {
                deadline.check(operation, &path.display(), "the queue to be read")?;
            }
            let bytes = match &fragment {
                Fragment::Item { range, .. } => scanner.bytes(range.clone()),
                Fragment::Damage { .. } | Fragment::Foreign { .. } | Fragment::TooLarge { .. } => &[],
            };
            if !visit(&fragment, bytes)? {
                break;
            }
        }
        Ok(scanner.array())
    }
}

fn is_json(entry: &&DirEntry) -> bool {
    entry.kind == FileKind::File && entry.name.ends_with(".json")
}

fn too_large(place: String, limit: u64, bytes: Range<u64>, checksum: ItemChecksum, head: &[u8]) -> TooLarge {
    TooLarge {
        place,
        offset: bytes.start,
        len: bytes.end - bytes.start,
        id: line::head_id(head),
        verified: checksum == ItemChecksum::Valid,
        limit,
    }
}

/// Walks through the file that was there when it began, also where it is replaced under way.
struct Walk {
    /// `None` after a failure.
    scanner: Option<Scanner>,
    file: Arc<dyn FsFile>,
    path: PathBuf,
    /// Whether the file is ours: checked at the first bytes that are not an item.
    ours: Option<bool>,
    root: Arc<Root>,
    place: String,
    ahead: Option<QueueEntry>,
}

impl Walk {
    /// True if bytes that are not an item are another program's data. They are counted then.
    fn skips(&mut self, start: u64, end: u64) -> io::Result<bool> {
        let ours = match self.ours {
            Some(ours) => ours,
            None => *self.ours.insert(owner::is_ours(&*self.file)?),
        };
        if !ours {
            self.note_foreign(start, end);
        }
        Ok(!ours)
    }

    fn note_foreign(&self, start: u64, end: u64) {
        let foreign = &self.root.foreign;
        foreign.skip_line(ForeignKind::DeadLetters, &self.path, start, end - start);
    }

    fn next_fragment(&mut self) -> io::Result<Option<Fragment>> {
        loop {
            let Some(scanner) = self.scanner.as_mut() else {
                return Ok(None);
            };
            match scanner.next()? {
                Some(Fragment::Foreign { start, end }) => self.note_foreign(start, end),
                Some(Fragment::Damage { start, end, .. }) if self.skips(start, end)? => {}
                found => return Ok(found),
            }
        }
    }

    fn damage(&self, offset: u64, len: u64, why: &str) -> QueueStep {
        QueueStep::Damage(Damage {
            place: self.place.clone(),
            offset,
            len,
            why: why.to_owned(),
        })
    }
}

impl Iterator for Walk {
    type Item = Result<QueueStep>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(entry) = self.ahead.take() {
            return Some(Ok(QueueStep::Entry(entry)));
        }
        let (start, range, checksum) = match self.next_fragment() {
            Ok(Some(Fragment::Item {
                start,
                range,
                checksum,
            })) => (start, range, checksum),
            Ok(Some(Fragment::Damage { start, end, why })) => {
                return Some(Ok(self.damage(start, end - start, why)));
            }
            Ok(Some(Fragment::TooLarge {
                start,
                end,
                checksum,
                head,
            })) => {
                let item = too_large(
                    self.place.clone(),
                    self.root.options.max_record_size,
                    start..end,
                    checksum,
                    &head,
                );
                return Some(Ok(QueueStep::TooLarge(item)));
            }
            // The other fragments are skipped.
            Ok(None | Some(Fragment::Foreign { .. })) => {
                self.scanner = None;
                return None;
            }
            Err(error) => {
                let error = StorageError::new(
                    ErrorKind::Io,
                    "queue scan",
                    &self.place,
                    "the operating system refuses to read on",
                )
                .with_source(error);
                self.scanner = None;
                return Some(Err(error));
            }
        };
        let bytes = self.scanner.as_ref()?.bytes(range);
        let len = bytes.len() as u64;
        match line::read(bytes, checksum) {
            Some(entry) if checksum == ItemChecksum::BadFrame => {
                self.ahead = Some(entry);
                let frame = TRAILER as u64;
                let why = "the frame of a checksum is damaged; its item is whole";
                Some(Ok(self.damage((start + len).saturating_sub(frame), frame, why)))
            }
            Some(entry) => Some(Ok(QueueStep::Entry(entry))),
            None => Some(Ok(self.damage(start, len, "it is not an item"))),
        }
    }
}
