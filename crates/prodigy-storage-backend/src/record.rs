//! The record of an event: one line of JSON that ends with its checksum.
//!
//! `{"id":"<uuid>","timestamp":"<RFC 3339>",<body>,"crc":"<8 hex>"}`. The body is `"correlation_id"` (optional),
//! `"event"`, `"metadata"` (optional) and `"fence"` (optional), in this order. The crc is the CRC-32C (RFC 3720,
//! appendix B.4) of the bytes before `,"crc"`.

mod checksum;
mod nesting;

use prodigy_storage_layout::Timestamp;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::id::EventId;

pub use checksum::{Checksum, add_checksum, check_crc, checksum, checksum_on, find_record_end, hex8};
pub(crate) use checksum::{TRAILER, check_trailer};
pub use nesting::{MAX_NESTING, lone_surrogate, nesting_exceeds, parse_nested};

const HEAD: &[u8] = b"{\"id\":\"";
const TIME: &[u8] = b"\",\"timestamp\":\"";
/// The length in bytes of a timestamp such as `2026-11-24T21:01:58.123456Z`.
const TIME_LEN: usize = 27;
/// The name of the field that holds the fencing token of an event.
pub(crate) const FENCE_FIELD: &str = ",\"fence\":";
/// The number of bytes that a record has besides its body.
pub const RECORD_OVERHEAD: usize = HEAD.len() + EventId::TEXT_LEN + TIME.len() + TIME_LEN + 1 + TRAILER;

/// Writes records. It caches the date and time text of the last second.
///
/// ```
/// use prodigy_storage_backend::EventId;
/// use prodigy_storage_backend::record::{RecordEncoder, read_line};
/// use prodigy_storage_layout::Timestamp;
///
/// let now = Timestamp::from_millis(1_764_018_118_000);
/// let mut line = Vec::new();
/// RecordEncoder::new().encode(&mut line, EventId::floor(now), now, br#","event":"started""#);
/// let record = read_line(&line).expect("it is whole");
/// assert!(record.verified);
/// assert_eq!(record.time(), now);
/// ```
#[derive(Debug)]
pub struct RecordEncoder {
    second: i64,
    time: [u8; TIME_LEN],
}

impl Default for RecordEncoder {
    fn default() -> Self {
        Self::new()
    }
}

impl RecordEncoder {
    /// A new encoder.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            second: i64::MIN,
            time: [0; TIME_LEN],
        }
    }

    /// Appends a record, without a line end, to `out`. `time` is the time of the append; the record holds it in
    /// microseconds.
    pub fn encode(&mut self, out: &mut Vec<u8>, id: EventId, time: Timestamp, body: &[u8]) {
        let start = out.len();
        self.set_time(time);
        let mut text = [0; EventId::TEXT_LEN];
        id.encode(&mut text);
        out.reserve(RECORD_OVERHEAD + body.len() + 1);
        out.extend_from_slice(HEAD);
        out.extend_from_slice(&text);
        out.extend_from_slice(TIME);
        out.extend_from_slice(&self.time);
        out.push(b'"');
        out.extend_from_slice(body);
        add_checksum(out, start);
    }

    fn set_time(&mut self, time: Timestamp) {
        let nanos = time.as_nanos();
        let second = nanos.div_euclid(1_000_000_000);
        if second != self.second {
            let text = Timestamp::from_nanos(second * 1_000_000_000).to_rfc3339();
            for (to, from) in self.time.iter_mut().zip(text.bytes()) {
                *to = from;
            }
            self.second = second;
        }
        let mut micros = nanos.rem_euclid(1_000_000_000) / 1000;
        for digit in self.time.iter_mut().rev().skip(1).take(6) {
            *digit = b'0' + (micros % 10) as u8;
            micros /= 10;
        }
    }
}

/// Rounds a time down to microseconds, as a record stores it.
#[must_use]
pub const fn stated_time(time: Timestamp) -> Timestamp {
    let nanos = time.as_nanos();
    Timestamp::from_nanos(nanos - nanos % 1000)
}

/// A whole line of a log, which holds one event.
///
/// ```
/// use prodigy_storage_backend::{EventId, Record};
///
/// let line = r#"{"id":"019ab7ac-5d70-7000-99f2-194a59eb3f1d","event":"started"}"#;
/// let record = Record { id: "019ab7ac-5d70-7000-99f2-194a59eb3f1d".parse::<EventId>()?, line, verified: false };
/// // The line has no time of its own, so the time of its id is used.
/// assert_eq!(record.time(), record.id.time());
/// # Ok::<(), prodigy_storage_backend::InvalidEventId>(())
/// ```
#[derive(Clone, Copy, Debug)]
#[expect(
    clippy::exhaustive_structs,
    reason = "backends make it: each has to fill in a new field"
)]
pub struct Record<'a> {
    /// The id of the event. A line of another program may have an id of another version than 7. If it has no `id`,
    /// this is the id that [`read_line`] derives from its bytes.
    pub id: EventId,
    /// The line as JSON text, without its line end.
    pub line: &'a str,
    /// True if the line has a checksum that matches. Lines of other programs have none.
    pub verified: bool,
}

impl<'a> Record<'a> {
    /// The time of the append, by the clock of the writer. If the line has no time, as is possible for one of
    /// another program, it is the time of the id or, if the id has no time, the earliest time.
    #[must_use]
    pub fn time(&self) -> Timestamp {
        let in_form = || time_in_form(self.line.as_bytes()).filter(|_| self.verified);
        in_form().or_else(|| line_time(self.line)).unwrap_or_else(|| {
            if self.id.is_v7() {
                self.id.time()
            } else {
                Timestamp::MIN
            }
        })
    }

    /// The text between the timestamp and the checksum: the payload and the optional fields. A copy of the record
    /// in another log keeps it byte for byte. `None` for a line of another program.
    ///
    /// ```
    /// use prodigy_storage_backend::EventId;
    /// use prodigy_storage_backend::record::{RecordEncoder, read_line};
    /// use prodigy_storage_layout::Timestamp;
    ///
    /// let (now, mut line) = (Timestamp::from_millis(1_764_018_118_000), Vec::new());
    /// RecordEncoder::new().encode(&mut line, EventId::floor(now), now, br#","event":"started""#);
    /// let record = read_line(&line).expect("it is whole");
    /// assert_eq!(record.body(), Some(r#","event":"started""#));
    /// ```
    #[must_use]
    pub fn body(&self) -> Option<&'a str> {
        let in_form = self.verified.then(|| parts_in_form(self.line)).flatten();
        in_form.map(|(_, body)| body)
    }

    /// Parses the whole record, with its payload, as a `T`.
    ///
    /// # Errors
    /// The error of `serde_json` if the line is not a `T`.
    pub fn parse<T: Deserialize<'a>>(&self) -> Result<T, serde_json::Error> {
        parse_nested(self.line).map_err(|error| {
            if nesting_exceeds(self.line.as_bytes(), MAX_NESTING + 1) {
                return serde::de::Error::custom(format_args!("nesting over {MAX_NESTING}"));
            }
            error
        })
    }
}

/// The timestamp of a line, and the text between the timestamp and the checksum. `None` if the line does not have
/// the form that [`RecordEncoder`] writes.
pub(crate) fn parts_in_form(line: &str) -> Option<(Timestamp, &str)> {
    let time = time_in_form(line.as_bytes())?;
    let end = line.len().checked_sub(TRAILER)?;
    let body = line.get(HEAD.len() + EventId::TEXT_LEN + TIME.len() + TIME_LEN + 1..end)?;
    Some((time, body))
}

/// The timestamp of a line; `None` if the line does not begin in the form that [`RecordEncoder`] writes.
fn time_in_form(line: &[u8]) -> Option<Timestamp> {
    let bytes = line.strip_prefix(HEAD)?;
    let time = bytes.get(EventId::TEXT_LEN..)?.strip_prefix(TIME)?;
    let (time, rest) = time.split_first_chunk::<TIME_LEN>()?;
    if rest.first() != Some(&b'"') {
        return None;
    }
    read_time(time)
}

/// Parses `2026-11-24T21:01:58.123456Z`; `None` for any other form, and for a date that does not exist.
fn read_time(text: &[u8; TIME_LEN]) -> Option<Timestamp> {
    let form = b"0000-00-00T00:00:00.000000Z";
    // Checks all bytes without an early return, so that the compiler can check several at once.
    let in_form = text.iter().zip(form).fold(true, |fits, (byte, form)| {
        fits & ((byte == form) | ((*form == b'0') & byte.is_ascii_digit()))
    });
    if !in_form {
        return None;
    }
    let number = |range: std::ops::Range<usize>| {
        let digits = text.get(range).unwrap_or_default();
        digits
            .iter()
            .fold(0i64, |sum, digit| sum * 10 + i64::from(digit - b'0'))
    };
    let (year, month, day) = (number(0..4), number(5..7), number(8..10));
    let (hour, minute, second) = (number(11..13), number(14..16), number(17..19));
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if day < 1 || day > days || hour > 23 || minute > 59 || second > 59 || !(1970..2262).contains(&year) {
        return None;
    }
    // Counts the days since 1970, with years that begin in March, so that a leap day is the last day of its year.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 719_469;
    let seconds = ((days * 24 + hour) * 60 + minute) * 60 + second;
    Some(Timestamp::from_nanos(
        (seconds * 1_000_000 + number(20..26)) * 1000,
    ))
}

/// The reason why a line is not a record.
///
/// ```
/// use prodigy_storage_backend::record::{LineFault, read_line};
///
/// assert_eq!(read_line(b"\xff").unwrap_err(), LineFault::Utf8);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LineFault {
    /// The checksum does not match.
    Checksum,
    /// The line is not well-formed UTF-8.
    Utf8,
    /// The line is not a JSON object with an `event`, or its `id` is not a UUID.
    Shape,
    /// The line is longer than the reader's limit, and its checksum does not match.
    TooLong,
}

impl LineFault {
    /// Describes the reason in words.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Checksum => "its checksum does not hold",
            Self::Utf8 => "it is not well-formed UTF-8",
            Self::Shape => "it is not a JSON object with an `event`, or its `id` is not a UUID",
            Self::TooLong => "it is longer than `max_record_size` allows, and its checksum does not hold",
        }
    }
}

/// Parses a line, which is given without its line end. A carriage return at its end is removed.
///
/// # Errors
/// The reason why the line is not a record.
pub fn read_line(line: &[u8]) -> Result<Record<'_>, LineFault> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let verified = match check_crc(line) {
        Checksum::Mismatch => return Err(LineFault::Checksum),
        Checksum::Valid => true,
        Checksum::Missing => false,
    };
    let text = text(line).ok_or(LineFault::Utf8)?;
    let in_form = || EventId::parse(line.strip_prefix(HEAD)?.get(..EventId::TEXT_LEN)?);
    let id = match in_form().filter(|_| verified) {
        Some(id) => id,
        None => shape(text)?.0,
    };
    Ok(Record {
        id,
        line: text,
        verified,
    })
}

/// The bytes as text; `None` if they are not well-formed UTF-8.
#[must_use]
pub fn text(bytes: &[u8]) -> Option<&str> {
    simdutf8::basic::from_utf8(bytes).ok()
}

/// The id and the time in the first bytes of a line, if they have the form that [`RecordEncoder`] writes. If the
/// line has no time, it is the time of the id.
pub(crate) fn read_head(bytes: &[u8]) -> Option<(EventId, Timestamp)> {
    let id = bytes.strip_prefix(HEAD)?.get(..EventId::TEXT_LEN)?;
    let id = EventId::parse(id)?;
    Some((id, time_in_form(bytes).unwrap_or_else(|| id.time())))
}

/// The offset of the next record in our form, at or after `from`. A reader continues there after damage.
#[must_use]
pub fn find_record_start(bytes: &[u8], from: usize) -> Option<usize> {
    memchr::memmem::find(bytes.get(from..)?, HEAD).map(|at| from + at)
}

/// The `timestamp` field of a line, as a time. Lines of other programs are ordered and filtered by it.
#[must_use]
pub fn line_time(line: &str) -> Option<Timestamp> {
    shape(line).ok()?.1
}

#[derive(Deserialize)]
struct Shape<'a> {
    #[serde(default, borrow)]
    id: Option<std::borrow::Cow<'a, str>>,
    #[serde(default, borrow)]
    timestamp: Option<std::borrow::Cow<'a, str>>,
    #[serde(rename = "event")]
    _event: IgnoredAny,
}

fn shape(line: &str) -> Result<(EventId, Option<Timestamp>), LineFault> {
    if nesting_exceeds(line.as_bytes(), MAX_NESTING + 1) {
        return Err(LineFault::Shape);
    }
    let shape: Shape<'_> = serde_json::from_str(line).map_err(|_| LineFault::Shape)?;
    let id = match &shape.id {
        Some(id) => EventId::parse(id.as_bytes()).ok_or(LineFault::Shape)?,
        None => derived_id(line),
    };
    Ok((id, shape.timestamp.as_deref().and_then(Timestamp::parse)))
}

/// The id for a line without an `id`: a UUID of version 8 (RFC 9562, 5.8) from the hash of its bytes. Every reader
/// derives the same id, so a cursor can point to the line, and a repeated line counts as the same event.
fn derived_id(line: &str) -> EventId {
    const VERSION: u128 = 0xf << 76;
    const VARIANT: u128 = 0b11 << 62;
    let hash = xxhash_rust::xxh3::xxh3_128(line.as_bytes());
    EventId::from_u128((hash & !(VERSION | VARIANT)) | (0x8 << 76) | (0b10 << 62))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(body: &str) -> Vec<u8> {
        let mut out = Vec::new();
        let time = Timestamp::from_nanos(1_764_018_118_123_456_789);
        RecordEncoder::new().encode(&mut out, EventId::floor(time), time, body.as_bytes());
        out
    }

    #[test]
    fn a_record_reads_back() {
        let bytes = line(",\"event\":{\"a\":1}");
        let text = std::str::from_utf8(&bytes).unwrap();
        assert!(text.contains("\"timestamp\":\"2025-11-24T21:01:58.123"), "{text}");
        assert_eq!(bytes.len(), RECORD_OVERHEAD + 16);
        let record = read_line(&bytes).unwrap();
        assert!(record.verified && record.id.is_v7());
        let value: serde_json::Value = record.parse().unwrap();
        assert_eq!(value["event"]["a"], 1);
        assert_eq!(value["crc"].as_str().unwrap().len(), 8);
    }

    #[test]
    fn every_flipped_byte_of_a_record_is_seen() {
        let whole = line(",\"event\":\"x\"");
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut bytes = whole.clone();
                bytes[at] ^= 1 << bit;
                if let Ok(record) = read_line(&bytes) {
                    // If a bit flips in the field name `crc`, the line counts as one without a checksum, and its
                    // event is still right.
                    assert!(!record.verified, "byte {at} bit {bit}");
                    assert!(record.line.contains("\"event\":\"x\""));
                }
            }
        }
    }

    #[test]
    fn a_line_end_of_two_bytes_takes_nothing_from_a_record() {
        let bytes = [line(",\"event\":1"), b"\r".to_vec()].concat();
        let record = read_line(&bytes).unwrap();
        assert!(record.verified);
        assert_eq!(record.line.as_bytes(), line(",\"event\":1"));
    }

    #[test]
    fn lines_of_other_programs_are_read_unverified() {
        let text = r#"{"event":{"k":[1]},"id":"6f1c1f5e-7c1a-4a53-9d2e-0a3b1c2d3e4f","timestamp":"2025-07-25T11:01:04-07:00"}"#;
        let record = read_line(text.as_bytes()).unwrap();
        assert!(!record.verified && !record.id.is_v7());
        assert_eq!(
            line_time(text).unwrap().to_rfc3339(),
            "2025-07-25T18:01:04.000000Z"
        );
        assert_eq!(
            read_line(b"{\"id\":\"x\",\"event\":1}").unwrap_err(),
            LineFault::Shape
        );
        assert_eq!(read_line(b"").unwrap_err(), LineFault::Shape);
    }

    #[test]
    fn a_line_without_an_id_has_one_of_its_own_bytes() {
        let one = r#"{"timestamp":"2026-11-28T11:00:00Z","event":1}"#;
        let other = r#"{"timestamp":"2026-11-28T11:00:00Z","event":2}"#;
        let id = |line: &'static str| {
            let record = read_line(line.as_bytes()).unwrap();
            assert!(!record.verified && !record.id.is_v7());
            record.id
        };
        assert_eq!(id(one).to_string(), "2c40f8f5-da44-86f5-9d1d-4e8f7cac8be5");
        assert_ne!(id(one), id(other));
        for line in [
            r#"{"id":null,"event":1}"#,
            r#"{"event_type":"x"}"#,
            r#"{"id":7,"event":1}"#,
        ] {
            let read = read_line(line.as_bytes());
            assert_eq!(read.is_ok(), line.contains("null"), "{line}");
        }
    }

    #[test]
    fn a_record_without_line_end_is_found_in_what_follows() {
        let mut bytes = line(",\"event\":{\"crc\":\"x\",\"crc\":\"y\"}");
        let end = bytes.len();
        bytes.extend_from_slice(b"\x0b");
        bytes.extend_from_slice(&line(",\"event\":2"));
        assert_eq!(find_record_end(&bytes, 64), Some(end));
        assert_eq!(find_record_start(&bytes, 1), Some(end + 1));
        assert_eq!(find_record_end(&bytes[1..], 1), None);
    }

    #[test]
    fn the_time_is_that_of_the_append_and_not_that_of_the_id() {
        let (id, time) = (
            EventId::floor(Timestamp::from_millis(4_102_444_800_000)),
            Timestamp::from_nanos(1_764_018_118_123_456_789),
        );
        let mut out = Vec::new();
        RecordEncoder::new().encode(&mut out, id, time, b",\"event\":1");
        let record = read_line(&out).unwrap();
        assert_eq!(record.time(), Timestamp::from_nanos(1_764_018_118_123_456_000));
        assert_eq!(record.parse_event::<u8>().unwrap().timestamp, record.time());
        let foreign = r#"{"id":"7d4b6a52-0b1a-4a53-9d2e-0a3b1c2d3e4f","timestamp":"2025-07-25T11:01:04-07:00","event":1}"#;
        let record = read_line(foreign.as_bytes()).unwrap();
        assert_eq!(record.time().to_rfc3339(), "2025-07-25T18:01:04.000000Z");
        let timeless = format!("{{\"id\":\"{id}\",\"event\":1}}");
        assert_eq!(read_line(timeless.as_bytes()).unwrap().time(), id.time());
    }

    proptest::proptest! {
        #[test]
        fn a_written_time_is_read_as_the_general_parser_reads_it(nanos in 0i64..9_000_000_000_000_000_000) {
            let time = Timestamp::from_nanos(nanos);
            let text = time.to_rfc3339();
            let read = read_time(text.as_bytes().try_into().unwrap());
            proptest::prop_assert_eq!(read, Some(Timestamp::from_nanos(nanos - nanos % 1000)));
            proptest::prop_assert_eq!(read, Timestamp::parse(&text));
        }

        #[test]
        fn a_time_that_there_is_not_is_not_read(
            year in 1970u16..2262, month in 0u8..20, day in 0u8..40, hour in 0u8..30, second in 0u8..70,
        ) {
            let text = format!("{year:04}-{month:02}-{day:02}T{hour:02}:00:{second:02}.000000Z");
            // A leap second is left to the general parser.
            if second < 60 {
                let read = read_time(text.as_bytes().try_into().unwrap());
                proptest::prop_assert_eq!(read, Timestamp::parse(&text), "{}", text);
            }
        }
    }
}
