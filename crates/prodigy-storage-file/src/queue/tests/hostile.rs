//! Tests of files and items that would cost much more time or memory than their length suggests.

use prodigy_storage_backend::{Durability, ErrorKind, QueueItem, QueueStep};
use serde_json::value::RawValue;

use super::support::{NEVER, Place, id};

#[test]
fn an_item_that_names_itself_twice_is_skipped_and_none_of_the_two() {
    for twice in [
        r#"{"item_id":"a","item_id":"b","item_data":1}"#,
        r#"{"item_data":1,"item_id":"a","item_id":"b"}"#,
    ] {
        let place = Place::holding(format!("[{twice},\n{{\"item_id\":\"c\"}}]"));
        let store = place.store();
        let steps = place.steps(&store);
        assert!(matches!(&steps[..], [QueueStep::Entry(entry)] if entry.id == id("c")));
        assert_eq!(place.skipped(&store), 1);
        for name in ["a", "b"] {
            let error = store.queue_get(&place.job, &id(name), NEVER).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Foreign);
        }
    }
}

#[test]
fn a_pushed_item_that_names_itself_twice_is_refused() {
    let place = Place::new();
    let body = r#"{"item_id":"a","item_id":"b","item_data":1}"#;
    let item = QueueItem {
        id: id("a"),
        body: RawValue::from_string(body.into()).unwrap(),
    };
    let store = place.store();
    let error = store
        .queue_put(&place.job, &[item], Durability::Strict, None, NEVER)
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(place.ids(&store).is_empty());
}

#[test]
fn a_lease_with_a_control_character_is_no_text_whatever_the_checksum_says() {
    let mut line = b"{\"item_id\":\"a\",\"item_data\":1,\"lease_token\":\"t\0\",\"lease_until\":\"2036-01-01T00:00:00Z\"".to_vec();
    prodigy_storage_backend::record::add_checksum(&mut line, 0);
    let place = Place::holding([b"[\n", &line[..], b"\n]\n"].concat());
    let steps = place.steps(&place.store());
    assert!(
        matches!(&steps[..], [QueueStep::Damage(damage)] if damage.len == line.len() as u64),
        "{steps:?}"
    );
}

#[test]
fn a_line_with_a_checksum_that_is_no_json_hides_no_item_of_its_id() {
    let mut rubbish = b"{\"item_id\":\"a\" rubbish".to_vec();
    prodigy_storage_backend::record::add_checksum(&mut rubbish, 0);
    let ours = Place::new();
    ours.put(&ours.store(), &["a"]).unwrap();
    let bytes = ours.bytes();
    let place = Place::holding([b"[\n", &rubbish[..], b",", &bytes[1..]].concat());
    let store = place.store();
    assert_eq!(place.put(&store, &["a"]).unwrap().merged, 1);
}

#[test]
fn a_name_of_an_item_within_its_data_is_data() {
    let place = Place::new();
    let body = r#"{"item_id":"a","item_data":{"item_id":"b"}}"#;
    let item = QueueItem {
        id: id("a"),
        body: RawValue::from_string(body.into()).unwrap(),
    };
    let store = place.store();
    store
        .queue_put(&place.job, &[item], Durability::Strict, None, NEVER)
        .unwrap();
    assert_eq!(place.ids(&store), ["a"]);
}

/// Each of these braces could begin an item that extends to the end of the file. Without a limit, reading the file
/// would take days.
#[test]
fn braces_that_are_never_closed_cost_a_bounded_number_of_passes_and_no_item_that_has_its_line() {
    let ours = Place::new();
    ours.put(&ours.store(), &["x"]).unwrap();
    let bytes = ours.bytes();
    let line = bytes.split(|&byte| byte == b'\n').nth(1).unwrap();
    let braces = b"{\"a\":\n".repeat(200_000);
    let place = Place::holding([b"[\n", &braces[..], line, b",\n", &braces[..], b"]\n"].concat());
    let steps = place.steps(&place.store());
    let told: u64 = steps
        .iter()
        .map(|step| match step {
            QueueStep::Damage(damage) => damage.len,
            QueueStep::Entry(_) | QueueStep::TooLarge(_) => 0,
        })
        .sum();
    assert!(told >= 2 * braces.len() as u64 - 10, "{told}");
    let entries = steps.iter().filter_map(|step| match step {
        QueueStep::Entry(entry) => Some(&entry.id),
        QueueStep::Damage(_) | QueueStep::TooLarge(_) => None,
    });
    assert_eq!(entries.collect::<Vec<_>>(), [&id("x")]);
}
