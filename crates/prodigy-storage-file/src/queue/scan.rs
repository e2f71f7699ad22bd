//! Separates items from damage in a queue's file of items.

mod array;
mod damage;

use std::io;
use std::ops::Range;
use std::sync::Arc;

use prodigy_storage_backend::record::{self, Checksum};
use serde_json::value::RawValue;

use super::SEPARATOR;
use super::blanks::{self, BLANK};
use super::buffer::Buffer;
use super::line::{self, ItemChecksum, ROOM};
use crate::fs::FsFile;
use crate::root::has_checksum;
pub(super) use array::ArrayState;
pub(crate) use damage::LOST_WRITE;

/// The number of bytes read at once.
const CHUNK: usize = 256 << 10;
/// The number of bytes in the first read. Usually it finds only one item.
const FIRST_CHUNK: usize = 8 << 10;
/// The largest number of bytes that are parsed without a result. After that, an item is found only if it has a line of
/// its own and its checksum matches. Without this limit, each brace that is never closed would cost a pass over all
/// bytes after it.
const IN_VAIN: usize = 256 << 20;

/// A piece of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fragment {
    /// An item. [`Scanner::bytes`] returns its bytes until the next call of `next`.
    Item {
        start: u64,
        range: Range<usize>,
        checksum: ItemChecksum,
    },
    /// Bytes that are not an item.
    Damage { start: u64, end: u64, why: &'static str },
    /// An array element that is valid JSON, but not an item, and has no checksum of ours: another program wrote it.
    Foreign { start: u64, end: u64 },
    /// An item that is larger than the limit, with the state of its checksum and with its first bytes.
    TooLarge {
        start: u64,
        end: u64,
        checksum: ItemChecksum,
        head: Vec<u8>,
    },
}

/// Reads a file from an offset to its end.
#[derive(Debug)]
pub(super) struct Scanner {
    file: Arc<dyn FsFile>,
    buffer: Buffer,
    /// The offset in the file at which the buffer begins.
    base: u64,
    at: usize,
    /// The offset up to which the file is read.
    len: u64,
    /// True if bytes that are added to the file during the scan are not read.
    is_bounded: bool,
    /// True if reading ends at a blank after the closing bracket.
    stops_at_blanks: bool,
    /// The number of bytes in the next read.
    chunk: usize,
    /// The length of the longest item that is held in memory.
    limit: usize,
    /// The index in the buffer of the first line end after `at`, if it is known.
    line_end: Option<usize>,
    /// True if the next byte is the first one in its line, apart from white space.
    fresh: bool,
    /// Damage before this offset was read twice, since a writer may have changed the file during the first read.
    twice: u64,
    /// The number of bytes that were parsed without a result.
    in_vain: usize,
    /// The number of bytes that were parsed so far for the current fragment.
    parsed: usize,
    damage: Option<Fragment>,
    ahead: Option<Fragment>,
    array: ArrayState,
    /// The state of the array before the damage in `damage`.
    sound: ArrayState,
}

enum Step {
    Fragment(Fragment),
    More,
    End,
}

impl Scanner {
    /// Reads a file from its beginning.
    pub(super) fn new(file: Arc<dyn FsFile>, limit: u64) -> io::Result<Self> {
        Self::resume(file, limit, 0, false)
    }

    /// Reads a file from the end of a fragment. Up to there, it must be in the form that we write. `any` is true if a
    /// fragment precedes the offset.
    pub(super) fn resume(file: Arc<dyn FsFile>, limit: u64, from: u64, any: bool) -> io::Result<Self> {
        let len = file.metadata()?.len;
        Ok(Self {
            file,
            buffer: Buffer::default(),
            base: from,
            at: 0,
            len,
            is_bounded: false,
            stops_at_blanks: false,
            chunk: if from == 0 { CHUNK } else { FIRST_CHUNK },
            limit: usize::try_from(limit).unwrap_or(usize::MAX).saturating_add(ROOM),
            line_end: None,
            fresh: false,
            twice: 0,
            in_vain: 0,
            parsed: 0,
            damage: None,
            ahead: None,
            array: ArrayState {
                end: from,
                any,
                plain: from > 0,
                begun: from > 0,
                ..ArrayState::default()
            },
            sound: ArrayState::default(),
        })
    }

    /// Makes the scanner stop at the current end of the text, before the blanks at the end of the file. Later pushes
    /// overwrite these blanks, and are not read.
    pub(super) fn bounded(self) -> io::Result<Self> {
        Ok(Self {
            is_bounded: true,
            len: blanks::end_of_text(&*self.file, self.len)?,
            ..self
        })
    }

    /// Makes the scanner stop at a blank after the closing bracket.
    pub(super) fn up_to_blanks(self) -> Self {
        Self {
            stops_at_blanks: true,
            ..self
        }
    }

    /// The file that is read.
    pub(super) fn file(&self) -> &dyn FsFile {
        &*self.file
    }

    /// The file that is read, for use by another scanner.
    pub(super) fn file_handle(&self) -> Arc<dyn FsFile> {
        Arc::clone(&self.file)
    }

    /// The bytes of the item that was returned last.
    pub(super) fn bytes(&self, range: Range<usize>) -> &[u8] {
        self.buffer.get(range)
    }

    /// The state of the array at the end of the last fragment. It is complete after [`next`](Self::next) returned
    /// `None`.
    pub(super) fn array(&self) -> ArrayState {
        let mut array = self.array;
        // Damage at the end may include the closing bracket. An item that is pushed after the bracket would be outside
        // the array.
        array.plain &= array.closed || !array.damaged;
        array
    }

    /// The offset up to which the file is read.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// The next fragment. Adjacent damaged parts are merged into one fragment.
    pub(super) fn next(&mut self) -> io::Result<Option<Fragment>> {
        if let Some(fragment) = self.ahead.take() {
            return Ok(Some(fragment));
        }
        if self.damage.is_none() {
            let found = match self.pushed() {
                None if self.is_cut() => {
                    self.more()?;
                    self.pushed()
                }
                found => found,
            };
            if let Some(range) = found {
                return Ok(Some(self.take(range)));
            }
        }
        loop {
            let before = self.array;
            match self.step()? {
                Step::More => {}
                Step::End => return self.last_damage(),
                Step::Fragment(Fragment::Damage { start, end, why }) => match &mut self.damage {
                    Some(Fragment::Damage { end: so_far, .. }) => *so_far = end,
                    _ => {
                        self.sound = before;
                        self.damage = Some(Fragment::Damage { start, end, why });
                    }
                },
                Step::Fragment(item) => {
                    let Some(Fragment::Damage { start, end, why }) = self.damage.take() else {
                        return Ok(Some(item));
                    };
                    let why = if self.is_lost_write(end)? { LOST_WRITE } else { why };
                    self.ahead = Some(item);
                    return Ok(Some(Fragment::Damage { start, end, why }));
                }
            }
        }
    }

    /// The range of the next item, if it has the form that a push writes: after an item, a comma and a line end, on one
    /// line that is completely in the buffer and whose checksum matches.
    fn pushed(&self) -> Option<Range<usize>> {
        if !self.array.is_at(self.base + self.at as u64) {
            return None;
        }
        let line = self.buffer.from(self.at).strip_prefix(SEPARATOR)?;
        if line.first() != Some(&b'{') {
            return None;
        }
        let line = line.get(..memchr::memchr(b'\n', line)?)?;
        let line = line.strip_suffix(b",").unwrap_or(line);
        let start = self.at + SEPARATOR.len();
        (line.len() <= self.limit && record::check_crc(line) == Checksum::Valid)
            .then(|| start..start + line.len())
    }

    /// True if the buffer may end within an item that a push wrote.
    fn is_cut(&self) -> bool {
        let rest = self.buffer.from(self.at);
        let begins = match rest.split_at_checked(SEPARATOR.len()) {
            Some((separator, line)) => {
                separator == SEPARATOR
                    && matches!(line.first(), None | Some(b'{'))
                    && memchr::memchr(b'\n', line).is_none()
            }
            None => SEPARATOR.starts_with(rest),
        };
        begins && rest.len() < CHUNK && self.array.is_at(self.base + self.at as u64) && !self.at_end()
    }

    /// Makes the item that [`pushed`](Self::pushed) found the next fragment.
    fn take(&mut self, range: Range<usize>) -> Fragment {
        self.at = range.end;
        self.array.end = self.base + range.end as u64;
        Fragment::Item {
            start: self.base + range.start as u64,
            range,
            checksum: ItemChecksum::Valid,
        }
    }

    fn step(&mut self) -> io::Result<Step> {
        if self.at >= CHUNK {
            self.pass_by();
        }
        let Some(&first) = self.buffer.bytes().get(self.at) else {
            return Ok(if self.more()? { Step::More } else { Step::End });
        };
        match first {
            0xef if self.base == 0 && self.at == 0 && self.buffer.bytes().starts_with(b"\xef\xbb\xbf") => {
                self.array.marked = true;
                self.at = 3;
            }
            BLANK => {
                if self.stops_at_blanks && self.array.closed {
                    return Ok(Step::End);
                }
                let blanks = self.buffer.from(self.at).iter();
                self.at += blanks.take_while(|byte| **byte == BLANK).count();
            }
            b' ' | b'\r' => self.at += 1,
            b'\n' => {
                self.at += 1;
                self.fresh = true;
            }
            b',' => {
                self.array.commas += 1;
                self.at += 1;
                self.fresh = false;
            }
            b'[' if !self.array.begun => {
                self.at += 1;
                self.fresh = false;
                let array = &mut self.array;
                array.begun = true;
                array.plain = array.commas == 0 && array.brackets == 0 && !array.marked;
                array.end = self.base + self.at as u64;
            }
            b']' => {
                self.at += 1;
                self.fresh = false;
                let array = &mut self.array;
                array.brackets += 1;
                array.closed = array.brackets == 1 && array.commas == 0;
            }
            b'{' => return self.object(),
            _ => return self.other(),
        }
        Ok(Step::More)
    }

    /// Reads the fragment that begins with the brace at the current position.
    fn object(&mut self) -> io::Result<Step> {
        let start = self.at;
        if self.line_end.is_none_or(|end| end < start) {
            let rest = self.buffer.from(start);
            self.line_end = memchr::memchr(b'\n', rest).map(|end| start + end);
        }
        let whole = self.at_end();
        if let Some(end) = self.line_end.or_else(|| whole.then_some(self.buffer.len())) {
            // In the common case, the line is one item of ours.
            let end = start + trimmed(self.bytes(start..end)).len();
            let text = self.bytes(start..end);
            // A line that is longer than any item may hold many items of another program.
            let fits = text.len() <= self.limit;
            if fits && record::check_crc(text) == Checksum::Valid {
                return Ok(self.item(start..end, ItemChecksum::Valid));
            }
            if fits && line::is_framed(text) {
                return Ok(self.item(start..end, ItemChecksum::BadFrame));
            }
        }
        let found = if self.in_vain < IN_VAIN {
            value(self.buffer.from(start))
        } else if self.line_end.is_some() || whole {
            Value::None
        } else {
            Value::Open
        };
        self.parsed = self.parsed.saturating_add(self.buffer.len() - start);
        match found {
            Value::Whole(len) if len > self.limit => self.large(),
            Value::Whole(len) => {
                let range = start..start + len;
                let text = self.bytes(range.clone());
                match record::check_crc(text) {
                    Checksum::Valid => Ok(self.item(range, ItemChecksum::Valid)),
                    Checksum::Mismatch => self.damaged("its checksum does not hold", Some(range.end)),
                    Checksum::Missing => {
                        let is_item = line::foreign_id(text).is_some()
                            && line::read(text, ItemChecksum::Missing).is_some();
                        match is_item {
                            true => Ok(self.item(range, ItemChecksum::Missing)),
                            false if has_checksum(text) => {
                                self.damaged("it has no valid `item_id`", Some(range.end))
                            }
                            false => Ok(self.foreign(range.end)),
                        }
                    }
                }
            }
            Value::Open if !whole && self.buffer.len() - start < self.limit => {
                self.more()?;
                Ok(Step::More)
            }
            Value::Open if !whole => self.large(),
            Value::Open | Value::None => self.damaged("it is not an item", None),
        }
    }

    fn item(&mut self, range: Range<usize>, checksum: ItemChecksum) -> Step {
        let start = self.base + range.start as u64;
        self.pass(range.end);
        self.array.damaged = false;
        Step::Fragment(Fragment::Item {
            start,
            range,
            checksum,
        })
    }

    /// Reads a fragment that does not begin with a brace: an element of another program, or damage.
    fn other(&mut self) -> io::Result<Step> {
        let in_array = self.array.begun && self.array.brackets == 0;
        if in_array && self.in_vain < IN_VAIN {
            let rest = self.buffer.from(self.at);
            let found = value(rest);
            let is_long = match found {
                Value::Whole(len) => len > self.limit,
                Value::Open => rest.len() >= self.limit && !self.at_end(),
                Value::None => false,
            };
            if is_long && matches!(rest.first(), Some(b'[' | b'"')) {
                return self.large();
            }
            // The value may continue after the end of the buffer, for example a number.
            let is_open = match found {
                Value::Whole(len) => rest.len() == len,
                Value::Open => true,
                Value::None => false,
            };
            if is_open && !self.at_end() && rest.len() < self.limit {
                self.parsed = self.parsed.saturating_add(rest.len());
                self.more()?;
                return Ok(Step::More);
            }
            if let Value::Whole(len) = found {
                let (element, behind) = rest.split_at_checked(len).unwrap_or_default();
                let is_element = matches!(behind.trim_ascii_start().first(), Some(b',' | b']'));
                if is_element && len <= self.limit && !has_checksum(element) {
                    return Ok(self.foreign(self.at + len));
                }
            }
            self.parsed = self.parsed.saturating_add(rest.len());
        }
        self.damaged("it is not an item", None)
    }

    fn foreign(&mut self, end: usize) -> Step {
        let start = self.base + self.at as u64;
        self.pass(end);
        self.array.damaged = false;
        Step::Fragment(Fragment::Foreign {
            start,
            end: self.array.end,
        })
    }

    /// Continues at this offset of the file, with an empty buffer.
    fn go_to(&mut self, offset: u64) {
        self.buffer.truncate(0);
        (self.base, self.at, self.line_end) = (offset, 0, None);
    }

    /// Moves the position to the end of a fragment.
    fn pass(&mut self, end: usize) {
        let array = &mut self.array;
        array.plain &= array.commas == u32::from(array.any) && array.brackets == 0 && array.begun;
        array.begun = true;
        array.any = true;
        array.closed = false;
        array.commas = 0;
        array.end = self.base + end as u64;
        self.at = end;
        self.fresh = false;
        self.parsed = 0;
    }

    fn at_end(&self) -> bool {
        self.base + self.buffer.len() as u64 >= self.len
    }

    /// Removes the bytes before the current position from the buffer.
    fn pass_by(&mut self) {
        self.buffer.pass(self.at);
        self.base += self.at as u64;
        self.at = 0;
        self.line_end = None;
    }

    /// Reads more bytes of the current fragment.
    fn more(&mut self) -> io::Result<bool> {
        self.pass_by();
        self.fill()
    }

    /// Reads more of the file, at least as many bytes as the unread part of the buffer has, so that even a long item is
    /// parsed only a few times. False at the end of the file.
    fn fill(&mut self) -> io::Result<bool> {
        let old = self.buffer.len();
        let left = self.len.saturating_sub(self.base + old as u64);
        let more = usize::try_from(left)
            .unwrap_or(usize::MAX)
            .min(self.chunk.max(old - self.at));
        self.chunk = CHUNK;
        let read = self.buffer.read(&*self.file, self.base + old as u64, more)?;
        if read < more {
            // The file was truncated during the read.
            self.len = self.base + self.buffer.len() as u64;
        }
        Ok(read > 0)
    }
}

/// The line without the comma at its end, and without white space there.
pub(super) fn trimmed(line: &[u8]) -> &[u8] {
    let line = line.trim_ascii_end();
    line.strip_suffix(b",").unwrap_or(line).trim_ascii_end()
}

pub(super) enum Value {
    /// A whole JSON value. The number is its length in bytes.
    Whole(usize),
    /// The beginning of a JSON value, which continues after the bytes.
    Open,
    /// Not a JSON value.
    None,
}

/// Parses the JSON value at the beginning of `bytes`.
pub(super) fn value(bytes: &[u8]) -> Value {
    match serde_json::Deserializer::from_slice(bytes)
        .into_iter::<&RawValue>()
        .next()
    {
        Some(Ok(value)) => Value::Whole(value.get().len()),
        Some(Err(error)) if error.is_eof() => Value::Open,
        _ => Value::None,
    }
}
