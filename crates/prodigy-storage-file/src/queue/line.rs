//! The form of an item in the file.

use std::borrow::Cow;
use std::time::Duration;

use prodigy_storage_backend::dead_letter::RESERVED;
use prodigy_storage_backend::{BootId, Clock, ItemId, Lease, LeaseToken, QueueEntry, Uptime, record};
use prodigy_storage_layout::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;

/// The beginning of a line of ours: reading continues there after damage.
pub(super) const HEAD: &[u8] = b"{\"item_id\":\"";
/// Bytes of `,"crc":"xxxxxxxx"}`.
pub(super) const TRAILER: usize = 18;
const TRAILER_FORM: &[u8; TRAILER] = b",\"crc\":\"        \"}";
const TOKEN: &str = ",\"lease_token\":\"";
const UNTIL: &str = "\",\"lease_until\":\"";
const BOOT: &str = "\",\"lease_boot\":\"";
const UPTIME: &str = "\",\"lease_boottime\":\"";
/// Bytes of a token of ours.
const TOKEN_LEN: usize = 32;
/// More than the fields of a lease take.
const LEASE_LEN: usize = 256;
/// More than a line has beyond its item.
pub(super) const ROOM: usize = LEASE_LEN + TRAILER;

/// The state of an item's checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ItemChecksum {
    /// It matches.
    Valid,
    /// It matches, but the bytes around it are damaged.
    BadFrame,
    /// The item has no checksum: another program wrote it.
    Missing,
    /// The item is too large for memory, and only its first bytes are there.
    TooLarge,
}

/// Appends the line of an item, without comma and line end. `body` is an object.
pub(super) fn encode(out: &mut Vec<u8>, body: &RawValue, lease: Option<&Lease>) {
    let start = out.len();
    let json = body.get();
    out.extend_from_slice(json.strip_suffix('}').unwrap_or(json).as_bytes());
    if let Some(lease) = lease {
        out.extend_from_slice(TOKEN.as_bytes());
        out.extend_from_slice(lease.token.as_str().as_bytes());
        out.extend_from_slice(UNTIL.as_bytes());
        out.extend_from_slice(nanos_text(lease.until).as_bytes());
        if let Some(Uptime { boot, since }) = lease.end {
            let end = format!(
                "{BOOT}{boot}{UPTIME}{}.{:09}",
                since.as_secs(),
                since.subsec_nanos()
            );
            out.extend_from_slice(end.as_bytes());
        }
        out.push(b'"');
    }
    record::add_checksum(out, start);
}

/// The line of an item, as [`encode`] makes it.
pub(super) fn encoded(body: &RawValue, lease: Option<&Lease>) -> Vec<u8> {
    let mut line = Vec::with_capacity(body.get().len() + LEASE_LEN);
    encode(&mut line, body, lease);
    line
}

/// RFC 3339 with nanoseconds, as serde writes a timestamp.
pub(super) fn nanos_text(time: Timestamp) -> String {
    let whole = time.to_rfc3339();
    let nanos = time.as_nanos() % 1_000_000_000;
    let second = whole.split_once('.').map_or(whole.as_str(), |(second, _)| second);
    format!("{second}.{nanos:09}Z")
}

/// Whether a line carries its own checksum in a frame that is damaged.
pub(super) fn is_framed(line: &[u8]) -> bool {
    let Some((body, trailer)) = line.split_at_checked(line.len().wrapping_sub(TRAILER)) else {
        return false;
    };
    // The eight digits, and most of the frame: else no sum is worth the time.
    is_like_a_frame(trailer) && is_frame(record::checksum(body), trailer)
}

/// Whether these last bytes of a line are its checksum in a frame that is damaged.
pub(super) fn is_frame(sum: u32, trailer: &[u8]) -> bool {
    is_like_a_frame(trailer) && trailer.get(8..16) == Some(&record::hex8(sum))
}

/// True if the bytes match most of a frame.
fn is_like_a_frame(trailer: &[u8]) -> bool {
    let like = trailer
        .iter()
        .zip(TRAILER_FORM)
        .filter(|(found, form)| **form == b' ' || found == form)
        .count();
    like + 3 >= TRAILER
}

/// The id of an item.
pub(super) fn id(line: &[u8]) -> Option<Cow<'_, str>> {
    if let Some(rest) = line.strip_prefix(HEAD)
        && let Some(end) = memchr::memchr2(b'"', b'\\', rest)
        && rest.get(end) == Some(&b'"')
    {
        return std::str::from_utf8(rest.get(..end)?).ok().map(Cow::Borrowed);
    }
    foreign_id(line)
}

/// The id that an item begins with, from its first bytes.
pub(super) fn head_id(head: &[u8]) -> Option<String> {
    let text = head.get(HEAD.len() - 1..).filter(|_| head.starts_with(HEAD))?;
    let mut texts = serde_json::Deserializer::from_slice(text).into_iter();
    texts.next()?.ok()
}

/// The id of an item that another program wrote; `None` where it is there twice, and nobody knows which counts.
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

/// Whether a lease of ours is on a sealed item now, from the end of the line alone. What is not of this form has to be read:
/// false says nothing.
pub(super) fn is_held(line: &[u8], checksum: ItemChecksum, clock: &dyn Clock) -> bool {
    let lease = || {
        let open = line
            .get(..line.len().checked_sub(TRAILER)?)?
            .strip_suffix(b"\"")?;
        let window = open.get(open.len().saturating_sub(LEASE_LEN)..)?;
        let at = memchr::memmem::rfind(window, TOKEN.as_bytes())?;
        let lease = LeaseText::parse(std::str::from_utf8(window.get(at..)?).ok()?)?;
        let ours = lease.token.len() == TOKEN_LEN && lease.token.bytes().all(|byte| byte.is_ascii_hexdigit());
        lease.lease().filter(|_| ours)
    };
    matches!(checksum, ItemChecksum::Valid | ItemChecksum::BadFrame)
        && lease().is_some_and(|lease| !lease.has_ended(clock))
}

/// The fields of a lease, as they stand at the end of a line.
#[derive(Clone, Copy, Debug)]
struct LeaseText<'a> {
    token: &'a str,
    until: &'a str,
    /// The boot and the time since then; absent in format 1.
    end: Option<(&'a str, &'a str)>,
}

impl<'a> LeaseText<'a> {
    /// Parses the fields between the item and the quote that closes the last field.
    fn parse(fields: &'a str) -> Option<Self> {
        let (token, rest) = fields.strip_prefix(TOKEN)?.split_once(UNTIL)?;
        let (until, end) = match rest.split_once(BOOT) {
            Some((until, end)) => (until, Some(end.split_once(UPTIME)?)),
            None => (rest, None),
        };
        let plain = |text: &str| !text.contains(|c: char| c == '"' || c == '\\' || c.is_control());
        let is_plain =
            plain(token) && plain(until) && end.is_none_or(|(boot, since)| plain(boot) && plain(since));
        is_plain.then_some(Self { token, until, end })
    }

    fn lease(self) -> Option<Lease> {
        Some(Lease {
            token: LeaseToken::from(self.token.to_owned()),
            until: Timestamp::parse(self.until)?,
            end: match self.end {
                Some((boot, since)) => Some(uptime(boot, since)?),
                None => None,
            },
        })
    }
}

/// Reads a time since a boot: `123.000000000`.
fn uptime(boot: &str, since: &str) -> Option<Uptime> {
    let (seconds, nanos) = since.split_once('.')?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(seconds) || !digits(nanos) || nanos.len() != 9 {
        return None;
    }
    Some(Uptime {
        boot: BootId::parse(boot)?,
        since: Duration::new(seconds.parse().ok()?, nanos.parse().ok()?),
    })
}

/// The token of the lease on an item.
pub(super) fn token(line: &[u8], checksum: ItemChecksum) -> Option<Cow<'_, str>> {
    if checksum == ItemChecksum::TooLarge {
        return None;
    }
    if checksum != ItemChecksum::Missing {
        // An item without a lease mostly ends in something else.
        let body = line.get(..line.len().checked_sub(TRAILER)?)?;
        body.strip_suffix(b"\"")?;
        return split(line)?.1.map(|lease| Cow::Borrowed(lease.token));
    }
    memchr::memmem::find(line, b"\"lease_token\"")?;
    Some(Cow::Owned(foreign(line)?.lease?.token.as_str().to_owned()))
}

/// Reads an item. `None` for bytes that are not an item, or are not all of it.
pub(super) fn read(line: &[u8], checksum: ItemChecksum) -> Option<QueueEntry> {
    match checksum {
        ItemChecksum::TooLarge => return None,
        ItemChecksum::Missing => return foreign(line),
        ItemChecksum::Valid | ItemChecksum::BadFrame => {}
    }
    let id = ItemId::new(id(line)?).ok()?;
    let (body, lease) = split(line)?;
    let mut json = String::with_capacity(body.len() + 1);
    json.push_str(body);
    json.push('}');
    let lease = match lease {
        Some(lease) => Some(lease.lease()?),
        None => None,
    };
    Some(QueueEntry {
        id,
        body: RawValue::from_string(json).ok()?,
        lease,
        verified: checksum == ItemChecksum::Valid,
    })
}

/// The object of a sealed line, without its closing brace, and its lease.
///
/// A quote behind a comma is not inside a text, and only the lease of an item can end in these names at
/// its top level, so the split is never wrong.
fn split(line: &[u8]) -> Option<(&str, Option<LeaseText<'_>>)> {
    let body = std::str::from_utf8(line.get(..line.len().checked_sub(TRAILER)?)?).ok()?;
    let window = body.len().saturating_sub(LEASE_LEN);
    let lease = body.strip_suffix('"').and_then(|open| {
        let at = memchr::memmem::rfind(open.as_bytes().get(window..)?, TOKEN.as_bytes())? + window;
        Some((at, LeaseText::parse(open.get(at..)?)?))
    });
    Some(match lease {
        Some((at, lease)) => (body.get(..at)?, Some(lease)),
        None => (body, None),
    })
}

/// Reads an item of another program: its fields in any order, over several lines, perhaps with a lease and a checksum
/// that lost its place.
fn foreign(line: &[u8]) -> Option<QueueEntry> {
    let fields: Vec<(String, &RawValue)> = serde_json::from_slice::<Pairs<'_>>(line).ok()?.0;
    let text = |name: &str| {
        let (_, value) = fields.iter().rev().find(|(key, _)| key == name)?;
        serde_json::from_str::<String>(value.get()).ok()
    };
    let id = ItemId::new(text("item_id")?).ok()?;
    let lease = text("lease_token").zip(text("lease_until").as_deref().and_then(Timestamp::parse));
    let end = text("lease_boot").zip(text("lease_boottime"));
    let end = end.and_then(|(boot, since)| uptime(&boot, &since));
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
    Some(QueueEntry {
        id,
        body: RawValue::from_string(json).ok()?,
        lease: lease.map(|(token, until)| Lease {
            token: LeaseToken::from(token),
            until,
            end,
        }),
        verified: false,
    })
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
