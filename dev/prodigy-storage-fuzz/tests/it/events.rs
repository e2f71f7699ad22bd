//! Events: the payloads that an append accepts, and reading segments that others wrote.

use prodigy_storage_backend::{Batch, LogStore};
use prodigy_storage_backend::{Cursor, ErrorKind, ScanItem, ScanOptions};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::store::{NEVER, PLAIN, Store, foreign, raw, record};

const SHAPE: &str = "it is not a JSON object with an `event`, or its `id` is not a UUID";
const UTF8: &str = "it is not well-formed UTF-8";

fn deep(depth: usize) -> String {
    format!("{}{}", "[".repeat(depth), "]".repeat(depth))
}

#[test]
fn what_an_append_refuses_is_refused_before_anything_is_written() {
    for payload in [
        deep(128),
        deep(100_000),
        "1e999".into(),
        "9".repeat(400),
        r#""\ud800""#.into(),
        r#""x\udc00""#.into(),
        r#"{"\ud800":1}"#.into(),
    ] {
        let error = Batch::new().push(&raw(&payload)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
    // Text that is not JSON is refused by a batch.
    for text in ["\u{feff}1", "\"a\0b\"", "\"a\nb\"", "01", "NaN", "{\"a\":1,}", ""] {
        assert!(RawValue::from_string(text.into()).is_err(), "{text:?}");
    }
}

#[test]
fn what_an_append_takes_comes_back_byte_for_byte() {
    for payload in [
        deep(127),
        r#"{"a":1,"a":2}"#.into(),
        r#""\ud83d\ude00""#.into(),
        r#""\u0000""#.into(),
    ] {
        let store = Store::new();
        store.append(&payload).unwrap();
        let mut scan = store
            .backend()
            .scan(&store.job, &ScanOptions::all(), NEVER)
            .unwrap();
        let Some(ScanItem::Record(record)) = scan.next().unwrap() else {
            panic!("nothing is there");
        };
        let fields: std::collections::BTreeMap<&str, &RawValue> = record.parse().unwrap();
        assert_eq!(fields["event"].get(), payload);
        // A typed reader gets serde_json's result: the last value of a repeated key.
        let value = record.parse::<Value>();
        assert!(value.is_ok(), "{payload}");
        if payload.contains("\"a\":2") {
            assert_eq!(value.unwrap()["event"]["a"], 2);
        }
    }
}

#[test]
fn a_line_that_is_no_event_is_told_and_its_neighbours_are_read() {
    let id = "\"id\":\"6f1c1f5e-7c1a-4a53-9d2e-0a3b1c2d3e4f\"";
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (foreign(&deep(127)).into(), "unverified"),
        (foreign(&deep(128)).into(), SHAPE),
        (foreign(&deep(100_000)).into(), SHAPE),
        (foreign(&"[".repeat(100_000)).into(), SHAPE),
        (foreign("1e999").into(), "unverified"),
        (foreign(&"9".repeat(400)).into(), "unverified"),
        (foreign("{\"a\":1,\"a\":2}").into(), "unverified"),
        (format!("{{{id},{id},\"event\":1}}\n").into(), SHAPE),
        (format!("{{{id},\"event\":1,\"event\":2}}\n").into(), SHAPE),
        (foreign("\"\\ud800\"").into(), "unverified"),
        (foreign("\"\u{0}\"").into(), SHAPE),
        (b"\0\0\0\0\n".to_vec(), SHAPE),
        (b"\xff\xfe\n".to_vec(), UTF8),
        (b"{\"id\":\"\xed\xa0\x80\"}\n".to_vec(), UTF8),
        (b"\xef\xbb\xbf{}\n".to_vec(), SHAPE),
        (b"{}\n".to_vec(), SHAPE),
    ];
    for (line, expected) in cases {
        let (store, _) = Store::segment(PLAIN, &[record(1), line.clone(), record(2)].concat());
        let told = store.events(None).unwrap();
        assert_eq!(told.len(), 3, "{told:?}");
        assert_eq!((told[0].as_str(), told[2].as_str()), ("verified", "verified"));
        let damage = format!("{}: {expected}", line.len() - 1);
        assert!(
            told[1] == expected || told[1] == damage,
            "{}: {}",
            told[1],
            String::from_utf8_lossy(&line)
        );
    }
}

#[test]
fn what_editors_and_other_systems_do_to_a_segment_costs_no_event() {
    let verified = |store: &Store| {
        let steps = store.events(None).unwrap();
        steps.iter().filter(|step| *step == "verified").count()
    };
    let lines = [record(1), record(2)].concat();
    let crlf = String::from_utf8(lines.clone()).unwrap().replace('\n', "\r\n");
    let (store, _) = Store::segment(PLAIN, crlf.as_bytes());
    assert_eq!(verified(&store), 2);
    let with_mark = [&b"\xef\xbb\xbf"[..], &lines].concat();
    let (store, _) = Store::segment(PLAIN, &with_mark);
    assert_eq!(store.events(None).unwrap(), ["verified", "verified"]);
    let without_ends = lines
        .iter()
        .copied()
        .filter(|byte| *byte != b'\n')
        .collect::<Vec<_>>();
    let (store, _) = Store::segment(PLAIN, &without_ends);
    assert_eq!(verified(&store), 2);
}

#[test]
fn a_segment_without_any_event_is_empty() {
    for bytes in [&b""[..], b"\n", &[b'\n'; 100_000], b" \r\n\t\n"] {
        let (store, _) = Store::segment(PLAIN, bytes);
        assert!(store.events(None).unwrap().is_empty(), "{bytes:?}");
        store.append("1").unwrap();
        assert_eq!(store.events(None).unwrap(), ["verified"]);
    }
}

#[test]
fn a_cursor_that_is_none_is_refused() {
    let (store, _) = Store::segment(PLAIN, &record(1));
    for text in [
        "x".to_owned(),
        "v2.file.e30".into(),
        "v1.memory.1".into(),
        format!("v1.file.{}", "A".repeat(1 << 20)),
    ] {
        let error = store.events(Some(Cursor::new(text).unwrap())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
    let cut = Cursor::new("x".repeat((16 << 20) + 1)).unwrap_err();
    assert_eq!(cut.kind(), ErrorKind::InvalidInput);
    for text in ["", "v1 file", "v1.file.\u{e9}", "v1.file.e30\n"] {
        assert_eq!(Cursor::new(text).unwrap_err().kind(), ErrorKind::InvalidInput);
    }
}
