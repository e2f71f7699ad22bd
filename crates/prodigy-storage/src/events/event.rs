//! Events that were read.

use prodigy_storage_backend::{EventId, Fence, Record, Result};
use prodigy_storage_layout::{JobAddress, Timestamp};
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::error::other_shape;

/// An event that was read.
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
    /// The id of the event. It has version 7 and follows the order of the log, except for lines of other programs.
    pub id: EventId,
    /// The time at which the event was stored.
    pub timestamp: Timestamp,
    /// The id that events with one cause share.
    pub correlation_id: Option<String>,
    /// The payload.
    pub event: T,
    /// The metadata that the writer added.
    pub metadata: Option<Box<RawValue>>,
    /// The fencing token under which the event was appended, on a [fenced](crate::Job::fenced) job. If an earlier
    /// event has a greater token of the same lock, the writer of this event had already lost the lock.
    pub fence: Option<Fence>,
    /// True if the line of the event has a checksum that matches. A line of another program has no checksum.
    pub verified: bool,
}

impl<T: DeserializeOwned> Event<T> {
    /// Parses a record, with its payload, in one pass.
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
