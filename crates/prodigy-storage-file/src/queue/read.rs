//! Reading a queue: no lock is taken and nothing is written.

use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use prodigy_storage_backend::{
    Damage, Deadline, ErrorKind, ItemId, QueueEntry, QueueScan, QueueStep, Result, StorageError, TooLarge,
};
use prodigy_storage_layout::{Entry, JobAddress, queue_folder, state_folder};

use super::Queues;
use super::line::{self, ItemChecksum, TRAILER};
use super::scan::{Fragment, Scanner};
use super::state::STRIDE;
use crate::fs::{DirEntry, FileKind, FsFile, OpenMode};
use crate::root::ForeignKind;

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
        let (mut damage, mut large) = (None, None);
        self.queue_survey(OPERATION, &path, &file, deadline, |fragment, bytes| {
            match fragment {
                Fragment::Item { checksum, .. }
                    if line::id(bytes).is_some_and(|found| found == id.as_str()) =>
                {
                    found = line::read(bytes, *checksum);
                }
                Fragment::Item { .. } => {}
                Fragment::Damage { start, end, .. } => damage = damage.or(Some((*start, *end))),
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
        if let (None, Some(large)) = (&found, large) {
            return Err(large.into());
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
        let scanner = Scanner::new(file, self.root.options.largest_read())
            .map_err(|error| self.root.read_fault(OPERATION, &path, error))?;
        Ok(Box::new(Walk {
            scanner: Some(scanner),
            place: self.root.absolute(&path).display().to_string(),
            limit: self.root.options.max_record_size,
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

    pub(super) fn queue_is_absent(&self, operation: &'static str, path: &Path) -> Result<bool> {
        match self.root.fs.metadata(path) {
            Ok(_) => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
            Err(error) => Err(self.root.read_fault(operation, path, error)),
        }
    }

    fn queue_file(&self, operation: &'static str, path: &Path) -> Result<Option<Arc<dyn FsFile>>> {
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
    ) -> Result<()> {
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
                Fragment::Damage { .. } | Fragment::TooLarge { .. } => &[],
            };
            if !visit(&fragment, bytes)? {
                break;
            }
        }
        Ok(())
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
    place: String,
    limit: u64,
    ahead: Option<QueueEntry>,
}

impl Walk {
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
        let scanner = self.scanner.as_mut()?;
        let (start, range, checksum) = match scanner.next() {
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
                let item = too_large(self.place.clone(), self.limit, start..end, checksum, &head);
                return Some(Ok(QueueStep::TooLarge(item)));
            }
            Ok(None) => {
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
        let bytes = scanner.bytes(range);
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
