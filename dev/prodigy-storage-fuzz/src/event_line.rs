//! A line of a log: it is read as a record, or reported as damage.

use prodigy_storage_backend::record::{
    Checksum, MAX_NESTING, RecordEncoder, add_checksum, check_crc, find_record_end, find_record_start,
    line_time, lone_surrogate, nesting_exceeds, read_line,
};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::oracle::{self, is_known_limit};

/// The offset of the time in a record of this project.
const TIME_AT: usize = 7 + 36 + 15;
const BODY_AT: usize = TIME_AT + 27 + 1;
const TRAILER: usize = 18;

/// Input: the first byte chooses between the line itself, and the line with a valid checksum.
pub fn event_line(bytes: &[u8]) {
    let Some((&mode, rest)) = bytes.split_first() else {
        return;
    };
    let mut line = rest.to_vec();
    if mode & 1 == 1 {
        add_checksum(&mut line, 0);
    }
    record(&line);
    starts_and_ends(&line);
    if let Ok(text) = std::str::from_utf8(rest) {
        json(text);
    }
}

fn record(line: &[u8]) {
    let whole = line;
    // A carriage return belongs to the line end.
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let sealed = oracle::is_sealed(line);
    assert_eq!(check_crc(line) == Checksum::Valid, sealed);
    let Ok(record) = read_line(whole) else { return };
    assert_eq!(record.line.as_bytes(), line, "the line is given as it is");
    assert_eq!(record.verified, sealed, "verified is: its checksum holds");
    let parsed = record.parse::<Value>();
    let _ = line_time(record.line);
    if !record.verified {
        assert_eq!(
            check_crc(line),
            Checksum::Missing,
            "a wrong checksum is never passed over"
        );
        if let Ok(value) = parsed {
            let id = value["id"].as_str().unwrap().to_lowercase();
            assert_eq!(id, record.id.to_string(), "the id is that of the line");
            assert!(value.get("event").is_some());
        }
    } else if let Some(body) = line.get(BODY_AT..line.len() - TRAILER) {
        let mut written = Vec::new();
        RecordEncoder::new().encode(&mut written, record.id, record.time(), body);
        if line.get(..BODY_AT) == written.get(..BODY_AT) {
            assert_eq!(written, line, "what has a writer's head is what a writer writes");
        }
    }
}

fn starts_and_ends(bytes: &[u8]) {
    let mut from = 0;
    while let Some(start) = find_record_start(bytes, from) {
        assert!(start >= from && bytes[start..].starts_with(b"{\"id\":\""));
        if let Some(len) = find_record_end(&bytes[start..], 64) {
            assert!(
                oracle::is_sealed(&bytes[start..start + len]),
                "only what holds is found"
            );
        }
        from = start + 1;
    }
}

/// Compares the checks that an append makes in addition to the grammar of JSON with a parser's result.
fn json(text: &str) {
    let Ok(raw) = serde_json::from_str::<&RawValue>(text) else {
        return;
    };
    let bytes = raw.get().as_bytes();
    let half = lone_surrogate(bytes);
    if let Some(at) = half {
        assert!(bytes[at..].starts_with(b"\\u"), "it points at the escape");
        assert!(
            serde_json::from_str::<Value>(raw.get()).is_err(),
            "no text holds it"
        );
    } else if let Err(error) = serde_json::from_str::<Value>(raw.get()) {
        let known = is_known_limit(raw.get(), &error) || error.to_string().contains("recursion limit");
        assert!(known, "refused for another reason: {error}");
    }
    if let Ok(value) = serde_json::from_str::<Value>(raw.get())
        && !has_repeated_keys(raw.get(), &value)
    {
        let depth = oracle::depth(&value);
        for limit in [0, 1, MAX_NESTING - 1, MAX_NESTING, depth.saturating_sub(1), depth] {
            assert_eq!(
                nesting_exceeds(bytes, limit),
                depth > limit,
                "depth {depth}, limit {limit}"
            );
        }
    }
}

/// True if an object has a repeated key. Only the key's last value is kept, so the parsed value does not show the
/// depth of the others.
fn has_repeated_keys(text: &str, value: &Value) -> bool {
    fn keys(value: &Value) -> usize {
        match value {
            Value::Array(items) => items.iter().map(keys).sum(),
            Value::Object(fields) => fields.len() + fields.values().map(keys).sum::<usize>(),
            _ => 0,
        }
    }
    let (mut colons, mut in_text, mut escaped) = (0, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b':' if !in_text => colons += 1,
            _ => {}
        }
    }
    colons != keys(value)
}
