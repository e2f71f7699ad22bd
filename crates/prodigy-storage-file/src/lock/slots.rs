//! The contents of a lock file: three slots of fixed width, each a line of JSON.
//!
//! Slots 0 and 1 take turns: a new holder writes its record to the slot that does **not** contain the greatest token,
//! and syncs it. So the greatest token that was ever issued is always in the slot that is not being written, and a torn
//! write loses no token. Slot 2 is the note of a release. It only informs, and is not synced.
//!
//! When a token is issued, the other slot contains the next smaller token. A slot that does not verify may have
//! contained a token that was issued, so the next token is chosen above it:
//!
//! - if both slots verify and n is the greater token: n + 1;
//! - if one slot verifies, with token n: n + 2, since the other slot contained at most n + 1;
//! - if no slot verifies and the file is not empty: the start of a new range of tokens ([`super::ranges`]), or n + 2 if that
//!   is greater, where n is the greatest number that can still be read after a `"fencing":`;
//! - if the file is empty: 1.

use std::io;

use prodigy_storage_backend::Holder;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::fs::FsFile;

/// The length of a slot in bytes. With this length, no two slots share a sector of a disk.
pub(super) const SLOT: usize = 4096;
const SLOTS: usize = 3;
const NOTE: usize = 2;
const CHECKSUM: &[u8] = b",\"checksum\":\"";
const FENCING: &[u8] = b"\"fencing\":";
/// The maximum lengths in bytes of caller-supplied strings. Even if every character is escaped, they fit in a slot.
const MAX_PURPOSE: usize = 400;
const MAX_HOST: usize = 128;
/// The largest number of bytes that are read from a lock file. No file that this backend writes is longer.
const MAX_FILE: u64 = 64 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    Held,
    Released,
}

/// The content of a slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) fencing: u64,
    pub(super) state: State,
    #[serde(flatten)]
    pub(super) holder: Holder,
}

/// The slots of a lock file, as they were read.
#[derive(Debug)]
pub(super) struct Slots {
    turns: [Option<Record>; NOTE],
    note: Option<Record>,
    /// True if the slot for the note of a release contains bytes that are not a valid note.
    note_unclear: bool,
    empty: bool,
    /// If no slot verifies: the greatest token that can still be read. Otherwise 0.
    salvaged: u64,
}

impl Slots {
    pub(super) fn read(file: &dyn FsFile) -> io::Result<Self> {
        let mut bytes = vec![0; file.metadata()?.len.min(MAX_FILE) as usize];
        let read = file.read_full_at(&mut bytes, 0)?;
        bytes.truncate(read);
        Ok(Self::parse(&bytes))
    }

    fn parse(bytes: &[u8]) -> Self {
        let slot = |index: usize| decode(bytes.get(index * SLOT..(index + 1) * SLOT)?);
        let turns = [slot(0), slot(1)];
        let note = slot(NOTE).filter(|note| note.state == State::Released);
        let blank = |byte: &u8| *byte == 0 || byte.is_ascii_whitespace();
        let note_unclear = note.is_none() && !bytes.get(NOTE * SLOT..).unwrap_or_default().iter().all(blank);
        let salvaged = if turns.iter().all(Option::is_none) {
            salvage(bytes)
        } else {
            0
        };
        Self {
            turns,
            note,
            note_unclear,
            empty: bytes.is_empty(),
            salvaged,
        }
    }

    /// True if slot 0 or 1 does not verify.
    pub(super) fn is_damaged(&self) -> bool {
        !self.empty && self.turns.iter().any(Option::is_none)
    }

    /// The reason why the contents are doubtful; `None` if all of them verify. Either a slot is damaged, or its holder
    /// died while it wrote the slot.
    pub(super) fn why_suspect(&self) -> Option<&'static str> {
        match &self.turns {
            _ if self.empty => None,
            [None, None] => Some("neither of its slots verifies"),
            [Some(_), Some(_)] if self.note_unclear => Some("its note of the last release does not verify"),
            [Some(_), Some(_)] => None,
            _ => Some("one of its two slots does not verify"),
        }
    }

    /// The greatest token that is known to have been issued.
    pub(super) fn fencing(&self) -> u64 {
        let turns = self.turns.iter().flatten().map(|record| record.fencing);
        turns.max().unwrap_or(self.salvaged)
    }

    /// The holder that received a token, unless a later holder has overwritten its slot.
    pub(super) fn holder(&self, token: u64) -> Option<&Holder> {
        let mut turns = self.turns.iter().flatten();
        turns
            .find(|record| record.fencing == token)
            .map(|record| &record.holder)
    }

    /// True if no slot of the file verifies, so that the issued tokens are unknown.
    pub(super) fn needs_range(&self) -> bool {
        !self.empty && self.turns.iter().all(Option::is_none)
    }

    /// A token above all that were issued, by the rule in the module's documentation. `range` is the start of a new
    /// range of tokens, or 0 unless [`needs_range`](Self::needs_range). `None` if no greater number exists.
    pub(super) fn next_token(&self, range: u64) -> Option<u64> {
        match &self.turns {
            [Some(one), Some(other)] => one.fencing.max(other.fencing).checked_add(1),
            [Some(one), None] | [None, Some(one)] => one.fencing.checked_add(2),
            [None, None] if self.empty => Some(1),
            [None, None] => Some(self.salvaged.checked_add(2)?.max(range)),
        }
    }

    /// The record of the process that holds the lock, or held it last.
    pub(super) fn into_record(self) -> Option<Record> {
        let newest = self
            .turns
            .into_iter()
            .flatten()
            .max_by_key(|record| record.fencing)?;
        match self.note {
            Some(note) if note.fencing == newest.fencing => Some(note),
            _ => Some(newest),
        }
    }

    /// The index of the slot that the next holder writes: the one without the greatest token.
    fn turn(&self) -> usize {
        match &self.turns {
            [Some(one), Some(other)] => usize::from(one.fencing > other.fencing),
            [Some(_), None] => 1,
            [None, _] => 0,
        }
    }

    /// Writes the slot of a new holder. The caller holds the lock, and then syncs the file.
    pub(super) fn sign(&self, file: &dyn FsFile, fencing: u64, holder: &Holder) -> io::Result<()> {
        let record = |fencing| Record {
            fencing,
            state: State::Held,
            holder: holder.clone(),
        };
        if self.turns.iter().all(Option::is_none) {
            // Neither slot has a token that must be kept, so both are written. After that, a slot that does not verify
            // is damaged; and if one of the two is lost, the other still has a token above all that were issued before.
            let below = fencing.saturating_sub(1);
            let both = [encode(record(fencing))?, encode(record(below))?].concat();
            return file.write_all_at(&both, 0);
        }
        file.write_all_at(&encode(record(fencing))?, (self.turn() * SLOT) as u64)
    }

    /// Overwrites the slot that a failed [`sign`](Self::sign) wrote, so that it does not verify.
    pub(super) fn blank(&self, file: &dyn FsFile) -> io::Result<()> {
        file.write_all_at(&[b' '; SLOT], (self.turn() * SLOT) as u64)
    }

    /// True if one slot did not verify: after [`sign`](Self::sign), the tokens of the two slots are then not consecutive.
    pub(super) fn has_gap(&self) -> bool {
        matches!(&self.turns, [Some(_), None] | [None, Some(_)])
    }

    /// Closes the gap: writes the next smaller token than `fencing` to the other slot. The slot with `fencing` must
    /// already be synced. The caller holds the lock, and then syncs the file.
    pub(super) fn close_gap(&self, file: &dyn FsFile, fencing: u64, holder: &Holder) -> io::Result<()> {
        let below = encode(Record {
            fencing: fencing.saturating_sub(1),
            state: State::Held,
            holder: holder.clone(),
        })?;
        file.write_all_at(&below, ((1 - self.turn()) * SLOT) as u64)
    }
}

/// Writes the note of a release, for readers of the file. The caller still holds the lock.
pub(super) fn note_release(file: &dyn FsFile, fencing: u64, holder: &Holder) -> io::Result<()> {
    let note = encode(Record {
        fencing,
        state: State::Released,
        holder: holder.clone(),
    })?;
    file.write_all_at(&note, (NOTE * SLOT) as u64)
}

fn encode(mut record: Record) -> io::Result<Vec<u8>> {
    shorten(&mut record.holder.purpose, MAX_PURPOSE);
    shorten(&mut record.holder.host, MAX_HOST);
    let mut line = serde_json::to_vec(&record)?;
    line.pop();
    let sum = xxh3_64(&line);
    line.extend_from_slice(CHECKSUM);
    line.extend_from_slice(format!("{sum:016x}\"}}").as_bytes());
    line.resize(SLOT - 1, b' ');
    line.push(b'\n');
    Ok(line)
}

fn shorten(text: &mut String, limit: usize) {
    let mut end = limit.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
}

fn decode(slot: &[u8]) -> Option<Record> {
    let line = slot.strip_suffix(b"\n")?.trim_ascii_end().strip_suffix(b"\"}")?;
    let (body, sum) = line.split_at_checked(line.len().checked_sub(CHECKSUM.len() + 16)?)?;
    let sum = sum.strip_prefix(CHECKSUM)?;
    if format!("{:016x}", xxh3_64(body)).as_bytes() != sum {
        return None;
    }
    serde_json::from_slice(&[body, b"}"].concat()).ok()
}

/// The greatest number that follows the name of the token's field anywhere in the bytes; 0 if there is no such number.
fn salvage(bytes: &[u8]) -> u64 {
    memchr::memmem::find_iter(bytes, FENCING)
        .filter_map(|at| {
            let digits = bytes.get(at + FENCING.len()..)?;
            let count = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
            std::str::from_utf8(digits.get(..count)?).ok()?.parse().ok()
        })
        // A number this large was never issued as a token, so it is damage itself.
        .filter(|token: &u64| *token < u64::MAX / 2)
        .max()
        .unwrap_or_default()
}

const _: () = assert!(6 * (MAX_PURPOSE + MAX_HOST) + 512 < SLOT);
const _: () = assert!((SLOT * SLOTS) as u64 <= MAX_FILE);

#[cfg(test)]
mod tests {
    use prodigy_storage_layout::Timestamp;

    use super::*;

    fn holder() -> Holder {
        Holder::new(
            7,
            "h".into(),
            Timestamp::from_millis(1_764_018_118_000),
            "test".into(),
        )
    }

    fn slot(fencing: u64) -> Vec<u8> {
        encode(Record {
            fencing,
            state: State::Held,
            holder: holder(),
        })
        .unwrap()
    }

    #[test]
    fn a_slot_is_a_line_of_json_of_fixed_width() {
        let bytes = slot(7);
        assert_eq!(bytes.len(), SLOT);
        let json: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(json["fencing"], 7);
        assert_eq!(json["state"], "held");
        assert_eq!(json["pid"], 7);
        assert_eq!(decode(&bytes).unwrap().holder, holder());
    }

    #[test]
    fn texts_of_any_length_fit() {
        let mut record = decode(&slot(1)).unwrap();
        record.holder.purpose = "\u{1}".repeat(5000);
        record.holder.host = "é".repeat(5000);
        let bytes = encode(record).unwrap();
        assert_eq!(bytes.len(), SLOT);
        let read = decode(&bytes).unwrap().holder;
        assert_eq!((read.purpose.len(), read.host.len()), (MAX_PURPOSE, MAX_HOST));
    }

    #[test]
    fn no_changed_byte_gives_a_token_twice() {
        for (one, other) in [(5, 4), (4, 5)] {
            let whole = [slot(one), slot(other)].concat();
            assert_eq!(Slots::parse(&whole).next_token(0), Some(6));
            for at in 0..whole.len() {
                for value in [whole[at] ^ 1, whole[at] ^ 0x80, 0, b' ', b'9'] {
                    let mut bytes = whole.clone();
                    bytes[at] = value;
                    let next = Slots::parse(&bytes).next_token(0).unwrap();
                    assert!(next > 5, "byte {at} as {value}: {next}");
                }
            }
            for end in 1..whole.len() {
                let slots = Slots::parse(&whole[..end]);
                // A new range is needed if no slot verifies.
                let range = if slots.needs_range() { 1_000 } else { 0 };
                let next = slots.next_token(range).unwrap();
                assert!(next > 5, "cut at {end}: {next}");
            }
        }
    }

    #[test]
    fn a_file_without_a_good_slot_goes_on_in_a_new_range_or_behind_what_can_be_read() {
        let range = 2_000_000;
        assert_eq!(Slots::parse(b"").next_token(range), Some(1));
        assert!(!Slots::parse(b"").needs_range() && !Slots::parse(&slot(5)).needs_range());
        assert!(Slots::parse(b"pid 12").needs_range());
        assert_eq!(Slots::parse(&[0; 3 * SLOT]).next_token(range), Some(2_000_000));
        assert_eq!(Slots::parse(b"pid 12").next_token(range), Some(2_000_000));
        let text = b"{\"fencing\":3000000,\"x\"\"fencing\":18446744073709551615,";
        assert_eq!(Slots::parse(text).next_token(range), Some(3_000_002));
        assert_eq!(Slots::parse(text).fencing(), 3_000_000);
    }

    #[test]
    fn the_slot_with_the_greatest_token_is_never_written() {
        let turn = |bytes: Vec<u8>| Slots::parse(&bytes).turn();
        assert_eq!(turn([slot(5), slot(4)].concat()), 1);
        assert_eq!(turn([slot(5), slot(6)].concat()), 0);
        assert_eq!(turn([slot(5), vec![0; SLOT]].concat()), 1);
        assert_eq!(turn([vec![0; SLOT], slot(5)].concat()), 0);
    }

    #[test]
    fn a_note_of_an_older_release_says_nothing() {
        let note = |fencing| {
            let mut record = decode(&slot(fencing)).unwrap();
            record.state = State::Released;
            encode(record).unwrap()
        };
        let state = |bytes: Vec<u8>| Slots::parse(&bytes).into_record().unwrap().state;
        assert_eq!(state([slot(5), slot(4), note(4)].concat()), State::Held);
        assert_eq!(state([slot(5), slot(4), note(5)].concat()), State::Released);
        assert_eq!(state([slot(5), slot(4)].concat()), State::Held);
    }
}
