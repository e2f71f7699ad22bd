//! What messages call a document.

use std::fmt;

use prodigy_storage_layout::{Document, Entry};

/// Displays a document as its path below the root; made only when it is shown.
pub(crate) struct DocumentPath<'a>(pub(crate) &'a Document);

impl fmt::Display for DocumentPath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Entry::Document(self.0.clone()).path().display().fmt(f)
    }
}
