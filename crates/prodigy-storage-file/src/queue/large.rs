//! Items that are larger than the limit, read in pieces.

use prodigy_storage_backend::StreamedLine;
use prodigy_storage_backend::record::Checksum;

use super::line::{self, ItemChecksum};
use super::scan::trimmed;

/// The end of a large object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It is whole: its length in bytes, and its checksum's verdict.
    Item(u64, ItemChecksum),
    /// It is no item: the number of damaged bytes.
    Damage(u64),
}

/// An object that is read in pieces and not kept.
#[derive(Debug, Default)]
pub(super) struct LargeObject {
    seen: StreamedLine,
    depth: usize,
    in_string: bool,
    escaped: bool,
    /// Where it ended without a checksum, if it did. Damage may have put an end there: the line of an item of ours says so.
    without_checksum: Option<u64>,
    /// Where its first line ends.
    first_line: Option<u64>,
}

impl LargeObject {
    /// Takes the next bytes, up to the end of the object or of its line. `None` if more has to come.
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
                        // A bare text, which another program wrote.
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

    /// The end of the object if the file ends here. Damage goes to the end of its first line.
    pub(super) fn finish(&self) -> End {
        match self.without_checksum {
            Some(len) => End::Item(len, ItemChecksum::Missing),
            None => End::Damage(self.first_line.unwrap_or_else(|| self.seen.check(|end| end).1)),
        }
    }

    /// Whether nothing that was read of it ends: neither the object nor a line.
    pub(super) fn is_open(&self) -> bool {
        self.without_checksum.is_none() && self.first_line.is_none()
    }

    /// Its first bytes.
    pub(super) fn head(&self) -> &[u8] {
        self.seen.head()
    }

    /// An object that continues behind a line end is another program's: ours have a line and a checksum each, and no text
    /// has a line end in it.
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
