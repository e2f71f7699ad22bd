//! Converts the errors of the crates below into [`StorageError`].

use prodigy_storage_backend::{ErrorKind, StorageError};
use prodigy_storage_config::ConfigErrors;
use prodigy_storage_layout::IdentityError;

use crate::mismatch::Mismatch;

/// The error for a configuration that is refused. Its source is the [`ConfigErrors`], with every fault and its
/// place.
pub(crate) fn refused_config(errors: ConfigErrors) -> StorageError {
    let why = match errors.len() {
        1 => "it has an error".to_owned(),
        count => format!("it has {count} errors"),
    };
    StorageError::new(ErrorKind::InvalidConfig, "load configuration", "", why)
        .with_source(errors)
        .with_hint("`prodigy-storage config check` shows what is read from where")
}

/// The error for a repository whose identity is unknown.
#[expect(clippy::needless_pass_by_value, reason = "as `map_err` hands it over")]
pub(crate) fn no_identity(error: IdentityError) -> StorageError {
    let kind = match &error {
        IdentityError::NotFound { .. } => ErrorKind::NotFound,
        IdentityError::Io { .. } => ErrorKind::Io,
        _ => ErrorKind::InvalidInput,
    };
    let hint = error.hint();
    StorageError::new(kind, "identify repository", "", error.to_string()).with_hint(hint)
}

/// The error for stored JSON that is not of the requested type.
pub(crate) fn other_shape(
    operation: &'static str,
    target: impl std::fmt::Display,
    error: serde_json::Error,
) -> StorageError {
    StorageError::invalid(
        operation,
        target,
        "it is well-formed, but not of the type asked for",
    )
    .with_hint("look at the stored JSON, or read it as any JSON value")
    .with_source(Mismatch::from(error))
}
