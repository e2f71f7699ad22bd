//! Whose data it is.
//!
//! Other programs work in the same root. Their files are read where they can be read. They are never adopted, repaired,
//! moved, or given another mode. Everything that may change a file asks here first.
//!
//! A file is ours if its name is one that only we give, or if its bytes carry our marks: an envelope, or checksums.
//! Only such a file can be damaged. Of any other it can only be said that we do not read it.

use std::io;
use std::path::Path;

use prodigy_storage_layout::{Document, Entry, SegmentName};

use crate::fs::FsFile;

/// Whether a segment is ours: its name has the stamps that only we write.
pub(crate) fn segment(name: &SegmentName) -> bool {
    name.is_canonical()
}

/// Whether a document is ours, by its name or by its bytes.
pub(crate) fn document(document: &Document, bytes: &[u8]) -> bool {
    let by_name = match document {
        Document::Map(_, stamp) | Document::Reduce(_, stamp) => stamp.is_canonical(),
        Document::Finished(_) | Document::Fencing(_) | Document::Repository(_) => true,
        // Another program gives its files these names, too.
        _ => false,
    };
    by_name || crate::document::is_ours(bytes)
}

/// Whether the document at a path is ours.
pub(crate) fn document_at(path: &Path, bytes: &[u8]) -> bool {
    matches!(Entry::parse(path), Some(Entry::Document(found)) if document(&found, bytes))
}

/// The bytes before the checksum that closes each item of ours.
const CHECKSUM: &[u8] = b",\"crc\":\"";
/// The first bytes of an item of ours.
const ITEM: &[u8] = b"{\"item_id\":\"";
/// As many first bytes of a queue as say whether it begins as ours do.
const HEAD: usize = 2 + ITEM.len();
/// Bytes read at once.
const CHUNK: usize = 64 << 10;

/// Whether bytes of a dead-letter queue carry the checksum that closes each item of ours.
pub(crate) fn queue_bytes(bytes: &[u8]) -> bool {
    memchr::memmem::find(bytes, CHECKSUM).is_some()
}

/// Whether the file of a dead-letter queue is ours: it begins as ours do, or a checksum of ours is anywhere in it. It is
/// read up to the first of these marks.
pub(crate) fn queue(file: &dyn FsFile) -> io::Result<bool> {
    let mut head = [0; HEAD];
    let read = file.read_full_at(&mut head, 0)?;
    if begins_as_ours(head.get(..read).unwrap_or_default()) {
        return Ok(true);
    }
    let (mut buffer, mut offset) = (vec![0; CHUNK], 0);
    loop {
        let read = file.read_full_at(&mut buffer, offset)?;
        if queue_bytes(buffer.get(..read).unwrap_or_default()) {
            return Ok(true);
        }
        if read < CHUNK {
            return Ok(false);
        }
        // A mark may be across two pieces.
        offset += (CHUNK - CHECKSUM.len()) as u64;
    }
}

/// Whether a queue's first bytes are ours: those of an item, or an empty array as we write it, also one into which the first
/// push was cut short. After a loss of power, zeros may be at the place of the first item.
fn begins_as_ours(head: &[u8]) -> bool {
    head.strip_prefix(b"[\n").is_some_and(|line| {
        let is_begun = !line.is_empty() && ITEM.starts_with(line);
        line == b"]\n" || line == b"{\n" || line.starts_with(b"\0") || is_begun
    })
}
