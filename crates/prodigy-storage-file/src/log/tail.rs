//! The end of a segment that a dead process may have left torn.

use std::path::Path;

use prodigy_storage_backend::{Result, StorageError};

use super::salvage;
use crate::fs::FsFile;
use crate::root::{Quarantine, Root};

/// The maximum length of an end without a line break that is examined.
const LONGEST_TAIL: u64 = 1 << 30;

/// Repairs the end of a segment whose lock is held. Returns its length, which is the end of a line. `None` if the end
/// is too long to be examined, or can't be synced.
///
/// A last line without a line break and with a matching checksum is a record, and gets its line break. Any other was
/// never acknowledged: it is copied to the quarantine, then cut.
pub(crate) fn mend(root: &Root, path: &Path, file: &dyn FsFile) -> Result<Option<u64>> {
    let fault = |error| root.write_fault("mend segment", path, error);
    let len = file.metadata().map_err(fault)?.len;
    let Some(start) = last_line(file, len).map_err(fault)? else {
        return Ok(None);
    };
    if start == len {
        return Ok(Some(len));
    }
    let mut tail = vec![0; (len - start) as usize];
    let filled = file.read_full_at(&mut tail, start).map_err(fault)?;
    tail.truncate(filled);
    // The line may be in memory only: a power loss that took the line, but not the repair behind it, would leave a
    // hole.
    if !synced(path, file) {
        return Ok(None);
    }
    let keep = records_end(&tail);
    if keep < tail.len() {
        let lost = tail.get(keep..).unwrap_or_default();
        Quarantine::of(root).keep(path, start + keep as u64, lost)?;
        file.set_len(start + keep as u64).map_err(fault)?;
    }
    let mut end = start + keep as u64;
    if keep > 0 {
        file.write_all_at(b"\n", end)
            .map_err(|error| take_back(root, path, file, end, error))?;
        end += 1;
    }
    // The next write here must not reach the disk before the cut does.
    Ok(synced(path, file).then_some(end))
}

/// Syncs the segment. A segment whose sync fails is left alone.
fn synced(path: &Path, file: &dyn FsFile) -> bool {
    file.sync()
        .inspect_err(|error| {
            tracing::error!(segment = %path.display(), %error, "a segment is left alone: its state on disk is unknown");
        })
        .is_ok()
}

fn take_back(root: &Root, path: &Path, file: &dyn FsFile, end: u64, error: std::io::Error) -> StorageError {
    // The record is valid without its line break, too.
    let _ = file.set_len(end);
    root.write_fault("mend segment", path, error)
}

/// The end of the last whole record of a segment that may still be written to, up to a length, and whether the line
/// break of that record is missing.
#[cfg(feature = "backup")]
pub(crate) fn whole_lines(file: &dyn FsFile, len: u64) -> std::io::Result<(u64, bool)> {
    let Some(start) = last_line(file, len)? else {
        return Ok((len, false));
    };
    let mut tail = vec![0; (len - start) as usize];
    let filled = file.read_full_at(&mut tail, start)?;
    tail.truncate(filled);
    let whole = records_end(&tail);
    Ok((start + whole as u64, whole > 0))
}

/// The offset at which the last line begins; `len` if the file ends with a line break. `None` if the line is too
/// long.
pub(crate) fn last_line(file: &dyn FsFile, len: u64) -> std::io::Result<Option<u64>> {
    line_start(file, len, LONGEST_TAIL)
}

/// The offset at which the line begins that ends at `to`. `None` if it is longer than about `longest`.
pub(crate) fn line_start(file: &dyn FsFile, to: u64, longest: u64) -> std::io::Result<Option<u64>> {
    let mut buffer = [0; 8192];
    let mut end = to;
    while end > 0 {
        let from = end.saturating_sub(buffer.len() as u64);
        let Some(window) = buffer.get_mut(..(end - from) as usize) else {
            break;
        };
        let filled = file.read_full_at(window, from)?;
        if let Some(found) = memchr::memrchr(b'\n', window.get(..filled).unwrap_or_default()) {
            return Ok(Some(from + found as u64 + 1));
        }
        if to - from > longest {
            return Ok(None);
        }
        end = from;
    }
    Ok(Some(0))
}

/// The end of the last record in `tail` with a matching checksum; 0 without one.
fn records_end(tail: &[u8]) -> usize {
    salvage::records(tail).last().map_or(0, |(range, _)| range.end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use prodigy_storage_backend::EventId;
    use prodigy_storage_backend::record::RecordEncoder;
    use prodigy_storage_layout::Timestamp;

    #[test]
    fn only_whole_records_are_kept() {
        let mut tail = Vec::new();
        let id = EventId::floor(Timestamp::from_millis(1_800_000_000_000));
        RecordEncoder::new().encode(&mut tail, id, id.time(), b",\"event\":1");
        let whole = tail.len();
        assert_eq!(records_end(&tail), whole);
        for cut in 0..whole {
            assert_eq!(records_end(&tail[..cut]), 0, "cut at {cut}");
        }
        tail.extend_from_slice(b"\x0b{\"id\":\"half");
        assert_eq!(records_end(&tail), whole, "a flipped line end costs no record");
    }
}
