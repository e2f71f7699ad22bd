//! The standing of an item in its queue, which is its place, its lease and its delay.

use std::time::Duration;

use prodigy_storage_backend::{BootId, Delay, Lease, LeaseToken, Uptime};
use prodigy_storage_layout::Timestamp;

const PLACE: &str = ",\"queue_place\":";
const TOKEN: &str = ",\"lease_token\":\"";
const UNTIL: &str = "\",\"lease_until\":\"";
const BOOT: &str = "\",\"lease_boot\":\"";
const UPTIME: &str = "\",\"lease_boottime\":\"";
const DELAY: &str = ",\"delay_until\":\"";
const DELAY_BOOT: &str = "\",\"delay_boot\":\"";
const DELAY_UPTIME: &str = "\",\"delay_boottime\":\"";

/// The largest number that a queue's counter can reach, since an index stores each number in 6 bytes. At a million
/// changes per second, the counter gets there after 8 years.
pub(super) const MOST: u64 = (1 << 48) - 1;

/// The place, lease and delay of an item. A journal record that changes one of them states all three.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) place: u64,
    pub(super) lease: Option<Lease>,
    pub(super) delay: Option<Delay>,
}

impl Standing {
    /// Appends the fields, each after a comma. The place is left out if it equals `known`.
    pub(super) fn encode(&self, out: &mut Vec<u8>, known: u64) {
        if self.place != known {
            out.extend_from_slice(format!("{PLACE}{}", self.place).as_bytes());
        }
        encode_claims(out, self.lease.as_ref(), self.delay.as_ref());
    }
}

/// Appends the fields of a lease and of a delay, each after a comma.
pub(super) fn encode_claims(out: &mut Vec<u8>, lease: Option<&Lease>, delay: Option<&Delay>) {
    if let Some(lease) = lease {
        let (token, until) = (lease.token.as_str(), nanos_text(lease.until));
        out.extend_from_slice(format!("{TOKEN}{token}{UNTIL}{until}").as_bytes());
        if let Some(end) = lease.end {
            out.extend_from_slice(format!("{BOOT}{}{UPTIME}{}", end.boot, since_text(end)).as_bytes());
        }
        out.push(b'"');
    }
    if let Some(Delay { until, end }) = delay {
        let (until, since) = (nanos_text(*until), since_text(*end));
        let text = format!("{DELAY}{until}{DELAY_BOOT}{}{DELAY_UPTIME}{since}\"", end.boot);
        out.extend_from_slice(text.as_bytes());
    }
}

/// The time in RFC 3339 with nanoseconds, in the form in which serde writes a timestamp.
pub(super) fn nanos_text(time: Timestamp) -> String {
    let whole = time.to_rfc3339();
    let nanos = time.as_nanos() % 1_000_000_000;
    let second = whole.split_once('.').map_or(whole.as_str(), |(second, _)| second);
    format!("{second}.{nanos:09}Z")
}

fn since_text(end: Uptime) -> String {
    format!("{}.{:09}", end.since.as_secs(), end.since.subsec_nanos())
}

/// The fields that [`Standing::encode`] writes, as text that was not parsed further.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct StandingText<'a> {
    pub(super) place: Option<u64>,
    pub(super) lease: Option<LeaseText<'a>>,
    pub(super) delay: Option<DelayText<'a>>,
}

impl<'a> StandingText<'a> {
    /// Splits the fields off the beginning of `text`, and returns them with the rest.
    pub(super) fn parse(text: &'a str) -> Option<(Self, &'a str)> {
        let (place, text) = match text.strip_prefix(PLACE) {
            Some(rest) => {
                let (place, rest) = number(rest)?;
                (Some(place), rest)
            }
            None => (None, text),
        };
        let (lease, text) = match text.strip_prefix(TOKEN) {
            Some(_) => {
                let (lease, rest) = LeaseText::parse(text)?;
                (Some(lease), rest)
            }
            None => (None, text),
        };
        let (delay, text) = match text.strip_prefix(DELAY) {
            Some(rest) => {
                let (delay, rest) = DelayText::parse(rest)?;
                (Some(delay), rest)
            }
            None => (None, text),
        };
        Some((Self { place, lease, delay }, text))
    }

    /// Parses the values of the fields. If no place is stated, it is `known`. `None` if a field is malformed.
    pub(super) fn read(&self, known: u64) -> Option<Standing> {
        let lease = match self.lease {
            Some(lease) => Some(lease.read()?),
            None => None,
        };
        let delay = match self.delay {
            Some(delay) => Some(delay.read()?),
            None => None,
        };
        Some(Standing {
            place: self.place.unwrap_or(known),
            lease,
            delay,
        })
    }
}

/// The moment at which a lease or a delay ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    At(Uptime),
    /// A lease of an earlier version, which ends by the wall clock.
    Wall(Timestamp),
}

/// A lease or a delay, with the facts that an index keeps about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Claim<'a> {
    /// The token of a lease; a delay has none.
    pub(super) token: Option<&'a str>,
    pub(super) end: End,
}

impl<'a> StandingText<'a> {
    /// The lease or the delay, or `Some(None)` if there is neither. `None` if it is malformed.
    pub(super) fn claim(&self) -> Option<Option<Claim<'a>>> {
        let (token, end) = match (&self.lease, &self.delay) {
            (Some(lease), _) => (Some(lease.token), lease.ends()?),
            (None, Some(delay)) => (None, End::At(uptime(delay.boot, delay.since)?)),
            (None, None) => return Some(None),
        };
        Some(Some(Claim { token, end }))
    }
}

impl Standing {
    /// The lease or the delay; `None` if the item has neither.
    pub(super) fn claim(&self) -> Option<Claim<'_>> {
        let (token, end) = match (&self.lease, &self.delay) {
            (Some(lease), _) => (
                Some(lease.token.as_str()),
                lease.end.map_or(End::Wall(lease.until), End::At),
            ),
            (None, Some(delay)) => (None, End::At(delay.end)),
            (None, None) => return None,
        };
        Some(Claim { token, end })
    }
}

/// Parses the digits of a number of the counter. Returns the number, and the text after it.
pub(super) fn number(text: &str) -> Option<(u64, &str)> {
    let (mut number, mut len) = (0u64, 0);
    for byte in text.bytes() {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            break;
        }
        number = number * 10 + u64::from(digit);
        len += 1;
        if number > MOST {
            return None;
        }
    }
    let is_plain = len == 1 || len > 1 && !text.starts_with('0');
    Some((number, text.get(len..)?)).filter(|_| is_plain)
}

/// Parses text up to its closing quote. Returns it, and the text after the quote. Fails at an escape: we write none
/// here.
pub(super) fn quoted(text: &str) -> Option<(&str, &str)> {
    let end = memchr::memchr2(b'"', b'\\', text.as_bytes())?;
    let rest = text.get(end..)?.strip_prefix('"')?;
    let text = text.get(..end)?;
    // Compares all bytes without a branch, which is faster for short texts.
    let is_plain = text.bytes().fold(true, |plain, byte| plain & (byte >= b' '));
    is_plain.then_some((text, rest))
}

/// The fields of a lease, as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LeaseText<'a> {
    pub(super) token: &'a str,
    until: &'a str,
    /// The boot of the machine, and the time since that boot; `None` in format 1.
    end: Option<(&'a str, &'a str)>,
}

impl<'a> LeaseText<'a> {
    /// Splits the fields off the beginning of `text`, and returns them with the rest.
    pub(super) fn parse(text: &'a str) -> Option<(Self, &'a str)> {
        let (token, rest) = quoted(text.strip_prefix(TOKEN)?)?;
        // The call of `quoted` has already consumed the first character of `UNTIL`, a quote.
        let (until, rest) = quoted(rest.strip_prefix(UNTIL.get(1..)?)?)?;
        let Some(boot) = rest.strip_prefix(BOOT.get(1..)?) else {
            let end = None;
            return Some((Self { token, until, end }, rest));
        };
        let (boot, rest) = quoted(boot)?;
        let (since, rest) = quoted(rest.strip_prefix(UPTIME.get(1..)?)?)?;
        let end = Some((boot, since));
        Some((Self { token, until, end }, rest))
    }

    fn ends(&self) -> Option<End> {
        Some(match self.end {
            Some((boot, since)) => End::At(uptime(boot, since)?),
            None => End::Wall(Timestamp::parse(self.until)?),
        })
    }

    pub(super) fn read(&self) -> Option<Lease> {
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

/// The fields of a delay, as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DelayText<'a> {
    until: &'a str,
    boot: &'a str,
    since: &'a str,
}

impl<'a> DelayText<'a> {
    /// Parses the fields from the text after the name of the first one and the opening quote of its value.
    fn parse(text: &'a str) -> Option<(Self, &'a str)> {
        let (until, rest) = quoted(text)?;
        let (boot, rest) = quoted(rest.strip_prefix(DELAY_BOOT.get(1..)?)?)?;
        let (since, rest) = quoted(rest.strip_prefix(DELAY_UPTIME.get(1..)?)?)?;
        Some((Self { until, boot, since }, rest))
    }

    pub(super) fn read(&self) -> Option<Delay> {
        Some(Delay {
            until: Timestamp::parse(self.until)?,
            end: uptime(self.boot, self.since)?,
        })
    }
}

/// Reads a time since a boot, such as `123.000000000`.
pub(super) fn uptime(boot: &str, since: &str) -> Option<Uptime> {
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

/// The offset of a lease's fields at the end of `text`, where lines of earlier versions have them; `None` without a
/// lease.
pub(super) fn lease_at_the_end(text: &str) -> Option<usize> {
    let at = memchr::memmem::rfind(text.as_bytes(), TOKEN.as_bytes())?;
    let (_, rest) = LeaseText::parse(text.get(at..)?)?;
    rest.is_empty().then_some(at)
}
