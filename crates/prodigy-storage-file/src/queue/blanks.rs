//! Blanks at the end of a queue's two files, so that a sync does not have to record a new length.
//!
//! A write that fits overwrites blanks. A longer write appends new blanks after its bytes. A small queue has no blanks.
//! A blank is a tab: JSON allows it after the closing bracket and between the records of a journal, and no JSON string
//! contains one.
//!
//! **After a power loss**, any sectors of an unsynced write may be missing. If that write went over blanks, a missing
//! sector still consists of blanks. Damage never makes a whole sector blank, so such a sector shows that a write was
//! lost.

use std::io;

use super::files::OpenFile;
use crate::fs::FsFile;

/// The byte of a blank.
pub(super) const BLANK: u8 = b'\t';
/// The number of bytes that a disk writes completely or not at all.
const SECTOR: u64 = 512;
/// The largest number of blanks that are appended after a write.
pub(super) const MOST: usize = 256 << 10;
/// The smallest number of blanks that are appended. Fewer are not worth a longer file.
const LEAST: u64 = 4 << 10;
/// The number of blanks is at most the length of the queue divided by this number.
const SHARE: u64 = 8;
/// The number of bytes read at once.
const CHUNK: usize = 16 << 10;

/// The number of blanks to append after a write to a queue of this length.
fn behind(queue: u64) -> usize {
    let blanks = queue / SHARE;
    if blanks < LEAST {
        return 0;
    }
    usize::try_from(blanks).unwrap_or(MOST).min(MOST)
}

/// Writes `bytes` at `end` in a file of `len` bytes: over its blanks, or with new blanks after them. Returns the new
/// length of the file. `queue` is the length of the whole queue.
pub(super) fn write(open: &OpenFile, bytes: &[u8], end: u64, len: u64, queue: u64) -> io::Result<u64> {
    let file = &open.file;
    let after = end + bytes.len() as u64;
    let blanks = behind(queue);
    if after <= len || blanks == 0 {
        file.write_all_at(bytes, end)?;
        return Ok(len.max(after));
    }
    let mut longer = Vec::with_capacity(bytes.len() + blanks);
    longer.extend_from_slice(bytes);
    longer.resize(bytes.len() + blanks, BLANK);
    if file.write_all_at(&longer, end).is_ok() {
        return Ok(after + blanks as u64);
    }
    // On a full disk, there may still be room for the bytes if no blanks are appended.
    file.write_all_at(bytes, end)?;
    Ok(file.metadata()?.len)
}

/// The end of a file's text, without the blanks after it.
pub(super) fn end_of_text(file: &dyn FsFile, len: u64) -> io::Result<u64> {
    let mut buffer = vec![0; CHUNK];
    let mut end = len;
    while end > 0 {
        let start = end.saturating_sub(CHUNK as u64);
        let room = buffer.get_mut(..(end - start) as usize).unwrap_or_default();
        let read = file.read_full_at(room, start)?;
        let bytes = room.get(..read).unwrap_or_default();
        if let Some(last) = bytes.iter().rposition(|byte| *byte != BLANK) {
            return Ok(start + last as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

/// True if these bytes, which begin at `offset` in the file, contain a whole sector of blanks.
pub(super) fn has_blank_sector(bytes: &[u8], offset: u64) -> bool {
    let first = (offset.next_multiple_of(SECTOR) - offset) as usize;
    let sectors = bytes
        .get(first..)
        .unwrap_or_default()
        .chunks_exact(SECTOR as usize);
    sectors
        .into_iter()
        .any(|sector| sector.iter().all(|byte| *byte == BLANK))
}

/// Like [`has_blank_sector`], for a range of a file.
pub(super) fn has_blank_sector_in(file: &dyn FsFile, start: u64, end: u64) -> io::Result<bool> {
    let mut buffer = vec![0; CHUNK];
    let mut at = start.next_multiple_of(SECTOR);
    while at < end {
        let most = usize::try_from(end - at).unwrap_or(CHUNK).min(CHUNK);
        let room = buffer.get_mut(..most).unwrap_or_default();
        let read = file.read_full_at(room, at)?;
        if has_blank_sector(room.get(..read).unwrap_or_default(), at) {
            return Ok(true);
        }
        if read < most {
            break;
        }
        at += read as u64;
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_queue_has_no_blanks_and_a_large_one_few() {
        for (queue, blanks) in [
            (0, 0),
            (32 << 10, 4 << 10),
            ((32 << 10) - 1, 0),
            (80_000, 10_000),
            (1 << 40, MOST),
        ] {
            assert_eq!(behind(queue), blanks, "{queue}");
        }
    }

    #[test]
    fn only_a_whole_sector_of_blanks_is_a_lost_one() {
        let line = |from: usize, to: usize| {
            let mut bytes = vec![b'x'; 2_000];
            bytes[from..to].fill(BLANK);
            bytes
        };
        assert!(has_blank_sector(&line(512, 1024), 0));
        assert!(has_blank_sector(&line(12, 524), 500));
        assert!(!has_blank_sector(&line(13, 524), 500));
        assert!(!has_blank_sector(&line(513, 1024 + 511), 0));
        assert!(!has_blank_sector(b"", 7));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        let bytes = [vec![b'x'; 40_000], vec![BLANK; 1_200], b"x".to_vec()].concat();
        std::fs::write(&path, &bytes).unwrap();
        use crate::fs::{FileSystem, OpenMode, RealFs};
        let file = RealFs::new(folder.path())
            .open("f".as_ref(), OpenMode::Read)
            .unwrap();
        let len = bytes.len() as u64;
        assert!(has_blank_sector_in(&*file, 3, len).unwrap());
        assert!(!has_blank_sector_in(&*file, 3, 40_448 - 1).unwrap());
        assert_eq!(end_of_text(&*file, len).unwrap(), len);
        assert_eq!(end_of_text(&*file, len - 1).unwrap(), 40_000);
        assert_eq!(end_of_text(&*file, 40_001).unwrap(), 40_000);
    }
}
