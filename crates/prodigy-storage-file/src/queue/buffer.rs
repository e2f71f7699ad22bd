//! The bytes of a file that are in memory.

use std::io;
use std::ops::Range;

use crate::fs::FsFile;

/// Bytes of a file, from one place on. What is read next goes where others were, so that nothing is cleared for it.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    room: Vec<u8>,
    len: usize,
}

impl Buffer {
    pub(super) fn bytes(&self) -> &[u8] {
        self.room.get(..self.len).unwrap_or_default()
    }

    /// Some of them; none where the range goes beyond.
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

    /// Gives up the first bytes; those behind them move to the front.
    pub(super) fn pass(&mut self, count: usize) {
        let count = count.min(self.len);
        self.room.copy_within(count..self.len, 0);
        self.len -= count;
    }

    /// Reads as many bytes more, as far as the file goes; `offset` is where they stand in it.
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
