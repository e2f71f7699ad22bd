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
/// The number of bytes in the first read. Usually it finds only a few records.
const FIRST_CHUNK: usize = 8 << 10;
/// The largest number of positions in one damaged line at which the beginning of a record is tried.
const TRIES: usize = 64;
/// The last bytes of every line that we write.
const CLOSED: &[u8] = b"\"}";

/// A piece of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// A line whose checksum matches. [`JournalScanner::bytes`] returns its bytes until the next call of `next`.
    Line { start: u64, range: Range<usize> },
    /// Bytes that are not a line of a journal.
    Damage {
        start: u64,
        end: u64,
        /// True if a power failure left some of the bytes blank. Their write was never synced, so it was acknowledged
        /// only if it was relaxed.
        hole: bool,
    },
    /// A line that is larger than the limit. Its checksum matches; `head` is its first bytes.
    TooLarge { start: u64, end: u64, head: Vec<u8> },
}

/// Reads a journal from an offset to its end.
#[derive(Debug)]
pub(super) struct JournalScanner {
    file: Arc<dyn FsFile>,
    buffer: Buffer,
    /// The offset in the file at which the buffer begins.
    base: u64,
    at: usize,
    len: u64,
    /// The length of the longest line that is held in memory.
    limit: usize,
    /// Damage before this offset was read twice, since a writer may have changed the file during the first read.
    twice: u64,
    /// The remaining pieces of the last damaged line.
    ahead: VecDeque<Piece>,
    /// Pieces that were read ahead, and come before those in `ahead`.
    seen: VecDeque<Piece>,
    /// True if reading ends at the first blank.
    stops_at_blanks: bool,
    /// True if blanks precede the next line. Only a write of which a power failure took the beginning leaves blanks
    /// there.
    is_behind_blanks: bool,
    /// The number of bytes in the next read.
    chunk: usize,
    /// The offset after the last whole line, including its line end.
    end: u64,
    /// True if the last line lacks only its line end.
    open: bool,
    /// The offset of a last line that is incomplete.
    tail: Option<u64>,
}

impl JournalScanner {
    /// Reads from the offset `from`, which is 0 or the end of a line.
    pub(super) fn new(file: Arc<dyn FsFile>, limit: u64, from: u64) -> io::Result<Self> {
        let len = file.metadata()?.len;
        Ok(Self::of_len(file, limit, from, len))
    }

    /// Like [`new`](Self::new), for a file whose length is known.
    pub(super) fn of_len(file: Arc<dyn FsFile>, limit: u64, from: u64, len: u64) -> Self {
        Self {
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
        }
    }

    /// Makes the scanner stop at the first blank.
    pub(super) fn up_to_blanks(self) -> Self {
        Self {
            stops_at_blanks: true,
            ..self
        }
    }

    /// The bytes of the line that was returned last.
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

    /// Continues at this offset, the beginning of a line. The caller has read everything before it, and found no
    /// damage.
    pub(super) fn pass_to(&mut self, offset: u64) {
        self.go_to(offset);
        self.end = offset;
    }

    /// The offset after the last record, where the next record is written.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// True if the last line lacks only its line end.
    pub(super) fn is_open(&self) -> bool {
        self.open
    }

    /// The offset of a write that was cut short or is not finished; `None` without one.
    pub(super) fn tail(&self) -> Option<u64> {
        self.tail
    }

    /// The number of bytes that were not read yet.
    pub(super) fn left(&self) -> u64 {
        self.len.saturating_sub(self.end)
    }

    /// The offset up to which the file is read.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// The next piece. Blank or zero bytes after the last record are not returned: they are part of the unfinished
    /// write.
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

    /// Reads the next piece from the file.
    fn read(&mut self) -> io::Result<Option<Piece>> {
        if let Some(piece) = self.ahead.pop_front() {
            return Ok(Some(piece));
        }
        self.is_behind_blanks = false;
        loop {
            let rest = self.buffer.from(self.at);
            if self.stops_at_blanks && rest.first() == Some(&BLANK) {
                return Ok(None);
            }
            let blanks = rest.iter().take_while(|byte| **byte == BLANK).count();
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

    /// Reads the bytes after the last line end.
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
        // The bytes after the last whole record are an unfinished write.
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

    /// Finds the records in a damaged line: line ends may be lost, and one of several records may be damaged. For the
    /// last line of the file, the bytes after its last record are not returned.
    fn split(&self, line: Range<usize>, is_last: bool) -> Vec<Piece> {
        let text = self.buffer.get(line.clone());
        let starts: Vec<usize> = memchr::memmem::find_iter(text, HEAD).take(TRIES).collect();
        // A record ends before the beginning of another one, or at the end of the line.
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

    /// Reads a line that is longer than the limit, without keeping all of it in memory.
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

    /// Reads more bytes into the buffer, after those that it has. Returns false at the end of the file.
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
            // The file was truncated during the read.
            self.len = self.base + self.buffer.len() as u64;
        }
        Ok(read > 0)
    }

    /// Returns false if the bytes after the last whole line must be read again, since a writer may have changed them.
    /// Blanks are read again, too: the beginning of a record may have been written over them after they were read.
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
mod tests;
