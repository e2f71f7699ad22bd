use std::sync::atomic::Ordering;

use prodigy_storage_backend::{Durability, ErrorKind, PutReport, Select};
use serde_json::Value;

use super::support::{Faulty, NEVER, Place, id, item, item_of, raw, value};

#[test]
fn a_fresh_file_is_an_array_with_an_item_a_line() {
    let place = Place::new();
    let store = place.store();
    place.put(&store, &["a", "b"]).unwrap();
    place.put(&store, &["c"]).unwrap();
    let text = String::from_utf8(place.bytes()).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!((lines[0], lines[4], lines.len()), ("[", "]", 5));
    assert!(text.ends_with("\"}\n]\n"), "{text}");
    assert!(lines[1].starts_with("{\"item_id\":\"a\",") && lines[1].ends_with("\"},"));
    let array = place.array();
    assert_eq!(array.len(), 3);
    assert!(
        array
            .iter()
            .all(|item| item["crc"].as_str().unwrap().len() == 8 && item.get("lease_token").is_none())
    );
}

#[test]
fn items_come_back_as_they_were_put() {
    let place = Place::new();
    let store = place.store();
    let odd = "q\"u\\o\u{7f}é\u{1F600}\n";
    let odd_json = Value::from(odd);
    let pushed = item_of(&format!(
        r#"{{"item_id":{odd_json},"item_data":[ 1.50, "\u00e9" ],"x":"]\n}}"}}"#
    ));
    store
        .queue_put(
            &place.job,
            std::slice::from_ref(&pushed),
            Durability::Strict,
            None,
            NEVER,
        )
        .unwrap();
    let found = store.queue_get(&place.job, &id(odd), NEVER).unwrap().unwrap();
    assert_eq!(found.body.get(), pushed.body.get());
    assert!(found.verified && found.lease.is_none());
    assert_eq!(
        store
            .queue_get(&place.job, &id("q"), NEVER)
            .unwrap()
            .map(|found| found.id),
        None
    );
    // The same item is pushed again.
    let again = store
        .queue_put(&place.job, &[pushed], Durability::Strict, None, NEVER)
        .unwrap();
    assert_eq!(again, PutReport::new(0, 0, 1), "the same push is stored once");
}

#[test]
fn a_push_costs_the_same_however_long_the_queue_is() {
    let place = Place::new();
    let (store, faults) = Faulty::store(&place);
    place.put(&store, &["first"]).unwrap();
    faults.work();
    place.put(&store, &["s0001"]).unwrap();
    let small = faults.work();
    let many: Vec<String> = (0..20_000).map(|n| format!("n{n:05}")).collect();
    place
        .put(&store, &many.iter().map(String::as_str).collect::<Vec<_>>())
        .unwrap();
    let batch = faults.work();
    assert_eq!(batch[2..], [1, 1], "a batch is one write and one sync");
    place.put(&store, &["grow"]).unwrap();
    assert_eq!(
        faults.work()[2..],
        [1, 1],
        "a push that leaves blanks is one write and one sync"
    );
    place.put(&store, &["s0002"]).unwrap();
    let [read, written, writes, syncs] = faults.work();
    assert_eq!([read, writes, syncs], [small[0], small[2], small[3]]);
    assert!(written < small[1] + 10, "only the number of the item is longer");
    assert_eq!(small[2..], [1, 1], "one write, one sync");
    assert_eq!(
        small[0], 19,
        "only the end of the last line and the closing bracket are read"
    );
    assert_eq!(place.array().len(), 20_004);
}

#[test]
fn a_relaxed_push_is_not_synced() {
    let place = Place::new();
    let (store, faults) = Faulty::store(&place);
    // Only the push that creates the file syncs it, so that no part of a file remains after a crash.
    for (name, expected) in [("a", 1), ("b", 0)] {
        store
            .queue_put(&place.job, &[item(name)], Durability::Relaxed, None, NEVER)
            .unwrap();
        assert_eq!(faults.work()[3], expected, "{name}");
    }
    place.put(&store, &["c"]).unwrap();
    assert_eq!(faults.work()[3], 1);
}

#[test]
fn a_known_id_is_merged_and_keeps_place_and_lease() {
    let place = Place::new();
    let store = place.store();
    place.put(&store, &["a", "b", "c"]).unwrap();
    let before = String::from_utf8(place.bytes()).unwrap();
    let taken = store
        .queue_take(
            &place.job,
            &Select::ids([id("b")]),
            9,
            std::time::Duration::from_secs(60),
            None,
            NEVER,
        )
        .unwrap();
    let pushed = item_of(r#"{"item_id":"b","item_data":2,"failure_history":[{"error_type":"T"}]}"#);
    let report = store
        .queue_put(&place.job, &[pushed, item("d")], Durability::Strict, None, NEVER)
        .unwrap();
    assert_eq!(report, PutReport::new(1, 1, 0));
    assert_eq!(place.ids(&store), ["a", "b", "c", "d"]);
    let merged = store.queue_get(&place.job, &id("b"), NEVER).unwrap().unwrap();
    assert_eq!(merged.lease, taken[0].lease);
    let value = value(&merged);
    assert_eq!(
        (
            &value["item_data"],
            &value["failure_count"],
            &value["error_signature"]
        ),
        (&2.into(), &2.into(), &"T".into())
    );
    // The lines before and after this item are unchanged.
    let after = String::from_utf8(place.bytes()).unwrap();
    let line = |text: &str, at: usize| text.lines().nth(at).unwrap().trim_end_matches(',').to_owned();
    assert_eq!(
        (line(&before, 1), line(&before, 3)),
        (line(&after, 1), line(&after, 3))
    );
    assert_eq!(place.array().len(), 4);
    assert_eq!(store.root.counters.queue_rewrites.load(Ordering::Relaxed), 0);
}

#[test]
fn one_id_twice_in_a_batch_is_one_item() {
    let place = Place::new();
    let store = place.store();
    assert_eq!(
        place.put(&store, &["a", "b", "a"]).unwrap(),
        PutReport::new(2, 1, 0)
    );
    assert_eq!(
        place.put(&store, &["b", "c", "b"]).unwrap(),
        PutReport::new(1, 2, 0)
    );
    let count = |name| {
        value(&store.queue_get(&place.job, &id(name), NEVER).unwrap().unwrap())["failure_count"].clone()
    };
    assert_eq!(
        (count("a"), count("b"), count("c")),
        (2.into(), 3.into(), 1.into())
    );
}

#[test]
fn ids_of_one_hash_are_told_apart() {
    let place = Place::new();
    let store = place.store();
    store.ignored_bits.store(u64::MAX, Ordering::Relaxed);
    place.put(&store, &["a"]).unwrap();
    assert_eq!(place.put(&store, &["b", "c"]).unwrap(), PutReport::new(2, 0, 0));
    assert_eq!(place.put(&store, &["c", "d"]).unwrap(), PutReport::new(1, 1, 0));
    assert_eq!(place.ids(&store), ["a", "b", "c", "d"]);
}

#[test]
fn too_large_an_item_stores_nothing_of_its_batch() {
    let place = Place::new();
    let store = crate::queue::Queues::new(crate::root::Root::new(
        std::sync::Arc::new(crate::fs::RealFs::new(place.folder.path())),
        place.options().max_record_size(600),
    ));
    place.put(&store, &["a"]).unwrap();
    let both = || [place.bytes(), place.journal()];
    let before = both();
    let large = item_of(&format!(r#"{{"item_id":"l","item_data":"{}"}}"#, "x".repeat(600)));
    let error = store
        .queue_put(&place.job, &[item("b"), large], Durability::Strict, None, NEVER)
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    // A push is also refused if the merged history would make the item larger than the limit.
    let failure = format!(
        r#"{{"item_id":"a","item_data":1,"failure_history":[{{"stack_trace":"{}"}}]}}"#,
        "s".repeat(200)
    );
    let mut last = store.queue_put(&place.job, &[item_of(&failure)], Durability::Strict, None, NEVER);
    assert!(last.is_ok());
    let between = both();
    assert_ne!(between, before);
    for _ in 0..3 {
        last = store.queue_put(
            &place.job,
            &[item("b"), item_of(&failure)],
            Durability::Strict,
            None,
            NEVER,
        );
    }
    assert_eq!(last.unwrap_err().kind(), ErrorKind::TooLarge);
    assert_eq!(both(), between);
}

#[test]
fn a_body_that_no_one_normalised_is_made_fit_for_a_line() {
    let place = Place::new();
    let store = place.store();
    let mut pushed = item("a");
    pushed.body = raw("{\n\"item_data\":1,\n\"crc\":\"x\",\"lease_token\":\"t\",\"item_id\":\"a\"}");
    store
        .queue_put(
            &place.job,
            std::slice::from_ref(&pushed),
            Durability::Strict,
            None,
            NEVER,
        )
        .unwrap();
    let entry = store.queue_get(&place.job, &id("a"), NEVER).unwrap().unwrap();
    assert!(entry.verified && entry.lease.is_none() && value(&entry).get("crc").is_none());
    pushed.body = raw(r#"{"item_id":"b","item_data":1}"#);
    let error = store
        .queue_put(&place.job, &[pushed], Durability::Strict, None, NEVER)
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

#[test]
fn items_longer_than_a_read_are_whole() {
    let place = Place::new();
    let store = place.store();
    let long = item_of(&format!(
        r#"{{"item_id":"l","item_data":"{}"}}"#,
        "x".repeat(700_000)
    ));
    place.put(&store, &["a"]).unwrap();
    store
        .queue_put(
            &place.job,
            std::slice::from_ref(&long),
            Durability::Strict,
            None,
            NEVER,
        )
        .unwrap();
    place.put(&store, &["b"]).unwrap();
    let entries = place.entries(&store);
    assert_eq!(entries.len(), 3);
    assert_eq!(entries[1].body.get(), long.body.get());
    assert!(entries.iter().all(|entry| entry.verified));
}
