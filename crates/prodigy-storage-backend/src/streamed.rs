//! Verifies the checksum of a line piece by piece, in constant memory.

use prodigy_storage_layout::Timestamp;

use crate::id::EventId;
use crate::record::{self, Checksum, TRAILER};

/// The number of bytes that are kept from the beginning of a line, so that its id can be read.
const HEAD_KEPT: usize = 8 << 10;
/// The number of bytes that are kept from the end of a line: its checksum, and white space after it.
const TAIL_KEPT: usize = 64;

/// A line that is read in pieces and not kept in memory: its length, its checksum, and the id at its beginning.
///
/// With it a reader verifies a record that is larger than its limit.
///
/// ```
/// use prodigy_storage_backend::record::{Checksum, RecordEncoder};
/// use prodigy_storage_backend::{EventId, StreamedLine};
/// use prodigy_storage_layout::Timestamp;
///
/// let time = Timestamp::from_millis(1_800_000_000_000);
/// let mut line = Vec::new();
/// RecordEncoder::new().encode(&mut line, EventId::floor(time), time, b",\"event\":1");
///
/// let mut streamed = StreamedLine::default();
/// line.chunks(7).for_each(|piece| streamed.push(piece));
/// assert_eq!(streamed.check(|end| end), (Checksum::Valid, line.len() as u64));
/// assert_eq!(streamed.event(), Some((EventId::floor(time), time)));
/// ```
#[derive(Clone, Debug, Default)]
pub struct StreamedLine {
    len: u64,
    head: Vec<u8>,
    /// The last bytes so far. The checksum `sum` does not include them yet.
    tail: Vec<u8>,
    sum: u32,
    written: bool,
}

impl StreamedLine {
    /// Adds the next bytes, without the line end.
    pub fn push(&mut self, bytes: &[u8]) {
        self.len += bytes.len() as u64;
        self.written |= !bytes.trim_ascii_start().is_empty();
        let missing = HEAD_KEPT.saturating_sub(self.head.len()).min(bytes.len());
        self.head
            .extend_from_slice(bytes.get(..missing).unwrap_or_default());
        let (summed, kept) = bytes.split_at(bytes.len().saturating_sub(TAIL_KEPT));
        let over = (self.tail.len() + kept.len())
            .saturating_sub(TAIL_KEPT)
            .min(self.tail.len());
        self.sum = crc32c::crc32c_append(self.sum, self.tail.get(..over).unwrap_or_default());
        self.tail.drain(..over);
        self.sum = crc32c::crc32c_append(self.sum, summed);
        self.tail.extend_from_slice(kept);
    }

    /// True if the line is only white space.
    #[must_use]
    pub fn is_blank(&self) -> bool {
        !self.written
    }

    /// The first bytes of the line, at most a few thousand.
    #[must_use]
    pub fn head(&self) -> &[u8] {
        &self.head
    }

    /// True if the line begins and ends like a JSON object. `trim` removes from the last bytes everything that
    /// follows the object.
    #[must_use]
    pub fn is_like_an_object(&self, trim: impl Fn(&[u8]) -> &[u8]) -> bool {
        self.head.first() == Some(&b'{') && trim(&self.tail).last() == Some(&b'}')
    }

    /// The id and the time at the beginning of the line, if the line begins in the form that this project writes.
    #[must_use]
    pub fn event(&self) -> Option<(EventId, Timestamp)> {
        record::read_head(&self.head)
    }

    /// The result of checking the checksum at the end of the line, and the length of the record. `trim` removes
    /// from the last bytes everything that follows the record.
    #[must_use]
    pub fn check(&self, trim: impl Fn(&[u8]) -> &[u8]) -> (Checksum, u64) {
        let end = trim(&self.tail);
        let len = self.len - (self.tail.len() - end.len()) as u64;
        let checksum = self.sealed(trim).map_or(Checksum::Missing, |(sum, trailer)| {
            record::check_trailer(trailer, || sum)
        });
        (checksum, len)
    }

    /// The checksum of all bytes of the record before `,"crc"`, and the rest of the record, which holds the stored
    /// checksum. `None` for a shorter line.
    #[must_use]
    pub fn sealed(&self, trim: impl Fn(&[u8]) -> &[u8]) -> Option<(u32, &[u8])> {
        let end = trim(&self.tail);
        let (body, trailer) = end.split_at_checked(end.len().wrapping_sub(TRAILER))?;
        Some((crc32c::crc32c_append(self.sum, body), trailer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn in_pieces_a_line_says_what_it_says_as_a_whole(
            payload in "[a-z\"]{0,300}", cuts in proptest::collection::vec(1usize..90, 1..40), flip in 0usize..900, mask in 0u8..4,
        ) {
            let time = Timestamp::from_millis(1_800_000_000_000);
            let mut line = Vec::new();
            let body = format!(",\"event\":{}", serde_json::Value::from(payload));
            record::RecordEncoder::new().encode(&mut line, EventId::floor(time), time, body.as_bytes());
            if let Some(byte) = line.get_mut(flip) {
                *byte ^= mask;
            }
            let mut streamed = StreamedLine::default();
            let (mut rest, mut cuts) = (&line[..], cuts.iter().cycle());
            while !rest.is_empty() {
                let (piece, later) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
                streamed.push(piece);
                rest = later;
            }
            streamed.push(b" \r");
            let whole = record::check_crc(&line);
            proptest::prop_assert_eq!(streamed.check(<[u8]>::trim_ascii_end), (whole, line.len() as u64));
            if whole == Checksum::Valid {
                proptest::prop_assert_eq!(streamed.event(), Some((EventId::floor(time), time)));
            }
        }
    }

    #[test]
    fn blanks_are_blank_however_many() {
        let mut line = StreamedLine::default();
        line.push(&[b' '; 100]);
        assert!(line.is_blank());
        line.push(b" x");
        line.push(&[b' '; 100]);
        assert!(!line.is_blank());
    }
}
