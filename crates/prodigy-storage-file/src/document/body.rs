//! What the body of a document has to be.

use prodigy_storage_backend::record::{MAX_NESTING, lone_surrogate, nesting_exceeds};
use prodigy_storage_backend::{ErrorKind, Result, StorageError};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

/// The most bytes that a document may have.
pub(super) const MAX_BYTES: u64 = 1 << 30;

/// The deepest nesting of a body: that of a payload, and the object around it.
const DEEPEST: usize = MAX_NESTING + 1;

/// Why bytes are no JSON object.
#[derive(Debug)]
pub(super) struct NoObject {
    pub(super) why: &'static str,
    /// The offset of the first byte that is wrong, where it can be told.
    pub(super) at: Option<usize>,
    pub(super) source: Option<serde_json::Error>,
}

impl NoObject {
    fn new(why: &'static str, at: Option<usize>) -> Self {
        Self {
            why,
            at,
            source: None,
        }
    }
}

const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// Where a JSON object stands in bytes that hold nothing else but white space around it.
pub(super) fn object_bounds(bytes: &[u8]) -> Result<(usize, usize), NoObject> {
    let start = bytes.iter().take_while(|byte| is_space(**byte)).count();
    let end = bytes.len() - bytes.iter().rev().take_while(|byte| is_space(**byte)).count();
    let object = bytes.get(start..end).unwrap_or_default();
    // Cheap, and tells most of what was not meant as an object at all.
    match (object.first(), object.last()) {
        (None, _) => return Err(NoObject::new("it is empty", None)),
        (Some(b'{'), Some(b'}')) => {}
        (Some(b'{'), _) => return Err(NoObject::new("it ends in the middle of an object", Some(end))),
        _ => return Err(NoObject::new("it does not begin as a JSON object", Some(start))),
    }
    let text = std::str::from_utf8(object)
        .map_err(|error| NoObject::new("it is not well-formed UTF-8", Some(start + error.valid_up_to())))?;
    // What is ignored is not recursed into, so that no depth is too deep here.
    if let Err(error) = serde_json::from_str::<IgnoredAny>(text) {
        return Err(NoObject {
            why: "it is no JSON object",
            at: None,
            source: Some(error),
        });
    }
    Ok((start, end))
}

/// The body to store: without the white space around it, else as it is.
pub(super) fn check<'a>(
    operation: &'static str,
    target: &dyn std::fmt::Display,
    body: &'a [u8],
) -> Result<&'a [u8]> {
    let refuse = |why: String| StorageError::invalid(operation, target, why);
    if body.len() as u64 > MAX_BYTES - super::envelope::OVERHEAD {
        return Err(StorageError::new(
            ErrorKind::TooLarge,
            operation,
            target,
            format!(
                "the body has {} bytes, a document has at most {MAX_BYTES}",
                body.len()
            ),
        )
        .with_hint("keep the bulk in files of its own, and their names in the document"));
    }
    let (start, end) = object_bounds(body).map_err(|fault| {
        let error = match fault.at {
            Some(at) => refuse(format!("the body is refused: {}, at byte {at}", fault.why)),
            None => refuse(format!("the body is refused: {}", fault.why)),
        };
        match fault.source {
            Some(source) => error.with_source(source),
            None => error,
        }
        .with_hint("a document is one JSON object in UTF-8")
    })?;
    let object = body.get(start..end).unwrap_or_default();
    if nesting_exceeds(object, DEEPEST) {
        return Err(refuse(format!("the nesting of the body is over {DEEPEST}"))
            .with_hint("flatten it, or store the deep part as text"));
    }
    if let Some(at) = lone_surrogate(object) {
        return Err(refuse(format!(
            "the body is not well-formed Unicode: half of a surrogate pair at byte {}",
            start + at
        ))
        .with_hint("the program that made it cut a string in the middle of a character"));
    }
    Ok(object)
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
    fn a_body_is_an_object_and_nothing_else() {
        fn kind(body: &[u8]) -> Result<&[u8], ErrorKind> {
            check("put", &"x", body).map_err(|error| error.kind())
        }
        assert_eq!(kind(b" \r\n{\"a\" : 1}\n\t"), Ok(&b"{\"a\" : 1}"[..]));
        assert_eq!(kind(b"{}"), Ok(&b"{}"[..]));
        assert_eq!(kind(b"{\n}"), Ok(&b"{\n}"[..]));
        for refused in [
            &b""[..],
            b" ",
            b"[]",
            b"1",
            b"{",
            b"{\"a\":1",
            b"{\"a\":1}}",
            b"{}{}",
            b"{\"a\":1,}",
            b"{\"a\":\"\xff\"}",
            b"\xef\xbb\xbf{}",
            br#"{"a":"\ud800"}"#,
        ] {
            assert_eq!(kind(refused), Err(ErrorKind::InvalidInput), "{refused:?}");
        }
        let deep = |n: usize| format!("{{\"a\":{}{}}}", "[".repeat(n), "]".repeat(n));
        assert!(kind(deep(127).as_bytes()).is_ok());
        assert_eq!(kind(deep(128).as_bytes()), Err(ErrorKind::InvalidInput));
        assert_eq!(kind(deep(1_000_000).as_bytes()), Err(ErrorKind::InvalidInput));
    }

    #[test]
    fn what_is_refused_is_pointed_at() {
        let error = check("put document", &"x", b" {\"a\":\"\xff\"}").unwrap_err();
        assert!(error.why().contains("UTF-8, at byte 7"), "{error}");
        let error = check("put document", &"x", b"{\"a\" 1}").unwrap_err();
        assert!(error.to_string().contains("column 6"), "{error}");
    }

    #[test]
    fn the_token_is_a_number_at_the_top() {
        assert_eq!(fencing_of(b"{\"a\":{\"fencing\":1},\"fencing\":7}"), Some(7));
        assert_eq!(fencing_of(b"{\"a\":{\"fencing\":1}}"), None);
        assert_eq!(fencing_of(b"{\"fencing\":null}"), None);
        assert_eq!(fencing_of(b"{\"fencing\":\"7\"}"), None);
        assert_eq!(fencing_of(b"{\"fencing\":18446744073709551615}"), Some(u64::MAX));
    }
}
