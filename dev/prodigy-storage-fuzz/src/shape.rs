//! Turns a fuzzer's bytes into input with valid checksums.

use crate::oracle::crc32c;

const TRAILER: usize = 18;

/// Cuts the input at each `\0|\0`.
pub(crate) fn parts(bytes: &[u8]) -> Vec<&[u8]> {
    let mut parts = Vec::new();
    let mut rest = bytes;
    while let Some(at) = rest.windows(3).position(|window| window == b"\0|\0") {
        parts.push(&rest[..at]);
        rest = &rest[at + 3..];
    }
    parts.push(rest);
    parts
}

/// Puts a valid checksum into each line that ends like one with a checksum, with or without a comma after it.
pub(crate) fn resealed(bytes: &[u8]) -> Vec<u8> {
    let mut out = bytes.to_vec();
    for line in out.split_mut(|&byte| byte == b'\n') {
        let len = line.len() - usize::from(line.ends_with(b","));
        let Some(at) = len.checked_sub(TRAILER) else {
            continue;
        };
        if line[at..].starts_with(b",\"crc\":\"") && line[..len].ends_with(b"\"}") {
            let digits = format!("{:08x}", crc32c(&line[..at]));
            line[at + 8..at + 16].copy_from_slice(digits.as_bytes());
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{parts, resealed};

    #[test]
    fn a_line_gets_its_checksum() {
        let bytes = resealed(b"{\"a\":1,\"crc\":\"xxxxxxxx\"},\n{\"b\":1}\n");
        assert!(
            crate::oracle::is_sealed(&bytes[..24]),
            "{}",
            String::from_utf8_lossy(&bytes)
        );
        assert!(bytes.ends_with(b",\n{\"b\":1}\n"));
    }

    #[test]
    fn parts_are_cut() {
        assert_eq!(parts(b"a\0|\0\0|\0b"), [&b"a"[..], b"", b"b"]);
    }
}
