//! Points in time and their text forms.

use std::fmt;
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use jiff::civil::DateTime;
use jiff::tz::Offset;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::time_text;

/// A point in time: nanoseconds since the start of 1970 UTC, never negative.
///
/// Its text (`Display`) is compact, has a fixed width, and sorts by time: `20251115T073606.123456789Z`. Serde writes
/// RFC 3339 in UTC with nanoseconds, and reads every form that [`Timestamp::parse`] reads.
///
/// ```
/// use prodigy_storage_layout::Timestamp;
/// let time = Timestamp::from_millis(1_763_192_166_123);
/// assert_eq!(time.to_string(), "20251115T073606.123000000Z");
/// assert_eq!(time.to_rfc3339(), "2025-11-15T07:36:06.123000Z");
/// assert_eq!(Timestamp::parse("2025-11-15T08:36:06.123+01:00"), Some(time));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The start of 1970 UTC.
    pub const MIN: Self = Self(0);
    /// The last representable time, in April 2262.
    pub const MAX: Self = Self(i64::MAX);

    /// The time of the system clock. A time before 1970 becomes [`Timestamp::MIN`].
    #[must_use]
    pub fn now() -> Self {
        Self::from(SystemTime::now())
    }

    /// Creates a timestamp from nanoseconds since 1970. A negative number becomes [`Timestamp::MIN`].
    #[must_use]
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(if nanos < 0 { 0 } else { nanos })
    }

    /// The nanoseconds since 1970, never below 0.
    #[must_use]
    pub const fn as_nanos(self) -> i64 {
        self.0
    }

    /// Creates a timestamp from milliseconds since 1970. A negative number becomes [`Timestamp::MIN`], and one that is
    /// too large becomes [`Timestamp::MAX`].
    #[must_use]
    pub const fn from_millis(millis: i64) -> Self {
        Self::from_nanos(millis.saturating_mul(1_000_000))
    }

    /// The milliseconds since 1970, rounded down.
    #[must_use]
    pub const fn as_millis(self) -> i64 {
        self.0 / 1_000_000
    }

    /// The time one nanosecond later; for [`Timestamp::MAX`] the same time.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The time in RFC 3339, in UTC, truncated to microseconds: `2026-11-24T21:01:58.123456Z`.
    #[must_use]
    pub fn to_rfc3339(self) -> String {
        let mut text = Vec::with_capacity(27);
        self.write_rfc3339(&mut text);
        String::from_utf8(text).unwrap_or_default()
    }

    /// Appends the text of [`Timestamp::to_rfc3339`]. Does not allocate if `out` has room for 27 bytes.
    pub fn write_rfc3339(self, out: &mut Vec<u8>) {
        let civil = self.civil();
        // No field is negative, because a timestamp is between 1970 and 2262.
        let mut put = |value: i32, scale: i32, end: u8| {
            let mut scale = scale;
            while scale > 0 {
                let digit = (value / scale % 10).unsigned_abs();
                out.push(b'0' + u8::try_from(digit).unwrap_or(0));
                scale /= 10;
            }
            out.push(end);
        };
        put(i32::from(civil.year()), 1000, b'-');
        put(i32::from(civil.month()), 10, b'-');
        put(i32::from(civil.day()), 10, b'T');
        put(i32::from(civil.hour()), 10, b':');
        put(i32::from(civil.minute()), 10, b':');
        put(i32::from(civil.second()), 10, b'.');
        put(civil.subsec_nanosecond() / 1000, 100_000, b'Z');
    }

    /// Parses a time in the compact form, in RFC 3339 with any offset, or in a form that other programs use in file names
    /// (see [`Stamp`](crate::Stamp)). A text without an offset is UTC. `None` for any other text, and for a time before 1970
    /// or after [`Timestamp::MAX`].
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        time_text::parse(text).map(Self)
    }

    fn civil(self) -> DateTime {
        Offset::UTC.to_datetime(self.into())
    }
}

/// Converts the time. A time before 1970 becomes [`Timestamp::MIN`], and one after 2262 becomes [`Timestamp::MAX`].
impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        let nanos = time
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_nanos());
        Self(i64::try_from(nanos).unwrap_or(i64::MAX))
    }
}

/// ```
/// use std::time::{Duration, SystemTime};
/// use prodigy_storage_layout::Timestamp;
///
/// let time = SystemTime::from(Timestamp::from_millis(1_500));
/// assert_eq!(time, SystemTime::UNIX_EPOCH + Duration::from_millis(1_500));
/// assert_eq!(Timestamp::from(time), Timestamp::from_millis(1_500));
/// ```
impl From<Timestamp> for SystemTime {
    fn from(time: Timestamp) -> Self {
        let nanos = u64::try_from(time.0).unwrap_or_default();
        UNIX_EPOCH + std::time::Duration::from_nanos(nanos)
    }
}

/// Converts the time. A time before 1970 becomes [`Timestamp::MIN`], and one after 2262 becomes [`Timestamp::MAX`].
impl From<jiff::Timestamp> for Timestamp {
    fn from(time: jiff::Timestamp) -> Self {
        let nanos = time.as_nanosecond().clamp(0, i128::from(i64::MAX));
        Self(i64::try_from(nanos).unwrap_or(i64::MAX))
    }
}

/// ```
/// use prodigy_storage_layout::Timestamp;
///
/// let time = jiff::Timestamp::from(Timestamp::from_millis(1_763_192_166_123));
/// assert_eq!(time.to_string(), "2025-11-15T07:36:06.123Z");
/// assert_eq!(Timestamp::from(time), Timestamp::from_millis(1_763_192_166_123));
/// ```
impl From<Timestamp> for jiff::Timestamp {
    fn from(time: Timestamp) -> Self {
        Self::from_nanosecond(i128::from(time.0)).unwrap_or_default()
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let t = self.civil();
        write!(
            f,
            "{:04}{:02}{:02}T{:02}{:02}{:02}.{:09}Z",
            t.year(),
            t.month(),
            t.day(),
            t.hour(),
            t.minute(),
            t.second(),
            t.subsec_nanosecond()
        )
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The error for a text that is not a time.
///
/// ```
/// use prodigy_storage_layout::Timestamp;
///
/// let error = "yesterday".parse::<Timestamp>().unwrap_err();
/// assert!(error.to_string().contains("RFC 3339"));
/// ```
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a time between 1970 and 2262: expected RFC 3339, such as 2026-11-24T21:01:58Z")]
#[non_exhaustive]
pub struct TimestampError {}

/// The same as `Display`: a `main` that returns the error prints it so.
impl fmt::Debug for TimestampError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Timestamp {
    type Err = TimestampError;

    fn from_str(text: &str) -> Result<Self, TimestampError> {
        Self::parse(text).ok_or(TimestampError {})
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // jiff writes a civil time without an offset, with the requested number of digits after the second.
        serializer.collect_str(&format_args!("{:.9}Z", self.civil()))
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}
