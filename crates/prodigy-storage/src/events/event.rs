//! Events in the form in which they are returned.

use prodigy_storage_backend::{EventId, Fence, Record, Result};
use prodigy_storage_layout::{JobAddress, Timestamp};
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::error::other_shape;

/// An event, as it was stored.
///
/// ```
/// # use prodigy_storage::{AppendOptions, Event, Storage};
/// # let job = Storage::in_memory()?.repo("shop")?.job("mapreduce-7")?;
/// let id = job.events().append_with(&"finished", AppendOptions::new().correlation_id("run-7"))?;
/// let event: Event<String> = job.events().read()?.next().expect("one event")?;
/// assert_eq!((event.id, event.event.as_str()), (id, "finished"));
/// assert_eq!(event.correlation_id.as_deref(), Some("run-7"));
/// # Ok::<(), prodigy_storage::StorageError>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Event<T> {
    /// The id: of version 7 and in the order of the log, except for lines of other programs.
    pub id: EventId,
    /// The time at which it was stored.
    pub timestamp: Timestamp,
    /// The id that related events share.
    pub correlation_id: Option<String>,
    /// The payload.
    pub event: T,
    /// The metadata that the writer added.
    pub metadata: Option<Box<RawValue>>,
    /// The fencing token that it was appended under, on a [fenced](crate::Job::fenced) job. An event whose token is lower than one
    /// before it of the same lock was appended by a writer that had been replaced.
    pub fence: Option<Fence>,
    /// True if its line had a checksum that matched. A line of another program has none.
    pub verified: bool,
}

impl<T: DeserializeOwned> Event<T> {
    /// Parses envelope and payload in one pass.
    pub(crate) fn from_record(record: &Record<'_>, job: &JobAddress) -> Result<Self> {
        let parsed = record
            .parse_event()
            .map_err(|error| other_shape("read event", format_args!("{job} {}", record.id), error))?;
        Ok(Self {
            id: record.id,
            timestamp: parsed.timestamp,
            correlation_id: parsed.correlation_id,
            event: parsed.event,
            metadata: parsed.metadata,
            fence: parsed.fence,
            verified: record.verified,
        })
    }
}
