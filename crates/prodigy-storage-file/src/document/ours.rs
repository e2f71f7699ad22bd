//! Decides whether a file belongs to this store or to another program.
//!
//! Other programs may work in the same root. Their files are read if their form is known. They are never repaired,
//! moved or given another mode: code that may change a file checks with these functions first.
//!
//! A file is ours (this store wrote it) if only this store uses such a name, or if its bytes have the marks of an
//! envelope. A file that is empty or all zeros counts as ours, too: a power loss may leave one of our files like that,
//! and nothing is lost if it was another program's. Only our files can be damaged. A file of another program is either
//! read or skipped.

use std::path::Path;

use prodigy_storage_layout::{Document, Entry};

use super::envelope::is_ours;
use crate::root::{Root, is_text};

/// True if only this store gives such names to documents.
pub(super) fn by_name(document: &Document) -> bool {
    match document {
        Document::Map(_, stamp) | Document::Reduce(_, stamp) | Document::OwnPhase(_, _, stamp) => {
            stamp.is_canonical()
        }
        Document::Finished(_) | Document::Fencing(_) | Document::Repository(_) | Document::Own(..) => true,
        // Other programs use these names too, so the name alone decides nothing.
        _ => false,
    }
}

/// True if this store wrote a document, judged by its name and its bytes.
fn document(document: &Document, bytes: &[u8]) -> bool {
    // A blank file may be ours unless its name has a stamp. A stamp in our own form has already been recognised by its
    // name.
    let is_blank = document.stamp().is_none() && bytes.iter().all(|byte| *byte == 0);
    by_name(document) || is_blank || is_ours(bytes)
}

/// True if text has taken the place of a document of ours: a process of this store has worked on the documents of the job, since their
/// lock file is there, and the file holds no JSON. Another program that uses the same name writes JSON.
pub(super) fn is_overwritten(root: &Root, path: &Path, bytes: &[u8]) -> bool {
    let job = match Entry::parse(path) {
        Some(Entry::Document(Document::Setup(job) | Document::Orphans(job))) => job,
        _ => return false,
    };
    is_text(bytes) && root.fs.metadata(&Entry::StateLock(job).path()).is_ok()
}

/// True if this store wrote the document at a path.
pub(super) fn document_at(path: &Path, bytes: &[u8]) -> bool {
    match Entry::parse(path) {
        Some(Entry::Document(found) | Entry::Compressed(found)) => document(&found, bytes),
        _ => false,
    }
}
