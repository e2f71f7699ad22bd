//! The files of a log, read without the code under test.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::value::RawValue;

use crate::tool::{Answer, lines};

/// A record, as another program would parse it.
#[derive(Debug, serde::Deserialize)]
pub(crate) struct Record<'a> {
    /// The id of the event.
    pub(crate) id: uuid::Uuid,
    /// The payload, byte for byte.
    #[serde(borrow)]
    pub(crate) event: &'a RawValue,
}

/// The counts of a job's files.
#[derive(Debug, Default)]
pub(crate) struct OnDisk {
    /// The number of plain segments.
    pub(crate) plain: usize,
    /// The number of compressed segments, whose contents are not read.
    pub(crate) compressed: usize,
    /// The number of records in plain segments.
    pub(crate) records: usize,
}

/// Parses a record of `events cat` or of a segment.
pub(crate) fn record(line: &[u8]) -> Result<Record<'_>> {
    serde_json::from_slice(line).with_context(|| format!("no record: {}", String::from_utf8_lossy(line)))
}

/// The ids and payloads that `events cat` printed.
pub(crate) fn events(answer: &Answer) -> Result<Vec<(uuid::Uuid, &[u8])>> {
    let records = answer.lines().map(record);
    let events = records.map(|record| record.map(|record| (record.id, record.event.get().as_bytes())));
    events.collect()
}

/// The segments of a job, by name.
pub(crate) fn list(base: &Path, repo: &str, job: &str) -> Result<Vec<PathBuf>> {
    let folder = base.join("events").join(repo).join(job);
    let entries = std::fs::read_dir(&folder).with_context(|| format!("can't list {}", folder.display()))?;
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let named = path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("events-"));
        if named {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// Checks every line of every plain segment: complete, JSON, and with the CRC-32C of the bytes before `,"crc"`.
pub(crate) fn check(base: &Path, repo: &str, job: &str) -> Result<OnDisk> {
    check_with(base, repo, job, true)
}

/// As [`check`], except that an unsealed segment may end in an incomplete line if `mended` is false.
pub(crate) fn check_with(base: &Path, repo: &str, job: &str, mended: bool) -> Result<OnDisk> {
    let mut found = OnDisk::default();
    for path in list(base, repo, job)? {
        if path.extension().is_none_or(|extension| extension != "jsonl") {
            found.compressed += 1;
            continue;
        }
        found.plain += 1;
        let mut bytes = std::fs::read(&path).with_context(|| format!("can't read {}", path.display()))?;
        if !mended && path.metadata()?.permissions().mode() & 0o777 != 0o400 {
            bytes.truncate(
                bytes
                    .iter()
                    .rposition(|byte| *byte == b'\n')
                    .map_or(0, |at| at + 1),
            );
        }
        if !bytes.is_empty() && !bytes.ends_with(b"\n") {
            bail!("{}: its last line has no end", path.display());
        }
        for (number, line) in lines(&bytes).enumerate() {
            check_line(line).with_context(|| format!("{} line {}", path.display(), number + 1))?;
            found.records += 1;
        }
    }
    Ok(found)
}

fn check_line(line: &[u8]) -> Result<()> {
    record(line)?;
    let text = std::str::from_utf8(line).context("not UTF-8")?;
    let (body, crc) = text
        .rsplit_once(r#","crc":""#)
        .context("no checksum at its end")?;
    let stated = crc
        .strip_suffix("\"}")
        .and_then(|hex| u32::from_str_radix(hex, 16).ok());
    let computed = crc32c::crc32c(body.as_bytes());
    if stated != Some(computed) {
        bail!("its checksum is {computed:08x}, it says {crc}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::check_line;

    #[test]
    fn a_changed_byte_is_seen() {
        let body = r#"{"id":"01890a5d-ac96-774b-bcce-b302099a8057","timestamp":"2025-01-01T00:00:00Z","event":{"a":1}"#;
        let line = format!("{body},\"crc\":\"{:08x}\"}}", crc32c::crc32c(body.as_bytes()));
        assert!(check_line(line.as_bytes()).is_ok());
        assert!(check_line(line.replace("\"a\":1", "\"a\":2").as_bytes()).is_err());
        assert!(check_line(format!("{body}}}").as_bytes()).is_err());
    }
}
