//! The names of the files that hold a job's events.

use std::fmt;
use std::sync::Arc;

use crate::stamp::{CANONICAL_BYTES, Stamp};
use crate::time::Timestamp;

const PREFIX: &str = "events-";

/// The form of a segment's file.
///
/// ```
/// use prodigy_storage_layout::SegmentForm;
///
/// assert_eq!(SegmentForm::Zstd.ending(), ".jsonl.zst");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum SegmentForm {
    /// Plain lines: `.jsonl`.
    Plain,
    /// Compressed with zstd: `.jsonl.zst`.
    Zstd,
    /// Compressed with gzip: `.jsonl.gz`. This form is read but never written.
    Gzip,
}

impl SegmentForm {
    /// All forms.
    pub const ALL: [Self; 3] = [Self::Plain, Self::Zstd, Self::Gzip];

    /// The extension of this form, with its dot.
    #[must_use]
    pub const fn ending(self) -> &'static str {
        match self {
            Self::Plain => ".jsonl",
            Self::Zstd => ".jsonl.zst",
            Self::Gzip => ".jsonl.gz",
        }
    }
}

/// The name of a segment, the same for all its forms.
///
/// A segment of this store is named after the lower bound of its ids: `events-{lower}`. A late segment, whose creation
/// time is not its lower bound, is named `events-{lower}-{made}`. Both parts are canonical stamps.
///
/// The name of another program's segment has one stamp, in any form that [`Stamp`] parses. It is used both as the lower
/// bound and as the creation time; as a lower bound it is only as reliable as that program. A file that such a program
/// rotated has a second stamp, `events-{begun}.{rotated}`, which is ignored.
///
/// Names are ordered by lower bound, then by creation time.
///
/// ```
/// use prodigy_storage_layout::{SegmentForm, SegmentName, Timestamp};
///
/// let made = Timestamp::from_millis(1_763_192_166_123);
/// let name = SegmentName::new(made, made);
/// let file = name.file_name(SegmentForm::Plain);
/// assert_eq!(SegmentName::parse(&file), Some((name, SegmentForm::Plain)));
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SegmentName {
    lower: Timestamp,
    made: Timestamp,
    stem: Arc<str>,
    canonical: bool,
    /// The form of a twin (see [`SegmentName::twin`]); `None` for any other segment.
    twin: Option<SegmentForm>,
}

impl SegmentName {
    /// The name of a segment that was created at `made` and has no ids below `lower`.
    #[must_use]
    pub fn new(lower: Timestamp, made: Timestamp) -> Self {
        let stem = if lower == made {
            format!("{PREFIX}{lower}")
        } else {
            format!("{PREFIX}{lower}-{made}")
        };
        Self {
            lower,
            made,
            stem: stem.into(),
            canonical: true,
            twin: None,
        }
    }

    /// Parses the name of a segment's file. `None` for any other file.
    #[must_use]
    pub fn parse(file_name: &str) -> Option<(Self, SegmentForm)> {
        SegmentForm::ALL.into_iter().find_map(|form| {
            let stem = file_name.strip_suffix(form.ending())?;
            Some((Self::from_stem(stem)?, form))
        })
    }

    /// Parses a file name without its extension.
    #[must_use]
    pub fn from_stem(stem: &str) -> Option<Self> {
        let stamps = stem.strip_prefix(PREFIX)?;
        // The pair of canonical stamps is tried first, because stamps of other programs may contain a dash.
        if let Some((lower, made)) = stamps.split_at_checked(CANONICAL_BYTES)
            && let Some(made) = made.strip_prefix('-')
            && let (Some(lower), Some(made)) = (canonical(lower), canonical(made))
        {
            // A pair of equal stamps is never written. It is refused, since it would be a second name for the same
            // segment.
            return (lower != made).then(|| Self {
                lower,
                made,
                stem: Arc::from(stem),
                canonical: true,
                twin: None,
            });
        }
        // The name of a file that another program rotated ends in a second stamp, the time of the rotation.
        let stamp = Stamp::parse(stamps).or_else(|| {
            let (begun, rotated) = stamps.split_once('.')?;
            let begun = Stamp::parse(begun).filter(|stamp| !stamp.is_canonical())?;
            Stamp::parse(rotated)
                .filter(|stamp| !stamp.is_canonical())
                .map(|_| begun)
        })?;
        let time = stamp.time();
        Some(Self {
            lower: time,
            made: time,
            stem: Arc::from(stem),
            canonical: stamp.is_canonical(),
            twin: None,
        })
    }

    /// The twin of this segment: a compressed file with the same name as a plain file, but with other events. It is
    /// treated as a segment of its own. Twins exist only in stores of the first on-disk format, which could use a name
    /// twice.
    #[must_use]
    pub fn twin(&self, form: SegmentForm) -> Self {
        Self {
            twin: Some(form),
            ..self.clone()
        }
    }

    /// The form of the file with a twin's events; `None` for a segment that is not a twin.
    #[must_use]
    pub fn twin_form(&self) -> Option<SegmentForm> {
        self.twin
    }

    /// The segment with the same name that is not a twin. It is this segment itself unless this is a twin.
    #[must_use]
    pub fn base(&self) -> Self {
        Self {
            twin: None,
            ..self.clone()
        }
    }

    /// The lower bound of the segment's ids.
    #[must_use]
    pub fn lower(&self) -> Timestamp {
        self.lower
    }

    /// The creation time of the segment, by the clock of its writer.
    #[must_use]
    pub fn made(&self) -> Timestamp {
        self.made
    }

    /// True if this store made the name, so that its lower bound is reliable.
    #[must_use]
    pub fn is_canonical(&self) -> bool {
        self.canonical
    }

    /// The file name without its extension: `events-...`.
    #[must_use]
    pub fn stem(&self) -> &str {
        &self.stem
    }

    /// The name of the segment's file in this form.
    #[must_use]
    pub fn file_name(&self, form: SegmentForm) -> String {
        format!("{}{}", self.stem, form.ending())
    }
}

impl fmt::Debug for SegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.stem)
    }
}

/// Writes the file name without its extension.
impl fmt::Display for SegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.stem)
    }
}

fn canonical(text: &str) -> Option<Timestamp> {
    Stamp::parse(text)
        .filter(Stamp::is_canonical)
        .map(|stamp| stamp.time())
}
