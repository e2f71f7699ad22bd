//! Peers that write log files: each writes the same complete line with one call of `write`.

use std::fmt;
use std::io::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::Result;
use file_rotate::compression::Compression;
use file_rotate::suffix::AppendCount;
use file_rotate::{ContentLimit, FileRotate};
use tracing_appender::rolling;

use super::store::Peer;
use crate::event::{Event, Source};
use crate::raw;

/// The size at which files are rotated: the same as that of our segments.
const ROTATED: usize = 100 << 20;

/// A writer, and the folder of its files.
pub(crate) struct Lines {
    out: Box<dyn Write + Send>,
    folder: PathBuf,
    buffer: Vec<u8>,
}

impl Lines {
    pub(crate) fn tracing_appender(folder: &Path) -> Self {
        Self::over(Box::new(rolling::never(folder, "log")), folder)
    }

    pub(crate) fn file_rotate(folder: &Path) -> Self {
        let out = FileRotate::new(
            folder.join("log"),
            AppendCount::new(1_000),
            ContentLimit::BytesSurpassed(ROTATED),
            Compression::None,
            None,
        );
        Self::over(Box::new(out), folder)
    }

    fn over(out: Box<dyn Write + Send>, folder: &Path) -> Self {
        Self {
            out,
            folder: folder.to_owned(),
            buffer: Vec::new(),
        }
    }
}

impl Peer for Lines {
    fn append(&mut self, n: usize, event: &Event) -> Result<()> {
        self.buffer.clear();
        raw::line(&mut self.buffer, n, event)?;
        Ok(self.out.write_all(&self.buffer)?)
    }

    fn append_batch(&mut self, source: &mut Source, numbers: Range<usize>) -> Result<()> {
        self.buffer.clear();
        for n in numbers {
            raw::line(&mut self.buffer, n, source.event(n))?;
        }
        Ok(self.out.write_all(&self.buffer)?)
    }

    fn read(&mut self, each: &mut dyn FnMut(&Event)) -> Result<()> {
        self.out.flush()?;
        for entry in std::fs::read_dir(&self.folder)? {
            raw::scan(&entry?.path(), &mut *each)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lines")
            .field("folder", &self.folder)
            .finish_non_exhaustive()
    }
}
