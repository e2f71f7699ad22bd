//! Parses the text forms of a time.

use jiff::civil::{Date, Time};
use jiff::tz::Offset;

/// The length of the longest text that is parsed as a time, in bytes. It limits the length of file names with a time.
const MAX_BYTES: usize = 64;

const SECOND: i64 = 1_000_000_000;

/// Parses a time to nanoseconds since 1970. `None` for a text that is not a time, and for a time out of range.
///
/// Every accepted text consists only of digits, `T t Z z _ - : . , +` and spaces, so it is safe as a part of a file name.
pub(crate) fn parse(text: &str) -> Option<i64> {
    if text.is_empty() || text.len() > MAX_BYTES {
        return None;
    }
    let nanos = if text.bytes().all(|byte| byte.is_ascii_digit()) {
        plain_digits(text)
    } else {
        let mut scan = Scan {
            rest: text.as_bytes(),
        };
        let nanos = date_and_time(&mut scan)?;
        scan.rest.is_empty().then_some(nanos)
    }?;
    i64::try_from(nanos).ok().filter(|nanos| *nanos >= 0)
}

/// Parses a text that consists of digits. Its length determines its meaning: 8 digits are a date, and 14 are a date
/// with a time. Seconds, milliseconds, microseconds and nanoseconds since 1970 have other lengths, each its own, for
/// times from 1973.
fn plain_digits(text: &str) -> Option<i128> {
    let mut scan = Scan {
        rest: text.as_bytes(),
    };
    let unit = match text.len() {
        8 => return instant(date(&mut scan, false)?, Time::midnight()),
        14 => return instant(date(&mut scan, false)?, clock(&mut scan)?),
        9..=10 => SECOND,
        12..=13 => 1_000_000,
        15..=16 => 1_000,
        18..=19 => 1,
        _ => return None,
    };
    text.parse::<i128>().ok()?.checked_mul(i128::from(unit))
}

fn date_and_time(scan: &mut Scan<'_>) -> Option<i128> {
    let dashed = scan.rest.get(4) == Some(&b'-');
    let date = date(scan, dashed)?;
    if scan.rest.is_empty() {
        return instant(date, Time::midnight());
    }
    scan.one_of(b"Tt_- ")?;
    let time = clock(scan)?;
    let offset = offset(scan)?;
    Some(instant(date, time)? - i128::from(offset) * i128::from(SECOND))
}

fn date(scan: &mut Scan<'_>, dashed: bool) -> Option<Date> {
    let year = scan.number(4)?;
    if dashed {
        scan.one_of(b"-")?;
    }
    let month = scan.number(2)?;
    if dashed {
        scan.one_of(b"-")?;
    }
    let day = scan.number(2)?;
    Date::new(
        i16::try_from(year).ok()?,
        i8::try_from(month).ok()?,
        i8::try_from(day).ok()?,
    )
    .ok()
}

/// Parses hours, minutes and seconds, separated by `:`, `-` or nothing, and a fraction, which is truncated to
/// nanoseconds.
fn clock(scan: &mut Scan<'_>) -> Option<Time> {
    let hour = scan.number(2)?;
    let between = scan.one_of(b":-");
    let minute = scan.number(2)?;
    if let Some(between) = between {
        scan.one_of(&[between])?;
    }
    // A leap second counts as the second before it.
    let second = match scan.number(2)? {
        60 => 59,
        second => second,
    };
    let nanos = if scan.one_of(b".,").is_some() {
        scan.fraction()?
    } else {
        0
    };
    Time::new(
        i8::try_from(hour).ok()?,
        i8::try_from(minute).ok()?,
        i8::try_from(second).ok()?,
        i32::try_from(nanos).ok()?,
    )
    .ok()
}

/// Parses an offset to seconds east of UTC. An empty text and `Z` mean UTC.
fn offset(scan: &mut Scan<'_>) -> Option<i64> {
    if scan.rest.is_empty() || scan.one_of(b"Zz").is_some() {
        return Some(0);
    }
    let sign = if scan.one_of(b"+-")? == b'-' { -1 } else { 1 };
    let hours = i64::from(scan.number(2)?);
    let minutes = if scan.rest.is_empty() {
        0
    } else {
        scan.one_of(b":-");
        i64::from(scan.number(2)?)
    };
    (hours < 24 && minutes < 60).then_some(sign * (hours * 3600 + minutes * 60))
}

fn instant(date: Date, time: Time) -> Option<i128> {
    Offset::UTC
        .to_timestamp(date.to_datetime(time))
        .ok()
        .map(jiff::Timestamp::as_nanosecond)
}

struct Scan<'a> {
    rest: &'a [u8],
}

impl Scan<'_> {
    /// Parses a number of exactly `digits` digits.
    fn number(&mut self, digits: usize) -> Option<u32> {
        let (number, rest) = self.rest.split_at_checked(digits)?;
        let mut value = 0u32;
        for byte in number {
            value = value * 10 + char::from(*byte).to_digit(10)?;
        }
        self.rest = rest;
        Some(value)
    }

    fn one_of(&mut self, set: &[u8]) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        if !set.contains(first) {
            return None;
        }
        self.rest = rest;
        Some(*first)
    }

    /// Parses the digits of a fraction of a second, of which there must be at least one, to nanoseconds.
    fn fraction(&mut self) -> Option<u32> {
        let (mut value, mut unit) = (self.number(1)? * 100_000_000, 10_000_000);
        while let Some(digit) = self.number(1) {
            value += digit * unit;
            unit /= 10;
        }
        Some(value)
    }
}
