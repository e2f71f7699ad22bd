//! Parsing what is stored.

use prodigy_storage_backend::record::{MAX_NESTING, nesting_exceeds};
use serde::Deserialize;

/// Parses a stored object whose payload may be nested as deep as a payload may be, and is one level down.
pub(crate) fn parse<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T, serde_json::Error> {
    // The parser's own bound is 128 in all. It can go where the nesting is known to be bounded.
    if nesting_exceeds(json, MAX_NESTING) && !nesting_exceeds(json, MAX_NESTING + 1) {
        let mut deserializer = serde_json::Deserializer::from_slice(json);
        deserializer.disable_recursion_limit();
        let value = T::deserialize(&mut deserializer)?;
        deserializer.end()?;
        return Ok(value);
    }
    serde_json::from_slice(json)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn the_deepest_payload_parses_and_a_deeper_one_does_not() {
        let nested = |depth: usize| format!("{{\"data\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
        assert!(parse::<Value>(nested(127).as_bytes()).is_ok());
        assert!(parse::<Value>(nested(128).as_bytes()).is_err());
    }
}
