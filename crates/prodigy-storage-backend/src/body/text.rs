//! Checks JSON text that a caller passes.

use std::ops::Range;

use serde::de::IgnoredAny;

use super::error::{AS_TEXT, BodyError, CUT, FLATTEN, OBJECT};
use super::path::Path;
use crate::record::{lone_surrogate, nesting_exceeds};

const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// The range of the JSON object in `bytes`, which may have white space around it and nothing else. The check is
/// weaker than that of a [`Body`](super::Body): the nesting is unbounded, and an escape may be half of a surrogate
/// pair.
///
/// # Errors
/// The reason why the bytes are not a JSON object, with the offset of the first wrong byte.
pub fn object_bounds(bytes: &[u8]) -> Result<Range<usize>, BodyError> {
    let refuse = |why, at| BodyError::new(why, at).with_hint(OBJECT);
    let start = bytes.iter().take_while(|byte| is_space(**byte)).count();
    let end = bytes.len() - bytes.iter().rev().take_while(|byte| is_space(**byte)).count();
    let object = bytes.get(start..end).unwrap_or_default();
    // A cheap check first: it refuses most texts that were not meant as an object.
    match (object.first(), object.last()) {
        (None, _) => return Err(refuse("it is empty", None)),
        (Some(b'{'), Some(b'}')) => {}
        (Some(b'{'), _) => return Err(refuse("it ends in the middle of an object", Some(end))),
        _ => return Err(refuse("it does not begin as a JSON object", Some(start))),
    }
    let text = std::str::from_utf8(object)
        .map_err(|error| refuse("it is not well-formed UTF-8", Some(start + error.valid_up_to())))?;
    is_json(text).map_err(|error| refuse("it is not a JSON object", None).with_source(error))?;
    Ok(start..end)
}

/// Checks that a text is one JSON value, with optional white space around it.
pub(super) fn is_json(text: &str) -> Result<(), serde_json::Error> {
    // Skipping a value of any nesting needs no recursion, so the stack can't overflow.
    serde_json::from_str::<IgnoredAny>(text).map(drop)
}

/// Checks the limits beyond JSON itself: at most `deepest` levels of nesting, `above` of which already surround
/// this text, and well-formed Unicode.
pub(super) fn check(json: &[u8], above: usize, deepest: usize) -> Result<(), BodyError> {
    match deepest.checked_sub(above) {
        Some(left) if !nesting_exceeds(json, left) => {}
        _ => return Err(too_deep(deepest)),
    }
    match lone_surrogate(json) {
        Some(at) => Err(half_a_character(json, at)),
        None => Ok(()),
    }
}

pub(super) fn too_deep(deepest: usize) -> BodyError {
    BodyError::new(format!("its nesting is over {deepest}"), None).with_hint(FLATTEN)
}

pub(super) fn out_of_range(path: &Path) -> BodyError {
    let at = if path.is_top() {
        String::new()
    } else {
        format!("`{path}`: ")
    };
    BodyError::new(
        format!("{at}the number is beyond the range of a 64-bit float"),
        None,
    )
    .with_hint(AS_TEXT)
}

fn half_a_character(json: &[u8], at: usize) -> BodyError {
    let half = String::from_utf8_lossy(json.get(at..at + 6).unwrap_or_default());
    let why = format!("it is not well-formed Unicode: `{half}` is half of a surrogate pair");
    BodyError::new(why, Some(at)).with_hint(CUT)
}
