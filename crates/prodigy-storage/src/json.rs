//! Parses stored JSON.

use prodigy_storage_backend::record::parse_nested;
use serde::Deserialize;

/// Parses a stored object that holds a payload. The payload may be as deeply nested as any payload.
pub(crate) fn parse<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T, serde_json::Error> {
    // The whole text is checked once, which is faster than a check of each string by the parser.
    let Ok(text) = std::str::from_utf8(json) else {
        return serde_json::from_slice(json);
    };
    parse_nested(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn the_deepest_payload_parses_and_a_deeper_one_does_not() {
        let nested = |depth: usize| format!("{{\"data\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
        assert!(parse::<Value>(nested(127).as_bytes()).is_ok());
        assert!(parse::<Value>(nested(126).as_bytes()).is_ok());
        assert!(parse::<Value>(nested(128).as_bytes()).is_err());
    }

    #[test]
    fn what_is_wrong_with_a_deep_one_is_told_as_of_any_other() {
        let nested = format!("{{\"data\":{}{}}}", "[".repeat(127), "]".repeat(127));
        let told = |json: &str| {
            parse::<std::collections::BTreeMap<String, u8>>(json.as_bytes())
                .unwrap_err()
                .to_string()
        };
        assert!(told(&nested).contains("expected u8"), "{}", told(&nested));
        assert!(told("{\"data\":[]}").contains("expected u8"));
        let cut = parse::<Value>(nested.trim_end_matches('}').as_bytes()).unwrap_err();
        assert!(cut.is_eof(), "{cut}");
    }

    #[test]
    fn bytes_that_are_no_text_are_refused() {
        assert!(parse::<Value>(b"{\"data\":\"\xff\"}").is_err());
    }
}
