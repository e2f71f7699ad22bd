//! Decides whether a file belongs to this store or to another program.
//!
//! Other programs may work in the same root. Their files are read if their form is known. They are never adopted, repaired,
//! moved or given another mode: code that may change a file checks with these functions first.
//!
//! A file is ours if only this store uses such a name, or if its bytes have the marks of an envelope. A file that is empty or
//! all zeros is ours, too: it has nothing of another program, and a power loss may leave one of ours so. Only our files can be
//! damaged. A file of another program is either read or skipped.

use std::path::Path;

use prodigy_storage_layout::{Document, Entry};

use super::envelope::is_ours;

/// True if only this store gives a document such a name.
pub(super) fn by_name(document: &Document) -> bool {
    match document {
        Document::Map(_, stamp) | Document::Reduce(_, stamp) | Document::OwnPhase(_, _, stamp) => {
            stamp.is_canonical()
        }
        Document::Finished(_) | Document::Fencing(_) | Document::Repository(_) | Document::Own(..) => true,
        // Another program may use these names too.
        _ => false,
    }
}

/// True if a document is ours, by its name or by its bytes.
fn document(document: &Document, bytes: &[u8]) -> bool {
    // A stamp that is not ours is in no name that we give.
    let is_blank = document.stamp().is_none() && bytes.iter().all(|byte| *byte == 0);
    by_name(document) || is_blank || is_ours(bytes)
}

/// True if the document at a path is ours.
pub(super) fn document_at(path: &Path, bytes: &[u8]) -> bool {
    match Entry::parse(path) {
        Some(Entry::Document(found) | Entry::Compressed(found)) => document(&found, bytes),
        _ => false,
    }
}
