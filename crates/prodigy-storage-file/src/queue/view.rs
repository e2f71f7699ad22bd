//! The items of a queue as readers see them: the array with the changes of the journal applied. Readers take no lock.

use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use prodigy_storage_backend::dead_letter::facts_of_line;
use prodigy_storage_backend::{Clock, Deadline, ForeignKind, ItemState, QueueEntry, QueueMark, Result};
use prodigy_storage_layout::{Entry, JobAddress};

use super::journal::{JournalScanner, Piece};
use super::line::{self, ItemChecksum};
use super::load::check_version;
use super::owner;
use super::record::{JournalLine, Record, Verb, parse, parse_large};
use super::scan::{Fragment, Scanner};
use super::standing::End;
use super::turn::{STRIDE, contents, standing_in};
#[cfg(feature = "backup")]
use crate::fs::FileRead;
use crate::fs::{FsFile, OpenMode};
use crate::root::Root;

/// The reasons for reporting bytes of a journal as damage.
pub(super) const NO_RECORD: &str = "it is no record of a change, or its checksum does not hold";
pub(super) const HOLE: &str =
    "a power failure left these bytes blank: they belong to a change that was relaxed or not acknowledged";
/// The reasons for reporting a file of items as a whole as damage.
pub(super) const FEWER: &str = "the file has fewer items than its journal counts";
pub(crate) const NO_ARRAY: &str = "the file has no whole item: it is empty, or was cut or overwritten";

/// The changes of one item that the journal states.
#[derive(Clone, Copy, Debug, Default)]
struct Changed {
    last: u64,
    is_gone: bool,
    /// True if the walk through the array has reached the item.
    is_seen: bool,
    /// The last record that states the item's place, lease and delay, and the last one that states its contents: offset
    /// and length each. A length of 0 means that no such record exists.
    standing: (u64, u32),
    item: (u64, u32),
}

/// A range of damaged bytes in the array or in the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Spot {
    pub(super) in_journal: bool,
    pub(super) bytes: Range<u64>,
    pub(super) why: &'static str,
}

/// One result of a walk through a queue.
#[derive(Debug)]
pub(super) enum Seen {
    Item {
        start: u64,
        range: Range<usize>,
        checksum: ItemChecksum,
    },
    Damage(Spot),
    /// An item that is larger than the limit: its bytes, its id, and true if its checksum matches.
    TooLarge {
        in_journal: bool,
        bytes: Range<u64>,
        id: Option<String>,
        verified: bool,
    },
}

/// Walks through the items that a queue had when the walk began, even if its files are replaced meanwhile.
#[derive(Debug)]
pub(super) struct View {
    items: Option<Scanner>,
    journal: Option<Arc<dyn FsFile>>,
    changes: HashMap<u64, Changed, foldhash::fast::RandomState>,
    /// The damaged ranges of the journal that were not returned yet.
    spots: std::vec::IntoIter<Spot>,
    pub(super) spoilt: bool,
    counter: u64,
    /// The counter and the number of items when the journal was created, if its first line states both.
    begun: Option<(u64, u64)>,
    /// The number of items that the walk has reached and that existed when the journal was created.
    counted: u64,
    /// The total length of both files, in bytes.
    pub(super) bytes: u64,
    /// The greatest birth of the items that were read so far.
    last: u64,
    /// True if this project wrote the file of items. `None` until this has to be known.
    ours: Option<bool>,
    path: PathBuf,
    root: Arc<Root>,
}

/// The paths of a queue's two files.
#[derive(Clone, Debug)]
pub(super) struct Paths {
    pub(super) items: PathBuf,
    pub(super) journal: PathBuf,
}

impl Paths {
    pub(super) fn of(job: &JobAddress) -> Self {
        Self {
            items: Entry::Queue(job.clone()).path(),
            journal: Entry::QueueJournal(job.clone()).path(),
        }
    }
}

/// The two files of a queue, opened so that they match.
pub(super) struct Opened {
    pub(super) items: Option<Scanner>,
    pub(super) journal: Option<Arc<dyn FsFile>>,
}

/// Opens the two files of a queue so that the journal has every change of the items.
pub(super) fn open_both(
    root: &Root,
    operation: &'static str,
    paths: &Paths,
    deadline: Deadline,
) -> Result<Opened> {
    let open = |path: &Path| match root.fs.open(path, OpenMode::Read) {
        Ok(file) => Ok(Some(Arc::<dyn FsFile>::from(file))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(root.read_fault(operation, path, error)),
    };
    loop {
        let journal = open(&paths.journal)?;
        let fault = |error| root.read_fault(operation, &paths.items, error);
        let items = match open(&paths.items)? {
            // The length is fixed here. Then the open journal has all changes of the items up to this length.
            Some(file) => Some(
                Scanner::new(file, root.options.largest_read())
                    .and_then(Scanner::bounded)
                    .map_err(fault)?,
            ),
            None => None,
        };
        let fault = |error| root.read_fault(operation, &paths.journal, error);
        let known = match &journal {
            Some(file) => Some(file.metadata().map_err(fault)?.identity),
            None => None,
        };
        let now = match root.fs.metadata(&paths.journal) {
            Ok(found) => Some(found.identity),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(fault(error)),
        };
        if known == now {
            return Ok(Opened { items, journal });
        }
        deadline.check(
            operation,
            &paths.items.display(),
            "a queue that no other process replaces",
        )?;
    }
}

impl View {
    /// Opens a queue for reading. `None` if it does not exist.
    pub(super) fn open(
        root: &Arc<Root>,
        operation: &'static str,
        paths: &Paths,
        deadline: Deadline,
    ) -> Result<Option<Self>> {
        let Opened { items, journal } = open_both(root, operation, paths, deadline)?;
        if items.is_none() && journal.is_none() {
            return Ok(None);
        }
        let mut view = Self {
            bytes: items.as_ref().map_or(0, Scanner::len),
            items,
            // Only this library writes a journal. Beside one, the file of items is ours, too.
            ours: journal.is_some().then_some(true),
            journal,
            changes: HashMap::default(),
            spots: Vec::new().into_iter(),
            spoilt: false,
            counter: 0,
            begun: None,
            counted: 0,
            last: 0,
            path: paths.items.clone(),
            root: Arc::clone(root),
        };
        view.read_journal(operation, paths, deadline)?;
        view.pass_over_no_array()
            .map_err(|error| root.read_fault(operation, &paths.items, error))?;
        Ok(Some(view))
    }

    /// Skips the file of another program if it is a single long JSON value.
    fn pass_over_no_array(&mut self) -> io::Result<()> {
        if let (None, Some(items)) = (self.ours, &self.items)
            && owner::is_no_array(items.file())?
        {
            self.ours = Some(false);
            self.note_foreign(0, items.len());
            self.items = None;
        }
        Ok(())
    }

    fn read_journal(&mut self, operation: &'static str, paths: &Paths, deadline: Deadline) -> Result<()> {
        let Some(file) = &self.journal else {
            return Ok(());
        };
        let root = Arc::clone(&self.root);
        let fault = |error| root.read_fault(operation, &paths.journal, error);
        let limit = root.options.largest_read();
        let mut scanner = JournalScanner::new(Arc::clone(file), limit, 0).map_err(fault)?;
        let (mut spots, mut count) = (Vec::new(), 0);
        while let Some(piece) = scanner.next().map_err(fault)? {
            count += 1;
            if count % STRIDE == 0 {
                deadline.check(operation, &paths.journal.display(), "the journal to be read")?;
            }
            let (bytes, why) = match piece {
                Piece::Line { start, range } => {
                    let len = range.len() as u64;
                    match parse(scanner.bytes(range)) {
                        Some(JournalLine::Header {
                            version,
                            counter,
                            items,
                        }) => {
                            check_version(&root, operation, &paths.journal, version)?;
                            self.counter = self.counter.max(counter);
                            self.begun = items.map(|items| (counter, items));
                            continue;
                        }
                        Some(JournalLine::Record(record)) => {
                            note(&mut self.changes, &mut self.counter, &record, start, len);
                            continue;
                        }
                        None => (start..start + len, NO_RECORD),
                    }
                }
                Piece::TooLarge { start, end, head } => match parse_large(&head) {
                    Some(record) => {
                        note(&mut self.changes, &mut self.counter, &record, start, end - start);
                        continue;
                    }
                    None => (start..end, NO_RECORD),
                },
                Piece::Damage { start, end, hole } => (start..end, if hole { HOLE } else { NO_RECORD }),
            };
            spots.push(Spot {
                in_journal: true,
                bytes,
                why,
            });
        }
        self.bytes += scanner.len();
        self.spoilt = !spots.is_empty();
        self.spots = spots.into_iter();
        Ok(())
    }

    /// True if the file belongs to another program and holds anything that is not an item.
    pub(super) fn has_others(&self) -> bool {
        self.ours == Some(false)
    }

    /// True if this project wrote the file of items. The file is examined only once.
    pub(super) fn is_ours(&mut self) -> io::Result<bool> {
        let ours = match (self.ours, &self.items) {
            (Some(ours), _) => ours,
            (None, Some(items)) => {
                owner::is_ours(items.file())? || owner::is_overwritten(&self.root, &self.path, items.file())?
            }
            (None, None) => true,
        };
        self.ours = Some(ours);
        Ok(ours)
    }

    /// True if bytes that are not an item belong to another program. They are then counted as skipped.
    fn skips(&mut self, start: u64, end: u64) -> io::Result<bool> {
        let ours = self.is_ours()?;
        if !ours {
            self.note_foreign(start, end);
        }
        Ok(!ours)
    }

    fn note_foreign(&self, start: u64, end: u64) {
        let foreign = &self.root.foreign;
        foreign.skip_line(ForeignKind::DeadLetters, &self.path, start, end - start);
    }

    /// The number of the last change. It is complete after all items were read.
    pub(super) fn mark(&self) -> QueueMark {
        QueueMark(self.counter)
    }

    /// The next item that was not removed, or the next damaged bytes.
    pub(super) fn next(&mut self) -> io::Result<Option<Seen>> {
        if let Some(spot) = self.spots.next() {
            return Ok(Some(Seen::Damage(spot)));
        }
        while let Some(items) = &mut self.items
            && let Some(fragment) = items.next()?
        {
            let (start, end, range, checksum, large) = match fragment {
                Fragment::Item {
                    start,
                    range,
                    checksum,
                } => (start, start + range.len() as u64, range, checksum, None),
                Fragment::TooLarge {
                    start,
                    end,
                    checksum,
                    head,
                } => (start, end, 0..0, checksum, Some(line::head_id(&head))),
                Fragment::Foreign { start, end } => {
                    // Array elements of another program are counted as skipped, even in a file of ours.
                    self.is_ours()?;
                    self.note_foreign(start, end);
                    continue;
                }
                Fragment::Damage { start, end, .. } if self.skips(start, end)? => continue,
                Fragment::Damage { start, end, why } => {
                    self.spoilt = true;
                    return Ok(Some(Seen::Damage(Spot {
                        in_journal: false,
                        bytes: start..end,
                        why,
                    })));
                }
            };
            let Some(items) = &mut self.items else {
                return Ok(None);
            };
            let numbers = match large {
                None => line::numbers(items.bytes(range.clone()), checksum),
                Some(_) => line::large_numbers(items.file(), start..end)?,
            };
            let birth = match numbers.birth {
                // Items whose lines state no birth are numbered from 1.
                0 => self.last + 1,
                birth => birth,
            };
            self.last = self.last.max(birth);
            self.counter = self.counter.max(birth).max(numbers.change);
            if self.begun.is_some_and(|(counter, _)| birth <= counter) {
                self.counted += 1;
            }
            if let Some(changed) = self.changes.get_mut(&birth) {
                changed.is_seen = true;
            }
            let changed = self
                .changes
                .get(&birth)
                .filter(|changed| numbers.birth != 0 && changed.last > numbers.change);
            if changed.is_some_and(|changed| changed.is_gone) {
                continue;
            }
            if let Some(id) = large
                && changed.is_none_or(|changed| changed.item.1 == 0)
            {
                return Ok(Some(Seen::TooLarge {
                    in_journal: false,
                    bytes: start..end,
                    id,
                    verified: checksum == ItemChecksum::Valid,
                }));
            }
            return Ok(Some(Seen::Item {
                start,
                range,
                checksum,
            }));
        }
        self.end()
    }

    /// Ends the walk. If the file of items as a whole is damaged, this is the last result.
    fn end(&mut self) -> io::Result<Option<Seen>> {
        let known = self.items.as_ref().map(|items| (items.array(), items.len()));
        let (array, end) = known.unwrap_or_default();
        if let Some(start) = array.tail {
            self.skips(start, end)?;
        }
        let has_no_array = known.is_some() && array.is_bare(self.journal.is_some()) && self.is_ours()?;
        self.items = None;
        let begun = self.begun.take();
        if self.spoilt {
            return Ok(None);
        }
        let is_fewer = |(counter, items)| self.counted + self.removed_before(counter) < items;
        let why = match begun.is_some_and(is_fewer) {
            true => FEWER,
            false if has_no_array => NO_ARRAY,
            false => return Ok(None),
        };
        self.spoilt = true;
        Ok(Some(Seen::Damage(Spot {
            in_journal: false,
            bytes: end..end,
            why,
        })))
    }

    /// The number of items that existed when the journal was created, were removed since, and have no line any more.
    fn removed_before(&self, counter: u64) -> u64 {
        let removed = self
            .changes
            .iter()
            .filter(|(birth, changed)| **birth <= counter && changed.is_gone && !changed.is_seen);
        removed.count() as u64
    }

    /// The bytes of the item that was returned last.
    pub(super) fn bytes(&self, range: Range<usize>) -> &[u8] {
        self.items.as_ref().map_or(&[], |items| items.bytes(range))
    }

    /// The current state of the item that was returned last, or the reason why it can't be read. `limit` is the length
    /// of the largest item that is read.
    pub(super) fn entry(
        &self,
        start: u64,
        range: Range<usize>,
        checksum: ItemChecksum,
        limit: u64,
    ) -> io::Result<std::result::Result<QueueEntry, Seen>> {
        let bytes = self.bytes(range);
        let stored = line::read(bytes, checksum);
        let birth = stored.as_ref().map_or_else(
            || line::numbers(bytes, checksum).birth,
            |stored| stored.numbers.birth,
        );
        let folded = stored.as_ref().map_or(0, |stored| stored.numbers.change);
        let changed = self
            .changes
            .get(&birth)
            .filter(|changed| birth != 0 && changed.last > folded);
        let damage = |in_journal, bytes, why| {
            Ok(Err(Seen::Damage(Spot {
                in_journal,
                bytes,
                why,
            })))
        };
        let mut entry = stored.map(|stored| stored.entry);
        if let Some(Changed {
            item: (offset, len), ..
        }) = changed
            && *len > 0
        {
            let text = self.record(*offset, *len)?;
            let record_bytes = *offset..*offset + u64::from(*len);
            if u64::from(*len) > limit.saturating_add(line::ROOM as u64) {
                let head = text.get(..text.len().min(8 << 10)).unwrap_or_default();
                let id = parse_large(head).and_then(|record| line::head_id(record.item.as_bytes()));
                return Ok(Err(Seen::TooLarge {
                    in_journal: true,
                    bytes: record_bytes,
                    id,
                    verified: true,
                }));
            }
            let Some(now) = contents(&text) else {
                return damage(true, record_bytes, NO_RECORD);
            };
            let (place, lease, delay) = match entry {
                Some(entry) => (entry.place, entry.lease, entry.delay),
                None => (QueueMark(birth), None, None),
            };
            entry = Some(QueueEntry {
                place,
                lease,
                delay,
                ..now
            });
        }
        let Some(mut entry) = entry else {
            return damage(false, start..start + bytes.len() as u64, "it is not an item");
        };
        if let Some(Changed {
            standing: (offset, len),
            ..
        }) = changed
            && *len > 0
        {
            let Some(standing) = standing_in(&self.record(*offset, *len)?, true) else {
                return damage(true, *offset..*offset + u64::from(*len), NO_RECORD);
            };
            entry.place = QueueMark(standing.place);
            entry.lease = standing.lease;
            entry.delay = standing.delay;
        }
        if birth == 0 {
            entry.place = QueueMark(self.last);
            entry.revision = entry.place;
        }
        Ok(Ok(entry))
    }

    /// Like [`entry`](Self::entry) without a limit. Also returns the item's birth, and true if the journal changes the
    /// item.
    #[cfg(feature = "backup")]
    pub(super) fn current(
        &self,
        start: u64,
        range: Range<usize>,
        checksum: ItemChecksum,
    ) -> io::Result<std::result::Result<(QueueEntry, u64, bool), Seen>> {
        let numbers = line::numbers(self.bytes(range.clone()), checksum);
        let changed = self.changes.get(&numbers.birth);
        let is_changed = numbers.birth != 0 && changed.is_some_and(|changed| changed.last > numbers.change);
        let birth = if numbers.birth == 0 {
            self.last
        } else {
            numbers.birth
        };
        let entry = self.entry(start, range, checksum, u64::MAX)?;
        Ok(entry.map(|entry| (entry, birth, is_changed)))
    }

    /// The bytes of the file of items from this offset on.
    #[cfg(feature = "backup")]
    pub(super) fn bytes_from(&self, offset: u64) -> Option<FileRead<&dyn FsFile>> {
        Some(FileRead::new(self.items.as_ref()?.file(), offset))
    }

    /// The current state of the item that was returned last, and true if it is eligible; `None` instead of the latter
    /// if its fields can't be read.
    pub(super) fn state(
        &self,
        range: Range<usize>,
        checksum: ItemChecksum,
        clock: &dyn Clock,
    ) -> io::Result<(ItemState, Option<bool>)> {
        let bytes = self.bytes(range);
        let outline = line::outline(bytes, checksum, |_| 1).unwrap_or_default();
        let numbers = outline.numbers;
        let changed = self
            .changes
            .get(&numbers.birth)
            .filter(|changed| numbers.birth != 0 && changed.last > numbers.change);
        let eligible = |text: &[u8]| facts_of_line(text).ok().map(|facts| facts.eligible);
        let mut is_eligible = eligible(bytes);
        let mut hold = outline.hold;
        if let Some(changed) = changed {
            let (offset, len) = changed.item;
            if len > 0 {
                let text = self.record(offset, len)?;
                if let Some(JournalLine::Record(record)) = parse(&text) {
                    is_eligible = eligible(record.item.as_bytes());
                }
            }
            let (offset, len) = changed.standing;
            if len > 0 {
                let text = self.record(offset, len)?;
                if let Some(JournalLine::Record(record)) = parse(&text) {
                    let claim = record.standing.claim().flatten();
                    hold = claim.map(|claim| (u64::from(claim.token.is_some()), claim.end));
                }
            }
        }
        let state = match hold {
            Some((token, end)) if !has_ended(end, clock) => match token {
                0 => ItemState::Delayed,
                _ => ItemState::Leased,
            },
            _ => ItemState::Pending,
        };
        Ok((state, is_eligible))
    }

    fn record(&self, offset: u64, len: u32) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; len as usize];
        let read = match &self.journal {
            Some(file) => file.read_full_at(&mut bytes, offset)?,
            None => 0,
        };
        bytes.truncate(read);
        Ok(bytes)
    }
}

fn has_ended(end: End, clock: &dyn Clock) -> bool {
    match end {
        End::At(end) => end.has_come(clock.uptime()),
        End::Wall(until) => super::index::wall_lease(until).has_ended(clock),
    }
}

fn note(
    changes: &mut HashMap<u64, Changed, foldhash::fast::RandomState>,
    counter: &mut u64,
    record: &Record<'_>,
    start: u64,
    len: u64,
) {
    *counter = (*counter).max(record.change);
    let changed = changes.entry(record.birth).or_default();
    let place = (start, u32::try_from(len).unwrap_or(u32::MAX));
    changed.last = changed.last.max(record.change);
    changed.is_gone |= record.verb == Verb::Remove;
    if record.verb.has_standing() {
        changed.standing = place;
    }
    if record.verb.has_item() {
        changed.item = place;
    }
}
