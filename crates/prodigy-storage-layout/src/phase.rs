//! The phases of a job.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The text that follows the name of the phase in a checkpoint's file name.
const CHECKPOINT: &str = "-checkpoint";
/// The names of the phases that every job has.
const BUILT_IN: [&str; 3] = ["setup", "map", "reduce"];

/// The phase of a job in which a checkpoint was saved. Each phase has its own series of checkpoints.
///
/// ```
/// use prodigy_storage_layout::Phase;
///
/// assert_eq!("map".parse(), Ok(Phase::Map));
/// let plan: Phase = "plan".parse()?;
/// assert_eq!(plan.to_string(), "plan");
/// # Ok::<(), prodigy_storage_layout::PhaseError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Phase {
    /// The phase before the items are known. It has only one checkpoint, which each save replaces.
    Setup,
    /// The phase in which agents work on items.
    Map,
    /// The phase in which the results of the items are combined.
    Reduce,
    /// A caller-defined phase.
    Own(PhaseName),
}

impl Phase {
    /// The phases that every job has, in their order.
    pub const ALL: [Self; 3] = [Self::Setup, Self::Map, Self::Reduce];

    /// A caller-defined phase. Unlike a parsed text, the name can't be that of a phase that every job has.
    ///
    /// ```
    /// use prodigy_storage_layout::Phase;
    ///
    /// assert_eq!(Phase::own("review")?.as_str(), "review");
    /// assert!(Phase::own("map").is_err());
    /// # Ok::<(), prodigy_storage_layout::PhaseError>(())
    /// ```
    ///
    /// # Errors
    /// As [`PhaseName::new`].
    pub fn own(name: impl AsRef<str>) -> Result<Self, PhaseError> {
        PhaseName::new(name).map(Self::Own)
    }

    /// The name of the phase.
    #[must_use]
    pub fn as_str(&self) -> &str {
        let [setup, map, reduce] = BUILT_IN;
        match self {
            Self::Setup => setup,
            Self::Map => map,
            Self::Reduce => reduce,
            Self::Own(name) => name.as_str(),
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Phase {
    type Err = PhaseError;

    fn from_str(text: &str) -> Result<Self, PhaseError> {
        match Self::ALL.into_iter().find(|phase| phase.as_str() == text) {
            Some(phase) => Ok(phase),
            None => PhaseName::new(text).map(Self::Own),
        }
    }
}

impl Serialize for Phase {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Phase {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The name of a caller-defined phase: 1 to 32 characters of `a`-`z`, `0`-`9`, `-` and `_`, beginning with a letter.
///
/// The rules are stricter than for other names, because the name of a phase is only one part of a file name.
///
/// ```
/// use prodigy_storage_layout::{Phase, PhaseName};
///
/// let review = Phase::Own(PhaseName::new("review")?);
/// assert_eq!(review.as_str(), "review");
/// assert!(PhaseName::new("map").is_err(), "every job has this one");
/// # Ok::<(), prodigy_storage_layout::PhaseError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PhaseName {
    /// The text of the name, followed by zeros.
    bytes: [u8; Self::MAX_BYTES],
}

impl PhaseName {
    /// The length of the longest name, in bytes.
    pub const MAX_BYTES: usize = 32;

    /// Creates a name from a text.
    ///
    /// # Errors
    /// [`PhaseError`] for a text that breaks the rules, for the name of a phase that every job has, and for a text that
    /// contains `-checkpoint`, which follows the name in file names.
    pub fn new(name: impl AsRef<str>) -> Result<Self, PhaseError> {
        let name = name.as_ref();
        let is_plain = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_');
        let begins_well = name.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase());
        let is_taken = BUILT_IN.contains(&name) || name.contains(CHECKPOINT);
        let mut bytes = [0; Self::MAX_BYTES];
        match bytes.get_mut(..name.len()) {
            Some(to) if begins_well && name.bytes().all(is_plain) && !is_taken => {
                to.copy_from_slice(name.as_bytes());
                Ok(Self { bytes })
            }
            _ => Err(PhaseError {}),
        }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        let end = self.bytes.iter().position(|byte| *byte == 0);
        let text = self.bytes.get(..end.unwrap_or(Self::MAX_BYTES));
        std::str::from_utf8(text.unwrap_or_default()).unwrap_or_default()
    }
}

impl fmt::Display for PhaseName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for PhaseName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// The error for a text that is not the name of a phase.
///
/// ```
/// use prodigy_storage_layout::Phase;
///
/// let error = "Shuffle!".parse::<Phase>().unwrap_err();
/// assert!(error.to_string().contains("setup, map, reduce"));
/// ```
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a phase of a job: expected setup, map, reduce, or a name of your own of 1 to 32 of a-z, 0-9, `-` and `_` that begins with a \
     letter and does not contain `-checkpoint`"
)]
#[non_exhaustive]
pub struct PhaseError {}

/// The same as `Display`: a `main` that returns the error prints it so.
impl fmt::Debug for PhaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
