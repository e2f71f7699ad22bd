//! Slow and simple implementations to compare with.

use serde_json::Value;

/// CRC-32C computed bit by bit (RFC 3720, appendix B.4).
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for &byte in bytes {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

/// The deepest nesting of arrays and objects.
pub(crate) fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// True if a line ends in `,"crc":"<8 hex>"}` and the digits are the checksum of the bytes before.
pub(crate) fn is_sealed(line: &[u8]) -> bool {
    line.len().checked_sub(18).is_some_and(|at| {
        let (body, trailer) = line.split_at(at);
        trailer == format!(",\"crc\":\"{:08x}\"}}", crc32c(body)).as_bytes()
    })
}

/// True if well-formed JSON is not a [`Value`] for a documented reason: a number that no `f64` holds, or the key that
/// `serde_json` reserves.
pub(crate) fn is_known_limit(json: &str, error: &serde_json::Error) -> bool {
    error.to_string().contains("number out of range") || json.contains("$serde_json::private::RawValue")
}

#[cfg(test)]
mod tests {
    use super::{crc32c, is_sealed};

    #[test]
    fn the_checksum_is_the_standards() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert!(is_sealed(b",\"crc\":\"00000000\"}"));
        assert!(!is_sealed(b",\"crc\":\"00000001\"}"));
    }
}
