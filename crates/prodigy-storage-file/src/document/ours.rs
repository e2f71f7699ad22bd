//! Whose data it is.
//!
//! Other programs work in the same root. Their files are read where they can be read. They are never adopted, repaired,
//! moved, or given another mode. Everything that may change a file asks here first.
//!
//! A file is ours if its name is one that only we give, or if its bytes carry our marks: an envelope, or checksums.
//! Only such a file can be damaged. Of any other it can only be said that we do not read it.

use std::path::Path;

use prodigy_storage_layout::{Document, Entry};

use super::envelope::is_ours;

/// Whether a document is ours, by its name or by its bytes.
pub(super) fn document(document: &Document, bytes: &[u8]) -> bool {
    let by_name = match document {
        Document::Map(_, stamp) | Document::Reduce(_, stamp) | Document::OwnPhase(_, _, stamp) => {
            stamp.is_canonical()
        }
        Document::Finished(_) | Document::Fencing(_) | Document::Repository(_) | Document::Own(..) => true,
        // Another program gives its files these names, too.
        _ => false,
    };
    by_name || is_ours(bytes)
}

/// Whether the document at a path is ours.
pub(super) fn document_at(path: &Path, bytes: &[u8]) -> bool {
    match Entry::parse(path) {
        Some(Entry::Document(found) | Entry::Compressed(found)) => document(&found, bytes),
        _ => false,
    }
}
