//! Reads one segment, line by line.

mod fill;
mod long;

use std::collections::VecDeque;
use std::io::Read;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use prodigy_storage_backend::record::{self, LineFault};
use prodigy_storage_backend::{Damage, EventId, Record, Result, TooLarge};
use prodigy_storage_layout::{SegmentForm, SegmentName, Timestamp};

use self::fill::Line;
use self::long::LongLine;
use super::clock::StepClock;
use super::salvage;
use super::segment_ref::SegmentRef;
use super::source;
use crate::root::Root;

/// The reason for reporting a line without a checksum of its own as damage.
const NOT_INTACT: &str = "it has no checksum, and its file does not decompress as a whole";
const NO_LINE_END: &str = "its line end is missing";

/// The item at a reader's position.
#[derive(Debug)]
pub(crate) enum Head {
    /// No item was read yet.
    Before,
    /// A record. Its bytes are in the buffer at `range`.
    Record {
        range: Range<usize>,
        id: EventId,
        verified: bool,
    },
    /// Bytes that are not a record.
    Damage {
        offset: u64,
        len: u64,
        why: &'static str,
    },
    /// A record that is too large to be returned. The buffer does not hold its bytes.
    TooLarge {
        len: u64,
        /// `None` for a line of another program.
        id: Option<EventId>,
        time: Option<Timestamp>,
        verified: bool,
    },
    /// The end of the data that the segment had when it was opened.
    End,
}

impl Head {
    /// The id of a record whose checksum matches.
    pub(crate) fn verified_id(&self) -> Option<EventId> {
        match *self {
            Self::Record {
                id, verified: true, ..
            }
            | Self::TooLarge {
                id: Some(id),
                verified: true,
                ..
            } => Some(id),
            _ => None,
        }
    }
}

/// A part of a line that is not a valid record as a whole.
#[derive(Debug)]
enum Piece {
    Record(Range<usize>),
    Damage(Range<usize>, &'static str),
}

/// Reads a segment from a position on.
pub(crate) struct SegmentReader {
    root: Arc<Root>,
    folder: PathBuf,
    pub(crate) name: SegmentName,
    form: SegmentForm,
    pub(crate) sealed: bool,
    /// The open segment; `None` if it was closed. The next read then opens it again.
    source: Option<Box<dyn Read + Send>>,
    asleep: bool,
    /// The offset at which reading ends: the length that the segment had when it was first opened.
    limit: u64,
    buffer: Vec<u8>,
    /// The number of filled bytes in the buffer.
    filled: usize,
    /// The index of the first byte in the buffer that is not part of a line yet.
    next: usize,
    /// The offset in the segment of the first byte of the buffer.
    base: u64,
    chunk: usize,
    ended: bool,
    /// True if the segment ends in the middle of a line, or of its compressed data. If it is sealed, it may be a copy by hand
    /// that is under way.
    is_cut: bool,
    /// True if the decoder failed. The rest of the segment then counts as damage.
    broken: bool,
    /// True if decompressed bytes are read one by one, to get all of them before the damaged place.
    dripping: bool,
    /// The result of checking that the file decompresses to its end; `None` before the check.
    intact: Option<bool>,
    pieces: VecDeque<Piece>,
    long: Option<LongLine>,
    pub(crate) head: Head,
    /// The offsets at which the current item begins and ends.
    head_start: u64,
    head_end: u64,
    /// The key that orders this reader among others: the greatest id so far, so that the segment's own order is kept.
    pub(crate) order: EventId,
    /// The offset after the last item that was consumed.
    pub(crate) position: u64,
    /// The id of the last record that was consumed.
    pub(crate) last: Option<EventId>,
}

impl std::fmt::Debug for SegmentReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SegmentReader")
            .field("name", &self.name)
            .field("position", &self.position)
            .field("head", &self.head)
            .finish_non_exhaustive()
    }
}

impl SegmentReader {
    /// Opens a segment at the start of a line; `None` if the segment is gone.
    pub(crate) fn open(
        segment: SegmentRef<'_>,
        offset: u64,
        last: Option<EventId>,
        chunk: usize,
    ) -> Result<Option<Self>> {
        let Some(opened) = source::open(segment, offset)? else {
            return Ok(None);
        };
        Ok(Some(Self {
            root: Arc::clone(segment.root),
            folder: segment.folder.to_owned(),
            name: segment.name.clone(),
            form: opened.form,
            sealed: opened.sealed,
            source: Some(opened.bytes),
            asleep: false,
            limit: opened.len.unwrap_or(u64::MAX),
            buffer: Vec::new(),
            filled: 0,
            next: 0,
            base: offset,
            chunk,
            ended: false,
            is_cut: opened.is_cut,
            broken: false,
            dripping: false,
            intact: None,
            pieces: VecDeque::new(),
            long: None,
            head: Head::Before,
            head_start: offset,
            head_end: offset,
            order: last.unwrap_or(EventId::MIN),
            position: offset,
            last,
        }))
    }

    /// The segment of this reader.
    fn at(&self) -> SegmentRef<'_> {
        SegmentRef::new(&self.root, &self.folder, &self.name)
    }

    /// True if the segment has no event after those that the reader has read, and never gets one.
    pub(crate) fn is_done(&self) -> bool {
        self.sealed && !self.is_cut && self.position > 0
    }

    /// True if the reader has a decoder, which takes much more memory than a descriptor.
    pub(crate) fn is_compressed(&self) -> bool {
        self.form != SegmentForm::Plain
    }

    /// True if the buffer contains the current item.
    pub(crate) fn is_awake(&self) -> bool {
        !self.asleep
    }

    /// True if the reader has an open descriptor, and perhaps a decoder.
    pub(crate) fn is_open(&self) -> bool {
        self.source.is_some()
    }

    /// The size of the buffer, in bytes.
    pub(crate) fn buffered(&self) -> usize {
        self.buffer.capacity()
    }

    /// Sets the number of bytes that the next read asks for.
    pub(crate) fn read_by(&mut self, chunk: usize) {
        self.chunk = chunk;
    }

    /// Closes the descriptor and the decoder, and keeps the buffered bytes. The next read opens the segment again.
    pub(crate) fn close(&mut self) {
        self.source = None;
    }

    /// The absolute path of the file, for messages.
    pub(crate) fn place(&self) -> String {
        self.root.absolute(&self.path()).display().to_string()
    }

    /// The offset of the current item.
    pub(crate) fn head_start(&self) -> u64 {
        self.head_start
    }

    /// The path of the file, relative to the root.
    pub(crate) fn path(&self) -> PathBuf {
        self.at().path(self.form)
    }

    /// The current item, if it is a record.
    pub(crate) fn record(&self) -> Option<Record<'_>> {
        let Head::Record { range, id, verified } = &self.head else {
            return None;
        };
        let line = record::text(self.buffer.get(range.clone())?)?;
        Some(Record {
            id: *id,
            line,
            verified: *verified,
        })
    }

    /// The current item, if it is damage.
    pub(crate) fn damage(&self) -> Option<Damage> {
        let Head::Damage { offset, len, why } = &self.head else {
            return None;
        };
        Some(Damage {
            place: self.place(),
            offset: *offset,
            len: *len,
            why: (*why).to_owned(),
        })
    }

    /// The current item, if it is a record that is too large to be returned.
    pub(crate) fn too_large(&self) -> Option<TooLarge> {
        let Head::TooLarge {
            len, id, verified, ..
        } = &self.head
        else {
            return None;
        };
        Some(TooLarge {
            place: self.place(),
            offset: self.head_start,
            len: *len,
            id: id.map(|id| id.to_string()),
            verified: *verified,
            limit: self.root.options.max_record_size,
        })
    }

    /// The time at which the current record was appended, and true if its checksum matches. `None` if the item is not a
    /// record or states no time.
    pub(crate) fn time(&self) -> Option<(Timestamp, bool)> {
        match self.head {
            Head::TooLarge { time, verified, .. } => Some((time?, verified)),
            _ => self.record().map(|record| (record.time(), record.verified)),
        }
    }

    /// Counts the current item as read, so that the position is after it.
    pub(crate) fn consume(&mut self) {
        self.position = self.head_end;
        if let Head::Record { id, .. } | Head::TooLarge { id: Some(id), .. } = self.head {
            self.last = Some(id);
        }
    }

    /// Makes the next read begin at the current item again.
    fn go_back(&mut self) {
        self.base = self.head_start;
        (self.filled, self.next, self.ended) = (0, 0, false);
        self.long = None;
    }

    /// Closes the descriptor and frees the buffer. [`wake`](Self::wake) reads the current item again.
    pub(crate) fn sleep(&mut self) {
        self.close();
        self.asleep = true;
        self.buffer = Vec::new();
        self.pieces.clear();
    }

    /// Reads the current item again after [`sleep`](Self::sleep). The segment is read up to the end that it had when it
    /// was first opened, even if it has grown or was sealed since.
    pub(crate) fn wake(&mut self, clock: &mut StepClock) -> Result<()> {
        self.go_back();
        self.asleep = false;
        self.step(clock).inspect_err(|_| self.sleep())
    }

    /// Counts the current item as read, and reads the next one. Returns false at the end.
    pub(crate) fn next(&mut self, clock: &mut StepClock) -> Result<bool> {
        self.consume();
        self.step(clock)?;
        Ok(!matches!(self.head, Head::End))
    }

    /// Reads on to the next record, the next damage, or the end.
    pub(crate) fn step(&mut self, clock: &mut StepClock) -> Result<()> {
        loop {
            if let Some(piece) = self.pieces.pop_front() {
                self.take_piece(piece);
                return Ok(());
            }
            if std::mem::take(&mut self.broken) {
                self.give_up();
                return Ok(());
            }
            if self.ended {
                self.head = Head::End;
                return Ok(());
            }
            let shown = match self.next_line(clock)? {
                Line::Whole(range) => self.read_line(range, true, clock)?,
                Line::Tail(range) => self.read_line(range, false, clock)?,
                Line::TooLong => true,
                Line::Nothing => false,
            };
            if shown {
                return Ok(());
            }
        }
    }

    /// Makes a line the current item. Returns false if the line is blank, or if it consists of several parts, which
    /// come next.
    fn read_line(&mut self, mut line: Range<usize>, whole: bool, clock: &mut StepClock) -> Result<bool> {
        if !whole {
            // White space at the end is removed, since the line break may have been changed into another white space
            // character.
            let bytes = self.buffer.get(line.clone()).unwrap_or_default();
            line.end = line.start + bytes.trim_ascii_end().len();
        }
        let bytes = self.buffer.get(line.clone()).unwrap_or_default();
        let start = self.base + line.start as u64;
        Ok(match record::read_line(bytes) {
            // Without its line break, a line of another program may lack other bytes, too.
            Ok(record) if whole || record.verified => {
                let (id, verified, len) = (record.id, record.verified, record.line.len());
                let order = if id.is_v7() {
                    id
                } else {
                    record::line_time(record.line).map_or(self.order, EventId::floor)
                };
                if !verified && self.is_compressed() {
                    let intact = self.is_intact(clock).inspect_err(|_| {
                        // The line is kept for another attempt.
                        (self.next, self.ended) = (line.start, false);
                    })?;
                    if !intact {
                        self.pieces.push_back(Piece::Damage(line, NOT_INTACT));
                        return Ok(false);
                    }
                }
                self.order = self.order.max(order);
                self.head_start = start;
                self.head_end = self.base + self.next as u64;
                self.head = Head::Record {
                    range: line.start..line.start + len,
                    id,
                    verified,
                };
                true
            }
            _ if bytes.iter().all(u8::is_ascii_whitespace) => false,
            Ok(_) => {
                if self.sealed {
                    self.pieces.push_back(Piece::Damage(line, NO_LINE_END));
                }
                false
            }
            Err(fault) => {
                self.salvage(line, fault, whole);
                false
            }
        })
    }

    /// True if a compressed file decompresses completely, up to the checksum at its end. One flipped byte may change
    /// many lines, and a line without a checksum of its own can't show that.
    fn is_intact(&mut self, clock: &mut StepClock) -> Result<bool> {
        if let Some(intact) = self.intact {
            return Ok(intact);
        }
        let Some(mut opened) = source::open(self.at(), 0)? else {
            return Ok(true);
        };
        let (path, mut buffer) = (self.path(), vec![0; self.chunk]);
        let intact = loop {
            clock.check(&self.root, &path)?;
            match opened.bytes.read(&mut buffer) {
                Ok(0) => break true,
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) if error.raw_os_error().is_none() => break false,
                Err(error) => return Err(self.root.read_fault("read segment", &path, error)),
            }
        };
        self.intact = Some(intact);
        Ok(intact)
    }

    /// Finds the records within a line that is not a valid record as a whole.
    fn salvage(&mut self, line: Range<usize>, fault: LineFault, whole: bool) {
        let bytes = self.buffer.get(line.clone()).unwrap_or_default();
        let mut at = 0;
        for (range, _) in salvage::records(bytes) {
            if range.start > at {
                self.pieces.push_back(Piece::Damage(
                    line.start + at..line.start + range.start,
                    fault.as_str(),
                ));
            }
            at = range.end;
            self.pieces
                .push_back(Piece::Record(line.start + range.start..line.start + range.end));
        }
        let found = at > 0;
        let rest = bytes.get(at..).unwrap_or_default();
        if found && !whole && !self.sealed && rest.iter().all(|byte| *byte == 0) {
            // A power loss took the line break and the bytes after it, but not the file's length. The next writer cuts
            // off these bytes, and continues at the end of the record.
            self.next = line.start + at;
            return;
        }
        // Bytes without a line break at the end of the segment may be a write in progress. They are damage if they
        // contain a record, or if no process writes to this segment any more.
        if !rest.is_empty() && (whole || self.sealed || found) {
            let why = if found {
                "a line end is missing before it"
            } else {
                fault.as_str()
            };
            self.pieces
                .push_back(Piece::Damage(line.start + at..line.end, why));
        }
    }

    fn take_piece(&mut self, piece: Piece) {
        match piece {
            Piece::Record(range) => {
                let bytes = self.buffer.get(range.clone()).unwrap_or_default();
                let id = record::read_line(bytes).map_or(self.order, |record| record.id);
                self.order = self.order.max(id);
                self.head_start = self.base + range.start as u64;
                self.head_end = self.base + range.end as u64;
                self.head = Head::Record {
                    range,
                    id,
                    verified: true,
                };
            }
            Piece::Damage(range, why) => {
                self.head_start = self.base + range.start as u64;
                self.head_end = self.base + range.end as u64;
                self.head = Head::Damage {
                    offset: self.head_start,
                    len: range.len() as u64,
                    why,
                };
            }
        }
        if self.pieces.is_empty() {
            self.head_end = self.base + self.next as u64;
        }
    }
}
