//! Distinguishes text from JSON.

/// True if a file that begins with these bytes holds text: it has more than white space, no JSON object or array begins it, and it has
/// no zeros, as a power loss leaves them.
pub(crate) fn is_text(bytes: &[u8]) -> bool {
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let first = text.trim_ascii_start().first();
    first.is_some_and(|first| !matches!(first, b'[' | b'{')) && !bytes.contains(&0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_begins_as_an_object_or_an_array_is_no_text() {
        for text in ["garbage\n", "# notes", "\u{feff}x", "1", "\"a\""] {
            assert!(is_text(text.as_bytes()), "{text:?}");
        }
        for other in [
            "",
            "\n",
            "{}",
            " \n[",
            "\u{feff}{\"a\":1}",
            "[garbage",
            "\0\0",
            "x\0",
        ] {
            assert!(!is_text(other.as_bytes()), "{other:?}");
        }
    }
}
