//! Dead letters: what a push takes, and what a reader and a writer make of a file that somebody else wrote.

use prodigy_storage_backend::dead_letter::{merge, normalise};
use prodigy_storage_backend::{Durability, ErrorKind, QueueStore};
use prodigy_storage_layout::{Entry, Timestamp};
use serde::de::IgnoredAny;

use crate::store::{NEVER, Store, raw};

const NONE: &str = "it is not an item";

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
        let error = normalise(&raw(item), Timestamp::from_nanos(0)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
    // Data of an item is anybody's.
    for data in ["9".repeat(300), "{\"a\":1,\"a\":2}".into(), "null".into()] {
        let item = normalise(
            &raw(&format!("{{\"item_id\":\"a\",\"item_data\":{data}}}")),
            Timestamp::from_nanos(0),
        )
        .unwrap();
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
        (b"", &[]),
        (b"\n\n\n", &[]),
        (b"[]", &[]),
        (b"null", &["4: it is not an item"]),
        (
            b"{\"items\":[{\"item_id\":\"a\"}]}",
            &["27: it has no valid `item_id`"],
        ),
        (b"{\"item_id\":\"a\"}", &["unverified a"]),
        (
            b"[{\"item_id\":\"a\"},{\"item_id\":\"b\"}]",
            &["unverified a", "unverified b"],
        ),
        (b"[[{\"item_id\":\"a\"}]]", &["18: it is not an item"]),
        (b"\xef\xbb\xbf[{\"item_id\":\"a\"}]", &["unverified a"]),
        (
            b"[\r\n{\"item_id\":\"a\"},\r\n{\"item_id\":\"b\"}\r\n]\r\n",
            &["unverified a", "unverified b"],
        ),
        (b"[{\"item_id\":\"a\\u0000\"}]", &["unverified a\0"]),
        (b"[{\"item_id\":\"a\0\"}]", &["17: it is not an item"]),
        (b"[{\"item_id\":\"\\ud800\"}]", &["20: it has no valid `item_id`"]),
        (b"[{\"item_id\":\"a\",\"x\":\"\\ud800\"}]", &["unverified a"]),
        (
            b"[{\"item_id\":\"a\",\"item_id\":\"b\"}]",
            &["29: it has no valid `item_id`"],
        ),
        (b"[{\"item_id\":\"a\",\"x\":1e999}]", &["unverified a"]),
        (deep.as_bytes(), &["unverified a"]),
    ];
    for (bytes, expected) in cases {
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(80)]).into_owned();
        assert_eq!(Store::queue(bytes).items(), *expected, "{shown}");
    }
}

#[test]
fn a_million_values_that_are_no_items_are_one_damage_and_go_with_the_next_rewrite() {
    let numbers = vec!["1"; 1_000_000];
    for separator in [",", ",\n"] {
        let store = Store::queue(format!("[{}]", numbers.join(separator)).as_bytes());
        let told = store.items();
        assert_eq!(told.len(), 1, "{:?}", &told[..told.len().min(3)]);
        assert!(told[0].ends_with(NONE));
        let item = normalise(&raw(r#"{"item_id":"a","item_data":1}"#), Timestamp::from_nanos(0)).unwrap();
        let backend = store.backend();
        backend
            .queue_put(&store.job, &[item], Durability::Relaxed, NEVER)
            .unwrap();
        assert_eq!(store.items().last().unwrap(), "verified a");
        let bytes = std::fs::read(store.path(&Entry::Queue(store.job.clone()))).unwrap();
        assert!(
            serde_json::from_slice::<Vec<IgnoredAny>>(&bytes).is_ok(),
            "it is a list"
        );
    }
}

#[test]
fn brackets_without_end_are_damage_in_bounded_depth() {
    for bytes in [
        "[".repeat(1_000_000),
        "{\"a\":".repeat(300_000),
        "[{\"item_id\":\"a\",\"x\":".to_owned() + &"[".repeat(1_000_000),
    ] {
        let told = Store::queue(bytes.as_bytes()).items();
        assert!(
            told.len() == 1 && told.iter().all(|step| step.ends_with(NONE)),
            "{told:?}"
        );
    }
}

/// Were each name compared with each other, this would take hours.
#[test]
fn many_fields_take_one_pass_to_push_and_to_merge() {
    let fields: String = (0..300_000).map(|name| format!(",\"f{name}\":1")).collect();
    let pushed = raw(&format!("{{\"item_id\":\"a\",\"item_data\":1{fields}}}"));
    let item = normalise(&pushed, Timestamp::from_nanos(0)).unwrap();
    let merged = merge(&item.body, &item.body, Timestamp::from_nanos(0)).unwrap();
    assert_eq!(merged.get().matches("\"f299999\":1").count(), 1);
}
