//! Lines that are too long for memory: their checksum is computed while they are read, and they are copied in pieces.

use prodigy_storage_backend::record::{Checksum, LineFault};
use prodigy_storage_backend::{ErrorKind, EventId, Result, StorageError, StreamedLine};

use super::fill::Line;
use super::{Head, NO_LINE_END, NOT_INTACT, SegmentReader};
use crate::log::clock::StepClock;

/// The progress in a line that is too long for memory. A step that was interrupted by its time limit continues here.
#[derive(Debug)]
pub(super) struct LongLine {
    pub(super) start: u64,
    seen: StreamedLine,
    /// `None` until the end of the line is reached; then true if it ends with a line break.
    whole: Option<bool>,
}

impl SegmentReader {
    /// Reads a record that is too large to be returned again, and passes it to `to` in pieces.
    pub(crate) fn copy_head(
        &mut self,
        clock: &mut StepClock,
        mut to: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let Head::TooLarge { len, .. } = self.head else {
            return Ok(());
        };
        self.go_back();
        self.close();
        let mut left = len;
        while left > 0 {
            if self.next == self.filled && !self.fill(clock)? {
                let why = "it changed while it was copied";
                return Err(StorageError::new(
                    ErrorKind::Damaged,
                    "copy record",
                    self.place(),
                    why,
                ));
            }
            let most = usize::try_from(left).unwrap_or(usize::MAX);
            let end = self.filled.min(self.next.saturating_add(most));
            to(self.buffer.get(self.next..end).unwrap_or_default())?;
            left -= (end - self.next) as u64;
            self.next = end;
        }
        Ok(())
    }

    /// Reads to the end of a line that is too long for memory, and computes its checksum meanwhile.
    pub(super) fn long_line(&mut self, clock: &mut StepClock) -> Result<Line> {
        while let Some(long) = self.long.as_mut()
            && long.whole.is_none()
        {
            let pending = self.buffer.get(self.next..self.filled).unwrap_or_default();
            let end = memchr::memchr(b'\n', pending);
            long.seen
                .push(pending.get(..end.unwrap_or(pending.len())).unwrap_or_default());
            if let Some(end) = end {
                self.next += end + 1;
                long.whole = Some(true);
                break;
            }
            let start = long.start;
            self.next = self.filled;
            if !self.fill(clock)? {
                self.ended = true;
                if self.broken {
                    // The damage begins at the start of this line.
                    (self.base, self.filled, self.next, self.long) = (start, 0, 0, None);
                } else if let Some(long) = self.long.as_mut() {
                    long.whole = Some(false);
                    self.is_cut = true;
                }
            }
        }
        let Some((whole, verified, len)) = self.long.as_ref().and_then(LongLine::outcome) else {
            self.long = None;
            return Ok(Line::Nothing);
        };
        let intact = verified != Some(false) || !self.is_compressed() || self.is_intact(clock)?;
        let Some(LongLine { start, seen, .. }) = self.long.take() else {
            return Ok(Line::Nothing);
        };
        let why = match verified {
            Some(false) if !intact => NOT_INTACT,
            Some(verified) if whole || verified => {
                let event = seen.event();
                if let Some((id, time)) = event {
                    let order = if id.is_v7() { id } else { EventId::floor(time) };
                    self.order = self.order.max(order);
                }
                self.head_start = start;
                self.head_end = self.base + self.next as u64;
                self.head = Head::TooLarge {
                    len,
                    id: event.map(|(id, _)| id),
                    time: event.map(|(_, time)| time),
                    verified,
                };
                return Ok(Line::TooLong);
            }
            Some(_) => NO_LINE_END,
            None => LineFault::TooLong.as_str(),
        };
        if !whole && !self.sealed {
            // The line has no end yet, because a write is in progress.
            return Ok(Line::Nothing);
        }
        self.head_start = start;
        self.head_end = self.base + self.next as u64;
        self.head = Head::Damage {
            offset: start,
            len: self.head_end - start,
            why,
        };
        Ok(Line::TooLong)
    }
}

impl LongLine {
    pub(super) fn new(start: u64) -> Self {
        Self {
            start,
            seen: StreamedLine::default(),
            whole: None,
        }
    }

    /// The result for a line that was read to its end: true if it ends with a line break; true if its checksum matches
    /// (`None` if it is not a record); and the length of the record. Returns `None` for a blank line, or if the end is
    /// not reached.
    fn outcome(&self) -> Option<(bool, Option<bool>, u64)> {
        let whole = self.whole?;
        let trim: fn(&[u8]) -> &[u8] = if whole {
            |end| end.strip_suffix(b"\r").unwrap_or(end)
        } else {
            <[u8]>::trim_ascii_end
        };
        let (crc, len) = self.seen.check(trim);
        let verified = match crc {
            Checksum::Valid => Some(true),
            Checksum::Missing if self.seen.is_like_an_object(<[u8]>::trim_ascii_end) => Some(false),
            Checksum::Missing | Checksum::Mismatch => None,
        };
        (!self.seen.is_blank()).then_some((whole, verified, len))
    }
}
