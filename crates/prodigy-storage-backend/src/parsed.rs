//! Parses a record, with its payload, in one pass.

use std::borrow::Cow;

use prodigy_storage_layout::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::fence::Fence;
use crate::record::{self, FENCE_FIELD, Record};

/// The fields of an event's record, except its id.
///
/// ```
/// use prodigy_storage_backend::{EventId, Parsed, Record};
///
/// let line = r#"{"id":"019ab7ac-5d70-7000-99f2-194a59eb3f1d","event":{"agent":3}}"#;
/// let record = Record { id: "019ab7ac-5d70-7000-99f2-194a59eb3f1d".parse::<EventId>()?, line, verified: false };
/// let parsed: Parsed<serde_json::Value> = record.parse_event().expect("it has a payload");
/// assert_eq!(parsed.event["agent"], 3);
/// # Ok::<(), prodigy_storage_backend::InvalidEventId>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Parsed<T> {
    /// The time of the append, by the clock of the writer ([`Record::time`]).
    pub timestamp: Timestamp,
    /// The id that events with one cause share.
    pub correlation_id: Option<String>,
    /// The payload.
    pub event: T,
    /// The metadata that the writer added.
    pub metadata: Option<Box<RawValue>>,
    /// The fencing token under which the event was appended.
    pub fence: Option<Fence>,
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
    #[serde(default, borrow)]
    fence: Option<&'a RawValue>,
}

/// The fencing token in a field; `None` if the field holds anything else, as it may in a line of another program.
fn fence_in(field: Option<&RawValue>) -> Option<Fence> {
    let text: Cow<'_, str> = serde_json::from_str(field?.get()).ok()?;
    text.parse().ok()
}

impl<'a> Record<'a> {
    /// Parses the record, with its payload, in one pass.
    ///
    /// If a line has the form that [`RecordEncoder`](record::RecordEncoder) writes and a checksum that matches,
    /// the names and the order of its fields are compared as bytes, and only its values are parsed. Any other line
    /// is parsed as JSON.
    ///
    /// # Errors
    /// The error of `serde_json`, with its place in the line, if the payload is not a `T`.
    #[inline]
    pub fn parse_event<T: Deserialize<'a>>(&self) -> Result<Parsed<T>, serde_json::Error> {
        if let Some(parsed) = self.parse_in_form() {
            return Ok(parsed);
        }
        let envelope: Envelope<'_, T> = self.parse()?;
        Ok(Parsed {
            timestamp: self.time_beside(envelope.timestamp.as_deref()),
            correlation_id: envelope.correlation_id,
            event: envelope.event,
            metadata: envelope.metadata,
            fence: fence_in(envelope.fence),
        })
    }

    /// Parses a line whose fields have the usual form and order; `None` if they have not, or if a value does not
    /// parse.
    #[inline]
    fn parse_in_form<T: Deserialize<'a>>(&self) -> Option<Parsed<T>> {
        if !self.verified || !self.id.is_v7() {
            return None;
        }
        let (timestamp, mut rest) = record::parts_in_form(self.line)?;
        let correlation_id = match rest.strip_prefix(",\"correlation_id\":") {
            Some(value) => first_value(value, &mut rest)?,
            None => None,
        };
        let event = first_value(rest.strip_prefix(",\"event\":")?, &mut rest)?;
        let metadata = match rest.strip_prefix(",\"metadata\":") {
            Some(value) => first_value(value, &mut rest)?,
            None => None,
        };
        let fence = match rest.strip_prefix(FENCE_FIELD) {
            Some(value) => Some(first_value(value, &mut rest)?),
            None => None,
        };
        rest.is_empty().then_some(Parsed {
            timestamp,
            correlation_id,
            event,
            metadata,
            fence: fence_in(fence),
        })
    }

    fn time_beside(&self, stated: Option<&str>) -> Timestamp {
        let other = || {
            if self.id.is_v7() {
                self.id.time()
            } else {
                Timestamp::MIN
            }
        };
        stated.and_then(Timestamp::parse).unwrap_or_else(other)
    }
}

/// Parses the value at the start of `text`. Sets `rest` to the text after the value.
fn first_value<'a, T: Deserialize<'a>>(text: &'a str, rest: &mut &'a str) -> Option<T> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter();
    let value = values.next()?.ok()?;
    *rest = text.get(values.byte_offset()..)?;
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::EventId;
    use crate::record::{RecordEncoder, add_checksum, read_line};
    use proptest::prelude::*;
    use serde_json::Value;

    fn id() -> EventId {
        EventId::floor(Timestamp::from_nanos(1_764_018_118_123_456_789))
    }

    fn line(body: &str) -> String {
        let mut out = Vec::new();
        let time = Timestamp::from_nanos(1_764_018_118_123_456_789);
        RecordEncoder::new().encode(&mut out, id(), time, body.as_bytes());
        String::from_utf8(out).unwrap()
    }

    /// Parses the record as JSON, whatever its form.
    fn general<'a, T: Deserialize<'a>>(record: &Record<'a>) -> Result<Parsed<T>, String> {
        let envelope: Envelope<'_, T> = record.parse().map_err(|error| error.to_string())?;
        Ok(Parsed {
            timestamp: record.time_beside(envelope.timestamp.as_deref()),
            correlation_id: envelope.correlation_id,
            event: envelope.event,
            metadata: envelope.metadata,
            fence: fence_in(envelope.fence),
        })
    }

    fn same<T: PartialEq + std::fmt::Debug>(one: &Parsed<T>, other: &Parsed<T>) -> bool {
        let raw = |parsed: &Parsed<T>| parsed.metadata.as_ref().map(|raw| raw.get().to_owned());
        one.timestamp == other.timestamp
            && one.correlation_id == other.correlation_id
            && one.event == other.event
            && raw(one) == raw(other)
            && one.fence == other.fence
    }

    #[test]
    fn lines_of_ours_are_parsed_in_their_form() {
        for body in [
            ",\"event\":{\"a\":1}",
            ",\"event\":7",
            ",\"event\":null",
            ",\"correlation_id\":null,\"event\":1,\"metadata\":null",
            ",\"event\":\"x\",\"metadata\":{\"k\":[1]}",
            ",\"correlation_id\":\"run\\n1\",\"event\":-0.5e3,\"metadata\":\"m\"",
            ",\"event\":1,\"fence\":\"a/b=5\"",
            ",\"event\":1,\"metadata\":2,\"fence\":\"b=5@0123456789abcdef\"",
            ",\"event\":1,\"fence\":\"none\"",
            ",\"event\":1,\"fence\":{\"a\":null}",
        ] {
            let text = line(body);
            let record = read_line(text.as_bytes()).unwrap();
            let parsed: Parsed<Value> = record.parse_in_form().expect(body);
            assert!(same(&parsed, &general(&record).unwrap()), "{body}");
        }
    }

    #[test]
    fn a_payload_as_deep_as_one_may_be_is_parsed_in_its_form() {
        let deep = |depth: usize| line(&format!(",\"event\":{}{}", "[".repeat(depth), "]".repeat(depth)));
        let (deepest, deeper) = (deep(record::MAX_NESTING), deep(record::MAX_NESTING + 1));
        let record = read_line(deepest.as_bytes()).unwrap();
        assert!(record.parse_in_form::<Value>().is_some());
        let record = read_line(deeper.as_bytes()).unwrap();
        assert!(record.parse_event::<Value>().is_err());
    }

    #[test]
    fn what_is_not_in_form_goes_the_general_way() {
        for body in [
            ",\"event\":1,\"event\":2",
            ",\"metadata\":1,\"event\":2",
            ",\"event\":1,\"more\":2",
            ",\"event\" :1",
            ",\"event\":1 ",
            ",\"correlation_id\":7,\"event\":1",
            ",\"event\":1,\"id\":\"x\"",
            ",\"fence\":\"5\",\"event\":1",
            ",\"event\":{\"a\":1}}{",
            ",\"event\":",
        ] {
            let text = line(body);
            let Ok(record) = read_line(text.as_bytes()) else {
                continue;
            };
            assert!(record.parse_in_form::<Value>().is_none(), "{body}");
            let parsed = record.parse_event::<Value>().map_err(|error| error.to_string());
            match (parsed, general::<Value>(&record)) {
                (Ok(parsed), Ok(expected)) => assert!(same(&parsed, &expected), "{body}"),
                (parsed, expected) => assert_eq!(parsed.unwrap_err(), expected.unwrap_err()),
            }
        }
    }

    #[test]
    fn a_time_that_hides_fields_is_not_in_form() {
        let id = id().to_string();
        // In place of a timestamp, the line has other fields of the same length, of which one is a second `event`.
        let mut text =
            format!("{{\"id\":\"{id}\",\"timestamp\":\"\",\"event\":12345,\"a\":\"123\",\"event\":1")
                .into_bytes();
        add_checksum(&mut text, 0);
        let record = read_line(&text).unwrap();
        assert!(record.verified);
        assert!(record.parse_in_form::<Value>().is_none());
    }

    #[test]
    fn an_error_says_where_in_the_line() {
        let text = line(",\"event\":{\"a\":\"x\"}");
        let record = read_line(text.as_bytes()).unwrap();
        let error = record
            .parse_event::<std::collections::BTreeMap<String, u8>>()
            .unwrap_err();
        assert!(error.column() > record::RECORD_OVERHEAD / 2, "{error}");
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(".{0,6}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn both_ways_read_the_same(
            event in json(), metadata in prop::option::of(json()), correlation in prop::option::of(".{0,9}"),
        ) {
            let mut body = String::new();
            if let Some(correlation) = &correlation {
                body += &format!(",\"correlation_id\":{}", Value::from(correlation.as_str()));
            }
            body += &format!(",\"event\":{event}");
            if let Some(metadata) = &metadata {
                body += &format!(",\"metadata\":{metadata}");
            }
            let text = line(&body);
            let record = read_line(text.as_bytes()).unwrap();
            let parsed = record.parse_in_form::<Value>().unwrap();
            prop_assert!(same(&parsed, &general(&record).unwrap()));
            prop_assert_eq!(parsed.correlation_id, correlation);
        }

        #[test]
        fn any_body_reads_the_same_both_ways(body in "[,:{}\\[\\]\"a-e0-9 ]{0,40}") {
            let text = line(&body);
            if let Ok(record) = read_line(text.as_bytes()) {
                let parsed = record.parse_event::<Value>().map_err(|error| error.to_string());
                match (parsed, general::<Value>(&record)) {
                    (Ok(parsed), Ok(expected)) => prop_assert!(same(&parsed, &expected)),
                    (Err(parsed), Err(expected)) => prop_assert_eq!(parsed, expected),
                    (parsed, expected) => prop_assert!(false, "{:?} and {:?}", parsed, expected),
                }
            }
        }
    }
}
