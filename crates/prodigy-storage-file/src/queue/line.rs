//! The format of an item's line in the file of items.

use std::borrow::Cow;
use std::io;
use std::ops::Range;
use std::sync::LazyLock;

use memchr::memmem::Finder;
use prodigy_storage_backend::dead_letter::{RESERVED, facts, facts_of_line};
use prodigy_storage_backend::{Delay, ItemId, Lease, LeaseToken, QueueEntry, QueueMark, record};
use prodigy_storage_layout::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::fs::FsFile;

use super::standing::{Claim, End, Standing, StandingText, lease_at_the_end, number, uptime};

/// The first bytes of each line that we write. After damage, reading continues at such bytes.
pub(super) const HEAD: &[u8] = b"{\"item_id\":\"";
/// The length of `,"crc":"xxxxxxxx"}` (the frame), which ends each line that we write.
pub(super) const TRAILER: usize = 18;
const TRAILER_FORM: &[u8; TRAILER] = b",\"crc\":\"        \"}";
const BIRTH: &str = ",\"queue_birth\":";
const CHANGE: &str = ",\"queue_change\":";
const REVISION: &str = ",\"queue_revision\":";
/// An upper bound for the length of the fields that the queue itself adds to an item, in bytes.
const FIELDS_LEN: usize = 768;
/// An upper bound for the number of bytes that a line adds to its item.
pub(super) const ROOM: usize = FIELDS_LEN + TRAILER;
/// Each parked item of ours contains this text. An item that contains it is not necessarily parked, as it may be within
/// data.
const PARKED: &[u8] = b"\"reprocess_eligible\":false";

/// The state of an item's checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ItemChecksum {
    /// The checksum matches.
    Valid,
    /// The checksum matches, but some of the bytes of the frame around it are damaged.
    BadFrame,
    /// The item has no checksum: another program wrote it.
    Missing,
}

/// The numbers of the queue's counter that the line of an item states.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Numbers {
    /// The number given when the item was first pushed; 0 in a line of another program or of an earlier version.
    pub(super) birth: u64,
    /// The number of the last change that a compaction included in the line; 0 without one.
    pub(super) change: u64,
    /// The number of the change that wrote the current contents.
    pub(super) revision: u64,
}

impl Numbers {
    /// The numbers of an item that was just pushed with this birth.
    pub(super) fn new(birth: u64) -> Self {
        Self {
            birth,
            change: 0,
            revision: birth,
        }
    }
}

/// Appends the line of an item, without comma and line end. `body` is a JSON object.
pub(super) fn encode(out: &mut Vec<u8>, body: &RawValue, numbers: Numbers, standing: &Standing) {
    let start = out.len();
    let json = body.get();
    out.extend_from_slice(json.strip_suffix('}').unwrap_or(json).as_bytes());
    out.extend_from_slice(format!("{BIRTH}{}", numbers.birth).as_bytes());
    if numbers.change != 0 {
        out.extend_from_slice(format!("{CHANGE}{}", numbers.change).as_bytes());
    }
    if numbers.revision != numbers.birth {
        out.extend_from_slice(format!("{REVISION}{}", numbers.revision).as_bytes());
    }
    standing.encode(out, numbers.birth);
    record::add_checksum(out, start);
}

/// The field that states a birth, after a comma.
pub(super) fn birth_field(birth: u64) -> String {
    format!("{BIRTH}{birth}")
}

/// Appends the line of a new item.
pub(super) fn encode_new(out: &mut Vec<u8>, body: &RawValue, birth: u64) {
    let standing = Standing {
        place: birth,
        ..Standing::default()
    };
    encode(out, body, Numbers::new(birth), &standing);
}

/// True if a line ends in its own checksum, although the frame around the checksum is damaged.
pub(super) fn is_framed(line: &[u8]) -> bool {
    let Some((body, trailer)) = line.split_at_checked(line.len().wrapping_sub(TRAILER)) else {
        return false;
    };
    // To save time, the checksum is computed only if most of the frame is intact.
    is_like_a_frame(trailer) && is_frame(record::checksum(body), trailer)
}

/// True if the last bytes of a line are the checksum `sum` in a frame that may be damaged.
pub(super) fn is_frame(sum: u32, trailer: &[u8]) -> bool {
    is_like_a_frame(trailer) && trailer.get(8..16) == Some(&record::hex8(sum))
}

/// True if most bytes of the frame match: all but three at most.
fn is_like_a_frame(trailer: &[u8]) -> bool {
    let like = trailer
        .iter()
        .zip(TRAILER_FORM)
        .filter(|(found, form)| **form == b' ' || found == form)
        .count();
    like + 3 >= TRAILER
}

/// The id of the item in a line; `None` if it can't be read.
pub(super) fn id(line: &[u8]) -> Option<Cow<'_, str>> {
    if let Some(rest) = line.strip_prefix(HEAD)
        && let Some(end) = memchr::memchr2(b'"', b'\\', rest)
        && rest.get(end) == Some(&b'"')
    {
        return std::str::from_utf8(rest.get(..end)?).ok().map(Cow::Borrowed);
    }
    foreign_id(line)
}

/// The id of an item, from the item's first bytes.
pub(super) fn head_id(head: &[u8]) -> Option<String> {
    let text = head.get(HEAD.len() - 1..).filter(|_| head.starts_with(HEAD))?;
    let mut texts = serde_json::Deserializer::from_slice(text).into_iter();
    texts.next()?.ok()
}

/// The id of an item that another program wrote. `None` if it states `item_id` twice, since either could be meant.
pub(super) fn foreign_id(line: &[u8]) -> Option<Cow<'_, str>> {
    #[derive(Deserialize)]
    struct Id<'a> {
        #[serde(borrow)]
        item_id: Cow<'a, str>,
    }
    serde_json::from_slice::<Id<'_>>(line)
        .ok()
        .map(|found| found.item_id)
}

/// The parts of a line that has a checksum.
#[derive(Clone, Copy, Debug)]
struct Parts<'a> {
    /// The item's own fields, without the closing brace.
    body: &'a str,
    numbers: Numbers,
    standing: StandingText<'a>,
}

impl<'a> Parts<'a> {
    /// Splits a line into its parts. A comma and a quote never follow each other inside a JSON string, and only the
    /// queue's own fields can end an item with these names at its top level. So the split is always right.
    fn of(line: &'a [u8]) -> Option<Self> {
        let text = std::str::from_utf8(line.get(..line.len().checked_sub(TRAILER)?)?).ok()?;
        if let Some((at, numbers, standing)) = fields_at_the_end(text.as_bytes()) {
            return Some(Self {
                body: text.get(..at)?,
                numbers,
                standing,
            });
        }
        let window = text.len().saturating_sub(FIELDS_LEN);
        // In a line of an earlier version, the queue's own fields describe a lease, or are absent.
        let end = if text.ends_with('"') { window } else { text.len() };
        let mut start = end;
        while !text.is_char_boundary(start) {
            start += 1;
        }
        let leased = text.get(start..).unwrap_or_default();
        let (body, standing) = match lease_at_the_end(leased) {
            Some(at) => {
                let (standing, _) = StandingText::parse(leased.get(at..)?)?;
                (text.get(..start + at)?, standing)
            }
            None => (text, StandingText::default()),
        };
        Some(Self {
            body,
            numbers: Numbers::default(),
            standing,
        })
    }

    fn fields(text: &'a str) -> Option<(Numbers, StandingText<'a>)> {
        let (birth, text) = number(text.strip_prefix(BIRTH)?)?;
        let optional = |name: &str, text: &'a str| match text.strip_prefix(name) {
            Some(rest) => number(rest).map(|(number, rest)| (Some(number), rest)),
            None => Some((None, text)),
        };
        let (change, text) = optional(CHANGE, text)?;
        let (revision, text) = optional(REVISION, text)?;
        let (standing, rest) = StandingText::parse(text)?;
        let numbers = Numbers {
            birth,
            change: change.unwrap_or_default(),
            revision: revision.unwrap_or(birth),
        };
        (rest.is_empty() && birth > 0).then_some((numbers, standing))
    }
}

/// The fields of an item's line that an index keeps.
#[derive(Clone, Debug, Default)]
pub(super) struct Outline {
    pub(super) numbers: Numbers,
    pub(super) place: u64,
    /// The lease or delay: the hash of the lease's token (0 for a delay), and the end. `None` if the item has neither.
    pub(super) hold: Option<(u64, End)>,
    /// True if the item is not eligible.
    pub(super) parked: bool,
    /// True if the fields that decide about its eligibility can't be read.
    pub(super) odd: bool,
}

/// Reads the numbers, and the place, lease and delay of an item, but not its contents. `None` if the bytes are not an
/// item.
pub(super) fn outline(line: &[u8], checksum: ItemChecksum, hash: impl Fn(&str) -> u64) -> Option<Outline> {
    let hold = |claim: Option<Claim<'_>>| claim.map(|claim| (claim.token.map_or(0, &hash), claim.end));
    if checksum == ItemChecksum::Missing {
        let stored = foreign(line)?;
        let facts = facts(&stored.entry.body);
        let standing = stored.standing();
        return Some(Outline {
            numbers: stored.numbers,
            place: standing.place,
            hold: hold(standing.claim()),
            parked: facts.as_ref().is_ok_and(|facts| !facts.eligible),
            odd: facts.is_err(),
        });
    }
    let (parked, odd) = eligibility(line);
    let body = line.get(..line.len().checked_sub(TRAILER)?)?;
    if let Some(numbers) = birth_alone(body) {
        return Some(Outline {
            numbers,
            place: numbers.birth,
            hold: None,
            parked,
            odd,
        });
    }
    let (numbers, standing) = match fields_at_the_end(body) {
        Some((_, numbers, standing)) => (numbers, standing),
        None => Parts::of(line).map(|parts| (parts.numbers, parts.standing))?,
    };
    Some(Outline {
        numbers,
        place: standing.place.unwrap_or(numbers.birth),
        hold: hold(standing.claim()?),
        parked,
        odd,
    })
}

/// The numbers of an item.
pub(super) fn numbers(line: &[u8], checksum: ItemChecksum) -> Numbers {
    if checksum == ItemChecksum::Missing {
        return foreign(line).map(|stored| stored.numbers).unwrap_or_default();
    }
    let body = line.get(..line.len().saturating_sub(TRAILER)).unwrap_or_default();
    birth_alone(body)
        .or_else(|| fields_at_the_end(body).map(|(_, numbers, _)| numbers))
        .unwrap_or_default()
}

/// The numbers at the end of a line that is larger than this process reads. Reads only its last bytes.
pub(super) fn large_numbers(file: &dyn FsFile, bytes: Range<u64>) -> io::Result<Numbers> {
    let start = bytes.end.saturating_sub(ROOM as u64).max(bytes.start);
    let mut end = vec![0; (bytes.end - start) as usize];
    let read = file.read_full_at(&mut end, start)?;
    end.truncate(read);
    Ok(numbers_at_the_end(&end).unwrap_or_default())
}

/// The numbers at the end of a line, from its last bytes.
fn numbers_at_the_end(end: &[u8]) -> Option<Numbers> {
    let is_sealed =
        end.len() >= TRAILER && is_like_a_frame(end.get(end.len() - TRAILER..).unwrap_or_default());
    let body = match is_sealed {
        true => end.get(..end.len().checked_sub(TRAILER)?)?,
        false => end.strip_suffix(b"}")?,
    };
    fields_at_the_end(body).map(|(_, numbers, _)| numbers)
}

/// Finds the queue's own fields at the end of an item, without its frame. Returns their offset and their values; `None`
/// in a line of an earlier version.
fn fields_at_the_end(body: &[u8]) -> Option<(usize, Numbers, StandingText<'_>)> {
    let window = body.len().saturating_sub(FIELDS_LEN);
    let at = window + memchr::memmem::rfind(body.get(window..)?, BIRTH.as_bytes())?;
    let (numbers, standing) = Parts::fields(std::str::from_utf8(body.get(at..)?).ok()?)?;
    Some((at, numbers, standing))
}

/// The numbers of an item that was never changed, whose line therefore ends in its birth.
fn birth_alone(body: &[u8]) -> Option<Numbers> {
    let digits = body.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let (rest, digits) = body.split_at_checked(body.len() - digits)?;
    rest.strip_suffix(BIRTH.as_bytes())?;
    let (birth, _) = number(std::str::from_utf8(digits).ok()?)?;
    (birth > 0).then(|| Numbers::new(birth))
}

/// For an item of ours: true if it is parked, and true if the field for this can't be read. The item is parsed only if
/// its text contains [`PARKED`].
pub(super) fn eligibility(text: &[u8]) -> (bool, bool) {
    static FINDER: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(PARKED));
    if FINDER.find(text).is_none() {
        return (false, false);
    }
    match facts_of_line(text) {
        Ok(facts) => (!facts.eligible, false),
        Err(_) => (false, true),
    }
}

/// A stored item, with the numbers that its line states.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) entry: QueueEntry,
    pub(super) numbers: Numbers,
}

impl Stored {
    fn new(id: ItemId, body: Box<RawValue>, numbers: Numbers, standing: Standing, verified: bool) -> Self {
        let entry = QueueEntry {
            id,
            body,
            lease: standing.lease,
            delay: standing.delay,
            revision: QueueMark(numbers.revision),
            place: QueueMark(standing.place),
            verified,
        };
        Self { entry, numbers }
    }

    pub(super) fn standing(&self) -> Standing {
        Standing {
            place: self.entry.place.0,
            lease: self.entry.lease.clone(),
            delay: self.entry.delay,
        }
    }
}

/// Reads an item from its line. `None` if the bytes are not a whole item.
pub(super) fn read(line: &[u8], checksum: ItemChecksum) -> Option<Stored> {
    if checksum == ItemChecksum::Missing {
        return foreign(line);
    }
    let id = ItemId::new(id(line)?).ok()?;
    let parts = Parts::of(line)?;
    let mut json = String::with_capacity(parts.body.len() + 1);
    json.push_str(parts.body);
    json.push('}');
    let body = RawValue::from_string(json).ok()?;
    let standing = parts.standing.read(parts.numbers.birth)?;
    let verified = checksum == ItemChecksum::Valid;
    Some(Stored::new(id, body, parts.numbers, standing, verified))
}

/// Reads an item of another program. Its fields may have any order and take several lines. It may contain the queue's
/// own fields and a checksum, at other places than in our lines.
fn foreign(line: &[u8]) -> Option<Stored> {
    let fields: Vec<(String, &RawValue)> = serde_json::from_slice::<Pairs<'_>>(line).ok()?.0;
    let value = |name: &str| {
        fields
            .iter()
            .rev()
            .find(|(key, _)| key == name)
            .map(|(_, value)| *value)
    };
    let text = |name: &str| serde_json::from_str::<String>(value(name)?.get()).ok();
    let counted = |name: &str| {
        let (number, rest) = number(value(name)?.get())?;
        rest.is_empty().then_some(number)
    };
    let end = |boot: &str, since: &str| uptime(&text(boot)?, &text(since)?);
    let time = |name: &str| text(name).as_deref().and_then(Timestamp::parse);
    let id = ItemId::new(text("item_id")?).ok()?;
    let mut json = String::with_capacity(line.len());
    json.push_str("{\"item_id\":");
    json.push_str(&serde_json::Value::from(id.as_str()).to_string());
    for (name, value) in &fields {
        if name == "item_id" || RESERVED.contains(&name.as_str()) {
            continue;
        }
        json.push(',');
        json.push_str(&serde_json::Value::from(name.as_str()).to_string());
        json.push(':');
        json.push_str(&value.get().replace(['\n', '\r'], " "));
    }
    json.push('}');
    let birth = counted("queue_birth").unwrap_or_default();
    let numbers = Numbers {
        birth,
        change: counted("queue_change").unwrap_or_default(),
        revision: counted("queue_revision").unwrap_or(birth),
    };
    let standing = Standing {
        place: counted("queue_place").unwrap_or(birth),
        lease: text("lease_token")
            .zip(time("lease_until"))
            .map(|(token, until)| Lease {
                token: LeaseToken::from(token),
                until,
                end: end("lease_boot", "lease_boottime"),
            }),
        delay: time("delay_until")
            .zip(end("delay_boot", "delay_boottime"))
            .map(|(until, end)| Delay { until, end }),
    };
    let body = RawValue::from_string(json).ok()?;
    Some(Stored::new(id, body, numbers, standing, false))
}

struct Pairs<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Pairs<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> serde::de::Visitor<'de> for Object {
            type Value = Vec<(String, &'de RawValue)>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(pairs)
            }
        }

        deserializer.deserialize_map(Object).map(Pairs)
    }
}
