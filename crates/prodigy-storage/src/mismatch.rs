//! Reports why stored JSON does not have the requested type, without quoting stored data.

use std::fmt;

/// The error of a parser, without the parser's message: only the type that the reader expected, and the position.
/// The message contains values, and stored data must not appear in a log.
#[derive(Debug)]
pub(crate) struct Mismatch {
    what: String,
    line: usize,
    column: usize,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if self.line > 0 {
            write!(f, " at line {} column {}", self.line, self.column)?;
        }
        Ok(())
    }
}

impl std::error::Error for Mismatch {}

impl From<serde_json::Error> for Mismatch {
    fn from(error: serde_json::Error) -> Self {
        let text = error.to_string();
        let place = format!(" at line {} column {}", error.line(), error.column());
        let text = text.strip_suffix(&place).unwrap_or(&text);
        // In a message such as `invalid type: string "..", expected u32`, only the last part does not come from
        // stored data.
        let kind = [
            "invalid type",
            "invalid value",
            "invalid length",
            "unknown variant",
            "unknown field",
        ]
        .into_iter()
        .find(|kind| text.starts_with(kind));
        let what = match (kind, text.rsplit_once(", expected ")) {
            (Some(kind), Some((_, expected))) => format!("{kind}, expected {expected}"),
            _ if !error.is_data() || text.starts_with("missing field `") => text.to_owned(),
            _ => "a value that its type refuses".to_owned(),
        };
        Self {
            what,
            line: error.line(),
            column: error.column(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde::de::{DeserializeOwned, Error};

    use super::*;

    fn text<T: DeserializeOwned + fmt::Debug>(json: &str) -> String {
        let mismatch = Mismatch::from(serde_json::from_str::<T>(json).unwrap_err());
        assert!(
            !format!("{mismatch} {mismatch:?}").contains("secret"),
            "{mismatch}"
        );
        mismatch.to_string()
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Known {
        #[expect(dead_code, reason = "only parsed")]
        id: u8,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Colour {
        Red,
        Green,
    }

    #[derive(Debug)]
    struct Strict;

    impl<'de> Deserialize<'de> for Strict {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let text = String::deserialize(deserializer)?;
            Err(D::Error::custom(format!("`{text}` is no good, expected better")))
        }
    }

    #[test]
    fn it_says_what_was_expected_and_where_and_nothing_of_the_value() {
        assert_eq!(
            text::<u32>("\"secret\""),
            "invalid type, expected u32 at line 1 column 8"
        );
        assert_eq!(
            text::<u32>("\"a, expected secret\""),
            "invalid type, expected u32 at line 1 column 20"
        );
        assert_eq!(
            text::<Colour>("\"secret\""),
            "unknown variant, expected `red` or `green` at line 1 column 8"
        );
        assert_eq!(
            text::<Known>("{\"secret\":1}"),
            "unknown field, expected `id` at line 1 column 9"
        );
        assert_eq!(text::<Known>("{}"), "missing field `id` at line 1 column 2");
        assert_eq!(
            text::<Known>("{\"id\":\n3000}"),
            "invalid value, expected u8 at line 2 column 4"
        );
        assert_eq!(text::<Strict>("\"secret\""), "a value that its type refuses");
        assert_eq!(text::<u32>("{"), "invalid type, expected u32 at line 1 column 0");
        assert!(matches!(
            (Colour::Red, Colour::Green),
            (Colour::Red, Colour::Green)
        ));
    }
}
