//! The format of the journal, whose records describe changes of items.

use prodigy_storage_backend::record;
use serde_json::value::RawValue;

use super::line::TRAILER;
use super::standing::{Standing, StandingText, number, quoted};

/// The first bytes of every record. After damage, reading continues at such bytes.
pub(super) const HEAD: &[u8] = b"{\"change\":";
/// The first bytes of a journal.
const HEADER: &str = "{\"journal\":";
const COUNTER: &str = ",\"counter\":";
const ITEMS: &str = ",\"items\":";
const BIRTH: &str = ",\"birth\":";
const DO: &str = ",\"do\":\"";
const ITEM: &str = ",\"item\":";
/// The version of the journal's format. In version 1, the first line does not state the number of items.
pub(super) const VERSION: u64 = 2;

/// The kind of change that a record describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    /// The item was taken.
    Lease,
    /// The item's lease was made to last longer.
    Extend,
    /// The item's lease ended, and its place may have changed.
    Release,
    /// The item was removed.
    Remove,
    /// A push was merged into the item.
    Merge,
    /// The item failed again.
    Fail,
    /// The item was set aside for a person.
    Park,
    /// The item is eligible again.
    Unpark,
    /// The item got new contents.
    Edit,
}

impl Verb {
    const ALL: [(Self, &'static str); 9] = [
        (Self::Lease, "lease"),
        (Self::Extend, "extend"),
        (Self::Release, "release"),
        (Self::Remove, "remove"),
        (Self::Merge, "merge"),
        (Self::Fail, "fail"),
        (Self::Park, "park"),
        (Self::Unpark, "unpark"),
        (Self::Edit, "edit"),
    ];

    fn name(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(verb, _)| *verb == self)
            .map_or("", |(_, name)| name)
    }

    fn of(name: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .find(|(_, known)| *known == name)
            .map(|(verb, _)| *verb)
    }

    /// True if a record of this kind states place, lease and delay.
    pub(super) fn has_standing(self) -> bool {
        !matches!(self, Self::Remove | Self::Merge)
    }

    /// True if a record of this kind holds the contents of the item.
    pub(super) fn has_item(self) -> bool {
        matches!(
            self,
            Self::Merge | Self::Fail | Self::Park | Self::Unpark | Self::Edit
        )
    }
}

/// Appends the first line of a journal, with the counter and the number of items that the array has at this time.
pub(super) fn encode_header(out: &mut Vec<u8>, counter: u64, items: u64) {
    let start = out.len();
    out.extend_from_slice(format!("{HEADER}{VERSION}{COUNTER}{counter}{ITEMS}{items}").as_bytes());
    record::add_checksum(out, start);
    out.push(b'\n');
}

/// Appends a record with its line end. The fields of `standing` (place, lease and delay) and the contents `item` are
/// written only for a verb that has them.
pub(super) fn encode(
    out: &mut Vec<u8>,
    change: u64,
    birth: u64,
    verb: Verb,
    standing: &Standing,
    item: Option<&RawValue>,
) {
    let start = out.len();
    out.extend_from_slice(HEAD);
    out.extend_from_slice(format!("{change}{BIRTH}{birth}{DO}{}\"", verb.name()).as_bytes());
    if verb.has_standing() {
        standing.encode(out, change);
    }
    if let Some(item) = item {
        out.extend_from_slice(ITEM.as_bytes());
        out.extend_from_slice(item.get().as_bytes());
    }
    record::add_checksum(out, start);
    out.push(b'\n');
}

/// A line of a journal whose checksum matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum JournalLine<'a> {
    /// The first line of a journal.
    Header {
        version: u64,
        counter: u64,
        /// The number of items in the array when the journal was created; `None` in version 1.
        items: Option<u64>,
    },
    /// A change.
    Record(Record<'a>),
}

/// A change of an item. Its texts are borrowed from the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record<'a> {
    pub(super) change: u64,
    pub(super) birth: u64,
    pub(super) verb: Verb,
    pub(super) standing: StandingText<'a>,
    /// The contents of the item; empty if the change leaves them as they are.
    pub(super) item: &'a str,
}

/// Parses a line, which is given without its line end. `None` if it is malformed.
pub(super) fn parse(line: &[u8]) -> Option<JournalLine<'_>> {
    let text = std::str::from_utf8(line.get(..line.len().checked_sub(TRAILER)?)?).ok()?;
    if let Some(rest) = text.strip_prefix(HEADER) {
        let (version, rest) = number(rest)?;
        let (counter, rest) = number(rest.strip_prefix(COUNTER)?)?;
        let (items, rest) = match rest.strip_prefix(ITEMS) {
            Some(rest) => number(rest).map(|(items, rest)| (Some(items), rest))?,
            None => (None, rest),
        };
        // The first line of a later version may have more fields.
        return (rest.is_empty() || version > VERSION).then_some(JournalLine::Header {
            version,
            counter,
            items,
        });
    }
    let (record, rest) = parse_head(text)?;
    let has_item = record.verb.has_item();
    let item = rest.strip_prefix(ITEM).filter(|_| has_item).unwrap_or_default();
    let is_whole = if has_item {
        item.starts_with('{')
    } else {
        rest.is_empty()
    };
    is_whole.then_some(JournalLine::Record(Record { item, ..record }))
}

/// Parses the part of a record before its contents, and returns it with the rest of `text`.
fn parse_head(text: &str) -> Option<(Record<'_>, &str)> {
    let (change, rest) = number(text.as_bytes().strip_prefix(HEAD).and(text.get(HEAD.len()..))?)?;
    let (birth, rest) = number(rest.strip_prefix(BIRTH)?)?;
    let (name, rest) = quoted(rest.strip_prefix(DO)?)?;
    let verb = Verb::of(name)?;
    let (standing, rest) = match verb.has_standing() {
        true => StandingText::parse(rest)?,
        false => (StandingText::default(), rest),
    };
    let item = "";
    let record = Record {
        change,
        birth,
        verb,
        standing,
        item,
    };
    Some((record, rest))
}

/// Parses the beginning of a record that is too large for memory. Its contents are then only a beginning, too.
pub(super) fn parse_large(head: &[u8]) -> Option<Record<'_>> {
    let text = match std::str::from_utf8(head) {
        Ok(text) => text,
        // The text may be cut within a character. The part before that is used.
        Err(error) => std::str::from_utf8(head.get(..error.valid_up_to())?).ok()?,
    };
    let (record, rest) = parse_head(text)?;
    let item = rest.strip_prefix(ITEM)?;
    Some(Record { item, ..record })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use prodigy_storage_backend::{BootId, Delay, Lease, LeaseToken, Uptime};
    use prodigy_storage_layout::Timestamp;

    use super::*;

    fn standing(place: u64) -> Standing {
        let end = Uptime {
            boot: BootId::from_u128(7),
            since: Duration::new(160, 5),
        };
        let until = Timestamp::from_nanos(1_800_000_000_000_000_001);
        Standing {
            place,
            lease: Some(Lease {
                token: LeaseToken::from("00ff".to_owned()),
                until,
                end: Some(end),
            }),
            delay: Some(Delay { until, end }),
        }
    }

    #[test]
    fn a_record_is_read_as_it_was_written_and_is_json() {
        let item = RawValue::from_string(r#"{"item_id":"a","item_data":{"change":1}}"#.into()).unwrap();
        for (verb, name) in Verb::ALL {
            for standing in [standing(24), standing(9), Standing::default()] {
                let body = verb.has_item().then_some(&*item);
                let mut line = Vec::new();
                encode(&mut line, 24, 17, verb, &standing, body);
                let json: serde_json::Value = serde_json::from_slice(&line).unwrap();
                assert_eq!(
                    (&json["change"], &json["birth"], &json["do"]),
                    (&24.into(), &17.into(), &name.into())
                );
                let line = line.strip_suffix(b"\n").unwrap();
                assert_eq!(record::check_crc(line), record::Checksum::Valid);
                let Some(JournalLine::Record(found)) = parse(line) else {
                    panic!("{name}");
                };
                assert_eq!((found.change, found.birth, found.verb), (24, 17, verb));
                assert_eq!(found.item, body.map_or("", RawValue::get));
                if verb.has_standing() {
                    assert_eq!(found.standing.read(24).unwrap(), standing, "{name}");
                }
                // A record that is parsed from its first bytes only has the same fields, except for the contents.
                if verb.has_item() {
                    let large = parse_large(&line[..line.len() - 30]).unwrap();
                    assert_eq!((large.change, large.birth, large.verb), (24, 17, verb));
                    assert!(item.get().starts_with(large.item));
                }
            }
        }
    }

    #[test]
    fn the_first_line_names_form_and_counter() {
        let mut line = Vec::new();
        encode_header(&mut line, 41, 7);
        let text = String::from_utf8(line.clone()).unwrap();
        assert!(
            text.starts_with("{\"journal\":2,\"counter\":41,\"items\":7,\"crc\":\""),
            "{text}"
        );
        let header = |version, items| JournalLine::Header {
            version,
            counter: 41,
            items,
        };
        assert_eq!(parse(line.strip_suffix(b"\n").unwrap()), Some(header(2, Some(7))));
        let mut earlier = b"{\"journal\":1,\"counter\":41".to_vec();
        record::add_checksum(&mut earlier, 0);
        assert_eq!(parse(&earlier), Some(header(1, None)));
    }

    #[test]
    fn another_form_is_no_record() {
        let sealed = |text: &str| {
            let mut line = text.as_bytes().to_vec();
            record::add_checksum(&mut line, 0);
            line
        };
        for text in [
            "{\"change\":1",
            "{\"change\":1,\"birth\":2,\"do\":\"fly\"",
            "{\"change\":1,\"birth\":2,\"do\":\"lease\",\"x\":1",
            "{\"change\":1,\"birth\":2,\"do\":\"merge\"",
            "{\"change\":1,\"birth\":2,\"do\":\"remove\",\"item\":{}",
            "{\"change\":999999999999999999,\"birth\":2,\"do\":\"remove\"",
            "{\"journal\":1",
            "{\"journal\":1,\"counter\":1,\"x\":1",
            "",
        ] {
            assert_eq!(parse(&sealed(text)), None, "{text}");
        }
        assert_eq!(parse(b"short"), None);
    }
}
