//! Reads a queue without a lock, and writes nothing.

use std::io;
use std::path::Path;
use std::sync::Arc;

use prodigy_storage_backend::dead_letter::{facts, suits};
use prodigy_storage_backend::{
    Damage, Deadline, Eligible, ErrorKind, ForeignKind, ItemId, ItemState, QueueEntry, QueueScan, QueueStep,
    QueueSummary, Result, Select, StorageError, TooLarge,
};
use prodigy_storage_layout::{JobAddress, queue_folder, state_folder};

use super::line::{self, ItemChecksum, TRAILER};
use super::owner;
use super::scan::{Fragment, Scanner};
use super::take::asks_for_no_facts;
use super::turn::STRIDE;
use super::view::{Paths, Seen, Spot, View};
use super::{EARLIER_QUEUES, Queues};
use crate::fs::{DirEntry, FileKind, FsFile, OpenMode};

impl Queues {
    pub(crate) fn queue_get(
        &self,
        job: &JobAddress,
        id: &ItemId,
        deadline: Deadline,
    ) -> Result<Option<QueueEntry>> {
        const OPERATION: &str = "queue get";
        self.skip_dead_letters(OPERATION, job, deadline)?;
        let Some(mut walk) = self.walk(OPERATION, job, Select::ids([id.clone()]), deadline)? else {
            return Ok(None);
        };
        let (mut found, mut damage, mut large) = (None, None, None);
        while let Some(step) = walk.next() {
            match step? {
                // In a damaged journal, the removal of this item may be lost, and a later item with its id may follow.
                QueueStep::Entry(entry) if !walk.view.as_ref().is_some_and(|view| view.spoilt) => {
                    return Ok(Some(entry));
                }
                QueueStep::Entry(entry) => found = Some(entry),
                QueueStep::Damage(spot) => damage = damage.or(Some(spot)),
                // An item above the limit whose id can't be read may be the one with this id.
                QueueStep::TooLarge(item) if item.id.as_deref().is_none_or(|found| found == id.as_str()) => {
                    large = large.or(Some(item));
                }
                QueueStep::TooLarge(_) => {}
            }
        }
        let has_others = walk.view.as_ref().is_some_and(View::has_others);
        match (found, large, damage) {
            (Some(found), _, _) => Ok(Some(found)),
            (None, Some(large), _) => Err(large.into()),
            (None, None, None) if has_others => {
                let why = "no item of that id can be read: the file belongs to another program, and is not an array of items";
                Err(self.anothers_queue(OPERATION, &Paths::of(job).items, why))
            }
            (None, None, Some(damage)) => Err(StorageError::new(
                ErrorKind::Damaged,
                OPERATION,
                damage.place,
                format!(
                    "no readable item has the id `{id}`, but {} bytes at offset {} are damaged and may be it",
                    damage.len, damage.offset
                ),
            )
            .with_hint("the other items are readable; push the item again if its data is known")),
            (None, None, None) => Ok(None),
        }
    }

    pub(crate) fn queue_scan(
        &self,
        job: &JobAddress,
        select: &Select,
        deadline: Deadline,
    ) -> Result<QueueScan<'static>> {
        const OPERATION: &str = "queue scan";
        self.skip_dead_letters(OPERATION, job, deadline)?;
        Ok(match self.walk(OPERATION, job, select.clone(), deadline)? {
            Some(walk) => Box::new(walk),
            None => Box::new(std::iter::empty()),
        })
    }

    /// Fails for a file that another program wrote, unless it is an array of items. Called only for a queue without a
    /// journal, since a queue with a journal is ours.
    pub(super) fn check_queue(
        &self,
        operation: &'static str,
        path: &Path,
        file: &Arc<dyn FsFile>,
        deadline: Deadline,
    ) -> Result<()> {
        let fault = |error| self.root.read_fault(operation, path, error);
        if owner::is_ours(&**file).map_err(fault)? {
            return Ok(());
        }
        if owner::is_overwritten(&self.root, path, &**file).map_err(fault)? {
            let place = self.root.absolute(path);
            return Err(StorageError::new(
                ErrorKind::Damaged,
                operation,
                place.display(),
                owner::OVERWRITTEN,
            )
            .with_hint("run `prodigy-storage doctor --repair`, which moves it to quarantine: the next push begins a queue"));
        }
        let mut scanner = Scanner::new(Arc::clone(file), self.root.options.largest_read()).map_err(fault)?;
        let (mut is_read, mut count) = (!owner::is_no_array(&**file).map_err(fault)?, 0);
        while is_read && let Some(fragment) = scanner.next().map_err(fault)? {
            count += 1;
            if count % STRIDE == 0 {
                deadline.check(operation, &path.display(), "the queue to be read")?;
            }
            is_read = !matches!(fragment, Fragment::Damage { .. } | Fragment::Foreign { .. });
        }
        let array = scanner.array();
        // A file without any item counts as empty, even if a bracket is missing.
        let is_empty = !array.any && array.tail.is_none();
        if is_read && (is_empty || array.is_whole()) {
            return Ok(());
        }
        let why = "the file belongs to another program and is not an array of items; nothing was changed";
        Err(self.anothers_queue(operation, path, why))
    }

    /// Fails for a file that [`check_queue`](Self::check_queue) refuses. To be called before the lock file is created.
    pub(super) fn check_before_lock(
        &self,
        operation: &'static str,
        items: &Path,
        journal: &Path,
        deadline: Deadline,
    ) -> Result<()> {
        if self.root.fs.metadata(journal).is_ok() {
            return Ok(());
        }
        match self.root.fs.open(items, OpenMode::Read) {
            Ok(file) => self.check_queue(operation, items, &file.into(), deadline),
            // The call that holds the lock reports any other error.
            Err(_) => Ok(()),
        }
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

    fn walk(
        &self,
        operation: &'static str,
        job: &JobAddress,
        select: Select,
        deadline: Deadline,
    ) -> Result<Option<Walk>> {
        let paths = Paths::of(job);
        let view = View::open(&self.root, operation, &paths, deadline)?;
        let place = |path: &Path| self.root.absolute(path).display().to_string();
        Ok(view.map(|view| Walk {
            view: Some(view),
            operation,
            places: [place(&paths.items), place(&paths.journal)],
            largest: self.root.options.largest_read(),
            limit: self.root.options.max_record_size,
            select,
            ahead: None,
        }))
    }

    pub(crate) fn queue_summary(&self, job: &JobAddress, deadline: Deadline) -> Result<QueueSummary> {
        const OPERATION: &str = "queue summary";
        let mut summary = QueueSummary::default();
        if !self.skip_dead_letters(OPERATION, job, deadline)? {
            return Ok(summary);
        }
        let paths = Paths::of(job);
        let Some(mut view) = View::open(&self.root, OPERATION, &paths, deadline)? else {
            return Ok(summary);
        };
        let fault = |error| self.root.read_fault(OPERATION, &paths.items, error);
        let clock = &*self.root.options.clock;
        let mut count = 0;
        while let Some(seen) = view.next().map_err(fault)? {
            count += 1;
            if count % STRIDE == 0 {
                deadline.check(OPERATION, &paths.items.display(), "the queue to be read")?;
            }
            let (state, eligible) = match seen {
                Seen::Item { range, checksum, .. } => view.state(range, checksum, clock).map_err(fault)?,
                Seen::TooLarge { .. } => (ItemState::Pending, None),
                Seen::Damage(_) => {
                    summary.damaged += 1;
                    continue;
                }
            };
            summary.items += 1;
            let counted = match (state, eligible) {
                (ItemState::Leased, _) => &mut summary.leased,
                (_, None) => &mut summary.unreadable,
                (_, Some(false)) => &mut summary.parked,
                (ItemState::Delayed, Some(true)) => &mut summary.delayed,
                (ItemState::Pending, Some(true)) => &mut summary.pending,
            };
            *counted += 1;
        }
        summary.bytes = view.bytes;
        summary.mark = view.mark();
        Ok(summary)
    }

    /// Counts the dead letters of another program, which no operation on the queue reads. They are single files below
    /// the queue's folder or, in an earlier layout, below the repository's state. Or a single file for all of them, or
    /// an index, is in the queue's folder. Returns false if that folder is empty.
    pub(super) fn skip_dead_letters(
        &self,
        operation: &'static str,
        job: &JobAddress,
        deadline: Deadline,
    ) -> Result<bool> {
        let items_in = |folder: &Path| {
            deadline.check(operation, &folder.display(), "its turn")?;
            let names = self.root.names_in(operation, folder)?.into_iter();
            let items = names.filter(|entry| is_json(&entry)).map(|entry| entry.name);
            Ok::<Vec<String>, StorageError>(items.collect())
        };
        let below = Path::new(EARLIER_QUEUES).join(job.job.as_str()).join("items");
        let skip = |folder: &Path| {
            let items = items_in(folder)?;
            self.root.skip_files(ForeignKind::DeadLetters, folder, &items);
            Ok::<_, StorageError>(items.len())
        };
        skip(&state_folder(&job.repo).join(&below))?;
        let folder = queue_folder(job);
        let names = self.root.names_in(operation, &folder)?;
        if names.is_empty() {
            return Ok(false);
        }
        let has = |name: &str| names.iter().any(|entry| entry.name == name);
        if has("mapreduce") {
            skip(&folder.join(below))?;
        }
        // The folder of the queue may have such files, too.
        let items = match has("items") {
            true => skip(&folder.join("items"))?,
            false => 0,
        };
        // An index only lists the dead letters, so it is counted only if none of them exists as a file.
        let is_counted = |name: &str| name == "dlq-items.json" || (name == "index.json" && items == 0);
        let beside = names
            .into_iter()
            .filter(|entry| is_json(&entry) && is_counted(&entry.name));
        let beside: Vec<String> = beside.map(|entry| entry.name).collect();
        self.root.skip_files(ForeignKind::DeadLetters, &folder, &beside);
        Ok(true)
    }

    pub(super) fn is_absent(&self, operation: &'static str, path: &Path) -> Result<bool> {
        // If the file exists, this is the only system call.
        if self.root.fs.metadata_by_path(path).is_ok() {
            return Ok(false);
        }
        match self.root.fs.metadata(path) {
            Ok(_) => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
            Err(error) => Err(self.root.read_fault(operation, path, error)),
        }
    }
}

fn is_json(entry: &&DirEntry) -> bool {
    entry.kind == FileKind::File && entry.name.ends_with(".json")
}

/// True if the selection includes the item. An item with unreadable fields is included.
fn is_selected(select: &Select, entry: &QueueEntry) -> bool {
    select.ids.as_ref().is_none_or(|ids| ids.contains(&entry.id))
        && select.until.is_none_or(|mark| entry.place <= mark)
        && ((select.eligible == Eligible::Any && asks_for_no_facts(select))
            || facts(&entry.body).map_or(true, |facts| suits(select, &facts)))
}

/// Walks through the state that a queue had when the walk began, even if its files are replaced meanwhile.
struct Walk {
    /// The state of the queue; `None` after a failure.
    view: Option<View>,
    operation: &'static str,
    /// The absolute paths of the file of items and of the journal.
    places: [String; 2],
    /// The length of the largest item that is read, in bytes.
    largest: u64,
    limit: u64,
    select: Select,
    ahead: Option<QueueEntry>,
}

impl Walk {
    fn place(&self, in_journal: bool) -> String {
        let [items, journal] = &self.places;
        if in_journal {
            journal.clone()
        } else {
            items.clone()
        }
    }

    fn step(&self, seen: Seen) -> Option<QueueStep> {
        Some(match seen {
            Seen::Damage(Spot {
                in_journal,
                bytes,
                why,
            }) => QueueStep::Damage(Damage {
                place: self.place(in_journal),
                offset: bytes.start,
                len: bytes.end - bytes.start,
                why: why.to_owned(),
            }),
            Seen::TooLarge {
                in_journal,
                bytes,
                id,
                verified,
            } => QueueStep::TooLarge(TooLarge {
                place: self.place(in_journal),
                offset: bytes.start,
                len: bytes.end - bytes.start,
                id,
                verified,
                limit: self.limit,
            }),
            Seen::Item { .. } => return None,
        })
    }

    /// The next step of the walk: a selected item, or damage.
    fn find(&mut self) -> io::Result<Option<QueueStep>> {
        loop {
            let Some(view) = &mut self.view else {
                return Ok(None);
            };
            let Some(seen) = view.next()? else {
                return Ok(None);
            };
            let Seen::Item {
                start,
                range,
                checksum,
                ..
            } = seen
            else {
                return Ok(self.step(seen));
            };
            // An item whose id was not asked for is skipped before its contents are copied.
            if let Some(ids) = &self.select.ids
                && let Some(id) = line::id(view.bytes(range.clone()))
                && !ids.iter().any(|wanted| wanted.as_str() == id)
            {
                continue;
            }
            let end = start + range.len() as u64;
            match view.entry(start, range, checksum, self.largest)? {
                Err(seen) => return Ok(self.step(seen)),
                Ok(entry) if checksum == ItemChecksum::BadFrame => {
                    let is_wanted = is_selected(&self.select, &entry);
                    self.ahead = is_wanted.then_some(entry);
                    return Ok(self.step(Seen::Damage(Spot {
                        in_journal: false,
                        bytes: end.saturating_sub(TRAILER as u64)..end,
                        why: "the frame of a checksum is damaged; its item is whole",
                    })));
                }
                Ok(entry) if is_selected(&self.select, &entry) => return Ok(Some(QueueStep::Entry(entry))),
                Ok(_) => {}
            }
        }
    }
}

impl Iterator for Walk {
    type Item = Result<QueueStep>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(entry) = self.ahead.take() {
            return Some(Ok(QueueStep::Entry(entry)));
        }
        match self.find() {
            Ok(step) => step.map(Ok),
            Err(error) => {
                self.view = None;
                let place = self.place(false);
                let why = "the operating system failed to read the next bytes";
                Some(Err(
                    StorageError::new(ErrorKind::Io, self.operation, place, why).with_source(error)
                ))
            }
        }
    }
}
