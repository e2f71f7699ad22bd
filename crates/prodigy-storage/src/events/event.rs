//! An event as it is read.

use std::borrow::Cow;

use prodigy_storage_backend::{EventId, Record, Result};
use prodigy_storage_layout::{JobAddress, Timestamp};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::error::other_shape;

/// An event, as it was stored.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Event<T> {
    /// Its id: of version 7, and in the order of the log, but for lines of other programs.
    pub id: EventId,
    /// When it was stored.
    pub timestamp: Timestamp,
    /// What ties it to events of the same cause.
    pub correlation_id: Option<String>,
    /// The payload.
    pub event: T,
    /// What the writer put beside it.
    pub metadata: Option<Box<RawValue>>,
    /// Whether its line carried a checksum that held. A line of another program has none.
    pub verified: bool,
}

#[derive(Deserialize)]
#[serde(bound(deserialize = "T: Deserialize<'de>"))]
struct Envelope<'a, T> {
    #[serde(default, borrow)]
    timestamp: Option<Cow<'a, str>>,
    #[serde(default)]
    correlation_id: Option<String>,
    event: T,
    #[serde(default)]
    metadata: Option<Box<RawValue>>,
}

impl<T: DeserializeOwned> Event<T> {
    /// Parses envelope and payload in one pass.
    pub(crate) fn from_record(record: &Record<'_>, job: &JobAddress) -> Result<Self> {
        let envelope: Envelope<'_, T> = record
            .parse()
            .map_err(|error| other_shape("read event", format_args!("{job} {}", record.id), error))?;
        let timestamp = if record.verified && record.id.is_v7() {
            // What our own lines say is the id's time, cut to microseconds.
            record.id.time()
        } else {
            let stated = envelope.timestamp.as_deref().and_then(Timestamp::parse);
            stated.unwrap_or_else(|| {
                if record.id.is_v7() {
                    record.id.time()
                } else {
                    Timestamp::MIN
                }
            })
        };
        Ok(Self {
            id: record.id,
            timestamp,
            correlation_id: envelope.correlation_id,
            event: envelope.event,
            metadata: envelope.metadata,
            verified: record.verified,
        })
    }
}
