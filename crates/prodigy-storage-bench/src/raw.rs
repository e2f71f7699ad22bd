//! What the machine can do: the same full line by `serde_json` into a reused buffer, and bare system calls.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;

use serde::Serialize;

use crate::event::{Event, Line};

#[derive(Serialize)]
struct Full<'a> {
    id: &'a str,
    timestamp: &'a str,
    event: &'a Event,
}

/// Writes the full line of an event: id, timestamp, payload, checksum, line end.
pub(crate) fn line(buffer: &mut Vec<u8>, n: usize, event: &Event) -> anyhow::Result<()> {
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
    write!(buffer, ",\"crc\":\"{crc:08x}\"}}")?;
    buffer.push(b'\n');
    Ok(())
}

/// Appends events, a system call each, and a sync each if asked for.
pub(crate) fn append(path: &Path, from: usize, events: usize, sync: bool) -> anyhow::Result<()> {
    let mut file = File::options().create(true).append(true).open(path)?;
    let mut buffer = Vec::new();
    for n in from..from + events {
        buffer.clear();
        line(&mut buffer, n, &Event::new(n))?;
        file.write_all(&buffer)?;
        if sync {
            file.sync_data()?;
        }
    }
    Ok(())
}

/// Reads all lines with a checksum check and a typed parse; gives how many there are.
pub(crate) fn scan(path: &Path) -> anyhow::Result<usize> {
    let mut reader = BufReader::with_capacity(256 << 10, File::open(path)?);
    let (mut line, mut count) = (Vec::new(), 0);
    loop {
        line.clear();
        if reader.read_until(b'\n', &mut line)? == 0 {
            return Ok(count);
        }
        let text = line.strip_suffix(b"\n").unwrap_or(&line);
        let body = text.get(..text.len().saturating_sub(18)).unwrap_or_default();
        let stored = text.get(body.len() + 8..body.len() + 16).unwrap_or_default();
        anyhow::ensure!(
            format!("{:08x}", crc32c::crc32c(body)).as_bytes() == stored,
            "checksum of line {count}"
        );
        let parsed: Line<'_> = serde_json::from_str(std::str::from_utf8(text)?)?;
        let whole = parsed.id.len() == 36 && parsed.timestamp.len() == 27 && parsed.crc.len() == 8;
        anyhow::ensure!(
            whole && !parsed.event.item.is_empty(),
            "line {count} is not whole"
        );
        count += 1;
    }
}
