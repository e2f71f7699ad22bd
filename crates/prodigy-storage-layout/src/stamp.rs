//! Timestamps in file names.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::name::CheckpointKey;
use crate::time::Timestamp;

/// A timestamp in a file name.
///
/// The store's own names have the canonical form, `20251115T073606.123456789Z`. The forms of other programs are read too, and
/// keep their text, so that the original path can be rebuilt from the stamp:
///
/// - `20251115_073606`, `20251115-073606`, `20251115T073606Z`, `20251115073606`, `20251115`
/// - `2025-11-15T07-36-06Z`, `2025-11-15T07:36:06.123+00:00`, `2025-11-15`
/// - seconds, milliseconds, microseconds or nanoseconds since 1970, distinguished by the number of digits
///
/// A text without an offset counts as UTC.
///
/// Stamps are ordered by time. Among stamps of the same time, the canonical one without a key comes first, then the
/// canonical ones with a key, then the others, ordered by their text.
///
/// ```
/// use prodigy_storage_layout::{Stamp, Timestamp};
///
/// let stamp = Stamp::from(Timestamp::from_millis(1_763_192_166_123));
/// assert_eq!(stamp.to_string(), "20251115T073606.123000000Z");
/// // A stamp of another program keeps its text, and has the same time.
/// let other = Stamp::parse("2025-11-15T07:36:06.123Z").expect("a time");
/// assert_eq!((other.time(), other.is_canonical()), (stamp.time(), false));
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Stamp {
    time: Timestamp,
    /// The text of a stamp that is not canonical; `None` for a canonical one.
    foreign: Option<Arc<str>>,
    /// The key that follows a canonical stamp, if any.
    key: Option<CheckpointKey>,
}

impl Stamp {
    /// Parses a stamp in the canonical form, or in a form of another program. `None` for any other text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let time = Timestamp::parse(text)?;
        // A leap second has the canonical form, but is read as the second before it, whose canonical text differs.
        let canonical = Self::is_canonical_form(text) && text.get(13..15) != Some("60");
        Some(Self {
            time,
            foreign: (!canonical).then(|| Arc::from(text)),
            key: None,
        })
    }

    /// Parses a stamp that may be followed by a [key](Self::key): `20251115T073606.123456789Z.nightly`.
    #[must_use]
    pub fn parse_keyed(text: &str) -> Option<Self> {
        if let Some((stamp, key)) = text.split_at_checked(CANONICAL_BYTES)
            && let Some(key) = key.strip_prefix('.')
            && Self::is_canonical_form(stamp)
        {
            let stamp = Self::parse(stamp).filter(Self::is_canonical)?;
            return Some(stamp.with_key(Some(CheckpointKey::new(key).ok()?)));
        }
        Self::parse(text)
    }

    /// Adds a key to a canonical stamp. A stamp of another program gets no key.
    #[must_use]
    pub fn with_key(mut self, key: Option<CheckpointKey>) -> Self {
        self.key = key.filter(|_| self.is_canonical());
        self
    }

    /// The caller's key of a checkpoint, which follows the stamp in the file name.
    #[must_use]
    pub fn key(&self) -> Option<&CheckpointKey> {
        self.key.as_ref()
    }

    /// True if a text has the canonical form: digits, with the separators and letters at their positions. Stamps of this form
    /// sort by time if their texts are compared byte by byte.
    #[must_use]
    pub fn is_canonical_form(text: &str) -> bool {
        let Ok(text) = <&[u8; CANONICAL_BYTES]>::try_from(text.as_bytes()) else {
            return false;
        };
        // Checks all bytes without an early return, so that the compiler can check several at once.
        let digits = text.iter().enumerate().fold(true, |digits, (at, byte)| {
            digits & (byte.is_ascii_digit() | matches!(at, 8 | 15 | 25))
        });
        digits && (text[8], text[15], text[25]) == (b'T', b'.', b'Z')
    }

    /// The time of the stamp.
    #[must_use]
    pub fn time(&self) -> Timestamp {
        self.time
    }

    /// True if the text is in canonical form.
    #[must_use]
    pub fn is_canonical(&self) -> bool {
        self.foreign.is_none()
    }
}

/// The length of `YYYYMMDDTHHMMSS.nnnnnnnnnZ`.
pub(crate) const CANONICAL_BYTES: usize = 26;

impl From<Timestamp> for Stamp {
    fn from(time: Timestamp) -> Self {
        Self {
            time,
            foreign: None,
            key: None,
        }
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.foreign {
            None => fmt::Display::fmt(&self.time, f)?,
            Some(text) => f.write_str(text)?,
        }
        match &self.key {
            None => Ok(()),
            Some(key) => write!(f, ".{key}"),
        }
    }
}

impl fmt::Debug for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Writes the text of the stamp.
impl Serialize for Stamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Stamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse_keyed(&text).ok_or_else(|| serde::de::Error::custom("not a timestamp of a file name"))
    }
}
