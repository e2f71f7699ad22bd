//! Documents: whole JSON objects that are stored and read atomically.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use prodigy_storage_layout::{CheckpointKey, Document, Timestamp};
use serde::{Deserialize, Serialize};

use crate::fence::Fence;
use crate::log::Durability;
use crate::setters;

/// Identifies one state of a document: a random value that is new at every write.
///
/// ```
/// use prodigy_storage_backend::Revision;
///
/// let revision = Revision::random();
/// assert_eq!(revision.to_string().parse(), Ok(revision));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Revision(u128);

impl Revision {
    /// The length of the text form, in characters.
    pub const TEXT_LEN: usize = 32;

    /// A new random revision.
    #[must_use]
    pub fn random() -> Self {
        Self(uuid::Uuid::new_v4().as_u128())
    }

    /// A revision with these 128 bits, such as a hash of a document that was stored without a revision.
    #[must_use]
    pub const fn from_u128(bits: u128) -> Self {
        Self(bits)
    }

    /// Parses 32 hexadecimal digits.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        if text.len() != Self::TEXT_LEN || !text.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        {
            return None;
        }
        u128::from_str_radix(std::str::from_utf8(text).ok()?, 16)
            .ok()
            .map(Self)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The error for a text that is not a revision.
///
/// ```
/// use prodigy_storage_backend::Revision;
///
/// assert!("latest".parse::<Revision>().is_err());
/// ```
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("a revision is 32 hexadecimal digits, lower case")]
#[non_exhaustive]
pub struct InvalidRevision;

/// The same as `Display`: a `main` that returns the error prints it so.
impl fmt::Debug for InvalidRevision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Revision {
    type Err = InvalidRevision;

    fn from_str(text: &str) -> Result<Self, InvalidRevision> {
        Self::parse(text.as_bytes()).ok_or(InvalidRevision)
    }
}

impl Serialize for Revision {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Revision {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The condition of a put, an addition or a deletion. If it is not met, the call is a conflict.
///
/// ```
/// use prodigy_storage_backend::{Expected, PutOptions, Revision};
///
/// let known = Revision::from_u128(7);
/// let options = PutOptions::default().expect(Expected::Revision(known));
/// # let _ = options;
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a backend has to check each")]
pub enum Expected {
    /// No condition.
    #[default]
    Any,
    /// The document does not exist; for an addition, the series is empty.
    Absent,
    /// The document has this revision. For an addition, the newest valid document of the series has it.
    Revision(Revision),
}

/// How to write a document; `Default` is a strict write without a condition.
///
/// ```
/// use prodigy_storage_backend::{Durability, Expected, PutOptions};
///
/// let options = PutOptions::new(Durability::Strict).expect(Expected::Absent);
/// assert_eq!(options.fencing, None);
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct PutOptions {
    /// The condition.
    pub expected: Expected,
    /// The failures that the write survives once it is acknowledged.
    pub durability: Durability,
    /// The fencing token of the lock that the writer holds. The write fails with
    /// [`Fenced`](crate::ErrorKind::Fenced) if any document of the job, even one that was deleted since, was
    /// written under a greater token of the same lock. A write without a token is never refused for that.
    pub fencing: Option<Fence>,
    /// The earliest stamp that an addition may give the new document. A put ignores it.
    pub not_before: Option<Timestamp>,
    /// The key of an addition, which becomes part of the new document's name. A put ignores it, and so does an
    /// addition to the setup phase, which holds only one document.
    pub key: Option<CheckpointKey>,
}

impl PutOptions {
    /// Options with this durability.
    #[must_use]
    pub fn new(durability: Durability) -> Self {
        Self {
            durability,
            ..Self::default()
        }
    }

    /// Sets the condition.
    #[must_use]
    pub fn expect(mut self, expected: Expected) -> Self {
        self.expected = expected;
        self
    }

    setters! {
        /// Sets the fencing token, if any.
        fencing: Option<Fence>,

        /// Sets the earliest stamp, if any.
        not_before: Option<Timestamp>,

        /// Sets the key, if any.
        key: Option<CheckpointKey>,
    }
}

/// A document that was read.
///
/// The body is a JSON object with exactly the bytes that were put. A backend may pass a larger buffer that
/// contains the body, instead of copying the body. A clone shares the bytes.
///
/// ```
/// use prodigy_storage_backend::{Revision, StoredDocument};
///
/// let stored = StoredDocument::new(br#"{"items":3}"#.to_vec(), 0, Revision::random(), true);
/// assert_eq!(stored.body(), br#"{"items":3}"#);
/// assert!(stored.is_verified());
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct StoredDocument {
    bytes: Arc<Vec<u8>>,
    start: usize,
    revision: Revision,
    verified: bool,
}

impl StoredDocument {
    /// A document whose body is `bytes[start..]`. Shared bytes are not copied. `verified` is true if the document
    /// had a checksum that matched.
    #[must_use]
    pub fn new(bytes: impl Into<Arc<Vec<u8>>>, start: usize, revision: Revision, verified: bool) -> Self {
        let bytes = bytes.into();
        let start = start.min(bytes.len());
        Self {
            bytes,
            start,
            revision,
            verified,
        }
    }

    /// The body: a JSON object.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }

    /// The revision of the document.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// True if the document had a checksum that matched. A document of another program has none.
    #[must_use]
    pub fn is_verified(&self) -> bool {
        self.verified
    }

    /// The bytes of memory that the document holds, including memory that it shares with its clones.
    #[must_use]
    pub fn weight(&self) -> usize {
        self.bytes.capacity()
    }
}

impl fmt::Debug for StoredDocument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The body may contain data that must not appear in a log.
        f.debug_struct("StoredDocument")
            .field("bytes", &self.body().len())
            .field("revision", &self.revision)
            .field("verified", &self.verified)
            .finish()
    }
}

/// An entry of a listing. Listings never load bodies.
///
/// ```
/// use prodigy_storage_backend::{Deadline, DocumentStore, PageOptions, Result};
/// use prodigy_storage_layout::{DocumentScope, JobAddress};
///
/// fn bytes_of_checkpoints(documents: &dyn DocumentStore, job: &JobAddress) -> Result<u64> {
///     let scope = DocumentScope::Job(job.clone());
///     let page = documents.list(&scope, &PageOptions::default(), Deadline::never())?;
///     Ok(page.entries.iter().map(|entry| entry.bytes).sum())
/// }
/// # let _ = bytes_of_checkpoints;
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DocumentEntry {
    /// The address of the document.
    pub document: Document,
    /// The stored size in bytes.
    pub bytes: u64,
    /// The time of the last write, by the backend's clock.
    pub modified: Timestamp,
}

impl DocumentEntry {
    /// An entry of a listing.
    #[must_use]
    pub fn new(document: Document, bytes: u64, modified: Timestamp) -> Self {
        Self {
            document,
            bytes,
            modified,
        }
    }
}

/// The result of an addition to a series.
///
/// ```
/// use prodigy_storage_backend::{Body, Deadline, DocumentStore, PutOptions, Result};
/// use prodigy_storage_layout::{JobAddress, Phase};
///
/// fn add(documents: &dyn DocumentStore, job: &JobAddress, body: Body<'_>) -> Result<()> {
///     let added = documents.add(job, Phase::Map, body, &PutOptions::default(), Deadline::never())?;
///     println!("{} {}", added.document, added.revision);
///     Ok(())
/// }
/// # let _ = add;
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_structs,
    reason = "backends make it: each has to fill in a new field"
)]
pub struct Added {
    /// The new document. Its stamp is later than all others of its series, and than those that this project gave
    /// in the job's other series.
    pub document: Document,
    /// The revision of the new document.
    pub revision: Revision,
}
