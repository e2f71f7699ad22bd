//! The checksum at the end of a line.

const CRC: &[u8] = b",\"crc\":\"";
const END: &[u8] = b"\"}";
const CRC_LEN: usize = 8;
/// The length of `,"crc":"xxxxxxxx"}`, which follows the checksummed bytes.
pub(crate) const TRAILER: usize = CRC.len() + CRC_LEN + END.len();

/// The CRC-32C that ends each line that this project writes; `bytes` is the part of the line before `,"crc"`.
#[must_use]
pub fn checksum(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes)
}

/// The checksum of longer text: `sum` is the checksum of its beginning, 0 for none, and `bytes` is the rest.
#[must_use]
pub fn checksum_on(sum: u32, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(sum, bytes)
}

/// The eight hexadecimal digits of a checksum, lower case.
#[must_use]
pub fn hex8(crc: u32) -> [u8; 8] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut out = [0; 8];
    let mut rest = crc;
    for digit in out.iter_mut().rev() {
        *digit = DIGITS.get((rest & 0xf) as usize).copied().unwrap_or(b'0');
        rest >>= 4;
    }
    out
}

/// Appends `,"crc":"<8 hex>"}` to `out`. The checksum is computed of `out[start..]`, a JSON object without its closing
/// brace.
pub fn add_checksum(out: &mut Vec<u8>, start: usize) {
    let crc = crc32c::crc32c(out.get(start..).unwrap_or_default());
    out.extend_from_slice(CRC);
    out.extend_from_slice(&hex8(crc));
    out.extend_from_slice(END);
}

/// The result of checking the checksum at the end of a line.
///
/// ```
/// use prodigy_storage_backend::record::{Checksum, add_checksum, check_crc};
///
/// let mut line = br#"{"event":"started""#.to_vec();
/// add_checksum(&mut line, 0);
/// assert_eq!(check_crc(&line), Checksum::Valid);
/// assert_eq!(check_crc(b"{}"), Checksum::Missing);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_enums,
    reason = "it matches, does not match, or is missing"
)]
pub enum Checksum {
    /// The checksum matches.
    Valid,
    /// The checksum does not match.
    Mismatch,
    /// The line has no checksum.
    Missing,
}

/// Checks the checksum at the end of `line`, which is given without its line end.
#[must_use]
pub fn check_crc(line: &[u8]) -> Checksum {
    let Some((body, trailer)) = line.split_at_checked(line.len().wrapping_sub(TRAILER)) else {
        return Checksum::Missing;
    };
    check_trailer(trailer, || crc32c::crc32c(body))
}

/// Checks the last [`TRAILER`] bytes of a line. `sum` computes the checksum of the bytes before them.
#[inline]
pub(crate) fn check_trailer(trailer: &[u8], sum: impl FnOnce() -> u32) -> Checksum {
    let Some(digits) = trailer.strip_prefix(CRC).and_then(|rest| rest.strip_suffix(END)) else {
        return Checksum::Missing;
    };
    // The digits are compared as text: parsing them would branch on each digit, which no processor can predict.
    if digits == hex8(sum()) {
        Checksum::Valid
    } else {
        Checksum::Mismatch
    }
}

/// Finds the end of a record at the start of `bytes` that no line end follows: the first place where a checksum
/// matches. Only the first `tries` places that look like a checksum are tried.
#[must_use]
pub fn find_record_end(bytes: &[u8], tries: usize) -> Option<usize> {
    let mut crc = 0;
    let mut summed = 0;
    for at in memchr::memmem::find_iter(bytes, CRC).take(tries) {
        crc = crc32c::crc32c_append(crc, bytes.get(summed..at)?);
        summed = at;
        let rest = bytes.get(at + CRC.len()..)?;
        let stored = rest.get(..CRC_LEN)?;
        if stored == hex8(crc) && rest.get(CRC_LEN..CRC_LEN + END.len()) == Some(END) {
            return Some(at + TRAILER);
        }
    }
    None
}
