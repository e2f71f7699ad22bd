//! The files that hold a job's events.

use std::fmt;
use std::sync::Arc;

use crate::stamp::{CANONICAL_BYTES, Stamp};
use crate::time::Timestamp;

const PREFIX: &str = "events-";

/// How a segment is stored.
///
/// ```
/// use prodigy_storage_layout::SegmentForm;
///
/// assert_eq!(SegmentForm::Zstd.ending(), ".jsonl.zst");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum SegmentForm {
    /// Lines as they are: `.jsonl`.
    Plain,
    /// Compressed by zstd: `.jsonl.zst`.
    Zstd,
    /// Compressed by gzip: `.jsonl.gz`. Read, never written.
    Gzip,
}

impl SegmentForm {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Plain, Self::Zstd, Self::Gzip];

    /// The extension of a file name of this form, with its dot.
    #[must_use]
    pub const fn ending(self) -> &'static str {
        match self {
            Self::Plain => ".jsonl",
            Self::Zstd => ".jsonl.zst",
            Self::Gzip => ".jsonl.gz",
        }
    }
}

/// The name of a segment, whatever form it is stored in.
///
/// A segment of this project is named by the lower bound of its ids: `events-{lower}`, or
/// `events-{lower}-{made}` where it was made at another time than its lower bound (a late segment). Both are
/// canonical stamps. Names of other programs hold one stamp in any form that [`Stamp`] reads; it gives both
/// times, as the name states them: a lower bound only as far as that program kept to one. A file that such a
/// program rotated has a second stamp, `events-{begun}.{rotated}`; the first stamp gives its times.
///
/// Names are ordered by lower bound, then by the time that they were made.
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
    /// Set in the name of a twin.
    twin: Option<SegmentForm>,
}

impl SegmentName {
    /// The name of a segment whose ids are not below `lower` and that was made at `made`.
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

    /// Reads the name of a segment's file; `None` for any other file.
    #[must_use]
    pub fn parse(file_name: &str) -> Option<(Self, SegmentForm)> {
        SegmentForm::ALL.into_iter().find_map(|form| {
            let stem = file_name.strip_suffix(form.ending())?;
            Some((Self::from_stem(stem)?, form))
        })
    }

    /// Reads a file name whose ending is off already.
    #[must_use]
    pub fn from_stem(stem: &str) -> Option<Self> {
        let stamps = stem.strip_prefix(PREFIX)?;
        // Other programs' stamps may hold a dash, so that the pair of canonical ones is tried first.
        if let Some((lower, made)) = stamps.split_at_checked(CANONICAL_BYTES)
            && let Some(made) = made.strip_prefix('-')
            && let (Some(lower), Some(made)) = (canonical(lower), canonical(made))
        {
            // A pair of equal stamps is never made, and would be a second name of one segment.
            return (lower != made).then(|| Self {
                lower,
                made,
                stem: Arc::from(stem),
                canonical: true,
                twin: None,
            });
        }
        // A file that another program rotated has a second stamp, which says when that was.
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

    /// The twin of this segment: the compressed file of this name beside a plain one with other events, as a segment of its
    /// own. A name is used once, except in stores of the first on-disk format.
    #[must_use]
    pub fn twin(&self, form: SegmentForm) -> Self {
        Self {
            twin: Some(form),
            ..self.clone()
        }
    }

    /// The only form that a twin is read from; `None` for any other segment.
    #[must_use]
    pub fn twin_form(&self) -> Option<SegmentForm> {
        self.twin
    }

    /// The segment that a twin has its name from; any other segment is itself.
    #[must_use]
    pub fn base(&self) -> Self {
        Self {
            twin: None,
            ..self.clone()
        }
    }

    /// The lower bound of its ids.
    #[must_use]
    pub fn lower(&self) -> Timestamp {
        self.lower
    }

    /// When it was made, by its maker's clock.
    #[must_use]
    pub fn made(&self) -> Timestamp {
        self.made
    }

    /// Whether this project made the name, so that its lower bound can be relied on.
    #[must_use]
    pub fn is_canonical(&self) -> bool {
        self.canonical
    }

    /// The file name without its ending: `events-...`.
    #[must_use]
    pub fn stem(&self) -> &str {
        &self.stem
    }

    /// The file name in one form.
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

/// The file name without its ending.
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
