//! Repairs the end of a segment, where a process that died may have left a torn record.

use std::path::Path;

use prodigy_storage_backend::{Result, StorageError};

use super::salvage;
use crate::fs::{CLOSED_MODE, FsFile, Metadata};
use crate::root::{Quarantine, Root};

/// The largest length, in bytes, of a last line without a line break that is examined.
const LONGEST_TAIL: u64 = 1 << 30;
/// The longest time, in nanoseconds, from the creation of a segment to the end of a first write that fails at once.
const CREATION: i64 = 50_000_000;

/// Repairs the end of a segment whose lock is held. Returns the new length, at which a line ends. `None` if the last
/// line is too long to be examined, or if the segment can't be synced.
///
/// If the last line lacks only its line break, and its checksum matches, the line break is added. Any other incomplete
/// line was never acknowledged: it is copied to the quarantine and cut off.
pub(crate) fn mend(root: &Root, path: &Path, file: &dyn FsFile) -> Result<Option<u64>> {
    let fault = |error| root.write_fault("mend segment", path, error);
    let found = file.metadata().map_err(fault)?;
    let len = found.len;
    let Some(start) = last_line(file, len).map_err(fault)? else {
        return Ok(None);
    };
    if start == len {
        return Ok(Some(len));
    }
    let mut tail = vec![0; (len - start) as usize];
    let filled = file.read_full_at(&mut tail, start).map_err(fault)?;
    tail.truncate(filled);
    // Syncs the line first, since it may not be on the disk yet. Otherwise a power loss could leave a hole: it would
    // take the line, but not what is written after it.
    if !synced(path, file) {
        return Ok(None);
    }
    if is_copy(root, path, &found) {
        // The change makes it look like a file that was written here.
        file.set_mode(CLOSED_MODE).map_err(fault)?;
    }
    let keep = records_end(&tail);
    if keep < tail.len() {
        let lost = tail.get(keep..).unwrap_or_default();
        Quarantine::of(root).keep(path, start + keep as u64, lost)?;
        file.set_len(start + keep as u64).map_err(fault)?;
        if start + keep as u64 == 0 {
            as_created(root, path, file);
        }
    }
    let mut end = start + keep as u64;
    if keep > 0 {
        file.write_all_at(b"\n", end)
            .map_err(|error| take_back(root, path, file, end, error))?;
        end += 1;
    }
    // Syncs the cut, so that it reaches the disk before the next write to this place.
    Ok(synced(path, file).then_some(end))
}

/// True if a segment that no process holds is a copy, or may be one: another store may have continued it under the same name.
///
/// The last write to a file of ours was after its creation, and set both of its times; a program that copies a file sets the
/// mtime afterwards. An empty segment has the mtime of its creation, as its copy over another file has, too. So one
/// that was changed later than it was created counts as a copy.
pub(crate) fn is_copy(root: &Root, path: &Path, found: &Metadata) -> bool {
    let born = root.fs.born(path).ok().flatten();
    let is_older = born.is_some_and(|born| found.modified < born);
    if found.len > 0 {
        return is_older || found.changed != found.modified;
    }
    is_older || born.is_none_or(|born| found.changed.as_nanos().saturating_sub(born.as_nanos()) > CREATION)
}

/// True if a sealed segment of this length may be complete: a line ends at its end. Otherwise it may be a copy by hand that is
/// under way, since `cp` and `tar` create a file with its last mode.
pub(crate) fn is_whole(file: &dyn FsFile, len: u64) -> std::io::Result<bool> {
    let mut last = [0];
    Ok(len > 0 && file.read_full_at(&mut last, len - 1)? == 1 && last == *b"\n")
}

/// Gives an empty segment the mtime of its creation. The doctor would otherwise take it for one that had events: what a
/// failed write left in it was cut off. A failure is ignored, since a file system that states no such times has none to
/// compare.
pub(crate) fn as_created(root: &Root, path: &Path, file: &dyn FsFile) {
    if let Ok(Some(created)) = root.fs.born(path) {
        let _ = file.set_modified(created);
    }
}

/// Syncs the segment. Returns false if that fails; the segment is then not used.
fn synced(path: &Path, file: &dyn FsFile) -> bool {
    file.sync()
        .inspect_err(|error| {
            tracing::error!(segment = %path.display(), %error, "a segment is left alone: its state on disk is unknown");
        })
        .is_ok()
}

fn take_back(root: &Root, path: &Path, file: &dyn FsFile, end: u64, error: std::io::Error) -> StorageError {
    // Removes the partly written line break. The record is valid without it.
    let _ = file.set_len(end);
    root.write_fault("mend segment", path, error)
}

/// The end of the last whole record within the first `len` bytes of a segment, and true if that record has no line
/// break.
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

/// The offset at which the last line begins; `len` if the file ends with a line break. `None` if the line is too long.
pub(crate) fn last_line(file: &dyn FsFile, len: u64) -> std::io::Result<Option<u64>> {
    line_start(file, len, LONGEST_TAIL)
}

/// The offset at which the line that ends at `to` begins. `None` if the line is longer than about `longest`.
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

/// The end of the last record in `tail` whose checksum matches; 0 if there is no such record.
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
