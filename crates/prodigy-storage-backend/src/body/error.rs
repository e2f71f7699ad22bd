//! The error for a value that cannot be a body.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;

use super::loadable::{NOT_FINITE, TWICE, locate};
use super::path::Path;
use crate::error::StorageError;

pub(super) const OBJECT: &str = "a document is one JSON object in UTF-8";
pub(super) const FLATTEN: &str = "flatten it, or store the deep part as text";
pub(super) const INSTEAD: &str = "leave the field out, or store it as text";
pub(crate) const AS_TEXT: &str = "store it as text: no reader loads it as a number";
pub(super) const RENAME: &str = "rename the field or the key: readers find only one of the two, or none";
pub(super) const CUT: &str = "the program that made it cut a string in the middle of a character";

/// The error for a value that cannot be a [`Body`](super::Body).
///
/// ```
/// use prodigy_storage_backend::Body;
///
/// let error = Body::parse(b"[1, 2]").unwrap_err();
/// assert!(error.to_string().contains("JSON object"), "{error}");
/// // The call that was refused becomes a part of the storage error.
/// let error = error.refused("save checkpoint", "shop/mapreduce-7");
/// assert_eq!(error.operation(), "save checkpoint");
/// ```
pub struct BodyError {
    why: Cow<'static, str>,
    at: Option<usize>,
    field: Option<Path>,
    hint: Option<&'static str>,
    source: Option<serde_json::Error>,
}

/// The same as `Display`: a `main` that returns the error prints it so.
impl fmt::Debug for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl BodyError {
    pub(super) fn new(why: impl Into<Cow<'static, str>>, at: Option<usize>) -> Self {
        Self {
            why: why.into(),
            at,
            field: None,
            hint: None,
            source: None,
        }
    }

    pub(super) fn with_hint(mut self, hint: &'static str) -> Self {
        self.hint = Some(hint);
        self
    }

    /// The error for a value that `serde_json` refused, or that would not load again. It names the path of the
    /// refused field.
    #[cold]
    pub(crate) fn of_value<T: serde::Serialize + ?Sized>(value: &T, error: serde_json::Error) -> Self {
        let (path, error) = match locate(value) {
            Some((path, error)) => (Some(path), error),
            None => (None, error),
        };
        let text = error.to_string();
        let fault = if text == NOT_FINITE {
            Self::new(NOT_FINITE, None).with_hint(INSTEAD)
        } else if text == TWICE {
            Self::new(TWICE, None).with_hint(RENAME)
        } else {
            Self::new("it does not serialise as JSON", None).with_source(error)
        };
        Self { field: path, ..fault }
    }

    /// This error with a path that begins at `field`, for a value that is stored in the field.
    #[must_use]
    pub fn below(mut self, field: &str) -> Self {
        self.field = self.field.map(|path| path.below(field));
        self
    }

    /// The path of the refused field, such as `results[3].score`; `None` if the whole value is refused.
    #[must_use]
    pub fn field(&self) -> Option<String> {
        let path = self.field.as_ref().filter(|path| !path.is_top())?;
        Some(path.to_string())
    }

    pub(super) fn with_source(mut self, source: serde_json::Error) -> Self {
        self.source = Some(source);
        self
    }

    /// This error for a text that has `by` more bytes in front; without an offset if `by` is `None`.
    pub(super) fn moved(mut self, by: Option<usize>) -> Self {
        self.at = self.at.zip(by).map(|(at, by)| at + by);
        self
    }

    /// The reason alone; path, offset and cause have their own methods.
    #[must_use]
    pub fn why(&self) -> &str {
        &self.why
    }

    /// The offset of the first wrong byte, if it is known.
    #[must_use]
    pub const fn at(&self) -> Option<usize> {
        self.at
    }

    /// The advice how to fix the value.
    #[must_use]
    pub const fn hint(&self) -> Option<&'static str> {
        self.hint
    }

    /// The error of the parser or the serialiser, if one of them refused the value.
    #[must_use]
    pub fn into_cause(self) -> Option<serde_json::Error> {
        self.source
    }

    /// Converts into the storage error of an operation.
    #[must_use]
    pub fn refused(self, operation: &'static str, target: impl fmt::Display) -> StorageError {
        let mut error = StorageError::invalid(operation, target, self.to_string());
        if let Some(hint) = self.hint {
            error = error.with_hint(hint);
        }
        match self.source {
            Some(source) => error.with_source(source),
            None => error,
        }
    }
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(field) = self.field() {
            write!(f, "`{field}`: ")?;
        }
        f.write_str(&self.why)?;
        match self.at {
            Some(at) => write!(f, ", at byte {at}"),
            None => Ok(()),
        }
    }
}

impl Error for BodyError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_ref().map(|source| source as _)
    }
}
