//! The body of a document: JSON text that is checked once.

mod error;
mod guard;
mod loadable;
mod number;
mod path;
mod text;

#[cfg(test)]
mod tests;

use std::fmt;

use serde::Serialize;
use serde_json::ser::Serializer;
use serde_json::value::{RawValue, to_raw_value};

pub(crate) use error::AS_TEXT;
pub use error::BodyError;
use error::OBJECT;
pub(crate) use guard::{Guard, Outcome, Raw};
pub(crate) use loadable::Loadable;
pub(crate) use number::out_of_range;
pub use text::object_bounds;

use crate::record::MAX_NESTING;
use crate::{ErrorKind, StorageError};

/// The body of a document: one JSON object in well-formed UTF-8, without white space around it. It is nested at
/// most [`Body::MAX_NESTING`] levels deep.
///
/// [`parse`](Self::parse) makes a body from bytes, and checks every byte. [`write`](Self::write) makes a body from
/// a value, and checks the calls of the serialiser. So a backend can store the bytes of a body without another
/// check.
///
/// ```
/// use prodigy_storage_backend::Body;
///
/// let mut buffer = Vec::new();
/// let body = Body::write(&mut buffer, &serde_json::json!({"agents": 3}))?;
/// assert_eq!(body, Body::parse(b" {\"agents\":3}\n")?);
/// assert!(Body::parse(b"{\"agents\":3").is_err());
/// # Ok::<(), prodigy_storage_backend::BodyError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Body<'a>(&'a [u8]);

impl<'a> Body<'a> {
    /// The deepest nesting of arrays and objects: one level more than an event's payload, for the object around
    /// the payload.
    pub const MAX_NESTING: usize = MAX_NESTING + 1;

    /// The empty object, `{}`.
    pub const EMPTY: Body<'static> = Body(b"{}");

    /// Makes a body from bytes, and checks them. White space around the object is removed; inside it every byte is
    /// kept.
    ///
    /// # Errors
    /// The reason why the bytes are not a body, with the offset of the first wrong byte.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BodyError> {
        let bounds = object_bounds(bytes)?;
        let start = bounds.start;
        let object = bytes.get(bounds).unwrap_or_default();
        text::check(object, 0, Self::MAX_NESTING).map_err(|fault| fault.moved(Some(start)))?;
        Ok(Self(object))
    }

    /// Serialises a value into `buffer`, and replaces its contents. Raw JSON in the value
    /// ([`RawValue`](serde_json::value::RawValue)) is checked byte for byte. Everything else is written by
    /// `serde_json`, whose calls are checked: even for a faulty implementation of `Serialize`, the result is a
    /// body or an error.
    ///
    /// A value that would not load into its own type again is refused with the path of the field: a float that is NaN
    /// or infinite (`serde_json` writes `null`), a name that occurs twice in a flattened object, or a number in raw
    /// JSON beyond the range of a 64-bit float.
    ///
    /// # Errors
    /// The error of `serde_json`, or the reason why the value is no body.
    pub fn write<T: Serialize + ?Sized>(buffer: &'a mut Vec<u8>, value: &T) -> Result<Self, BodyError> {
        buffer.clear();
        let mut outcome = Outcome::default();
        let guard = Guard::new(Self::MAX_NESTING, Raw::Checked, &mut outcome);
        let written = Loadable::new(value).serialize(&mut Serializer::with_formatter(&mut *buffer, guard));
        outcome.of(value, written)?;
        match (buffer.first(), buffer.last()) {
            (Some(b'{'), Some(b'}')) => Ok(Self(buffer)),
            _ => Err(BodyError::new("it is not a JSON object", None).with_hint(OBJECT)),
        }
    }

    /// The bytes of the body.
    #[must_use]
    pub const fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// Refuses a body of more than `max_document_size` bytes.
    ///
    /// # Errors
    /// [`TooLarge`](ErrorKind::TooLarge).
    pub fn check_size(
        self,
        max_document_size: u64,
        operation: &'static str,
        target: impl fmt::Display,
    ) -> crate::Result<()> {
        let bytes = self.0.len() as u64;
        if bytes <= max_document_size {
            return Ok(());
        }
        let why = format!(
            "the document has {bytes} bytes, `max_document_size` is {max_document_size}; nothing was stored"
        );
        Err(
            StorageError::new(ErrorKind::TooLarge, operation, target, why).with_hint(
                "keep large data in files of its own and their paths in the document, or raise \
                 `backend_config.max_document_size`",
            ),
        )
    }
}

impl fmt::Debug for Body<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A body may hold data that must not appear in a log.
        f.debug_struct("Body").field("bytes", &self.0.len()).finish()
    }
}

/// Serialises a value to raw JSON. Refuses a value that would not load again, as [`Body::write`] does.
///
/// # Errors
/// The error of `serde_json`, with the path of the field.
pub fn to_raw<T: Serialize + ?Sized>(value: &T) -> Result<Box<RawValue>, BodyError> {
    to_raw_value(&Loadable::new(value)).map_err(|error| BodyError::of_value(value, error))
}
