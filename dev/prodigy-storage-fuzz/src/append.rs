//! Events with arbitrary parts: an append accepts or refuses them, and a read returns the accepted ones unchanged.

use prodigy_storage_backend::record::{RECORD_OVERHEAD, RecordEncoder, read_line};
use prodigy_storage_backend::{Annotations, Batch, ErrorKind, EventId};
use prodigy_storage_layout::Timestamp;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::oracle::is_known_limit;

/// The envelope of a record as readers see it.
#[derive(Deserialize)]
struct Envelope<'a> {
    id: EventId,
    timestamp: Timestamp,
    #[serde(default)]
    correlation_id: Option<String>,
    #[serde(borrow)]
    event: &'a RawValue,
    #[serde(borrow, default)]
    metadata: Option<&'a RawValue>,
}

/// Input: eight bytes for the id's time, then an event, its metadata and its correlation id, separated by zero bytes.
pub fn append(bytes: &[u8]) {
    let Some((time, rest)) = bytes.split_first_chunk::<8>() else {
        return;
    };
    let id = EventId::floor(Timestamp::from_nanos(i64::from_le_bytes(*time)));
    let mut parts = rest.split(|&byte| byte == 0).map(std::str::from_utf8);
    let raw = |text: &str| RawValue::from_string(text.to_owned()).ok();
    let Some(event) = parts.next().and_then(Result::ok).and_then(raw) else {
        return;
    };
    let metadata = parts.next().and_then(Result::ok).and_then(raw);
    let correlation_id = parts.next().and_then(Result::ok);
    let beside = Annotations {
        correlation_id,
        metadata: metadata.as_ref(),
    };

    let mut batch = Batch::new();
    batch.push("before").unwrap();
    let before = batch.bytes();
    if let Err(error) = batch.push_with(&event, beside) {
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert_eq!(
            (batch.len(), batch.bytes()),
            (1, before),
            "the batch is as it was"
        );
        return;
    }
    let body = batch.bodies().nth(1).unwrap();
    let mut line = Vec::new();
    RecordEncoder::new().encode(&mut line, id, id.time(), body);
    assert_eq!(line.len(), body.len() + RECORD_OVERHEAD);
    assert!(!line.contains(&b'\n') && !line.contains(&b'\r'), "one line");

    let record = read_line(&line).unwrap();
    assert!(record.verified);
    assert_eq!(record.id, id);
    let read: Envelope<'_> = record.parse().unwrap();
    assert_eq!(read.id, id);
    assert_eq!(read.timestamp.as_nanos() / 1000, id.time().as_nanos() / 1000);
    assert_eq!(
        read.event.get(),
        on_one_line(event.get()),
        "the payload's own bytes"
    );
    // Only the raw bytes distinguish an absent value from a `null`.
    let null = metadata.as_ref().is_some_and(|metadata| metadata.get() == "null");
    assert_eq!(
        read.metadata.map(|metadata| metadata.get().to_owned()),
        metadata
            .filter(|_| !null)
            .map(|metadata| on_one_line(metadata.get()))
    );
    assert_eq!(read.correlation_id.as_deref(), correlation_id);
    if let Err(error) = record.parse::<Value>() {
        assert!(
            is_known_limit(record.line, &error),
            "unreadable for another reason: {error}"
        );
    }
}

fn on_one_line(json: &str) -> String {
    json.replace(['\n', '\r'], " ")
}
