//! The log: append-only events of one job.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use prodigy_storage_layout::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{ErrorKind, Result, StorageError};
use crate::record::Record;

/// The failures that an acknowledged write survives.
///
/// ```
/// use prodigy_storage_backend::Durability;
///
/// assert_eq!(Durability::default(), Durability::Strict);
/// assert_eq!(Durability::Relaxed.to_string(), "relaxed");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(clippy::exhaustive_enums, reason = "a backend has to keep each promise")]
pub enum Durability {
    /// The write survives power loss: its data and every new directory entry are synced before the call returns.
    #[default]
    Strict,
    /// The write survives the death of the process: the operating system has the data, but the disk may not have it
    /// yet.
    Relaxed,
}

impl Durability {
    /// All durabilities.
    pub const ALL: &'static [Self] = &[Self::Strict, Self::Relaxed];

    /// The name of the durability in a configuration file.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Strict => "strict",
            Self::Relaxed => "relaxed",
        }
    }
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How to append; `Default` is a strict append.
///
/// ```
/// use prodigy_storage_backend::{AppendOptions, Durability};
///
/// let options = AppendOptions::new(Durability::Relaxed);
/// # let _ = options;
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct AppendOptions {
    /// The failures that the write survives once it is acknowledged.
    pub durability: Durability,
}

impl AppendOptions {
    /// Options with this durability.
    #[must_use]
    pub fn new(durability: Durability) -> Self {
        Self { durability }
    }
}

/// The result of an append.
///
/// ```
/// use prodigy_storage_backend::{AppendOptions, Batch, Deadline, LogStore, Result};
/// use prodigy_storage_layout::JobAddress;
///
/// /// True if none of the batch was stored before.
/// fn is_new(log: &dyn LogStore, job: &JobAddress, batch: &mut Batch) -> Result<bool> {
///     let appended = log.append(job, batch, &AppendOptions::default(), Deadline::never())?;
///     Ok(appended.duplicates == 0)
/// }
/// # let _ = is_new;
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_structs,
    reason = "backends make it: each has to fill in a new field"
)]
pub struct Appended {
    /// The number of events that this call stored.
    pub stored: usize,
    /// The number of events whose id was already stored: they are acknowledged, and not stored again.
    pub duplicates: usize,
}

/// A position in a log. Its text is opaque and versioned: only the backend that made it can read it.
///
/// A cursor is a short text (`v1.…`) that a program keeps in a checkpoint or passes on a command line. Cursors that are
/// equal are the same position. Different ones may be the same position too, such as the one behind the last event of a
/// read that has not yet found the end, and the one at the end: to find out whether anything is left to read, read.
///
/// ```
/// use prodigy_storage_backend::{Cursor, ScanOptions};
///
/// fn resume(kept: &str) -> Result<ScanOptions, prodigy_storage_backend::StorageError> {
///     Ok(ScanOptions::after(kept.parse::<Cursor>()?))
/// }
/// assert!(resume("").is_err());
/// assert!(serde_json::from_str::<Cursor>("\"two words\"").is_err());
/// ```
///
/// A text that no cursor can be is refused where it is parsed or deserialised: see [`new`](Self::new). Whether it is a cursor of
/// this log, only the backend can tell: the first read refuses another one as [`InvalidInput`](crate::ErrorKind::InvalidInput).
///
/// A clone is cheap. A backend may make the text only when it is asked for.
#[derive(Clone)]
pub struct Cursor(Arc<LazyLock<String, Box<dyn FnOnce() -> String + Send>>>);

/// The text of [`Cursor::gap`].
const GAP: &str = "v1.gap";

impl Cursor {
    /// A cursor from the text of an earlier cursor.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if the text is empty, longer than 16 MiB, or has characters other than printable
    /// ASCII.
    pub fn new(text: impl Into<String>) -> Result<Self> {
        let text = text.into();
        if text.is_empty() || text.len() > 16 << 20 || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            let shown: String = text.chars().take(40).collect();
            return Err(StorageError::new(
                ErrorKind::InvalidInput,
                "read cursor",
                shown,
                "it is not a cursor",
            )
            .with_hint("pass the whole text of the cursor, as an earlier read returned it"));
        }
        Ok(Self::from_backend(move || text))
    }

    /// A cursor whose text this backend makes when it is first asked for, from what it knows now. The text is not checked.
    ///
    /// ```
    /// use prodigy_storage_backend::Cursor;
    ///
    /// let (segment, offset) = ("20261124T210158.000000000Z", 4_096);
    /// let cursor = Cursor::from_backend(move || format!("v1.{segment}.{offset}"));
    /// assert_eq!(cursor.as_str(), "v1.20261124T210158.000000000Z.4096");
    /// ```
    #[must_use]
    pub fn from_backend(text: impl FnOnce() -> String + Send + 'static) -> Self {
        Self(Arc::new(LazyLock::new(Box::new(text))))
    }

    /// A cursor that every store refuses as a [`CursorGap`](ErrorKind::CursorGap). Its text is `v1.gap`.
    ///
    /// A copy of a job has it where a cursor was refused in the source, since events behind it were removed there. So a
    /// program that continues from it notices that events are missing, as it would have noticed in the source.
    ///
    /// ```
    /// use prodigy_storage_backend::{Cursor, ErrorKind};
    ///
    /// let cursor: Cursor = "v1.gap".parse()?;
    /// assert_eq!(cursor, Cursor::gap());
    /// let error = cursor.refuse_gap("read cursor", "shop/mapreduce-7").unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::CursorGap);
    /// # Ok::<(), prodigy_storage_backend::StorageError>(())
    /// ```
    #[must_use]
    pub fn gap() -> Self {
        Self::from_backend(|| GAP.to_owned())
    }

    /// Checks that this is not [`gap`](Self::gap). A backend calls it before it parses the text.
    ///
    /// ```
    /// use prodigy_storage_backend::Cursor;
    ///
    /// assert!(Cursor::new("v1.memory.5")?.refuse_gap("read cursor", "shop/mapreduce-7").is_ok());
    /// # Ok::<(), prodigy_storage_backend::StorageError>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::CursorGap`] if this is [`gap`](Self::gap), with the operation and its target.
    pub fn refuse_gap(&self, operation: &'static str, target: impl fmt::Display) -> Result<()> {
        if self.as_str() != GAP {
            return Ok(());
        }
        let why = "the events behind it were removed in the store that this job was copied from";
        Err(StorageError::new(ErrorKind::CursorGap, operation, target, why)
            .with_hint("begin without a cursor: the read then starts with the oldest event that is left"))
    }

    /// The text of the cursor.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl PartialEq for Cursor {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.as_str() == other.as_str()
    }
}

impl Eq for Cursor {}

impl Hash for Cursor {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl fmt::Debug for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Cursor").field(&self.as_str()).finish()
    }
}

impl Serialize for Cursor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Cursor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Cursor {
    type Err = StorageError;

    fn from_str(text: &str) -> Result<Self> {
        Self::new(text)
    }
}

/// The events that a scan returns; `Default` is all stored events.
///
/// ```
/// use std::time::Duration;
/// use prodigy_storage_backend::ScanOptions;
/// use prodigy_storage_layout::Timestamp;
///
/// let day = Timestamp::parse("2026-11-24T00:00:00Z");
/// let options = ScanOptions::all().between(day, None).step_timeout(Some(Duration::from_secs(30)));
/// assert_eq!((options.since, options.from), (day, None));
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ScanOptions {
    /// Only events that this cursor does not cover.
    pub from: Option<Cursor>,
    /// Only events at or after this time.
    pub since: Option<Timestamp>,
    /// Only events before this time.
    pub until: Option<Timestamp>,
    /// The longest time that one call of [`Scan::next`] may take; unbounded if `None`.
    pub step_timeout: Option<Duration>,
}

impl ScanOptions {
    /// All stored events.
    #[must_use]
    pub fn all() -> Self {
        Self::default()
    }

    /// Only events that `cursor` does not cover.
    #[must_use]
    pub fn after(cursor: Cursor) -> Self {
        Self {
            from: Some(cursor),
            ..Self::default()
        }
    }

    /// Only events in the time range `since..until`.
    #[must_use]
    pub fn between(mut self, since: Option<Timestamp>, until: Option<Timestamp>) -> Self {
        self.since = since;
        self.until = until;
        self
    }

    /// Sets [`step_timeout`](Self::step_timeout).
    #[must_use]
    pub fn step_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.step_timeout = timeout;
        self
    }
}

/// Damage that a scan found. The records before and after it are still read.
///
/// ```
/// use prodigy_storage_backend::{Damage, ErrorKind, StorageError};
///
/// let damage = Damage {
///     place: "events/shop/mapreduce-7/events-20251115T073606.123000000Z.jsonl".into(),
///     offset: 4096,
///     len: 12,
///     why: "the checksum does not match".into(),
/// };
/// let error = StorageError::from(damage);
/// assert_eq!(error.kind(), ErrorKind::Damaged);
/// assert!(error.to_string().contains("offset 4096"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_structs,
    reason = "backends make it: each has to fill in a new field"
)]
pub struct Damage {
    /// The path of the damaged file, or the key of the damaged data.
    pub place: String,
    /// The offset of the damage in the uncompressed data, in bytes.
    pub offset: u64,
    /// The number of unreadable bytes.
    pub len: u64,
    /// The reason why these bytes are damage.
    pub why: String,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} at offset {}: {} bytes are unreadable: {}",
            self.place, self.offset, self.len, self.why
        )
    }
}

impl From<Damage> for StorageError {
    fn from(damage: Damage) -> Self {
        Self::new(
            ErrorKind::Damaged,
            "read",
            &damage.place,
            format!(
                "{} bytes at offset {} are unreadable: {}",
                damage.len, damage.offset, damage.why
            ),
        )
        .with_hint("the rest stays readable; keep the file, and compare it with a backup")
    }
}

/// A record that is larger than the reader's limit. It is not damaged, and the records before and after it are
/// read.
///
/// ```
/// use prodigy_storage_backend::TooLarge;
///
/// let record = TooLarge {
///     place: "events/shop/mapreduce-7/events-20251115T073606.123000000Z.jsonl".into(),
///     offset: 0,
///     len: 100_000_000,
///     id: None,
///     verified: true,
///     limit: 67_108_864,
/// };
/// assert_eq!(record.hint(), "set `backend_config.max_record_size` to 100000000 or more to read it");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_structs,
    reason = "backends make it: each has to fill in a new field"
)]
pub struct TooLarge {
    /// The path of the file, or the key of the data.
    pub place: String,
    /// The offset of the record in the uncompressed data, in bytes.
    pub offset: u64,
    /// The length of the record in bytes.
    pub len: u64,
    /// The id of the event or the item, if the record begins with it; otherwise it is not searched.
    pub id: Option<String>,
    /// True if the record has a checksum that matches. A record of another program has no checksum.
    pub verified: bool,
    /// The `max_record_size` of the reader, in bytes.
    pub limit: u64,
}

impl TooLarge {
    /// Describes the record in words, without its place.
    #[must_use]
    pub fn why(&self) -> String {
        let id = self.id.as_deref().unwrap_or("without an id in its place");
        let seal = if self.verified {
            "its checksum holds"
        } else {
            "it has no checksum"
        };
        format!(
            "the record {id}, {} bytes at offset {}, is larger than `max_record_size`, which is {} here; {seal}",
            self.len, self.offset, self.limit
        )
    }

    /// A hint that names the setting to raise.
    #[must_use]
    pub fn hint(&self) -> String {
        format!(
            "set `backend_config.max_record_size` to {} or more to read it",
            self.len
        )
    }
}

impl fmt::Display for TooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.why())
    }
}

impl From<TooLarge> for StorageError {
    fn from(record: TooLarge) -> Self {
        Self::new(ErrorKind::TooLarge, "read", &record.place, record.why()).with_hint(record.hint())
    }
}

/// One step of a scan.
///
/// ```
/// use prodigy_storage_backend::ScanItem;
///
/// fn show(item: &ScanItem<'_>) -> String {
///     match item {
///         ScanItem::Record(record) => record.line.to_owned(),
///         ScanItem::Damage(damage) => damage.to_string(),
///         ScanItem::TooLarge(record) => record.to_string(),
///     }
/// }
/// # let _ = show;
/// ```
#[derive(Debug)]
#[expect(
    clippy::exhaustive_enums,
    reason = "a reader has to handle each: one that is skipped is lost to it"
)]
pub enum ScanItem<'a> {
    /// A line that is a whole record.
    Record(Record<'a>),
    /// Bytes that are not a record. The next step continues after them.
    Damage(Damage),
    /// A record that is larger than the reader's limit. The next step continues after it.
    TooLarge(TooLarge),
}

/// A running scan: it returns all events that were stored when it began, merged by id.
///
/// It holds a bounded number of buffers and file descriptors, whatever the size of the log.
///
/// ```
/// use prodigy_storage_backend::{Cursor, Result, Scan};
///
/// /// Reads to the end, and returns the position to continue from.
/// fn drain(scan: &mut dyn Scan) -> Result<Cursor> {
///     while let Some(item) = scan.next()? {
///         println!("{item:?}");
///     }
///     Ok(scan.cursor())
/// }
/// # let _ = drain;
/// ```
pub trait Scan: Send {
    /// The next record, damage or record over the limit; `None` at the end of what was stored when the scan began.
    ///
    /// # Errors
    /// A failure that ends the scan: an I/O error, a step that took too long, or events that were removed before
    /// the scan read them.
    fn next(&mut self) -> Result<Option<ScanItem<'_>>>;

    /// Fetches what the next call of [`next`](Self::next) needs from a server, so that `next` itself does not fail for
    /// want of a connection. Without a server, there is nothing to fetch.
    ///
    /// # Errors
    /// Those of [`next`](Self::next). After a transient one, a scan from [`cursor`](Self::cursor) continues exactly there.
    fn fetch(&mut self) -> Result<()> {
        Ok(())
    }

    /// The position after the last returned item. A scan from this cursor continues exactly there.
    fn cursor(&self) -> Cursor;
}

/// The size of a log; no event is read for it.
///
/// ```
/// use prodigy_storage_backend::{Deadline, LogStore, Result};
/// use prodigy_storage_layout::JobAddress;
///
/// fn print_size(log: &dyn LogStore, job: &JobAddress) -> Result<()> {
///     let summary = log.log_summary(job, Deadline::never())?;
///     println!("{} bytes in {} segments, {} of them sealed", summary.bytes, summary.segments, summary.sealed);
///     Ok(())
/// }
/// # let _ = print_size;
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_structs,
    reason = "backends make it: each has to fill in a new field"
)]
pub struct LogSummary {
    /// The number of segments, or of the corresponding parts of another backend.
    pub segments: u64,
    /// The number of sealed segments, to which no event is appended any more.
    pub sealed: u64,
    /// The number of compressed segments.
    pub compressed: u64,
    /// The stored size in bytes.
    pub bytes: u64,
}
