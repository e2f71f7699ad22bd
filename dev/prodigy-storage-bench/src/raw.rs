//! The limit of the machine: bare system calls write the same complete line, made by `serde_json` in a reused buffer.

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::event::{Digest, Event, Source};

/// The complete line of an event, without its checksum.
#[derive(Serialize)]
struct Full<'a> {
    id: &'a str,
    timestamp: &'a str,
    event: &'a Event,
}

/// A complete line, parsed.
#[derive(Debug, Deserialize)]
struct Line<'a> {
    id: &'a str,
    timestamp: &'a str,
    event: Event,
    crc: &'a str,
}

/// The length of `,"crc":"xxxxxxxx"}`.
const TRAILER: usize = 18;
const CHUNK: usize = 256 << 10;
/// The number of spaces that are written ahead of the events, in bytes.
const SPACE: usize = 1 << 20;

/// Writes the complete line of an event: id, timestamp, payload, checksum, line end. The clock is not read.
pub(crate) fn line(buffer: &mut Vec<u8>, n: usize, event: &Event) -> Result<()> {
    let start = buffer.len();
    let mut id = [0u8; 36];
    write!(&mut id[..], "019a0000-0000-7000-8000-{n:012x}")?;
    let full = Full {
        id: std::str::from_utf8(&id)?,
        timestamp: "2026-01-01T00:00:00.000000Z",
        event,
    };
    serde_json::to_writer(&mut *buffer, &full)?;
    buffer.pop();
    let crc = crc32c::crc32c(buffer.get(start..).unwrap_or_default());
    writeln!(buffer, ",\"crc\":\"{crc:08x}\"}}")?;
    Ok(())
}

/// Appends to a file with one system call per event.
#[derive(Debug)]
pub(crate) struct Appender {
    file: File,
    buffer: Vec<u8>,
    sync: bool,
    lock: bool,
}

impl Appender {
    /// Opens the file; with `sync`, each event is synced.
    pub(crate) fn open(path: &Path, sync: bool) -> Result<Self> {
        let file = File::options()
            .create(true)
            .append(true)
            .open(path)
            .with_context(|| format!("can't open {}", path.display()))?;
        Ok(Self {
            file,
            buffer: Vec::new(),
            sync,
            lock: false,
        })
    }

    /// Makes the appender lock the file for each event.
    pub(crate) fn locked(mut self) -> Self {
        self.lock = true;
        self
    }

    pub(crate) fn append(&mut self, n: usize, event: &Event) -> Result<()> {
        self.buffer.clear();
        line(&mut self.buffer, n, event)?;
        if self.lock {
            self.file.lock()?;
        }
        self.file.write_all(&self.buffer)?;
        if self.sync {
            self.file.sync_data()?;
        }
        if self.lock {
            self.file.unlock()?;
        }
        Ok(())
    }
}

/// Appends to a file that was filled with spaces in advance, one MiB at a time. Makes one system call and one sync
/// per event.
#[derive(Debug)]
pub(crate) struct SpacedAppender {
    file: File,
    buffer: Vec<u8>,
    end: u64,
    allocated: u64,
}

impl SpacedAppender {
    pub(crate) fn create(path: &Path) -> Result<Self> {
        Ok(Self {
            file: File::create(path).with_context(|| format!("can't create {}", path.display()))?,
            buffer: Vec::new(),
            end: 0,
            allocated: 0,
        })
    }

    pub(crate) fn append(&mut self, n: usize, event: &Event) -> Result<()> {
        self.buffer.clear();
        line(&mut self.buffer, n, event)?;
        let end = self.end + self.buffer.len() as u64;
        if end > self.allocated {
            self.file.write_all_at(&vec![b' '; SPACE], self.allocated)?;
            self.file.sync_data()?;
            self.allocated += SPACE as u64;
        }
        self.file.write_all_at(&self.buffer, self.end)?;
        self.file.sync_data()?;
        self.end = end;
        Ok(())
    }

    /// Removes the unused spaces at the end.
    pub(crate) fn trim(self) -> Result<()> {
        Ok(self.file.set_len(self.end)?)
    }
}

/// Writes events by number into a 64 KiB `BufWriter`.
pub(crate) fn write_buffered(
    path: &Path,
    source: &mut Source,
    numbers: std::ops::Range<usize>,
) -> Result<()> {
    let mut out = BufWriter::with_capacity(64 << 10, File::create(path)?);
    let mut buffer = Vec::new();
    for n in numbers {
        buffer.clear();
        line(&mut buffer, n, source.event(n))?;
        out.write_all(&buffer)?;
    }
    out.flush()?;
    Ok(())
}

/// Reads a file in chunks, checks each line's checksum, parses it, and passes the events to a function.
pub(crate) fn scan(path: &Path, mut each: impl FnMut(&Event)) -> Result<usize> {
    let mut file = File::open(path).with_context(|| format!("can't open {}", path.display()))?;
    let mut chunk = vec![0u8; CHUNK];
    let (mut filled, mut count) = (0, 0);
    loop {
        let read = file.read(chunk.get_mut(filled..).unwrap_or_default())?;
        if read == 0 {
            ensure!(filled == 0, "the last line has no end, or is longer than a chunk");
            return Ok(count);
        }
        filled += read;
        let bytes = chunk.get(..filled).unwrap_or_default();
        let mut start = 0;
        for end in memchr::memchr_iter(b'\n', bytes) {
            each(
                &parsed(bytes.get(start..end).unwrap_or_default())
                    .with_context(|| format!("line {count}"))?,
            );
            count += 1;
            start = end + 1;
        }
        chunk.copy_within(start..filled, 0);
        filled -= start;
    }
}

/// The event of a line with a valid checksum.
pub(crate) fn parsed(line: &[u8]) -> Result<Event> {
    let (body, trailer) = line
        .split_at_checked(line.len().wrapping_sub(TRAILER))
        .context("it is too short")?;
    let digits = trailer.get(8..16).unwrap_or_default();
    let stored = digits.iter().try_fold(0u32, |crc, digit| {
        Some(crc << 4 | char::from(*digit).to_digit(16)?)
    });
    ensure!(stored == Some(crc32c::crc32c(body)), "its checksum does not hold");
    let line: Line<'_> = serde_json::from_str(std::str::from_utf8(line)?)?;
    ensure!(
        line.id.len() == 36 && line.timestamp.len() == 27 && line.crc.len() == 8,
        "it is not whole"
    );
    Ok(line.event)
}

/// The digest of the lines of a file.
pub(crate) fn digest(path: &Path) -> Result<Digest> {
    let mut digest = Digest::default();
    scan(path, |event| digest.add(event))?;
    Ok(digest)
}

#[cfg(test)]
mod tests {
    use super::{Appender, digest, line, scan, write_buffered};
    use crate::event::Source;

    #[test]
    fn what_is_appended_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut source = Source::new(5);
        write_buffered(&path, &mut source, 0..1_500).unwrap();
        let mut appender = Appender::open(&path, false).unwrap().locked();
        for n in 1_500..1_600 {
            appender.append(n, source.event(n)).unwrap();
        }
        assert_eq!(digest(&path).unwrap(), Source::new(5).digest(0..1_600));
    }

    #[test]
    fn a_changed_byte_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut text = Vec::new();
        line(&mut text, 1, Source::new(5).event(1)).unwrap();
        text[60] ^= 1;
        std::fs::write(&path, &text).unwrap();
        let error = format!("{:#}", scan(&path, |_| ()).unwrap_err());
        assert!(error.contains("checksum"), "{error}");
    }

    #[test]
    fn a_torn_end_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut text = Vec::new();
        line(&mut text, 1, Source::new(5).event(1)).unwrap();
        text.pop();
        std::fs::write(&path, &text).unwrap();
        assert!(scan(&path, |_| ()).is_err());
    }
}
