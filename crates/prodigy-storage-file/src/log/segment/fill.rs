//! Fills the buffer of a segment's reader, and finds the lines in it.

use std::ops::Range;

use prodigy_storage_backend::Result;
use prodigy_storage_layout::SegmentForm;

use super::long::LongLine;
use super::{Head, SegmentReader};
use crate::log::clock::StepClock;
use crate::log::resume::gap;
use crate::log::{archive, search, source};

/// The result of a search for the next line.
pub(super) enum Line {
    Whole(Range<usize>),
    /// The last bytes of the segment, without a line break.
    Tail(Range<usize>),
    /// A line too long for memory. It was read to its end, and is the current item.
    TooLong,
    Nothing,
}

impl SegmentReader {
    /// Opens the segment at an offset of the uncompressed data, in the form that exists now.
    fn open_at(&mut self, offset: u64) -> Result<()> {
        let opened = source::open(self.at(), offset)?;
        let opened = opened.ok_or_else(|| gap(self.at()))?;
        self.form = opened.form;
        self.source = Some(opened.bytes);
        self.dripping = false;
        Ok(())
    }

    /// Finds the next line. Its range does not include the line break.
    pub(super) fn next_line(&mut self, clock: &mut StepClock) -> Result<Line> {
        if self.long.is_some() {
            return self.long_line(clock);
        }
        let mut searched = self.next;
        loop {
            let rest = self.buffer.get(searched..self.filled).unwrap_or_default();
            let end = memchr::memchr(b'\n', rest).map(|found| searched + found);
            let pending = end.unwrap_or(self.filled) - self.next;
            if pending as u64 > search::longest_line(&self.root) {
                self.next += self.byte_order_mark();
                self.long = Some(LongLine::new(self.base + self.next as u64));
                return self.long_line(clock);
            }
            if let Some(end) = end {
                let start = self.next + self.byte_order_mark();
                self.next = end + 1;
                return Ok(Line::Whole(start..end));
            }
            searched = pending;
            if !self.fill(clock)? {
                self.ended = true;
                if self.broken {
                    return Ok(Line::Nothing);
                }
                let line = self.next..self.filled;
                self.next = self.filled;
                self.is_cut |= !line.is_empty();
                return Ok(if line.is_empty() {
                    Line::Nothing
                } else {
                    Line::Tail(line)
                });
            }
        }
    }

    /// The length of the byte order mark at the start of the file, which another program may have written; otherwise 0.
    fn byte_order_mark(&self) -> usize {
        let begins = self.base == 0 && self.next == 0 && self.buffer.starts_with(b"\xef\xbb\xbf");
        if begins { 3 } else { 0 }
    }

    /// Reads more bytes, after moving those that are not part of a line yet to the front of the buffer. Returns false
    /// at the end.
    pub(super) fn fill(&mut self, clock: &mut StepClock) -> Result<bool> {
        let path = self.path();
        clock.check(&self.root, &path)?;
        self.buffer.copy_within(self.next..self.filled, 0);
        self.base += self.next as u64;
        self.filled -= self.next;
        self.next = 0;
        let read_to = self.base + self.filled as u64;
        let left = usize::try_from(self.limit.saturating_sub(read_to)).unwrap_or(usize::MAX);
        // The buffer need not be larger than the rest of the segment: a log may have many small segments.
        let longest = usize::try_from(search::longest_line(&self.root)).unwrap_or(usize::MAX);
        let wanted = (self.filled + self.chunk)
            .max((self.filled * 2).min(longest))
            .min(self.filled.saturating_add(left));
        if self.buffer.len() > wanted.saturating_mul(8) {
            // A long line had enlarged the buffer. This memory is freed for the rest of the segment.
            self.buffer.truncate(wanted);
            self.buffer.shrink_to_fit();
        } else if self.filled == 0 && self.buffer.len() < wanted {
            // The buffer holds nothing to keep, so it is allocated again: new memory is zeroed by the system, at no
            // cost.
            self.buffer = vec![0; wanted];
        } else if self.buffer.len() < wanted {
            self.buffer.resize(wanted, 0);
        }
        let end = self.buffer.len().min(self.filled.saturating_add(left));
        if self.filled >= end {
            return Ok(false);
        }
        if self.source.is_none() {
            self.open_at(read_to)?;
        }
        let Some(space) = self.buffer.get_mut(self.filled..end) else {
            return Ok(false);
        };
        let Some(source) = self.source.as_mut() else {
            return Ok(false);
        };
        let read = loop {
            match source.read(space) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {
                    clock.check(&self.root, &path)?;
                }
                // The decoder found damage; the operating system reported no error.
                Err(error) if self.form != SegmentForm::Plain && error.raw_os_error().is_none() => {
                    if !std::mem::replace(&mut self.dripping, true)
                        && let Some(again) = source::open_again(self.at(), self.form, read_to)?
                    {
                        self.source = Some(again);
                        return self.fill(clock);
                    }
                    self.broken = true;
                    self.is_cut |= error.kind() == std::io::ErrorKind::UnexpectedEof;
                    tracing::warn!(path = %path.display(), %error, "a segment does not decompress");
                    return Ok(false);
                }
                other => break other.map_err(|error| self.root.read_fault("read segment", &path, error))?,
            }
        };
        self.filled += read;
        if read == 0 || read_to + read as u64 >= self.limit {
            // The end of the segment is reached, so the descriptor is no longer needed.
            self.close();
        }
        Ok(read > 0)
    }

    /// Makes the rest of the segment the current item, as damage: it can't be decompressed. All whole lines before it
    /// were returned.
    pub(super) fn give_up(&mut self) {
        let start = self.base + self.next as u64;
        let told = archive::summary(self.at());
        // For a file of another program, the uncompressed length is unknown, and so is the extent of the loss.
        let end = told.ok().flatten().map_or(0, |summary| summary.bytes);
        self.next = self.filled;
        self.head_start = start;
        self.head_end = start.max(end);
        self.head = Head::Damage {
            offset: start,
            len: self.head_end - start,
            why: "it does not decompress from here on",
        };
    }
}
