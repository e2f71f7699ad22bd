//! What this backend looks at in a body.

use prodigy_storage_backend::{Body, ErrorKind, Result, StorageError};

/// The most bytes that a document may have.
pub(super) const MAX_BYTES: u64 = 1 << 30;

/// Refuses a body whose document would be larger than any that is read.
pub(super) fn check_size(
    operation: &'static str,
    target: &dyn std::fmt::Display,
    body: Body<'_>,
) -> Result<()> {
    let bytes = body.as_bytes().len();
    if bytes as u64 <= MAX_BYTES - super::envelope::OVERHEAD {
        return Ok(());
    }
    Err(StorageError::new(
        ErrorKind::TooLarge,
        operation,
        target,
        format!("the body has {bytes} bytes, a document has at most {MAX_BYTES}"),
    )
    .with_hint("keep the bulk in files of its own, and their names in the document"))
}
