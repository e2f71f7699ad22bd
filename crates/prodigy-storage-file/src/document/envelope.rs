//! The form of a document on disk.
//!
//! ```text
//! {"format":1,"revision":"<32 hex>","checksum":"<32 hex>",<the body after its `{`><line feed>
//! ```
//!
//! The file is one JSON object: the three fields of the envelope, then the fields of the body. If the body is empty, no
//! comma follows the envelope. The checksum is the XXH3 (128 bits) of all bytes of the file except its own 32 digits.
//!
//! # Envelope, bare document or damage
//!
//! An envelope has three marks at fixed offsets: `{"format":` and a digit at byte 0, `"revision":"` at byte 12, and
//! `","checksum":"` at byte 56. A file with **any** of these marks at its offset counts as an envelope, and as damaged
//! unless the whole file verifies. So an envelope is recognised as long as one of its marks is undamaged.
//!
//! A file with none of the marks is read as the bare document of another program if it is a JSON object, and counts as
//! damaged otherwise. A JSON object with all three fields `format`, `revision` and `checksum` counts as damaged too: it is
//! an envelope that a tool parsed and wrote again.
//!
//! A number above 1 after `{"format":` means a newer format, unless the checksum matches with a `1` in its place: then the
//! digit is damaged.

use std::borrow::Cow;
use std::io::{self, Read};

use prodigy_storage_backend::{Body, Revision, StoredDocument, object_bounds};
use prodigy_storage_layout::Timestamp;
use serde::Deserialize;
use serde::de::IgnoredAny;
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

const FORMAT_MARK: &[u8] = b"{\"format\":";
const REVISION_MARK: &[u8] = b"\"revision\":\"";
const CHECKSUM_MARK: &[u8] = b"\",\"checksum\":\"";
/// The head of an envelope. A `-` represents any lower-case hexadecimal digit; every other byte represents itself.
const TEMPLATE: &[u8] = b"{\"format\":1,\"revision\":\"--------------------------------\",\"checksum\":\"--------------------------------\"";

const FORMAT: u64 = 1;
const DIGITS: usize = 32;
const FORMAT_AT: usize = FORMAT_MARK.len();
const REVISION_MARK_AT: usize = FORMAT_AT + "1,".len();
const REVISION_AT: usize = REVISION_MARK_AT + REVISION_MARK.len();
const CHECKSUM_MARK_AT: usize = REVISION_AT + DIGITS;
const CHECKSUM_AT: usize = CHECKSUM_MARK_AT + CHECKSUM_MARK.len();
const CHECKSUM_END: usize = CHECKSUM_AT + DIGITS;
/// The length of the head in bytes. It is all that has to be read to find the revision.
pub(super) const HEAD: usize = CHECKSUM_END + 1;
/// The largest number of bytes that the envelope adds to a body.
pub(super) const OVERHEAD: u64 = HEAD as u64 + 1;

const _: () = assert!(TEMPLATE.len() == HEAD);

/// The meaning of a file's first bytes, as far as they were read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Head {
    /// The head of an envelope of this format; nothing is verified yet.
    Ours(Revision),
    /// The head of a newer format, with its number.
    Newer(u64),
    /// A damaged envelope. The number is the offset of the first wrong byte.
    Broken(usize),
    /// No envelope.
    Bare,
}

/// Parses the head of a document: the first [`HEAD`] bytes of the file, or all bytes of a shorter file.
pub(super) fn read_head(bytes: &[u8]) -> Head {
    let Some(wrong) = first_mismatch(bytes) else {
        let revision = bytes.get(REVISION_AT..CHECKSUM_MARK_AT).and_then(Revision::parse);
        return revision.map_or(Head::Broken(REVISION_AT), Head::Ours);
    };
    let has = |mark: &[u8], at: usize| bytes.get(at..).is_some_and(|rest| rest.starts_with(mark));
    let format = bytes.strip_prefix(FORMAT_MARK).unwrap_or_default();
    let digits = format.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if let Some((number, rest)) = format.split_at_checked(digits)
        && digits > 0
        && matches!(rest.first(), Some(b',' | b'}'))
        && !number.starts_with(b"0")
    {
        let number = number
            .iter()
            .try_fold(0u64, |sum, digit| {
                sum.checked_mul(10)?.checked_add(u64::from(*digit - b'0'))
            })
            .unwrap_or(u64::MAX);
        if number > FORMAT {
            return Head::Newer(number);
        }
    }
    if digits > 0 || has(REVISION_MARK, REVISION_MARK_AT) || has(CHECKSUM_MARK, CHECKSUM_MARK_AT) {
        return Head::Broken(wrong);
    }
    Head::Bare
}

/// The offset of the first byte that differs from [`TEMPLATE`]; `None` if the whole head matches.
fn first_mismatch(bytes: &[u8]) -> Option<usize> {
    let matching = TEMPLATE
        .iter()
        .zip(bytes)
        .take_while(|(expected, found)| match expected {
            b'-' => matches!(found, b'0'..=b'9' | b'a'..=b'f'),
            _ => expected == found,
        })
        .count();
    (matching < HEAD).then_some(matching)
}

/// A document in its stored form. The body is borrowed.
#[derive(Debug)]
pub(super) struct Envelope<'a> {
    pub(super) revision: Revision,
    head: Vec<u8>,
    rest: &'a [u8],
}

impl<'a> Envelope<'a> {
    /// Wraps a body in an envelope with this revision.
    pub(super) fn new(revision: Revision, body: Body<'a>) -> Self {
        let rest = body.as_bytes().get(1..).unwrap_or_default();
        let is_empty = rest.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'}');
        let mut head =
            format!("{{\"format\":{FORMAT},\"revision\":\"{revision}\",\"checksum\":\"").into_bytes();
        let tail: &[u8] = if is_empty { b"\"" } else { b"\"," };
        let sum = checksum(&[&head, tail, rest, b"\n"]);
        head.extend_from_slice(&sum);
        head.extend_from_slice(tail);
        Self { revision, head, rest }
    }

    /// The contents of the file, in three pieces.
    pub(super) fn parts(&self) -> [&[u8]; 3] {
        [&self.head, self.rest, b"\n"]
    }
}

fn checksum(parts: &[&[u8]]) -> [u8; DIGITS] {
    let mut hash = Xxh3::new();
    for part in parts {
        hash.update(part);
    }
    digits(&hash)
}

fn digits(hash: &Xxh3) -> [u8; DIGITS] {
    let digest = hash.digest128().to_be_bytes();
    let mut text = [0; DIGITS];
    for (pair, byte) in text.chunks_exact_mut(2).zip(digest) {
        for (digit, value) in pair.iter_mut().zip([byte >> 4, byte & 15]) {
            *digit = if value < 10 {
                b'0' + value
            } else {
                b'a' + value - 10
            };
        }
    }
    text
}

/// The reason why bytes can't be read as a document.
#[derive(Debug)]
pub(super) enum Fault {
    /// The bytes are damaged.
    Damaged {
        why: Cow<'static, str>,
        at: Option<usize>,
        source: Option<serde_json::Error>,
    },
    /// The bytes are a document of this newer format.
    Newer(u64),
}

impl Fault {
    fn damaged(why: &'static str, at: Option<usize>) -> Self {
        Self::Damaged {
            why: why.into(),
            at,
            source: None,
        }
    }
}

/// Verifies a file's bytes and turns them into a document without copying them. On failure, the bytes are returned with
/// the fault.
///
/// `orphans` is true for a list of orphaned worktrees. Another program stores such a list as a bare array, which is read as
/// an object with the array as its only field. A list whose elements have another shape is refused.
pub(super) fn decode(mut bytes: Vec<u8>, orphans: bool) -> Result<StoredDocument, (Fault, Vec<u8>)> {
    match read_head(&bytes) {
        Head::Ours(revision) => {
            if !checksum_holds(&bytes, b'1') {
                return Err((Fault::damaged("its checksum does not hold", None), bytes));
            }
            // The body begins one byte earlier with `{`, which is written over the comma (or, in an empty body, over
            // the byte before `}`).
            let start = if bytes.get(HEAD) == Some(&b',') {
                HEAD
            } else {
                HEAD - 1
            };
            if let Some(byte) = bytes.get_mut(start) {
                *byte = b'{';
            }
            bytes.pop();
            Ok(StoredDocument::new(bytes, start, revision, true))
        }
        Head::Newer(_) if checksum_holds(&bytes, b'1') => Err((
            Fault::damaged("the number of its format was changed", Some(FORMAT_AT)),
            bytes,
        )),
        Head::Newer(format) => Err((Fault::Newer(format), bytes)),
        Head::Broken(at) => Err((Fault::damaged("its envelope is broken", Some(at)), bytes)),
        Head::Bare if orphans && bytes.trim_ascii_start().first() == Some(&b'[') => {
            let revision = Revision::from_u128(xxh3_128(&bytes));
            let object = wrapped(&bytes);
            match check_orphans(&object) {
                Ok(()) => Ok(StoredDocument::new(object, 0, revision, false)),
                Err(fault) => Err((fault, bytes)),
            }
        }
        Head::Bare => match object_bounds(&bytes) {
            Ok(_) if is_respelled(&bytes) => Err((
                Fault::damaged("it is an envelope that another program wrote again", None),
                bytes,
            )),
            Ok(bounds) => {
                if orphans && let Err(fault) = check_orphans(bytes.get(bounds.clone()).unwrap_or_default()) {
                    return Err((fault, bytes));
                }
                let revision = Revision::from_u128(xxh3_128(&bytes));
                bytes.truncate(bounds.end);
                Ok(StoredDocument::new(bytes, bounds.start, revision, false))
            }
            Err(fault) => Err((
                Fault::Damaged {
                    why: fault.why().to_owned().into(),
                    at: fault.at(),
                    source: fault.into_cause(),
                },
                bytes,
            )),
        },
    }
}

/// True if a file has, or seems to have had, a mark of the envelope. This store wrote such a file, so it may be
/// damaged. A file without any mark belongs to another program and is left as it is, whatever it contains.
pub(super) fn is_ours(bytes: &[u8]) -> bool {
    read_head(bytes) != Head::Bare || has_a_mark(bytes) || object_bounds(bytes).is_ok() && is_respelled(bytes)
}

/// True if one of the envelope's field names is anywhere in the first [`HEAD`] bytes, even at another offset.
fn has_a_mark(bytes: &[u8]) -> bool {
    let head = bytes.get(..HEAD.min(bytes.len())).unwrap_or_default();
    [REVISION_MARK, CHECKSUM_MARK]
        .iter()
        .any(|mark| memchr::memmem::find(head, mark).is_some())
}

/// The fields that readers need of a list of orphaned worktrees that another program wrote.
#[derive(Deserialize)]
#[expect(dead_code, reason = "the field is parsed to see whether it is there")]
struct OrphanList<'a> {
    #[serde(borrow)]
    orphaned_worktrees: Vec<ListedWorktree<'a>>,
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "the fields are parsed to see whether they are there")]
struct ListedWorktree<'a> {
    #[serde(alias = "worktree_path", borrow)]
    path: Cow<'a, str>,
    #[serde(borrow)]
    agent_id: Cow<'a, str>,
    #[serde(borrow)]
    item_id: Cow<'a, str>,
    #[serde(alias = "timestamp")]
    failed_at: Timestamp,
    #[serde(borrow)]
    error: Cow<'a, str>,
}

/// Refuses a list of orphaned worktrees without the fields that readers need.
fn check_orphans(object: &[u8]) -> Result<(), Fault> {
    let text = std::str::from_utf8(object).map_err(|_| Fault::damaged("it is not Unicode", None))?;
    match serde_json::from_str::<OrphanList<'_>>(text) {
        Ok(_) => Ok(()),
        Err(error) => Err(Fault::Damaged {
            why: "it is not a list of orphaned worktrees".into(),
            at: None,
            source: Some(error),
        }),
    }
}

/// Wraps a bare array in an object, since a body is always an object.
fn wrapped(array: &[u8]) -> Vec<u8> {
    [b"{\"orphaned_worktrees\":", array.trim_ascii(), b"}"].concat()
}

#[derive(Deserialize)]
struct Fields {
    format: Option<IgnoredAny>,
    revision: Option<IgnoredAny>,
    checksum: Option<IgnoredAny>,
}

/// True if a JSON object has all fields of an envelope. An object with one of these fields twice, which the parser refuses,
/// counts too: it is an envelope whose body has a field of the same name.
fn is_respelled(object: &[u8]) -> bool {
    serde_json::from_slice::<Fields>(object).map_or(true, |fields| {
        fields.format.is_some() && fields.revision.is_some() && fields.checksum.is_some()
    })
}

/// True if the checksum matches after the digit of the format is replaced with `format`.
fn checksum_holds(bytes: &[u8], format: u8) -> bool {
    let (Some(start), Some(between), Some(stored), Some(rest)) = (
        bytes.get(..FORMAT_AT),
        bytes.get(FORMAT_AT + 1..CHECKSUM_AT),
        bytes.get(CHECKSUM_AT..CHECKSUM_END),
        bytes.get(CHECKSUM_END..),
    ) else {
        return false;
    };
    checksum(&[start, &[format], between, rest]) == stored
}

/// Verifies the checksum of a document of any size, as a stream. Also returns true for a file that is not an envelope of
/// this format, since nothing in it can be verified.
pub(super) fn holds_as_a_stream(mut from: impl Read) -> io::Result<bool> {
    let (mut buffer, mut head, mut hash) = (vec![0; 64 << 10], Vec::with_capacity(HEAD), Xxh3::new());
    loop {
        let read = match from.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            other => other?,
        };
        if read == 0 {
            break;
        }
        let bytes = buffer.get(..read).unwrap_or_default();
        let (first, rest) = bytes.split_at((HEAD - head.len()).min(read));
        head.extend_from_slice(first);
        if head.len() == HEAD && !first.is_empty() {
            if !matches!(read_head(&head), Head::Ours(_)) {
                return Ok(true);
            }
            hash.update(head.get(..CHECKSUM_AT).unwrap_or_default());
            hash.update(head.get(CHECKSUM_END..).unwrap_or_default());
        }
        hash.update(rest);
    }
    let ours = matches!(read_head(&head), Head::Ours(_));
    Ok(!ours || head.get(CHECKSUM_AT..CHECKSUM_END) == Some(&digits(&hash)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stored(body: &str) -> (Revision, Vec<u8>) {
        let revision = Revision::random();
        let envelope = Envelope::new(revision, Body::parse(body.as_bytes()).unwrap());
        (revision, envelope.parts().concat())
    }

    fn is_damaged(bytes: Vec<u8>) -> bool {
        matches!(decode(bytes, false), Err((Fault::Damaged { .. }, _)))
    }

    #[test]
    fn a_document_reads_back_and_is_one_line_of_json() {
        for body in [
            "{}",
            "{ }",
            "{\"a\":1}",
            "{ \"b\" :\n[] }",
            "{\"checksum\":\"x\"}",
            "{\"é\":\"}\"}",
        ] {
            let (revision, bytes) = stored(body);
            let json: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
            assert_eq!(json["format"], 1);
            assert_eq!(json["revision"], revision.to_string());
            assert_eq!(bytes.last(), Some(&b'\n'));
            assert_eq!(read_head(&bytes[..HEAD]), Head::Ours(revision));
            let document = decode(bytes, false).unwrap();
            assert_eq!(document.body(), body.as_bytes());
            assert_eq!(document.revision(), revision);
            assert!(document.is_verified());
        }
    }

    #[test]
    fn a_frozen_document_is_read() {
        let bytes = b"{\"format\":1,\"revision\":\"000102030405060708090a0b0c0d0e0f\",\
            \"checksum\":\"e5c2adad042dec0835cc4197931634f1\",\"phase\":\"map\"}\n";
        let document = decode(bytes.to_vec(), false).unwrap();
        assert_eq!(document.body(), b"{\"phase\":\"map\"}");
    }

    #[test]
    fn every_changed_byte_is_damage() {
        for body in ["{}", "{\"a\":\"x\"}"] {
            let whole = stored(body).1;
            for at in 0..whole.len() {
                for value in 0..=255 {
                    let mut bytes = whole.clone();
                    if bytes[at] == value {
                        continue;
                    }
                    bytes[at] = value;
                    assert!(is_damaged(bytes), "byte {at} as {value}");
                }
            }
        }
    }

    #[test]
    fn every_cut_and_every_addition_is_damage() {
        let whole = stored("{\"a\":\"x\"}").1;
        for end in 0..whole.len() {
            assert!(is_damaged(whole[..end].to_vec()), "cut at {end}");
            let mut zeroed = whole.clone();
            zeroed[end..].fill(0);
            assert!(is_damaged(zeroed), "zeroes from {end}");
        }
        assert!(is_damaged([&whole[..], b"\n"].concat()));
        assert!(is_damaged([b" ", &whole[..]].concat()));
        assert!(is_damaged([&whole[..], &whole[..]].concat()));
        let json: serde_json::Value = serde_json::from_slice(&whole).unwrap();
        assert!(is_damaged(serde_json::to_vec_pretty(&json).unwrap()));
    }

    #[test]
    fn damage_says_where() {
        let mut bytes = stored("{}").1;
        bytes[30] = b'G';
        let (Fault::Damaged { at, .. }, back) = decode(bytes.clone(), false).unwrap_err() else {
            panic!("not damaged");
        };
        assert_eq!(at, Some(30));
        assert_eq!(back, bytes);
    }

    #[test]
    fn a_greater_format_is_newer_and_not_damaged() {
        for (text, format) in [
            ("{\"format\":2,\"anything\":1}", 2),
            ("{\"format\":2}", 2),
            ("{\"format\":12,\"revision\":\"\"}", 12),
            ("{\"format\":99999999999999999999999,\"a\":1}", u64::MAX),
        ] {
            let Err((Fault::Newer(found), _)) = decode(text.into(), false) else {
                panic!("{text}");
            };
            assert_eq!(found, format);
        }
        for text in [
            "{\"format\":0,\"a\":1}",
            "{\"format\":01,\"a\":1}",
            "{\"format\":1}",
            "{\"format\":1.5}",
        ] {
            assert!(is_damaged(text.into()), "{text}");
        }
    }

    #[test]
    fn bare_documents_of_other_programs_are_unverified() {
        let text = " {\n  \"phase\": \"map\",\n  \"format\": 2\n}\n";
        let document = decode(text.into(), false).unwrap();
        assert!(!document.is_verified());
        assert_eq!(document.body(), text.trim().as_bytes());
        assert_eq!(
            document.revision(),
            Revision::from_u128(xxh3_128(text.as_bytes()))
        );
        assert!(decode(b"{\"format\":\"zip\"}".to_vec(), false).is_ok());
        for broken in ["", "[1", "{\"a\":1", "{\"a\":}", "null"] {
            assert!(is_damaged(broken.into()), "{broken}");
        }
    }

    #[test]
    fn a_bare_array_is_the_list_of_another_program() {
        let text = b" [\n {\"path\":\"/w\",\"agent_id\":\"a\",\"item_id\":\"i\",\
            \"failed_at\":\"2026-11-28T13:04:46.279964992Z\",\"error\":\"e\"}\n]\n";
        assert!(
            decode(text.to_vec(), false).is_err(),
            "a checkpoint is never an array"
        );
        let document = decode(text.to_vec(), true).unwrap();
        assert!(!document.is_verified());
        let object = [b"{\"orphaned_worktrees\":", text.trim_ascii(), b"}"].concat();
        assert_eq!(document.body(), object);
        assert_eq!(document.revision(), Revision::from_u128(xxh3_128(text)));
    }

    #[test]
    fn a_list_of_orphans_in_another_form_is_refused_and_not_ours() {
        for other in [
            "[{\"path\":1}]",
            "[1]",
            "{\"orphaned_worktrees\":7}",
            "[{\"path\":\"/w\"}]",
            "{\"orphaned\":[1]}",
            "{}",
        ] {
            assert!(decode(other.into(), true).is_err(), "{other}");
            assert!(!is_ours(other.as_bytes()), "{other}");
        }
        for list in ["[]", "{\"job_id\":\"j\",\"orphaned_worktrees\":[]}"] {
            assert!(decode(list.into(), true).is_ok(), "{list}");
        }
    }

    #[test]
    fn only_what_carries_a_mark_is_ours() {
        let whole = stored("{\"a\":\"x\"}").1;
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            assert!(is_ours(&bytes), "byte {at}");
        }
        for cut in REVISION_AT..whole.len() {
            assert!(is_ours(&whole[..cut]), "cut at {cut}");
        }
        for other in [
            "",
            "[",
            "[1]",
            "{\"phase\":\"map\"}",
            "{\"phase\":",
            "text",
            "{\"format\":\"zip\"}",
        ] {
            assert!(!is_ours(other.as_bytes()), "{other}");
        }
    }

    proptest! {
        #[test]
        fn any_two_changed_bytes_never_give_another_body(
            one in 0usize..120, other in 0usize..120, values in any::<(u8, u8)>(),
        ) {
            let whole = stored("{\"value\":1234}").1;
            let mut bytes = whole.clone();
            let len = bytes.len();
            bytes[one % len] = values.0;
            bytes[other % len] = values.1;
            if let Ok(document) = decode(bytes.clone(), false) {
                prop_assert_eq!(&bytes, &whole);
                prop_assert_eq!(document.body(), b"{\"value\":1234}");
            }
        }
    }
}
