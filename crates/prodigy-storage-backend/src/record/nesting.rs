//! The nesting depth of JSON, and escapes that are not valid Unicode.

use serde::Deserialize;

/// The deepest nesting of arrays and objects that a payload may have.
pub const MAX_NESTING: usize = 127;

/// True if well-formed `json` is nested deeper than `limit`.
#[must_use]
pub fn nesting_exceeds(json: &[u8], limit: usize) -> bool {
    // A cheap check first: the nesting can't exceed the number of opening brackets.
    if json.len() <= limit || opening_brackets(json) <= limit {
        return false;
    }
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0usize, 0usize, false, false);
    for &byte in json {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'{' | b'[' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest > limit
}

/// Counts `[` and `{`, inside and outside of strings.
fn opening_brackets(json: &[u8]) -> usize {
    // The sum of 192 bytes of 0 or 1 fits in a byte, so the compiler can add many at once.
    json.chunks(192)
        .map(|chunk| {
            usize::from(
                chunk
                    .iter()
                    .map(|&byte| u8::from(byte | 0x20 == b'{'))
                    .sum::<u8>(),
            )
        })
        .sum()
}

/// The offset of the first `\u` escape in `json` that is half of a surrogate pair, which is not valid Unicode.
#[must_use]
pub fn lone_surrogate(json: &[u8]) -> Option<usize> {
    let unit = |at: usize| -> Option<u16> {
        let text = json.get(at..at + 6)?.strip_prefix(b"\\u")?;
        u16::from_str_radix(std::str::from_utf8(text).ok()?, 16).ok()
    };
    let mut at = 0;
    while let Some(found) = memchr::memchr(b'\\', json.get(at..)?) {
        let escape = at + found;
        match unit(escape) {
            Some(0xd800..=0xdbff) => match unit(escape + 6) {
                Some(0xdc00..=0xdfff) => at = escape + 12,
                _ => return Some(escape),
            },
            Some(0xdc00..=0xdfff) => return Some(escape),
            Some(_) => at = escape + 6,
            None => at = escape + 2,
        }
    }
    None
}

/// Parses a stored object that holds a payload. The payload may be nested up to [`MAX_NESTING`], and the object
/// one level more.
///
/// # Errors
/// The error of `serde_json` if the text is not a `T` or is nested deeper.
pub fn parse_nested<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, serde_json::Error> {
    serde_json::from_str(text).or_else(|error| {
        // The parser itself limits the nesting to 127 levels. It is called without its limit only if the nesting
        // is known to be one level deeper at most.
        let exceeds = |limit| nesting_exceeds(text.as_bytes(), limit);
        if !exceeds(MAX_NESTING) || exceeds(MAX_NESTING + 1) {
            return Err(error);
        }
        let mut deserializer = serde_json::Deserializer::from_str(text);
        deserializer.disable_recursion_limit();
        let value = T::deserialize(&mut deserializer)?;
        deserializer.end()?;
        Ok(value)
    })
}

#[cfg(test)]
mod tests {
    use super::{lone_surrogate, nesting_exceeds};

    #[test]
    fn nesting_counts_brackets_outside_strings() {
        let deep = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert!(!nesting_exceeds(deep(127).as_bytes(), 127));
        assert!(nesting_exceeds(deep(128).as_bytes(), 127));
        assert!(!nesting_exceeds(
            format!("\"{}\\\"{}\"", "[".repeat(200), "{".repeat(200)).as_bytes(),
            127
        ));
        assert!(!nesting_exceeds(
            format!("[{}]", "[],".repeat(300)).as_bytes(),
            127
        ));
    }

    #[test]
    fn surrogates_come_in_pairs() {
        assert_eq!(lone_surrogate(br#""\ud83d\ude00 \\ud800 \u00e9""#), None);
        assert_eq!(lone_surrogate(br#""ab\ud83d""#), Some(3));
        assert_eq!(lone_surrogate(br#""\uDE00""#), Some(1));
        assert_eq!(lone_surrogate(br#""\ud83dx\ude00""#), Some(1));
    }
}
