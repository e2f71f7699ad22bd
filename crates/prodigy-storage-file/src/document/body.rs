//! What this backend looks at in a body.

use prodigy_storage_backend::{Body, ErrorKind, Result, StorageError};
use serde::Deserialize;
use serde_json::value::RawValue;

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

#[derive(Deserialize)]
struct Fenced<'a> {
    #[serde(borrow, default)]
    fencing: Option<&'a RawValue>,
}

/// The fencing token in a body's field `fencing`; `None` where there is none, or where the field is no token.
pub(super) fn fencing_of(body: &[u8]) -> Option<u64> {
    let body: Fenced<'_> = serde_json::from_slice(body).ok()?;
    body.fencing?.get().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_a_number_at_the_top() {
        assert_eq!(fencing_of(b"{\"a\":{\"fencing\":1},\"fencing\":7}"), Some(7));
        assert_eq!(fencing_of(b"{\"a\":{\"fencing\":1}}"), None);
        assert_eq!(fencing_of(b"{\"fencing\":null}"), None);
        assert_eq!(fencing_of(b"{\"fencing\":\"7\"}"), None);
        assert_eq!(fencing_of(b"{\"fencing\":18446744073709551615}"), Some(u64::MAX));
    }
}
