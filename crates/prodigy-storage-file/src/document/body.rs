//! The size limit of documents.

use std::fmt::Display;

use prodigy_storage_backend::{ErrorKind, StorageError};

use super::Documents;
use super::envelope::OVERHEAD;

/// Files of up to this size are read whatever the limit, so that the store can always read the documents that it writes
/// for itself.
const ALWAYS_READ: u64 = 1 << 20;

impl Documents {
    /// The largest document file that is read, in bytes.
    pub(crate) fn most_read(&self) -> u64 {
        self.root
            .options
            .max_document_size
            .max(ALWAYS_READ)
            .saturating_add(OVERHEAD)
    }

    /// The error for a stored document above the size limit. It may be undamaged: its writer may have had a larger
    /// limit.
    pub(super) fn too_large(&self, operation: &'static str, target: impl Display) -> StorageError {
        let limit = self.root.options.max_document_size;
        let why =
            format!("the stored document is larger than `max_document_size`, which is {limit} bytes here");
        StorageError::new(ErrorKind::TooLarge, operation, target, why)
            .with_hint("raise `backend_config.max_document_size` to read it; it is left as it is")
    }
}
