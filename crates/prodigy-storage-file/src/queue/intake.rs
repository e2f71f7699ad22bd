//! Reads the files of a queue into an index, with the help of a second thread for long files.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use prodigy_storage_backend::record::{self, Checksum};
use prodigy_storage_backend::{Deadline, Result, StorageError};

use super::index::{Flags, Index, Location, NewItem, Stand};
use super::journal::{JournalScanner, Piece};
use super::line::{self, HEAD, ItemChecksum, Outline};
use super::record::{JournalLine, Record, Verb, parse, parse_large};
use super::scan::{Fragment, Scanner};
use super::turn::STRIDE;
use super::{Queues, SEPARATOR};
use crate::fs::FsFile;

/// The length from which a second thread helps to read a file, in bytes.
const LONG: u64 = 8 << 20;
/// The number of bytes in the middle of a file in which the beginning of an item is searched.
const WINDOW: usize = 1 << 20;
/// The length of the parts of a journal that the two threads read in turn, in bytes.
const PART: u64 = 256 << 10;
/// The expected number of records per part, and the number of finished parts that may wait for the first thread.
const BATCH: usize = 2_048;
const BATCHES: usize = 4;

/// A piece of the file of items, reduced to what the index keeps.
pub(super) enum IntakePiece {
    /// An item: its entry for the index, and the other fields of its line.
    Item(NewItem, Outline),
    /// The byte range of an array element that another program wrote.
    Other(u64, u64),
    /// A range of bytes that is not an item.
    Damage { start: u64, end: u64, why: &'static str },
}

/// Reads from a fragment of the file what the index keeps.
pub(super) fn piece_of(queues: &Queues, scanner: &Scanner, fragment: Fragment) -> io::Result<IntakePiece> {
    let (start, len, outline, hash, large, rough) = match fragment {
        Fragment::Item {
            start,
            range,
            checksum,
        } => {
            let bytes = scanner.bytes(range);
            let outline = line::outline(bytes, checksum, |token| queues.token_hash(token));
            let hash = line::id(bytes).map(|id| queues.hash(&id));
            let rough = checksum != ItemChecksum::Valid;
            (start, bytes.len() as u64, outline, hash, false, rough)
        }
        Fragment::TooLarge { start, end, head, .. } => {
            let hash = line::head_id(&head).map_or(0, |id| queues.hash(&id));
            let numbers = line::large_numbers(scanner.file(), start..end)?;
            let outline = Outline {
                numbers,
                place: numbers.birth,
                ..Outline::default()
            };
            (start, end - start, Some(outline), Some(hash), true, false)
        }
        Fragment::Foreign { start, end } => return Ok(IntakePiece::Other(start, end)),
        Fragment::Damage { start, end, why } => return Ok(IntakePiece::Damage { start, end, why }),
    };
    let (Some(outline), Some(hash)) = (outline, hash) else {
        let (end, why) = (start + len, "it can't be read");
        return Ok(IntakePiece::Damage { start, end, why });
    };
    let new = NewItem {
        birth: outline.numbers.birth,
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
    Ok(IntakePiece::Item(new, outline))
}

/// The greatest numbers that were found in items.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Highest {
    /// The greatest number of the counter, in any field.
    pub(super) number: u64,
    /// The greatest number of a change that a line includes.
    pub(super) change: u64,
}

impl Highest {
    fn note(&mut self, outline: &Outline) {
        let numbers = outline.numbers;
        let number = numbers.birth.max(numbers.revision).max(outline.place);
        self.change = self.change.max(numbers.change);
        self.number = self.number.max(number).max(numbers.change);
    }
}

/// Adds an item to an index. Returns false if the index is full.
pub(super) fn add(index: &mut Index, highest: &mut Highest, new: &NewItem, outline: &Outline) -> bool {
    let Some(at) = index.push(new) else {
        return false;
    };
    let numbers = outline.numbers;
    if outline.place != numbers.birth || outline.hold.is_some() {
        index.stand(
            at,
            &Stand {
                place: outline.place,
                hold: outline.hold,
                text: new.location,
                taken: false,
            },
        );
        let is_changed = outline.hold.is_some() && numbers.revision > outline.place;
        index.set(at, Flags::CHANGED, is_changed);
    }
    highest.note(outline);
    true
}

/// The items in the second half of a file. All of them are whole, and their births ascend.
pub(super) struct Half {
    pub(super) index: Index,
    pub(super) highest: Highest,
    /// The scanner, after it has reached the end of the file.
    pub(super) scanner: Scanner,
}

impl Half {
    /// The offset between two items at which the second half of a long file begins; `None` if the file is not split.
    pub(super) fn begin(file: &dyn FsFile, len: u64) -> io::Result<Option<u64>> {
        if len < LONG {
            return Ok(None);
        }
        let middle = len / 2;
        let mut window = vec![0; WINDOW];
        let read = file.read_full_at(&mut window, middle)?;
        let border = [SEPARATOR, HEAD].concat();
        let found = memchr::memmem::find(window.get(..read).unwrap_or_default(), &border);
        Ok(found.map(|at| middle + at as u64))
    }

    /// Reads the second half of the file. `None` if it differs from what pushes write; the first thread then reads it,
    /// too.
    pub(super) fn read(
        queues: &Queues,
        file: Arc<dyn FsFile>,
        limit: u64,
        from: u64,
        deadline: Deadline,
    ) -> Option<Self> {
        let mut half = Self {
            index: Index::load(),
            highest: Highest::default(),
            scanner: Scanner::resume(file, limit, from, true).ok()?,
        };
        let mut count = 0;
        while let Some(fragment) = half.scanner.next().ok()? {
            count += 1;
            if count % STRIDE == 0 && deadline.has_passed() {
                return None;
            }
            let IntakePiece::Item(new, outline) = piece_of(queues, &half.scanner, fragment).ok()? else {
                return None;
            };
            let is_next = new.birth > half.index.last_birth();
            if new.rough || !is_next || !add(&mut half.index, &mut half.highest, &new, &outline) {
                return None;
            }
        }
        Some(half)
    }
}

/// A piece of the journal, reduced to what the index keeps.
#[derive(Debug)]
pub(super) enum Noted {
    Header {
        version: u64,
        counter: u64,
        items: Option<u64>,
    },
    Change(Change),
    Damage {
        start: u64,
        end: u64,
    },
}

/// The change that a record describes, reduced to what the index keeps.
#[derive(Debug)]
pub(super) struct Change {
    number: u64,
    birth: u64,
    what: What,
}

#[derive(Debug)]
enum What {
    /// The change can't be read from the record.
    Nothing,
    Remove,
    Change {
        /// The location of the new contents, and three flags: true if the item is parked, odd (not readable) or large.
        contents: Option<(Location, [bool; 3])>,
        stand: Option<Stand>,
    },
}

impl Change {
    /// Reads the change that a record describes.
    pub(super) fn of(queues: &Queues, record: &Record<'_>, location: Location, large: bool) -> Self {
        let what = match record.standing.claim() {
            _ if record.verb == Verb::Remove => What::Remove,
            None => What::Nothing,
            Some(claim) => {
                let contents = record.verb.has_item().then(|| {
                    let (parked, odd) = match large {
                        true => (false, false),
                        false => line::eligibility(record.item.as_bytes()),
                    };
                    (location, [parked, odd, large])
                });
                let stand = record.verb.has_standing().then(|| Stand {
                    place: record.standing.place.unwrap_or(record.change),
                    hold: claim
                        .map(|claim| (claim.token.map_or(0, |token| queues.token_hash(token)), claim.end)),
                    text: location,
                    taken: record.verb == Verb::Lease,
                });
                What::Change { contents, stand }
            }
        };
        Self {
            number: record.change,
            birth: record.birth,
            what,
        }
    }

    /// True if the record removes its item.
    pub(super) fn is_removal(&self) -> bool {
        matches!(self.what, What::Remove)
    }

    pub(super) fn birth(&self) -> u64 {
        self.birth
    }

    /// Applies the change to the index, unless the array already includes it. Returns the number of the change.
    pub(super) fn apply(&self, index: &mut Index, folded: u64) -> u64 {
        let Some(at) = index.find(self.birth) else {
            return self.number;
        };
        if self.number <= folded || index.is(at, Flags::DEAD) || index.is(at, Flags::UNBORN) {
            return self.number;
        }
        match &self.what {
            What::Nothing => {}
            What::Remove => index.remove(at),
            What::Change { contents, stand } => {
                if let Some((location, [parked, odd, large])) = *contents {
                    index.rewrite(at, location, parked, odd, large);
                }
                if let Some(stand) = stand {
                    index.stand(at, stand);
                }
            }
        }
        self.number
    }
}

/// Reduces a piece of the journal to what the index keeps.
pub(super) fn noted(queues: &Queues, scanner: &JournalScanner, piece: Piece) -> Noted {
    match piece {
        Piece::Line { start, range } => noted_line(queues, scanner.bytes(range), start),
        Piece::TooLarge { start, end, head } => match parse_large(&head) {
            Some(record) => Noted::Change(Change::of(queues, &record, located(start, end), true)),
            None => Noted::Damage { start, end },
        },
        Piece::Damage { start, end, .. } => Noted::Damage { start, end },
    }
}

/// Reduces a line of the journal, whose checksum matches, to what the index keeps.
fn noted_line(queues: &Queues, bytes: &[u8], start: u64) -> Noted {
    let end = start + bytes.len() as u64;
    match parse(bytes) {
        Some(JournalLine::Header {
            version,
            counter,
            items,
        }) => Noted::Header {
            version,
            counter,
            items,
        },
        Some(JournalLine::Record(record)) => {
            Noted::Change(Change::of(queues, &record, located(start, end), false))
        }
        None => Noted::Damage { start, end },
    }
}

fn located(start: u64, end: u64) -> Location {
    Location {
        in_journal: true,
        offset: start,
        len: end - start,
    }
}

/// The reason why a journal was not read to its end.
#[derive(Debug)]
pub(super) enum Stopped {
    Read(io::Error),
    /// The function that received the pieces failed.
    Taken(StorageError),
}

impl From<io::Error> for Stopped {
    fn from(error: io::Error) -> Self {
        Self::Read(error)
    }
}

impl From<StorageError> for Stopped {
    fn from(error: StorageError) -> Self {
        Self::Taken(error)
    }
}

/// Reads a journal to its end, and passes each piece to `take`. A second thread helps with a long journal. Returns the
/// scanner, which is at the end of the journal.
pub(super) fn read_journal(
    queues: &Queues,
    mut scanner: JournalScanner,
    mut take: impl FnMut(Noted) -> Result<()>,
) -> std::result::Result<JournalScanner, Stopped> {
    if scanner.left() >= LONG {
        let from = read_parts(queues, &scanner, &mut take)?;
        scanner.pass_to(from);
    }
    while let Some(piece) = scanner.next()? {
        take(noted(queues, &scanner, piece))?;
    }
    Ok(scanner)
}

/// Reads the full-length parts of a long journal, up to a line that is not in our form. Returns the offset of that
/// line, or the end of the last part. The caller's thread reads only every third part, because it also applies all
/// pieces.
fn read_parts(
    queues: &Queues,
    scanner: &JournalScanner,
    take: &mut impl FnMut(Noted) -> Result<()>,
) -> std::result::Result<u64, Stopped> {
    let parts = scanner.left() / PART;
    let is_own = |part: u64| part.is_multiple_of(3);
    let mut own = Parts::of(queues, scanner);
    let mut others = Parts::of(queues, scanner);
    std::thread::scope(|scope| {
        let (sender, receiver) = sync_channel(BATCHES);
        std::thread::Builder::new().spawn_scoped(scope, move || {
            for part in (0..parts).filter(|part| !is_own(*part)) {
                let mut batch = Vec::with_capacity(BATCH);
                let read = others.read(part, &mut |noted| {
                    batch.push(noted);
                    Ok(())
                });
                let is_whole = read.as_ref().is_ok_and(|read| read.is_whole);
                // The receiver is gone if the first thread has met an error.
                if sender.send((batch, read)).is_err() || !is_whole {
                    return;
                }
            }
        })?;
        let mut end = scanner.end();
        for part in 0..parts {
            let read = match is_own(part) {
                true => own.read(part, take)?,
                false => {
                    let lost = |_| io::Error::other("the thread that read it ended early");
                    let (batch, read) = receiver.recv().map_err(lost)?;
                    for noted in batch {
                        take(noted)?;
                    }
                    read?
                }
            };
            end = read.end;
            if !read.is_whole {
                break;
            }
        }
        // Without the receiver, a thread that waits for room in the channel ends.
        drop(receiver);
        Ok(end)
    })
}

/// The place where the reading of a part ended.
struct PartEnd {
    /// The offset of the next line.
    end: u64,
    /// False if the line at `end` is not in our form, so that reading stopped there.
    is_whole: bool,
}

/// Reads parts of a journal. A line belongs to the part in which it begins.
struct Parts<'q> {
    queues: &'q Queues,
    file: Arc<dyn FsFile>,
    /// The offset of the first part.
    from: u64,
    /// The length of the longest line that is read here, in bytes.
    limit: usize,
    buffer: Vec<u8>,
}

impl<'q> Parts<'q> {
    fn of(queues: &'q Queues, scanner: &JournalScanner) -> Self {
        Self {
            queues,
            file: scanner.file(),
            from: scanner.end(),
            limit: scanner.limit(),
            // Has room for one byte before the part, and for the end of its last line after it.
            buffer: vec![0; (1 + PART + PART / 4) as usize],
        }
    }

    fn read(
        &mut self,
        part: u64,
        take: &mut impl FnMut(Noted) -> Result<()>,
    ) -> std::result::Result<PartEnd, Stopped> {
        let start = self.from + part * PART;
        let base = start - u64::from(part > 0);
        let read = self.file.read_full_at(&mut self.buffer, base)?;
        let bytes = self.buffer.get(..read).unwrap_or_default();
        let border = usize::try_from(start + PART - base).unwrap_or(usize::MAX);
        let begin = match part {
            0 => Some(0),
            // If no line ends in these bytes, they are within a line of the part before, whose reader stops at that
            // line.
            _ => memchr::memchr(b'\n', bytes).map(|end| end + 1),
        };
        let (mut at, mut is_whole) = (begin.unwrap_or_default(), begin.is_some());
        while is_whole && at < border {
            let rest = bytes.get(at..).unwrap_or_default();
            let line = memchr::memchr(b'\n', rest).and_then(|len| rest.get(..len));
            let is_ours =
                |line: &&[u8]| line.len() <= self.limit && record::check_crc(line) == Checksum::Valid;
            match line.filter(is_ours) {
                Some(line) => {
                    take(noted_line(self.queues, line, base + at as u64))?;
                    at += line.len() + 1;
                }
                None => is_whole = false,
            }
        }
        let end = base + at as u64;
        Ok(PartEnd { end, is_whole })
    }
}
