//! A part of a file in memory.

use std::io;
use std::ops::Range;

use crate::fs::FsFile;

/// A part of a file in memory. Its memory is reused for new bytes, and is not cleared first.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    room: Vec<u8>,
    len: usize,
}

impl Buffer {
    pub(super) fn bytes(&self) -> &[u8] {
        self.room.get(..self.len).unwrap_or_default()
    }

    /// The bytes of the range; empty if the range is not within the buffer.
    pub(super) fn get(&self, range: Range<usize>) -> &[u8] {
        self.bytes().get(range).unwrap_or_default()
    }

    pub(super) fn from(&self, start: usize) -> &[u8] {
        self.bytes().get(start..).unwrap_or_default()
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Removes the first `count` bytes, and moves the others to the front.
    pub(super) fn pass(&mut self, count: usize) {
        let count = count.min(self.len);
        self.room.copy_within(count..self.len, 0);
        self.len -= count;
    }

    /// Reads up to `more` bytes at `offset` of the file, and appends them. Returns their number.
    pub(super) fn read(&mut self, file: &dyn FsFile, offset: u64, more: usize) -> io::Result<usize> {
        let end = self.len + more;
        if self.room.len() < end {
            self.room.resize(end, 0);
        }
        let read = match self.room.get_mut(self.len..end) {
            Some(room) => file.read_full_at(room, offset)?,
            None => 0,
        };
        self.len += read;
        Ok(read)
    }
}
