//! Separates the lines of a queue's journal from damage, in bounded memory.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use prodigy_storage_backend::StreamedLine;
use prodigy_storage_backend::record::{self, Checksum};

use super::blanks::{self, BLANK};
use super::buffer::Buffer;
use super::line::{ROOM, TRAILER};
use super::record::HEAD;
use crate::fs::FsFile;

/// The number of bytes read at once.
const CHUNK: usize = 256 << 10;
/// The number of bytes in the first read, which usually finds only a few records.
const FIRST_CHUNK: usize = 8 << 10;
/// The largest number of places in one damaged line that are tried as the beginning of a record.
const TRIES: usize = 64;
/// The last bytes of every line of ours.
const CLOSED: &[u8] = b"\"}";

/// A piece of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// A line whose checksum matches. [`JournalScanner::bytes`] returns its bytes until the next step.
    Line { start: u64, range: Range<usize> },
    /// Bytes that are not a line of a journal.
    Damage {
        start: u64,
        end: u64,
        /// True if a power failure left the bytes blank. Their write was never synced, so it was acknowledged only if
        /// it was relaxed.
        hole: bool,
    },
    /// A line that is larger than the limit and whose checksum matches, with its first bytes.
    TooLarge { start: u64, end: u64, head: Vec<u8> },
}

/// Reads a journal from an offset to its end.
#[derive(Debug)]
pub(super) struct JournalScanner {
    file: Arc<dyn FsFile>,
    buffer: Buffer,
    /// The offset of the buffer in the file.
    base: u64,
    at: usize,
    len: u64,
    /// The length of the longest line that is held in memory.
    limit: usize,
    /// The offset up to which damage was read twice, since a writer may have changed the file between two reads.
    twice: u64,
    /// The pieces of the last damaged line that are not returned yet.
    ahead: VecDeque<Piece>,
    /// Pieces that were read ahead, in order.
    seen: VecDeque<Piece>,
    /// True if reading ends where blanks begin.
    stops_at_blanks: bool,
    /// True if blanks are before the next line. Only a write whose beginning a power failure took leaves them there.
    is_behind_blanks: bool,
    /// The number of bytes in the next read.
    chunk: usize,
    /// The end of the last whole line, with its line end.
    end: u64,
    /// True if only the line end is missing behind the last line.
    open: bool,
    /// The start of a line whose end is missing.
    tail: Option<u64>,
}

impl JournalScanner {
    /// Reads from offset `from`, which is 0 or the end of a line.
    pub(super) fn new(file: Arc<dyn FsFile>, limit: u64, from: u64) -> io::Result<Self> {
        let len = file.metadata()?.len;
        Ok(Self {
            file,
            buffer: Buffer::default(),
            base: from,
            at: 0,
            len,
            limit: usize::try_from(limit).unwrap_or(usize::MAX).saturating_add(ROOM),
            twice: 0,
            ahead: VecDeque::new(),
            seen: VecDeque::new(),
            stops_at_blanks: false,
            is_behind_blanks: false,
            chunk: if from == 0 { CHUNK } else { FIRST_CHUNK },
            end: from,
            open: false,
            tail: None,
        })
    }

    /// Makes the scanner stop where blanks begin.
    pub(super) fn up_to_blanks(self) -> Self {
        Self {
            stops_at_blanks: true,
            ..self
        }
    }

    /// The bytes of the last line.
    pub(super) fn bytes(&self, range: Range<usize>) -> &[u8] {
        self.buffer.get(range)
    }

    /// The file that is read.
    pub(super) fn file(&self) -> Arc<dyn FsFile> {
        Arc::clone(&self.file)
    }

    /// The length of the longest line that is held in memory.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// Continues at the beginning of a line. The caller has read everything before it, and found it whole.
    pub(super) fn pass_to(&mut self, offset: u64) {
        self.go_to(offset);
        self.end = offset;
    }

    /// The end of the last record, where the next record is written.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// True if the last line has no line end.
    pub(super) fn is_open(&self) -> bool {
        self.open
    }

    /// The start of a write that was cut short or is not finished.
    pub(super) fn tail(&self) -> Option<u64> {
        self.tail
    }

    /// The number of bytes that are not read yet.
    pub(super) fn left(&self) -> u64 {
        self.len.saturating_sub(self.end)
    }

    /// The length up to which the file is read.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// The next piece. Holes behind the last record are part of the tail.
    pub(super) fn next(&mut self) -> io::Result<Option<Piece>> {
        if let Some(piece) = self.seen.pop_front() {
            return Ok(Some(piece));
        }
        let (end, is_open) = (self.end, self.open);
        loop {
            match self.read()? {
                Some(hole @ Piece::Damage { hole: true, .. }) if self.seen.len() < TRIES => {
                    self.seen.push_back(hole);
                }
                Some(piece) if self.seen.is_empty() => return Ok(Some(piece)),
                Some(piece) => {
                    self.seen.push_back(piece);
                    return Ok(self.seen.pop_front());
                }
                None => {
                    if !self.seen.is_empty() {
                        self.seen.clear();
                        (self.tail, self.end, self.open) = (Some(end), end, is_open);
                    }
                    return Ok(None);
                }
            }
        }
    }

    /// Reads the next piece.
    fn read(&mut self) -> io::Result<Option<Piece>> {
        if let Some(piece) = self.ahead.pop_front() {
            return Ok(Some(piece));
        }
        self.is_behind_blanks = false;
        loop {
            let rest = self.buffer.from(self.at);
            let blanks = rest.iter().take_while(|byte| **byte == BLANK).count();
            if blanks > 0 && self.stops_at_blanks {
                return Ok(None);
            }
            self.is_behind_blanks |= blanks > 0;
            self.at += blanks;
            let rest = self.buffer.from(self.at);
            let Some(len) = memchr::memchr(b'\n', rest) else {
                if rest.len() >= self.limit {
                    return self.large();
                }
                if self.fill()? {
                    continue;
                }
                return self.last();
            };
            let range = self.at..self.at + len;
            let line = self.buffer.get(range.clone());
            if line.trim_ascii().is_empty() {
                self.pass(range.end + 1);
                self.is_behind_blanks = false;
                continue;
            }
            if line.len() > self.limit {
                return self.large();
            }
            if record::check_crc(line) == Checksum::Valid {
                let start = self.base + range.start as u64;
                self.pass(range.end + 1);
                return Ok(Some(Piece::Line { start, range }));
            }
            if !self.is_read_twice()? {
                self.is_behind_blanks = false;
                continue;
            }
            let pieces = self.split(range.clone(), false);
            self.pass(range.end + 1);
            self.ahead = pieces.into();
            return Ok(self.ahead.pop_front());
        }
    }

    /// Reads the bytes behind the last line end.
    fn last(&mut self) -> io::Result<Option<Piece>> {
        let range = self.at..self.buffer.len();
        let line = self.buffer.get(range.clone());
        if line.trim_ascii().is_empty() {
            return Ok(None);
        }
        let start = self.base + range.start as u64;
        if record::check_crc(line) == Checksum::Valid {
            self.pass(range.end);
            self.open = true;
            return Ok(Some(Piece::Line { start, range }));
        }
        let pieces = self.split(range.clone(), true);
        // The bytes behind the last whole record are the tail.
        self.tail = Some(match pieces.last() {
            Some(Piece::Line { range, .. }) => self.base + range.end as u64,
            Some(Piece::Damage { end, .. } | Piece::TooLarge { end, .. }) => *end,
            None => start,
        });
        self.at = range.end;
        self.end = self.tail.unwrap_or(start);
        self.open = self.end > start;
        self.ahead = pieces.into();
        Ok(self.ahead.pop_front())
    }

    /// Finds the records in a damaged line: line ends may be lost, and one record of several may be damaged. In the
    /// last line of the file, the bytes behind its last record are left out.
    fn split(&self, line: Range<usize>, is_last: bool) -> Vec<Piece> {
        let text = self.buffer.get(line.clone());
        let starts: Vec<usize> = memchr::memmem::find_iter(text, HEAD).take(TRIES).collect();
        // A record may end before the beginning of another one, or with the line.
        let ends: Vec<usize> = starts
            .iter()
            .copied()
            .chain([text.len()])
            .filter_map(|end| Some(memchr::memmem::rfind(text.get(..end)?, CLOSED)? + CLOSED.len()))
            .collect();
        let mut pieces = Vec::new();
        let mut done = 0;
        let damage = |from: usize, to: usize| {
            let bytes = text.get(from..to).unwrap_or_default();
            let start = self.base + (line.start + from) as u64;
            let is_zero = bytes.ends_with(b"\0") || bytes.starts_with(b"\0");
            let is_blank = from == 0 && self.is_behind_blanks || blanks::has_blank_sector(bytes, start);
            (!bytes.trim_ascii().is_empty()).then(|| Piece::Damage {
                start,
                end: self.base + (line.start + to) as u64,
                hole: is_zero || is_blank,
            })
        };
        for start in starts {
            if start < done {
                continue;
            }
            let is_valid = |end: &usize| {
                text.get(start..*end)
                    .is_some_and(|text| text.len() > TRAILER && record::check_crc(text) == Checksum::Valid)
            };
            let Some(end) = ends.iter().copied().filter(|end| *end > start).find(is_valid) else {
                continue;
            };
            pieces.extend(damage(done, start));
            pieces.push(Piece::Line {
                start: self.base + (line.start + start) as u64,
                range: line.start + start..line.start + end,
            });
            done = end;
        }
        if !is_last {
            pieces.extend(damage(done, text.len()));
        }
        pieces
    }

    /// Reads a line that is longer than the limit, in pieces.
    fn large(&mut self) -> io::Result<Option<Piece>> {
        let start = self.base + self.at as u64;
        let (mut line, mut bytes, mut offset) = (StreamedLine::default(), vec![0; CHUNK], start);
        let found = loop {
            let left = usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX);
            let room = bytes.get_mut(..left.min(CHUNK)).unwrap_or_default();
            let read = self.file.read_full_at(room, offset)?;
            let read = bytes.get(..read).unwrap_or_default();
            if let Some(len) = memchr::memchr(b'\n', read) {
                line.push(read.get(..len).unwrap_or_default());
                break Some(offset + len as u64);
            }
            line.push(read);
            offset += read.len() as u64;
            if read.is_empty() {
                break None;
            }
        };
        let is_whole = line.check(|end| end).0 == Checksum::Valid;
        if !is_whole && !self.is_read_twice()? {
            return self.next();
        }
        let end = found.unwrap_or(offset);
        if found.is_none() && !is_whole {
            self.go_to(end);
            self.tail = Some(start);
            return Ok(None);
        }
        self.go_to(found.map_or(end, |end| end + 1));
        self.end = self.base;
        self.open = found.is_none();
        let head = line.head().to_vec();
        Ok(Some(match is_whole {
            true => Piece::TooLarge { start, end, head },
            false => Piece::Damage {
                start,
                end,
                hole: false,
            },
        }))
    }

    fn pass(&mut self, to: usize) {
        self.at = to;
        self.end = self.base + to as u64;
    }

    /// Continues at an offset of the file.
    fn go_to(&mut self, offset: u64) {
        self.buffer.truncate(0);
        (self.base, self.at) = (offset, 0);
    }

    /// Reads more bytes behind those in the buffer.
    fn fill(&mut self) -> io::Result<bool> {
        self.buffer.pass(self.at);
        self.base += self.at as u64;
        self.at = 0;
        let old = self.buffer.len();
        let left = self.len.saturating_sub(self.base + old as u64);
        let more = usize::try_from(left)
            .unwrap_or(usize::MAX)
            .min(self.chunk.max(old));
        self.chunk = CHUNK;
        let read = self.buffer.read(&*self.file, self.base + old as u64, more)?;
        if read < more {
            // The file was cut meanwhile.
            self.len = self.base + self.buffer.len() as u64;
        }
        Ok(read > 0)
    }

    /// Returns false if the bytes behind the last whole line have to be read again, since a writer may have changed them
    /// meanwhile. Blanks there count too: the beginning of a record may have been read before it was written over them.
    fn is_read_twice(&mut self) -> io::Result<bool> {
        let start = self.end;
        if self.twice > start {
            return Ok(true);
        }
        self.twice = (self.base + self.buffer.len() as u64).max(start + 1);
        self.go_to(start);
        self.len = self.file.metadata()?.len;
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::fs::{FileSystem, OpenMode, RealFs};
    use crate::queue::record::{JournalLine, Verb, encode, encode_header, parse};
    use crate::queue::standing::Standing;

    /// A journal with the changes 2 to 5, and the starts of its lines.
    fn journal() -> (Vec<u8>, Vec<usize>) {
        let (mut bytes, mut starts) = (Vec::new(), Vec::new());
        encode_header(&mut bytes, 1);
        for change in 2..6 {
            starts.push(bytes.len());
            let standing = Standing {
                place: change,
                ..Standing::default()
            };
            encode(&mut bytes, change, 1, Verb::Release, &standing, None);
        }
        (bytes, starts)
    }

    struct Read {
        changes: Vec<u64>,
        damage: Vec<(u64, u64, bool)>,
        tail: Option<u64>,
        end: u64,
        open: bool,
    }

    fn read(bytes: &[u8], limit: u64) -> Read {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("j"), bytes).unwrap();
        let file = RealFs::new(folder.path())
            .open(Path::new("j"), OpenMode::Read)
            .unwrap();
        let mut scanner = JournalScanner::new(Arc::from(file), limit, 0).unwrap();
        let (mut changes, mut damage) = (Vec::new(), Vec::new());
        while let Some(piece) = scanner.next().unwrap() {
            match piece {
                Piece::Line { start, range } => {
                    let line = scanner.bytes(range);
                    assert_eq!(&bytes[start as usize..][..line.len()], line);
                    if let Some(JournalLine::Record(record)) = parse(line) {
                        changes.push(record.change);
                    }
                }
                Piece::Damage { start, end, hole } => damage.push((start, end, hole)),
                Piece::TooLarge { head, .. } => {
                    changes.push(crate::queue::record::parse_large(&head).unwrap().change);
                }
            }
        }
        Read {
            changes,
            damage,
            tail: scanner.tail(),
            end: scanner.end(),
            open: scanner.is_open(),
        }
    }

    #[test]
    fn a_flipped_bit_costs_its_own_record_at_most_and_is_reported() {
        let (whole, starts) = journal();
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut bytes = whole.clone();
                bytes[at] ^= 1 << bit;
                let found = read(&bytes, 1 << 20);
                let hit = starts.iter().rposition(|start| at >= *start);
                let expected = (2..6).filter(|change| Some(*change as usize - 2) != hit);
                for change in expected {
                    assert!(
                        found.changes.contains(&change),
                        "byte {at} bit {bit} cost {change}"
                    );
                }
                let line_end = whole[at] == b'\n';
                if line_end {
                    assert_eq!(found.changes, [2, 3, 4, 5], "byte {at} bit {bit}");
                } else {
                    assert_eq!(found.damage.len(), 1, "byte {at} bit {bit}");
                    let (start, end, hole) = found.damage[0];
                    assert!(
                        (start..end).contains(&(at as u64)) && !hole,
                        "byte {at} bit {bit}"
                    );
                }
                assert!(found.tail.is_none() || line_end, "byte {at} bit {bit}");
            }
        }
    }

    #[test]
    fn a_write_that_was_cut_leaves_whole_records_and_a_tail() {
        let (whole, starts) = journal();
        for cut in starts[0]..whole.len() {
            let found = read(&whole[..cut], 1 << 20);
            let line = starts.iter().rposition(|start| cut >= *start).unwrap();
            let last = whole[starts[line]..]
                .split(|byte| *byte == b'\n')
                .next()
                .unwrap()
                .len();
            let is_whole = cut == starts[line] + last;
            let count = line + usize::from(is_whole);
            assert_eq!(found.changes.len(), count, "cut at {cut}");
            assert_eq!((found.damage.len(), found.open), (0, is_whole), "cut at {cut}");
            let torn = cut > starts[line] && !is_whole;
            assert_eq!(found.tail, torn.then_some(starts[line] as u64), "cut at {cut}");
            let end = if is_whole { cut } else { starts[line] };
            assert_eq!(found.end, end as u64, "cut at {cut}");
        }
    }

    #[test]
    fn what_a_power_failure_left_empty_is_a_hole_and_costs_no_later_record() {
        let (whole, starts) = journal();
        for (from, to) in [
            (starts[1], starts[2]),
            (starts[1] + 7, starts[2]),
            (starts[0], starts[3]),
        ] {
            let mut bytes = whole.clone();
            bytes[from..to].fill(0);
            let found = read(&bytes, 1 << 20);
            assert_eq!(found.changes.last(), Some(&5));
            assert_eq!(found.damage.len(), 1);
            assert!(found.damage[0].2, "{:?}", found.damage);
        }
        // At the end of the file a hole is a tail, like any write that was cut short.
        let mut bytes = whole.clone();
        bytes[starts[3]..].fill(0);
        let found = read(&bytes, 1 << 20);
        assert_eq!((found.changes.len(), found.tail), (3, Some(starts[3] as u64)));
    }

    #[test]
    fn a_record_that_is_written_over_blanks_between_two_reads_is_no_damage() {
        let mut bytes = Vec::new();
        encode_header(&mut bytes, 1);
        let mut change = 1;
        while bytes.len() < CHUNK - 400 {
            change += 1;
            encode(&mut bytes, change, 1, Verb::Release, &Standing::default(), None);
        }
        let text = bytes.len();
        bytes.resize(CHUNK + 4_000, BLANK);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("j");
        std::fs::write(&path, &bytes).unwrap();
        let file = RealFs::new(folder.path())
            .open(Path::new("j"), OpenMode::Read)
            .unwrap();
        let mut scanner = JournalScanner::new(Arc::from(file), 1 << 20, 0).unwrap();
        // The header, and the records of the first read. Blanks follow them in the buffer.
        for _ in 1..=change {
            assert!(matches!(scanner.next().unwrap(), Some(Piece::Line { .. })));
        }
        let mut records = Vec::new();
        let body = format!("{{\"item_id\":\"l\",\"item_data\":\"{}\"}}", "x".repeat(600));
        let body = serde_json::value::RawValue::from_string(body).unwrap();
        for next in 1..=2 {
            encode(
                &mut records,
                change + next,
                1,
                Verb::Merge,
                &Standing::default(),
                Some(&body),
            );
        }
        assert!(text < CHUNK && text + records.len() > CHUNK);
        let written = std::fs::File::options().write(true).open(&path).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&written, &records, text as u64).unwrap();
        for next in 1..=2 {
            let Some(Piece::Line { range, .. }) = scanner.next().unwrap() else {
                panic!("record {next} is damage");
            };
            let Some(JournalLine::Record(record)) = parse(scanner.bytes(range)) else {
                panic!("line {next} is no record");
            };
            assert_eq!(record.change, change + next);
        }
        assert_eq!(scanner.next().unwrap(), None);
        assert_eq!(scanner.end(), (text + records.len()) as u64);
    }

    #[test]
    fn lines_over_the_limit_are_verified_in_pieces() {
        let mut bytes = Vec::new();
        encode_header(&mut bytes, 1);
        let body = format!("{{\"item_id\":\"l\",\"item_data\":\"{}\"}}", "x".repeat(700_000));
        let body = serde_json::value::RawValue::from_string(body).unwrap();
        let start = bytes.len();
        encode(&mut bytes, 2, 1, Verb::Merge, &Standing::default(), Some(&body));
        let end = bytes.len();
        encode(&mut bytes, 3, 1, Verb::Remove, &Standing::default(), None);
        assert_eq!(read(&bytes, 2_000).changes, [2, 3]);
        let mut flipped = bytes.clone();
        flipped[start + 5_000] ^= 1;
        let found = read(&flipped, 2_000);
        assert_eq!(found.changes, [3]);
        assert_eq!(found.damage, [(start as u64, end as u64 - 1, false)]);
        let found = read(&bytes[..end - 100], 2_000);
        assert_eq!(
            (found.changes.len(), found.tail, found.end),
            (0, Some(start as u64), start as u64)
        );
    }
}
