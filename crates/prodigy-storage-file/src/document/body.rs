//! The limit of a document's size.

use std::fmt::Display;

use prodigy_storage_backend::{Body, ErrorKind, Result, StorageError};

use super::Documents;
use super::envelope::OVERHEAD;

/// Documents of up to this number of bytes are read whatever the limit is: the store's own documents are smaller.
const ALWAYS_READ: u64 = 1 << 20;

impl Documents {
    /// Refuses a body that is larger than `max_document_size`.
    pub(super) fn check_size(
        &self,
        operation: &'static str,
        target: &dyn Display,
        body: Body<'_>,
    ) -> Result<()> {
        let (bytes, limit) = (body.as_bytes().len() as u64, self.root.options.max_document_size);
        if bytes <= limit {
            return Ok(());
        }
        let why =
            format!("the document has {bytes} bytes, `max_document_size` is {limit}; nothing was stored");
        Err(
            StorageError::new(ErrorKind::TooLarge, operation, target, why).with_hint(
                "keep large data in files of its own and their paths in the document, or raise \
                 `backend_config.max_document_size`",
            ),
        )
    }

    /// The most bytes of a document's file that are read.
    pub(super) fn most_read(&self) -> u64 {
        self.root
            .options
            .max_document_size
            .max(ALWAYS_READ)
            .saturating_add(OVERHEAD)
    }

    /// Says that a stored document is larger than what is read. It may be whole: the setting of its writer was another.
    pub(super) fn too_large(&self, operation: &'static str, target: impl Display) -> StorageError {
        let limit = self.root.options.max_document_size;
        let why =
            format!("the stored document is larger than `max_document_size`, which is {limit} bytes here");
        StorageError::new(ErrorKind::TooLarge, operation, target, why)
            .with_hint("raise `backend_config.max_document_size` to read it; it is left as it is")
    }
}
