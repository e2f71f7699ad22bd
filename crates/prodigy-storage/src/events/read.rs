//! Reads the events that are stored now.

use std::fmt;
use std::marker::PhantomData;

use prodigy_storage_backend::{Cursor, EventId, Record, Result, Scan, ScanItem, StorageError};
use prodigy_storage_layout::{JobAddress, Timestamp};
use serde::de::DeserializeOwned;

use super::event::Event;
use super::filter::{EventFilter, Filters};

/// Selects the events to read; `Default` is all that are stored now.
///
/// ```
/// # use prodigy_storage::{ReadOptions, Storage, Timestamp};
/// # let job = Storage::in_memory()?.repo("shop")?.job("mapreduce-7")?;
/// job.events().append(&"started")?;
/// let hour = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
/// let recent = ReadOptions::new().since(Timestamp::from(hour));
/// assert_eq!(job.events().read_with::<String>(recent)?.count(), 1);
/// # Ok::<(), prodigy_storage::StorageError>(())
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ReadOptions {
    /// Returns only events that this cursor does not cover.
    pub from: Option<Cursor>,
    /// Returns only events at this time or later.
    pub since: Option<Timestamp>,
    /// Returns only events before this time.
    pub until: Option<Timestamp>,
    /// Returns only events that pass all of these filters. Damage and records over `max_record_size` are returned
    /// even so.
    pub filters: Vec<EventFilter>,
}

impl ReadOptions {
    /// Reads everything that is stored now.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns only events that this cursor does not cover.
    #[must_use]
    pub fn after(cursor: Cursor) -> Self {
        Self {
            from: Some(cursor),
            ..Self::default()
        }
    }

    /// Returns only events that this cursor does not cover; all events if `None`.
    #[must_use]
    pub fn from(mut self, cursor: impl Into<Option<Cursor>>) -> Self {
        self.from = cursor.into();
        self
    }

    /// Returns only events at this time or later.
    #[must_use]
    pub fn since(mut self, time: impl Into<Option<Timestamp>>) -> Self {
        self.since = time.into();
        self
    }

    /// Returns only events before this time.
    #[must_use]
    pub fn until(mut self, time: impl Into<Option<Timestamp>>) -> Self {
        self.until = time.into();
        self
    }

    /// Adds a filter: only events that pass all filters are returned.
    #[must_use]
    pub fn filter(mut self, filter: EventFilter) -> Self {
        self.filters.push(filter);
        self
    }

    /// Adds filters: only events that pass all filters are returned.
    #[must_use]
    pub fn filters(mut self, filters: impl IntoIterator<Item = EventFilter>) -> Self {
        self.filters.extend(filters);
        self
    }
}

/// An iterator over the events that were stored when it was made.
///
/// ```
/// # use prodigy_storage::{ReadOptions, Storage};
/// # let job = Storage::in_memory()?.repo("shop")?.job("mapreduce-7")?;
/// job.events().append_batch(["started", "half done", "finished"])?;
/// let mut reader = job.events().read::<String>()?;
/// for event in reader.by_ref().take(2) {
///     println!("{}", event?.event);
/// }
/// // Reading continues where the reader stopped, in this process or another one.
/// let rest = job.events().read_with::<String>(ReadOptions::after(reader.cursor()))?;
/// assert_eq!(rest.count(), 1);
/// # Ok::<(), prodigy_storage::StorageError>(())
/// ```
pub struct EventReader<T> {
    scan: Box<dyn Scan>,
    job: JobAddress,
    filters: Filters,
    ended: bool,
    /// The size in bytes of the line that was read last.
    bytes: usize,
    of: PhantomData<fn() -> T>,
}

impl<T> EventReader<T> {
    pub(super) fn new(scan: Box<dyn Scan>, job: &JobAddress, filters: Filters) -> Self {
        Self {
            scan,
            job: job.clone(),
            filters,
            ended: false,
            bytes: 0,
            of: PhantomData,
        }
    }

    /// The cursor after the last returned item: a read from it continues exactly there. Save it with the state
    /// that resulted from these events ([`SaveOptions::cursor`](crate::SaveOptions::cursor)).
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        self.scan.cursor()
    }

    /// The size in bytes of the line that was read last.
    #[cfg(feature = "tokio")]
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl<T: DeserializeOwned> Iterator for EventReader<T> {
    type Item = Result<Event<T>>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.ended {
            return Some(match self.scan.next() {
                Ok(Some(ScanItem::Record(record))) => {
                    self.bytes = record.line.len();
                    match self.filters.hold(&record) {
                        Ok(true) => Event::from_record(&record, &self.job),
                        Ok(false) => continue,
                        Err(error) => Err(error),
                    }
                }
                Ok(Some(ScanItem::Damage(damage))) => Err(StorageError::from(damage)),
                Ok(Some(ScanItem::TooLarge(record))) => Err(StorageError::from(record)),
                Ok(None) => {
                    self.ended = true;
                    return None;
                }
                Err(error) => {
                    self.ended = true;
                    Err(error)
                }
            });
        }
        None
    }
}

impl<T: DeserializeOwned> std::iter::FusedIterator for EventReader<T> {}

impl<T> fmt::Debug for EventReader<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventReader")
            .field("job", &self.job)
            .finish_non_exhaustive()
    }
}

/// The lines of a log. Each is borrowed until the next call.
///
/// ```
/// # use prodigy_storage::{ReadOptions, ScanItem, Storage};
/// # let job = Storage::in_memory()?.repo("shop")?.job("mapreduce-7")?;
/// job.events().append(&"started")?;
/// let mut lines = job.events().read_lines(ReadOptions::new())?;
/// while let Some(item) = lines.next()? {
///     if let ScanItem::Record(record) = item {
///         assert!(record.line.contains(r#""event":"started""#));
///     }
/// }
/// # Ok::<(), prodigy_storage::StorageError>(())
/// ```
pub struct EventLines {
    scan: Box<dyn Scan>,
    filters: Filters,
    /// The text of the returned line, if there are filters.
    line: String,
}

/// An item of a scan whose line is in a separate buffer, so that it does not borrow from the scan.
pub(super) enum BufferedItem {
    Record(EventId, bool),
    Other(ScanItem<'static>),
}

impl BufferedItem {
    /// Copies the line of an item into `line`, so that the result does not borrow from the scan.
    pub(super) fn take(item: ScanItem<'_>, line: &mut String) -> Self {
        match item {
            ScanItem::Record(record) => {
                line.clear();
                line.push_str(record.line);
                Self::Record(record.id, record.verified)
            }
            ScanItem::Damage(damage) => Self::Other(ScanItem::Damage(damage)),
            ScanItem::TooLarge(record) => Self::Other(ScanItem::TooLarge(record)),
        }
    }

    /// The item again, with its line from the buffer.
    pub(super) fn lend(self, line: &str) -> ScanItem<'_> {
        match self {
            Self::Record(id, verified) => ScanItem::Record(Record { id, line, verified }),
            Self::Other(item) => item,
        }
    }
}

impl EventLines {
    pub(super) fn new(scan: Box<dyn Scan>, filters: Filters) -> Self {
        Self {
            scan,
            filters,
            line: String::new(),
        }
    }

    /// The next line, damage, or record over the limit. `None` after the last event that was stored when the
    /// reading began.
    ///
    /// # Errors
    /// A failure that ends the reading. With filters, also a line of another program that is not JSON.
    #[expect(
        clippy::should_implement_trait,
        reason = "each item is lent, which `Iterator` can't say"
    )]
    pub fn next(&mut self) -> Result<Option<ScanItem<'_>>> {
        if self.filters.is_empty() {
            return self.scan.next();
        }
        let found = next_held(&mut *self.scan, &self.filters, &mut self.line)?;
        Ok(found.map(|found| found.lend(&self.line)))
    }

    /// The cursor after the last returned item.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        self.scan.cursor()
    }
}

/// The next item of a scan that the filters select.
pub(super) fn next_held(
    scan: &mut dyn Scan,
    filters: &Filters,
    line: &mut String,
) -> Result<Option<BufferedItem>> {
    while let Some(item) = scan.next()? {
        let held = match &item {
            ScanItem::Record(record) => filters.hold(record)?,
            _ => true,
        };
        if held {
            return Ok(Some(BufferedItem::take(item, line)));
        }
    }
    Ok(None)
}

impl fmt::Debug for EventLines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventLines").finish_non_exhaustive()
    }
}
