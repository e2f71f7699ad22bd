//! Sequential reads of an open file, as [`Read`].

use std::io::{self, Read};
use std::ops::Deref;

use super::FsFile;

/// Reads a file, owned or borrowed, from an offset to its end.
#[derive(Debug)]
pub(crate) struct FileRead<F> {
    file: F,
    offset: u64,
}

impl<F> FileRead<F> {
    pub(crate) fn new(file: F, offset: u64) -> Self {
        Self { file, offset }
    }
}

impl<'f, F: Deref<Target = dyn FsFile + 'f>> Read for FileRead<F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.offset)?;
        self.offset += read as u64;
        Ok(read)
    }
}
