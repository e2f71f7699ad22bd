use std::time::Duration;

use prodigy_storage_backend::{ErrorKind, LeaseToken, PutReport, Select};
use serde_json::{Value, json};

use crate::queue::Queues;

use super::support::{NEVER, Place, id, value};

const ITEMS: &str =
    r#"[{"item_data":{"n":[1,2]},"item_id":"a","x":"}]"},{"item_id":"b","item_data":2.50,"crc":7}]"#;

fn pretty() -> String {
    serde_json::to_string_pretty(&serde_json::from_str::<Value>(ITEMS).unwrap()).unwrap()
}

fn all_forms() -> [String; 5] {
    [
        ITEMS.to_owned(),
        format!("{ITEMS}\n"),
        pretty(),
        format!(" \n{}\n\n\n", pretty()),
        pretty().replace('\n', "\r\n"),
    ]
}

#[test]
fn items_of_other_programs_are_read_unverified_and_kept() {
    for text in all_forms() {
        let place = Place::holding(&text);
        let store = place.store();
        let entries = place.entries(&store);
        assert_eq!(entries.len(), 2, "{text}");
        assert!(
            entries
                .iter()
                .all(|entry| !entry.verified && entry.lease.is_none())
        );
        assert_eq!(
            value(&entries[0]),
            json!({"item_id": "a", "item_data": {"n": [1, 2]}, "x": "}]"})
        );
        assert!(
            entries[0].body.get().starts_with("{\"item_id\":\"a\"") && !entries[0].body.get().contains('\n')
        );
        assert!(entries[1].body.get().contains("2.5"));
        assert_eq!(place.bytes(), text.as_bytes());

        assert_eq!(
            place.put(&store, &["c"]).unwrap(),
            PutReport::new(1, 0, 0),
            "{text}"
        );
        let ids: Vec<Value> = place.array().iter().map(|item| item["item_id"].clone()).collect();
        assert_eq!(ids, ["a", "b", "c"], "{text}");
        assert!(place.quarantined().is_empty());
        assert_eq!(value(&place.entries(&store)[0]), value(&entries[0]));
    }
}

#[test]
fn they_can_be_taken_merged_and_removed() {
    for text in all_forms() {
        let place = Place::holding(&text);
        let store = place.store();
        let taken = store
            .queue_take(
                &place.job,
                &Select::eligible(),
                1,
                Duration::from_secs(9),
                None,
                NEVER,
            )
            .unwrap();
        assert_eq!(taken[0].id, id("a"));
        let entries = place.entries(&store);
        assert_eq!(
            (entries[0].lease.clone(), entries[0].body.get()),
            (taken[0].lease.clone(), taken[0].body.get())
        );
        assert_eq!(place.put(&store, &["b"]).unwrap().merged, 1);
        let merged = value(&store.queue_get(&place.job, &id("b"), NEVER).unwrap().unwrap());
        assert_eq!(
            (&merged["failure_count"], &merged["item_data"]["for"]),
            (&json!(2), &json!("b"))
        );
        let token = taken[0].lease.clone().unwrap().token;
        assert_eq!(place.ack(&store, &[token]).unwrap().settled.len(), 1);
        assert_eq!(place.remove(&store, &[id("b")]).unwrap().settled.len(), 1);
        place.compact(&store);
        assert!(place.array().is_empty());
    }
}

#[test]
fn our_file_printed_anew_by_another_program_keeps_items_and_leases() {
    let place = Place::new();
    let store = place.store();
    place.put(&store, &["a", "b"]).unwrap();
    let taken = store
        .queue_take(
            &place.job,
            &Select::eligible(),
            1,
            Duration::from_secs(9),
            None,
            NEVER,
        )
        .unwrap();
    let before: Vec<Value> = place.entries(&store).iter().map(value).collect();
    let printed = serde_json::to_string_pretty(&place.array()).unwrap();
    place.write(&printed);
    let entries = place.entries(&store);
    assert_eq!(entries.iter().map(value).collect::<Vec<_>>(), before);
    assert_eq!(entries[0].lease, taken[0].lease);
    let token = taken[0].lease.clone().unwrap().token;
    assert_eq!(place.nack(&store, &[token]).unwrap().settled.len(), 1);
    place.compact(&store);
    assert!(place.entries(&store)[0].verified);
    assert_eq!(place.array().len(), 2);
}

#[test]
fn empty_files_and_arrays_are_empty_queues() {
    for text in ["", "\n", "[]", "[ ]\n", "[\n]\n", "[\n\n]", "[", "[\n"] {
        let place = Place::holding(text);
        let store = place.store();
        // Only an array that is cut short is reported as damage: we never leave an array open without a journal, and
        // another program's empty array is closed.
        let is_cut = ["", "[", "[\n"].contains(&text);
        assert_eq!(place.steps(&store).len(), usize::from(is_cut), "{text:?}");
        place.put(&store, &["a"]).unwrap();
        place.put(&store, &["b"]).unwrap();
        assert_eq!(place.array().len(), 2, "{text:?}");
    }
}

/// Array elements that are not items. Each of them is tested next to an item.
const ELEMENTS: [&str; 6] = [
    "{\"k\":2}",
    "{\"item_id\":7}",
    "8",
    "\"text\"",
    "[1,\n{\"k\":[]}]",
    "null",
];

#[test]
fn elements_that_are_not_items_are_skipped_and_outlive_every_rewrite_byte_for_byte() {
    for element in ELEMENTS {
        let place = Place::new();
        let store = place.store();
        place.put(&store, &["a", "b"]).unwrap();
        let text = String::from_utf8(place.bytes()).unwrap();
        place.write(text.replace("[\n", &format!("[\n{element},\n")));
        let ids = |store: &Queues| -> Vec<String> {
            place
                .entries(store)
                .iter()
                .map(|entry| entry.id.to_string())
                .collect()
        };
        let store = place.store();
        assert_eq!(ids(&store), ["a", "b"], "{element}");
        assert_eq!(place.skipped(&store), 1, "{element}");
        let one = id("nobody");
        assert!(store.queue_get(&place.job, &one, NEVER).unwrap().is_none());
        let taken = store
            .queue_take(
                &place.job,
                &Select::eligible(),
                1,
                Duration::from_secs(9),
                None,
                NEVER,
            )
            .unwrap();
        let token = taken[0].lease.clone().unwrap().token;
        place.ack(&store, &[token]).unwrap();
        place.put(&store, &["b", "c"]).unwrap();
        let one = id("b");
        place.remove(&store, &[one]).unwrap();
        place.compact(&store);
        assert_eq!(ids(&store), ["c"], "{element}");
        let text = String::from_utf8(place.bytes()).unwrap();
        assert!(text.starts_with(&format!("[\n{element},\n")), "{text}");
        assert!(!place.folder.path().join("quarantine").exists(), "{element}");
    }
}

#[test]
fn a_file_without_our_marks_that_is_not_an_array_of_items_is_skipped_and_never_changed() {
    let mut texts: Vec<String> = ELEMENTS
        .iter()
        .map(|element| format!("[{element}, {{\"item_id\":\"a\"}}]"))
        .collect();
    texts.extend(
        [
            "{\"items\":{\"a\":1}}",
            "garbage",
            "[{\"a\":1}]",
            "[{\"item_id\": \"a\"}, {\"item",
        ]
        .map(String::from),
    );
    for text in texts {
        let place = Place::holding(&text);
        let store = place.store();
        let readable = place.entries(&store).len();
        assert!(readable < 2, "{text}");
        assert_eq!(place.skipped(&store), 1, "{text}");
        let one = id("nobody");
        let error = store.queue_get(&place.job, &one, NEVER).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Foreign, "{text}");
        assert_eq!(place.skipped(&store), 1, "{text}");
        let token = LeaseToken::from("t".to_owned());
        for error in [
            place.put(&store, &["x"]).unwrap_err(),
            store
                .queue_take(
                    &place.job,
                    &Select::eligible(),
                    1,
                    Duration::from_secs(9),
                    None,
                    NEVER,
                )
                .unwrap_err(),
            place.remove(&store, &[id("a")]).unwrap_err(),
            place.ack(&store, std::slice::from_ref(&token)).unwrap_err(),
            place.nack(&store, std::slice::from_ref(&token)).unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::Foreign, "{text}");
            assert!(
                error.hint().unwrap().contains("move it out of the root"),
                "{error}"
            );
        }
        assert_eq!(place.bytes(), text.as_bytes());
        assert!(!place.folder.path().join("quarantine").exists(), "{text}");
    }
}

#[test]
fn a_queue_of_ours_stays_ours_when_its_last_item_goes_and_an_element_of_another_program_is_left() {
    let place = Place::new();
    let store = place.store();
    place.put(&store, &["a"]).unwrap();
    let text = String::from_utf8(place.bytes()).unwrap();
    place.write(text.replace("\n]", ",\n{\"odd\":1}\n]"));
    place.remove(&store, &[id("a")]).unwrap();
    place.compact(&store);
    assert_eq!(place.array(), [json!({"odd": 1})]);
    place.put(&place.store(), &["b"]).unwrap();
    assert_eq!(place.array().len(), 2);
}

#[test]
fn a_file_with_items_that_is_not_a_whole_array_is_never_changed() {
    for text in [
        "{\"item_id\":\"a\",\"item_data\":1}",
        "{\"item_id\":\"a\",\"item_data\":1}\n{\"item_id\":\"b\",\"item_data\":1}\n",
        "{\"item_id\":\"x\"}]]]]",
        ",{\"item_id\":\"a\"}",
        "]{\"item_id\":\"a\"}",
        "[{\"item_id\":\"a\",\"item_data\":1}",
        "[{\"item_id\":\"a\",\"item_data\":1},",
        "\u{feff}[{\"item_id\":\"a\",\"item_data\":1}]",
        "[\n{\"item_id\":\"a\",\"item_data\":{}},\nnot json at all\n]\n",
    ] {
        let place = Place::holding(text);
        let error = place.put(&place.store(), &["b"]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Foreign, "{text}");
        assert_eq!(place.bytes(), text.as_bytes());
    }
}

#[test]
fn a_long_value_of_another_program_is_skipped_as_a_whole_and_never_written_to() {
    let item = "{\"item_id\":\"a\",\"item_data\":1},";
    let text = format!("{{\"items\":[{}{{}}]}}", item.repeat(100_000));
    let place = Place::holding(&text);
    let store = place.store();
    // The file is shorter than the limit for an item, so it could be read as a single one.
    assert!(text.len() < 64 << 20);
    assert!(place.entries(&store).is_empty());
    let error = place.put(&store, &["c"]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Foreign);
    assert_eq!(place.bytes(), text.as_bytes());
}
