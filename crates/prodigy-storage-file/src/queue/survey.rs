//! Examines a queue for the doctor, and compacts it without its damage.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use prodigy_storage_backend::{Deadline, Durability, Result, TooLarge};
use prodigy_storage_layout::{Entry, JobAddress};

use super::Queues;
use super::compact::Unreadable;
use super::journal::{JournalScanner, Piece};
use super::line::{self, ItemChecksum, TRAILER};
use super::load::check_version;
use super::owner;
use super::record::{JournalLine, Record, Verb, parse, parse_large};
use super::scan::{Fragment, LOST_WRITE, Scanner};
use super::turn::Turn;
use super::view::{HOLE, NO_RECORD, Opened, Paths, open_both};
use crate::fs::FsFile;
use crate::root::LockedFile;

const EXAMINE: &str = "examine queue";
const REPAIR: &str = "repair queue";
/// The largest number of the counter's numbers that are checked for gaps. It limits the memory for this.
const NUMBERS: u64 = 1 << 27;

/// A range of damaged bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spot {
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) why: &'static str,
    /// True if the damage lost no acknowledged data.
    pub(crate) harmless: bool,
}

/// The result of examining a queue.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    /// The number of readable items.
    pub(crate) items: u64,
    /// The number of readable items without a checksum.
    pub(crate) unverified: u64,
    pub(crate) spots: Vec<Spot>,
    /// Items that are larger than the limit. They are not damage.
    pub(crate) too_large: Vec<TooLarge>,
    /// The offset of a write that was cut short; `None` without one.
    pub(crate) torn: Option<u64>,
    /// True if the array has its closing bracket.
    pub(crate) closed: bool,
    pub(crate) len: u64,
    /// The number of array elements that another program wrote.
    pub(crate) others: u64,
    /// True if this project wrote the file.
    pub(crate) ours: bool,
    /// True if text has taken the place of the file. Nothing else is surveyed then.
    pub(crate) is_overwritten: bool,
    /// The survey of the journal, if it is there.
    pub(crate) journal: Option<JournalSurvey>,
    /// True if the array refers to changes of a journal, and the journal is missing.
    pub(crate) has_lost_journal: bool,
    /// True if a file of ours has no item, although none of our writers leaves such a file.
    pub(crate) has_no_array: bool,
    /// The number of items that are missing although no change removed them, as far as the counter's numbers show this.
    pub(crate) missing: u64,
    /// The greatest number of the counter in both files.
    pub(crate) last: u64,
}

/// The result of examining a journal.
#[derive(Debug, Default)]
pub(crate) struct JournalSurvey {
    pub(crate) spots: Vec<Spot>,
    /// The offset of a write that was cut short; `None` without one.
    pub(crate) torn: Option<u64>,
    pub(crate) len: u64,
    /// True if the first line of the journal is present.
    pub(crate) has_header: bool,
    /// Numbers of the counter that occur in neither file: the first and the last one of each gap.
    pub(crate) gaps: Vec<(u64, u64)>,
    /// The number of changes that have the same number as another change.
    pub(crate) doubles: u64,
}

impl Survey {
    /// True if everything in the file was read, and is an item.
    pub(crate) fn is_read(&self) -> bool {
        self.others == 0 && self.spots.is_empty() && self.torn.is_none()
    }

    /// True if a repair would change the queue.
    pub(crate) fn is_damaged(&self) -> bool {
        let journal = |journal: &JournalSurvey| {
            !journal.spots.is_empty()
                || !journal.has_header
                || !journal.gaps.is_empty()
                || journal.doubles > 0
        };
        !self.spots.is_empty()
            || self.has_lost_journal
            || self.has_no_array
            || self.missing > 0
            || self.journal.as_ref().is_some_and(journal)
    }
}

/// The numbers of the counter that occur in a queue's files.
#[derive(Debug, Default)]
struct Seen {
    /// The value of the counter when the journal was created.
    from: Option<u64>,
    /// The number of items when the journal was created.
    items: Option<u64>,
    /// One bit for each number above `from`. It is set if the number occurs in an item or a record.
    bits: Vec<u64>,
    births: Vec<u64>,
    /// The number of items whose line states no birth.
    unborn: u64,
    changes: Vec<u64>,
    named: Vec<u64>,
    removed: Vec<u64>,
    last: u64,
}

impl Seen {
    fn mark(&mut self, number: u64) -> bool {
        let from = self.from.unwrap_or_default();
        let Some(at) = number.checked_sub(from + 1).filter(|at| *at < NUMBERS) else {
            return false;
        };
        let word = (at / 64) as usize;
        if self.bits.len() <= word {
            self.bits.resize(word + 1, 0);
        }
        let bit = 1 << (at % 64);
        match self.bits.get_mut(word) {
            Some(word) if *word & bit == 0 => {
                *word |= bit;
                false
            }
            found => found.is_some(),
        }
    }

    /// The number of items whose line is missing although no change removed them.
    fn missing(&self) -> u64 {
        let from = self.from.unwrap_or_default();
        let mut known: Vec<u64> = self.births.iter().chain(&self.removed).copied().collect();
        known.sort_unstable();
        known.dedup();
        let mut changed = self.named.clone();
        changed.sort_unstable();
        changed.dedup();
        changed.retain(|birth| known.binary_search(birth).is_err());
        let old = known.partition_point(|birth| *birth <= from) as u64;
        let old_changed = changed.partition_point(|birth| *birth <= from) as u64;
        let uncounted = match (self.from, self.items) {
            (Some(_), Some(items)) => items.saturating_sub(old),
            (Some(_), None) => 0,
            // Without a journal, no item was removed yet, so each number of the counter is the birth of an item.
            (None, _) => {
                let last = known.last().copied().unwrap_or_default();
                last.saturating_sub(known.len() as u64 + self.unborn)
            }
        };
        uncounted.max(old_changed) + changed.len() as u64 - old_changed
    }

    /// The gaps between the numbers, and how many numbers occur twice.
    fn judge(mut self) -> (Vec<(u64, u64)>, u64) {
        let Some(from) = self.from else {
            return (Vec::new(), 0);
        };
        let own: Vec<u64> = self.births.drain(..).chain(self.changes.drain(..)).collect();
        let doubles = own.into_iter().filter(|number| self.mark(*number)).count() as u64;
        // If a crash interrupted a compaction, the line of a removed item is gone, but the old journal still names the
        // item's birth.
        for named in std::mem::take(&mut self.named) {
            self.mark(named);
        }
        let mut gaps: Vec<(u64, u64)> = Vec::new();
        let is_there = |number: u64| {
            let at = number - from - 1;
            self.bits
                .get((at / 64) as usize)
                .is_some_and(|word| word & (1 << (at % 64)) != 0)
        };
        for number in from + 1..=self.last.min(from + NUMBERS) {
            match gaps.last_mut() {
                _ if is_there(number) => {}
                Some((_, last)) if *last + 1 == number => *last = number,
                _ => gaps.push((number, number)),
            }
        }
        (gaps, doubles)
    }
}

impl Queues {
    /// Examines both files of a queue without a lock; `None` if the file of items does not exist.
    pub(crate) fn queue_survey_at(&self, job: &JobAddress, deadline: Deadline) -> Result<Option<Survey>> {
        let paths = Paths::of(job);
        let Opened { items, journal } = open_both(&self.root, EXAMINE, &paths, deadline)?;
        let Some(scanner) = items else {
            return Ok(None);
        };
        self.survey(&paths, journal, &scanner.file_handle()).map(Some)
    }

    fn survey(
        &self,
        paths: &Paths,
        journal: Option<Arc<dyn FsFile>>,
        items: &Arc<dyn FsFile>,
    ) -> Result<Survey> {
        let mut seen = Seen::default();
        // The journal is read before the array, so the items of changes that are made meanwhile need not be found.
        let journal = match journal {
            Some(file) => Some(self.survey_journal(&paths.journal, &file, &mut seen)?),
            None => None,
        };
        let fault = |error| self.root.read_fault(EXAMINE, &paths.items, error);
        if journal.is_none() && owner::is_overwritten(&self.root, &paths.items, &**items).map_err(fault)? {
            return Ok(Survey {
                ours: true,
                is_overwritten: true,
                len: items.metadata().map_err(fault)?.len,
                ..Survey::default()
            });
        }
        if journal.is_none() && owner::is_no_array(&**items).map_err(fault)? {
            return Ok(Survey {
                others: 1,
                ..Survey::default()
            });
        }
        // Reads the array up to its current length, which covers each item that the journal names.
        let limit = self.root.options.largest_read();
        let scanner = Scanner::new(Arc::clone(items), limit)
            .and_then(Scanner::bounded)
            .map_err(fault)?;
        let mut survey = self.survey_items(&paths.items, scanner, &mut seen)?;
        // Only this library writes a journal, so a queue that has one is ours.
        survey.ours |= journal.is_some();
        survey.has_lost_journal = journal.is_none() && survey.has_lost_journal;
        survey.has_no_array &= survey.ours;
        let lines = seen.births.len();
        seen.births.retain(|birth| *birth > 0);
        seen.unborn = (lines - seen.births.len()) as u64;
        // A damaged line may be the missing item, and a missing journal may have removed it. The number is then not
        // computed.
        let is_whole = survey.spots.is_empty()
            && !survey.has_lost_journal
            && journal
                .as_ref()
                .is_none_or(|journal| journal.spots.is_empty() && journal.has_header);
        if survey.ours && is_whole {
            survey.missing = seen.missing();
        }
        survey.last = seen
            .births
            .iter()
            .copied()
            .fold(seen.last.max(seen.from.unwrap_or_default()), u64::max);
        survey.journal = journal;
        if let Some(journal) = &mut survey.journal {
            // The numbers of damaged lines are unknown, so they show up as gaps. The caller does not report these.
            (journal.gaps, journal.doubles) = seen.judge();
        }
        Ok(survey)
    }

    fn survey_items(&self, path: &Path, mut scanner: Scanner, seen: &mut Seen) -> Result<Survey> {
        let fault = |error| self.root.read_fault(EXAMINE, path, error);
        let mut survey = Survey {
            ours: owner::is_ours(scanner.file()).map_err(fault)?,
            ..Survey::default()
        };
        while let Some(fragment) = scanner.next().map_err(fault)? {
            match fragment {
                Fragment::Foreign { .. } => survey.others += 1,
                Fragment::Damage { start, end, why } => survey.spots.push(Spot {
                    start,
                    end,
                    why,
                    harmless: why == LOST_WRITE,
                }),
                Fragment::TooLarge {
                    start,
                    end,
                    checksum,
                    head,
                } => {
                    let verified = checksum == ItemChecksum::Valid;
                    let numbers = line::large_numbers(scanner.file(), start..end).map_err(fault)?;
                    seen.births.push(numbers.birth);
                    let id = line::head_id(&head);
                    survey
                        .too_large
                        .push(self.too_large(path, start..end, id, verified));
                }
                Fragment::Item {
                    start,
                    range,
                    checksum,
                } => {
                    let bytes = scanner.bytes(range);
                    let end = start + bytes.len() as u64;
                    let Some(stored) = line::read(bytes, checksum) else {
                        survey.spots.push(Spot {
                            start,
                            end,
                            why: "it is not an item",
                            harmless: false,
                        });
                        continue;
                    };
                    seen.births.push(stored.numbers.birth);
                    survey.has_lost_journal |= stored.numbers.change > 0;
                    survey.items += 1;
                    survey.unverified += u64::from(checksum == ItemChecksum::Missing);
                    if checksum == ItemChecksum::BadFrame {
                        survey.spots.push(Spot {
                            start: end.saturating_sub(TRAILER as u64),
                            end,
                            why: "the frame of a checksum is damaged; its item is whole",
                            harmless: true,
                        });
                    }
                }
            }
        }
        survey.torn = scanner.array().tail;
        survey.has_no_array = scanner.array().is_bare(seen.from.is_some());
        survey.closed = scanner.array().closed;
        survey.len = scanner.len();
        Ok(survey)
    }

    fn survey_journal(&self, path: &Path, file: &Arc<dyn FsFile>, seen: &mut Seen) -> Result<JournalSurvey> {
        let fault = |error| self.root.read_fault(EXAMINE, path, error);
        let mut survey = JournalSurvey::default();
        let limit = self.root.options.largest_read();
        let mut scanner = JournalScanner::new(Arc::clone(file), limit, 0).map_err(fault)?;
        let mut note = |record: &Record<'_>| {
            seen.changes.push(record.change);
            seen.named.push(record.birth);
            if record.verb == Verb::Remove {
                seen.removed.push(record.birth);
            }
            seen.last = seen.last.max(record.change);
        };
        while let Some(piece) = scanner.next().map_err(fault)? {
            let (start, end, why) = match piece {
                Piece::Line { start, range } => {
                    let end = start + range.len() as u64;
                    match parse(scanner.bytes(range)) {
                        Some(JournalLine::Header {
                            version,
                            counter,
                            items,
                        }) => {
                            check_version(&self.root, EXAMINE, path, version)?;
                            survey.has_header = true;
                            (seen.from, seen.items) = (Some(counter), items);
                            continue;
                        }
                        Some(JournalLine::Record(record)) => {
                            note(&record);
                            continue;
                        }
                        None => (start, end, NO_RECORD),
                    }
                }
                Piece::TooLarge { start, end, head } => match parse_large(&head) {
                    Some(record) => {
                        note(&record);
                        continue;
                    }
                    None => (start, end, NO_RECORD),
                },
                Piece::Damage { start, end, hole } => (start, end, if hole { HOLE } else { NO_RECORD }),
            };
            survey.spots.push(Spot {
                start,
                end,
                why,
                harmless: why == HOLE,
            });
        }
        survey.torn = scanner.tail();
        survey.len = scanner.len();
        Ok(survey)
    }

    /// Describes an item that is larger than the limit, for a report.
    fn too_large(&self, path: &Path, bytes: Range<u64>, id: Option<String>, verified: bool) -> TooLarge {
        TooLarge {
            place: self.root.absolute(path).display().to_string(),
            offset: bytes.start,
            len: bytes.end - bytes.start,
            id,
            verified,
            limit: self.root.options.max_record_size,
        }
    }

    /// Compacts a queue without its damage, under its lock. First calls `keep` with each damaged file and its damage,
    /// to copy the damage. Returns false if nothing is damaged.
    pub(crate) fn queue_rebuild(
        &self,
        job: &JobAddress,
        deadline: Deadline,
        mut keep: impl FnMut(&Path, &dyn FsFile, &[Spot]) -> Result<()>,
    ) -> Result<bool> {
        self.root.prepare_write(REPAIR, job)?;
        if self.move_overwritten(job, deadline, &mut keep)? {
            return Ok(true);
        }
        let mut turn = Turn::begin_within(self, REPAIR, job, "repair", deadline, Deadline::never())?;
        let Some(items) = &turn.files.items else {
            return Ok(false);
        };
        let paths = Paths::of(job);
        let journal = turn
            .files
            .journal
            .as_ref()
            .map(|journal| Arc::clone(&journal.open.file));
        let survey = self.survey(&paths, journal.clone(), &items.open.file)?;
        if !survey.ours || !survey.is_damaged() {
            return Ok(false);
        }
        if !survey.spots.is_empty() {
            keep(&paths.items, &*items.open.file, &survey.spots)?;
        }
        if let (Some(found), Some(file)) = (&survey.journal, &journal)
            && !found.spots.is_empty()
        {
            keep(&paths.journal, &**file, &found.spots)?;
        }
        turn.compact(Unreadable::Dropped)?;
        turn.end(Durability::Strict)?;
        Ok(true)
    }

    /// Removes a file of items without a journal if text has taken its place, under the lock of the queue, after `keep` copied it.
    /// Returns false if it is no such file.
    fn move_overwritten(
        &self,
        job: &JobAddress,
        deadline: Deadline,
        keep: &mut impl FnMut(&Path, &dyn FsFile, &[Spot]) -> Result<()>,
    ) -> Result<bool> {
        let lock = Entry::QueueLock(job.clone()).path();
        let _lock = LockedFile::take(&self.root, &lock, REPAIR, "repair", deadline)?;
        let paths = Paths::of(job);
        let Opened { items, journal } = open_both(&self.root, REPAIR, &paths, deadline)?;
        let (Some(items), None) = (items, journal) else {
            return Ok(false);
        };
        let fault = |error| self.root.read_fault(REPAIR, &paths.items, error);
        let file = items.file();
        if owner::is_ours(file).map_err(fault)?
            || !owner::is_overwritten(&self.root, &paths.items, file).map_err(fault)?
        {
            return Ok(false);
        }
        let whole = Spot {
            start: 0,
            end: file.metadata().map_err(fault)?.len,
            why: owner::OVERWRITTEN,
            harmless: false,
        };
        keep(&paths.items, file, &[whole])?;
        self.root.unlink(REPAIR, &paths.items)?;
        self.root
            .sync_folder(paths.items.parent().unwrap_or(Path::new("")))?;
        Ok(true)
    }

    /// True if the journal exists but the file of items does not.
    pub(crate) fn queue_is_bare(&self, job: &JobAddress) -> bool {
        self.root.fs.metadata(&Entry::Queue(job.clone()).path()).is_err()
    }
}
