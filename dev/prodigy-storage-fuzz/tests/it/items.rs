//! Dead letters: the items that a push accepts, and reading and writing files that others wrote.

use prodigy_storage_backend::dead_letter::{merge, normalise};
use prodigy_storage_backend::{Durability, ErrorKind, QueueStore};
use prodigy_storage_layout::{Entry, Timestamp};

use crate::store::{NEVER, Store, raw};

#[test]
fn what_a_push_refuses() {
    let deep = format!(
        "{{\"item_id\":\"a\",\"item_data\":{}{}}}",
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    let huge = format!("{{\"item_id\":\"a\",\"item_data\":{}}}", "9".repeat(400));
    for item in [
        deep.as_str(),
        r#"{"item_id":"a"}"#,
        r#"{"item_id":7,"item_data":1}"#,
        r#"{"item_id":"","item_data":1}"#,
        r#"{"item_id":"\ud800","item_data":1}"#,
        r#"{"item_id":"a","item_data":"\ud800"}"#,
        r#"{"item_id":"a","item_id":"b","item_data":1}"#,
        r#"{"item_id":"a","item_data":1,"item_data":2}"#,
        r#"{"item_id":"a","item_data":1,"failure_count":1e999}"#,
        r#"{"item_id":"a","item_data":{"b":1e999}}"#,
        huge.as_str(),
        r#"{"item_id":"a","item_data":1,"failure_count":-1}"#,
        "[1]",
        "null",
    ] {
        let error = normalise(&raw(item)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
    // The data of an item may be any JSON.
    for data in ["9".repeat(300), "{\"a\":1,\"a\":2}".into(), "null".into()] {
        let item = normalise(&raw(&format!("{{\"item_id\":\"a\",\"item_data\":{data}}}"))).unwrap();
        assert!(item.body.get().contains(&format!("\"item_data\":{data},")));
    }
}

#[test]
fn what_a_file_of_another_shape_gives() {
    let deep = format!(
        "[{{\"item_id\":\"a\",\"x\":{}{}}}]",
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    let cases: &[(&[u8], &[&str])] = &[
        (
            b"",
            &["0: the file has no whole item: it is empty, or was cut or overwritten"],
        ),
        (b"\n\n\n", &[]),
        (b"[]", &[]),
        (b"null", &["skipped 1"]),
        (b"{\"items\":[{\"item_id\":\"a\"}]}", &["skipped 1"]),
        (b"{\"item_id\":\"a\"}", &["unverified a"]),
        (
            b"[{\"item_id\":\"a\"},{\"item_id\":\"b\"}]",
            &["unverified a", "unverified b"],
        ),
        (b"[[{\"item_id\":\"a\"}]]", &["skipped 1"]),
        (b"\xef\xbb\xbf[{\"item_id\":\"a\"}]", &["unverified a"]),
        (
            b"[\r\n{\"item_id\":\"a\"},\r\n{\"item_id\":\"b\"}\r\n]\r\n",
            &["unverified a", "unverified b"],
        ),
        (b"[{\"item_id\":\"a\\u0000\"}]", &["unverified a\0"]),
        (b"[{\"item_id\":\"a\0\"}]", &["skipped 1"]),
        (b"[{\"item_id\":\"\\ud800\"}]", &["skipped 1"]),
        (b"[{\"item_id\":\"a\",\"x\":\"\\ud800\"}]", &["unverified a"]),
        (b"[{\"item_id\":\"a\",\"item_id\":\"b\"}]", &["skipped 1"]),
        (b"[{\"item_id\":\"a\",\"x\":1e999}]", &["unverified a"]),
        (deep.as_bytes(), &["unverified a"]),
    ];
    for (bytes, expected) in cases {
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(80)]).into_owned();
        assert_eq!(Store::queue(bytes).items(), *expected, "{shown}");
    }
}

#[test]
fn a_million_values_that_are_no_items_are_skipped_and_stay() {
    let numbers = vec!["1"; 1_000_000];
    let item = normalise(&raw(r#"{"item_id":"a","item_data":1}"#)).unwrap();
    for separator in [",", ",\n"] {
        let array = format!("[{}]", numbers.join(separator));
        let store = Store::queue(array.as_bytes());
        assert_eq!(store.items(), ["skipped 1000000"]);
        let error = store
            .backend()
            .queue_put(
                &store.job,
                std::slice::from_ref(&item),
                Durability::Relaxed,
                None,
                NEVER,
            )
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Foreign);
        assert_eq!(
            std::fs::read(store.path(&Entry::Queue(store.job.clone()))).unwrap(),
            array.as_bytes()
        );
    }
}

#[test]
fn brackets_without_end_are_skipped_in_bounded_depth() {
    for bytes in [
        "[".repeat(1_000_000),
        "{\"a\":".repeat(300_000),
        "[{\"item_id\":\"a\",\"x\":".to_owned() + &"[".repeat(1_000_000),
    ] {
        assert_eq!(Store::queue(bytes.as_bytes()).items(), ["skipped 1"]);
    }
}

/// The push and the merge read the fields once. Comparing each name with each other would take hours.
#[test]
fn many_fields_take_one_pass_to_push_and_to_merge() {
    let fields: String = (0..300_000).map(|name| format!(",\"f{name}\":1")).collect();
    let pushed = |data: u32| {
        let item = raw(&format!("{{\"item_id\":\"a\",\"item_data\":{data}{fields}}}"));
        normalise(&item).unwrap()
    };
    let (item, again) = (pushed(1), pushed(2));
    let merged = merge(&item.body, &again.body, Timestamp::from_nanos(1)).unwrap();
    let merged = merged.expect("another push");
    assert_eq!(merged.get().matches("\"f299999\":1").count(), 1);
}
