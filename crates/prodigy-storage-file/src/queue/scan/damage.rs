//! Handles bytes that are not an item, and items that are larger than a scanner keeps in memory. Damage is read twice,
//! since a writer may have changed the bytes during the first read. The scanner then continues at the next record.

use std::io;

use prodigy_storage_backend::record::{self, Checksum, LineFault};

use super::super::blanks;
use super::super::large::{End, LargeObject};
use super::super::line::{HEAD, ItemChecksum};
use super::array::ArrayState;
use super::{CHUNK, Fragment, IN_VAIN, Scanner, Step, Value, trimmed, value};

/// The reason that is reported for damage between two items if it lost no acknowledged data.
pub(crate) const LOST_WRITE: &str = "a power failure left a part of these bytes blank: they belong to a push that was relaxed or not acknowledged";
/// The largest number of positions in one line at which the next record after damage is tried.
const TRIES: usize = 64;

impl Scanner {
    /// The damage after the last item. `None` if it may be the rest of the last write before a power failure; that is
    /// then an unfinished write.
    pub(super) fn last_damage(&mut self) -> io::Result<Option<Fragment>> {
        let Some(Fragment::Damage { start, end, why }) = self.damage.take() else {
            return Ok(None);
        };
        if self.is_lost_write(end)? {
            self.array = ArrayState {
                tail: Some(start),
                ..self.sound
            };
            return Ok(None);
        }
        Ok(Some(Fragment::Damage { start, end, why }))
    }

    /// True if the damage up to `end` is the rest of a write that a power failure cut short: it has a blank sector, or
    /// the closing bracket that the write should have replaced is still there.
    pub(super) fn is_lost_write(&self, end: u64) -> io::Result<bool> {
        let sound = &self.sound;
        let was_closed = sound.closed && sound.begun && sound.plain && !sound.damaged;
        Ok(was_closed || blanks::has_blank_sector_in(&*self.file, sound.end, end)?)
    }

    /// Reads a value that is longer than the limit, in pieces. It ends with its closing bracket or, if it is an item of
    /// ours, with its line.
    pub(super) fn large(&mut self) -> io::Result<Step> {
        let start = self.base + self.at as u64;
        let (mut object, mut bytes, mut offset) = (LargeObject::default(), vec![0; CHUNK], start);
        let mut ended = false;
        let found = loop {
            let left = usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX);
            let room = bytes.get_mut(..left.min(CHUNK)).unwrap_or_default();
            let read = self.file.read_full_at(room, offset)?;
            let read = bytes.get(..read).unwrap_or_default();
            offset += read.len() as u64;
            if let Some(end) = object.push(read) {
                break end;
            }
            if read.is_empty() {
                ended = true;
                break object.finish();
            }
        };
        match found {
            End::Item(len, checksum) => {
                self.go_to(start + len);
                self.pass(0);
                self.array.damaged = false;
                if checksum == ItemChecksum::Missing && !object.head().starts_with(b"{") {
                    let end = self.array.end;
                    return Ok(Step::Fragment(Fragment::Foreign { start, end }));
                }
                Ok(Step::Fragment(Fragment::TooLarge {
                    start,
                    end: start + len,
                    checksum,
                    head: object.head().to_vec(),
                }))
            }
            End::Damage(_) if !self.is_read_twice()? => Ok(Step::More),
            // The beginning of a push that was cut short, or is not finished yet.
            End::Damage(_) if ended && self.fresh && object.is_open() && object.head().starts_with(HEAD) => {
                self.go_to(self.len);
                self.array.tail = Some(start);
                Ok(Step::End)
            }
            End::Damage(len) => {
                self.in_vain = self.in_vain.saturating_add(self.parsed);
                self.go_to(start + len);
                self.pass(0);
                self.array.damaged = true;
                Ok(Step::Fragment(Fragment::Damage {
                    start,
                    end: start + len,
                    why: LineFault::TooLong.as_str(),
                }))
            }
        }
    }

    /// Returns false if the bytes from here on must be read again, since a writer may have changed them.
    pub(super) fn is_read_twice(&mut self) -> io::Result<bool> {
        let start = self.base + self.at as u64;
        if self.twice > start {
            return Ok(true);
        }
        self.twice = (self.base + self.buffer.len() as u64).max(start + 1);
        self.buffer.truncate(self.at);
        self.line_end = None;
        if !self.is_bounded {
            self.len = self.file.metadata()?.len;
        }
        Ok(false)
    }

    /// Makes the bytes up to `end` damage. Without an `end`, the damage extends to the next record of ours in this
    /// line, or to the end of the line. A last line without an end is not damage if it may be an unfinished push of
    /// ours.
    pub(super) fn damaged(&mut self, why: &'static str, end: Option<usize>) -> io::Result<Step> {
        let start = self.base + self.at as u64;
        if !self.is_read_twice()? {
            return Ok(Step::More);
        }
        self.in_vain = self.in_vain.saturating_add(self.parsed);
        let end = match end {
            Some(end) => end,
            None => {
                let mut looked = self.at;
                let line_end = loop {
                    let rest = self.buffer.from(looked);
                    if let Some(found) = memchr::memchr(b'\n', rest) {
                        break Some(looked + found);
                    }
                    looked = self.buffer.len();
                    if looked - self.at >= self.limit.saturating_add(blanks::MOST) || !self.fill()? {
                        break None;
                    }
                };
                let until = line_end.unwrap_or(self.buffer.len());
                // If the first push into an empty array was cut short, its first byte may be followed by the line end
                // that the file had before.
                let stub = self.at_end() && self.buffer.from(self.at).trim_ascii_end() == b"{";
                match self.next_record(until) {
                    Some(record) => record,
                    None if stub || (line_end.is_none() && self.at_end() && self.is_torn()) => {
                        self.array.tail = Some(start);
                        self.at = self.buffer.len();
                        return Ok(Step::End);
                    }
                    None => self.at + trimmed(self.bytes(self.at..until)).len().max(1),
                }
            }
        };
        self.pass(end);
        self.array.damaged = true;
        Ok(Step::Fragment(Fragment::Damage {
            start,
            end: self.base + end as u64,
            why,
        }))
    }

    /// True if the bytes from here to the end of the file may be the rest of a push that was cut short: the beginning
    /// of a line of ours, or zeros. They may directly follow a bracket if the line end after it is missing.
    pub(super) fn is_torn(&self) -> bool {
        let line = self.buffer.from(self.at).trim_ascii_end();
        line.iter().all(|byte| *byte == 0)
            || self.fresh && (line.starts_with(HEAD) || HEAD.starts_with(line) || line.starts_with(b"\0"))
    }

    /// The index of the next record of ours before `until`, if its checksum matches.
    pub(super) fn next_record(&mut self, until: usize) -> Option<usize> {
        let from = self.at + 1;
        let rest = self.buffer.bytes().get(from..until)?;
        if self.in_vain >= IN_VAIN {
            return None;
        }
        let tries = memchr::memmem::find_iter(rest, HEAD).take(TRIES).count();
        self.in_vain = self.in_vain.saturating_add(tries.saturating_mul(rest.len()));
        let rest = self.buffer.bytes().get(from..until)?;
        memchr::memmem::find_iter(rest, HEAD)
            .take(TRIES)
            .map(|at| from + at)
            .find(|&at| {
                let text = self.bytes(at..until);
                matches!(value(text), Value::Whole(len)
                if text.get(..len).is_some_and(|text| record::check_crc(text) == Checksum::Valid))
            })
    }
}
