//! Recognises by its bytes what a file holds.

/// The bytes before the checksum of an item of a queue, or of a record.
pub(crate) const CHECKSUM: &[u8] = b",\"crc\":\"";
/// The first bytes of a Zstandard frame, and of a skippable frame before one (RFC 8878, 3.1.1 and 3.1.2).
const ZSTD: [&[u8]; 2] = [&[0x28, 0xb5, 0x2f, 0xfd], &[0x50, 0x2a, 0x4d, 0x18]];

/// True if the bytes contain what may be a checksum of ours.
pub(crate) fn has_checksum(bytes: &[u8]) -> bool {
    memchr::memmem::find(bytes, CHECKSUM).is_some()
}

/// True if a file that begins with these bytes is compressed with Zstandard.
pub(crate) fn is_zstd(bytes: &[u8]) -> bool {
    ZSTD.iter().any(|mark| bytes.starts_with(mark))
}

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
