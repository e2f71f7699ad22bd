//! Reads items that are larger than the limit, in pieces.

use prodigy_storage_backend::StreamedLine;
use prodigy_storage_backend::record::Checksum;

use super::line::{self, ItemChecksum};
use super::scan::trimmed;

/// The result of reading a large object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// A whole item, with its length in bytes and the state of its checksum.
    Item(u64, ItemChecksum),
    /// No item, but this number of damaged bytes.
    Damage(u64),
}

/// A large JSON value that is checked in pieces, without being kept in memory.
#[derive(Debug, Default)]
pub(super) struct LargeObject {
    seen: StreamedLine,
    depth: usize,
    in_string: bool,
    escaped: bool,
    /// The length at which the value ended without a checksum. Damage may have moved this end; in an item of ours, the
    /// end of the line then shows it.
    without_checksum: Option<u64>,
    /// The length of the first line; `None` before its end.
    first_line: Option<u64>,
}

impl LargeObject {
    /// Adds bytes, up to the end of the value or of its line. `None` if the value continues after them.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Option<End> {
        let mut pushed = 0;
        for (at, &byte) in bytes.iter().enumerate() {
            match byte {
                b'\n' => {
                    self.seen.push(bytes.get(pushed..at).unwrap_or_default());
                    pushed = at;
                    if let Some(end) = self.line_end() {
                        return Some(end);
                    }
                    let read = self.seen.check(|end| end).1;
                    self.first_line.get_or_insert(read);
                }
                _ if self.without_checksum.is_some() => {}
                _ if self.escaped => self.escaped = false,
                b'\\' if self.in_string => self.escaped = true,
                b'"' => {
                    self.in_string = !self.in_string;
                    if !self.in_string && self.depth == 0 {
                        // A string that is not in an object. Another program wrote it.
                        self.seen.push(bytes.get(pushed..=at).unwrap_or_default());
                        pushed = at + 1;
                        self.without_checksum = Some(self.seen.check(|end| end).1);
                    }
                }
                _ if self.in_string => {}
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' if self.depth > 1 => self.depth -= 1,
                b'}' | b']' => {
                    self.seen.push(bytes.get(pushed..=at).unwrap_or_default());
                    pushed = at + 1;
                    match self.seen.check(|end| end) {
                        (Checksum::Valid, len) => return Some(End::Item(len, ItemChecksum::Valid)),
                        (Checksum::Mismatch, len) => return Some(End::Damage(len)),
                        (Checksum::Missing, len) => self.without_checksum = Some(len),
                    }
                }
                _ => {}
            }
        }
        self.seen.push(bytes.get(pushed..).unwrap_or_default());
        None
    }

    /// The result if the file ends here. Damage extends to the end of the first line.
    pub(super) fn finish(&self) -> End {
        match self.without_checksum {
            Some(len) => End::Item(len, ItemChecksum::Missing),
            None => End::Damage(self.first_line.unwrap_or_else(|| self.seen.check(|end| end).1)),
        }
    }

    /// True if neither the value nor its first line has ended yet.
    pub(super) fn is_open(&self) -> bool {
        self.without_checksum.is_none() && self.first_line.is_none()
    }

    /// The first bytes of the value.
    pub(super) fn head(&self) -> &[u8] {
        self.seen.head()
    }

    /// Handles a line end. A value that continues after it belongs to another program: each item of ours has one line
    /// with a checksum, and no JSON string contains a line end.
    fn line_end(&self) -> Option<End> {
        let (crc, len) = self.seen.check(trimmed);
        let framed = || {
            let checksum = self.seen.sealed(trimmed);
            checksum.is_some_and(|(sum, trailer)| line::is_frame(sum, trailer))
        };
        match crc {
            Checksum::Valid => Some(End::Item(len, ItemChecksum::Valid)),
            Checksum::Missing if framed() => Some(End::Item(len, ItemChecksum::BadFrame)),
            Checksum::Missing if !self.in_string => self
                .without_checksum
                .map(|len| End::Item(len, ItemChecksum::Missing)),
            Checksum::Mismatch | Checksum::Missing => Some(End::Damage(len)),
        }
    }
}
