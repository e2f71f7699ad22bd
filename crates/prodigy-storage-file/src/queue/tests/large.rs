//! Tests of items above a reader's limit: they are reported, do not count as damage, and keep every byte when other
//! items are changed.

use std::sync::Arc;
use std::time::Duration;

use prodigy_storage_backend::{Durability, ErrorKind, QueueItem, QueueStep, Select, TooLarge};
use proptest::prelude::*;

use super::support::{NEVER, Place, id, item, item_of};
use crate::fs::RealFs;
use crate::queue::Queues;

const LIMIT: u64 = 2_000;
const LARGE: usize = 700_000;

fn limited(place: &Place, limit: u64) -> Queues {
    let mut options = place.options().max_record_size(limit);
    options.always_read = 0;
    Queues::new(crate::root::Root::new(
        Arc::new(RealFs::new(place.folder.path())),
        options,
    ))
}

fn sized(id: &str, len: usize) -> QueueItem {
    item_of(&format!(
        r#"{{"item_id":"{id}","item_data":"{}"}}"#,
        "}{\\\"".repeat(len / 4)
    ))
}

/// A queue with three items, of which the second is above the limit.
fn three() -> Place {
    let place = Place::new();
    let items = [item("a"), sized("large", LARGE), item("c")];
    let store = place.store();
    store
        .queue_put(&place.job, &items, Durability::Strict, None, NEVER)
        .unwrap();
    place
}

/// The line of the large item, without what separates it from the next one.
fn large_line(place: &Place) -> Vec<u8> {
    let bytes = place.bytes();
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let line = lines.find(|line| line.len() > LARGE).unwrap();
    line.strip_suffix(b",").unwrap_or(line).to_vec()
}

/// The ids of the items that a reader returns, and the items that it reports as too large.
fn read(place: &Place, store: &Queues) -> (Vec<String>, Vec<TooLarge>) {
    let (mut ids, mut large) = (Vec::new(), Vec::new());
    for step in place.steps(store) {
        match step {
            QueueStep::Entry(entry) => ids.push(entry.id.to_string()),
            QueueStep::TooLarge(item) => large.push(item),
            QueueStep::Damage(damage) => panic!("{damage}"),
        }
    }
    (ids, large)
}

#[test]
fn an_item_over_the_limit_is_reported_with_its_place_and_the_rest_is_read() {
    let place = three();
    let store = limited(&place, LIMIT);
    let (ids, large) = read(&place, &store);
    assert_eq!(ids, ["a", "c"]);
    let line = large_line(&place);
    let offset = memchr::memmem::find(&place.bytes(), &line[..40]).unwrap();
    let expected = TooLarge {
        place: place.path().display().to_string(),
        offset: offset as u64,
        len: line.len() as u64,
        id: Some("large".into()),
        verified: true,
        limit: LIMIT,
    };
    assert_eq!(large, [expected]);
    let error = store.queue_get(&place.job, &id("large"), NEVER).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert!(error.hint().unwrap().contains("max_record_size"), "{error}");
    assert!(store.queue_get(&place.job, &id("c"), NEVER).unwrap().is_some());
    assert!(store.queue_get(&place.job, &id("none"), NEVER).unwrap().is_none());
}

#[test]
fn whatever_is_done_to_other_items_one_over_the_limit_stays_byte_for_byte() {
    let place = three();
    let line = large_line(&place);
    let store = limited(&place, LIMIT);
    let taken = store
        .queue_take(
            &place.job,
            &Select::eligible(),
            10,
            Duration::from_secs(60),
            None,
            NEVER,
        )
        .unwrap();
    let tokens: Vec<_> = taken
        .iter()
        .filter_map(|entry| entry.lease.clone())
        .map(|lease| lease.token)
        .collect();
    assert_eq!(tokens.len(), 2, "the item over the limit is not taken");
    assert_eq!(large_line(&place), line, "after a take");
    place.nack(&store, &tokens[..1]).unwrap();
    assert_eq!(large_line(&place), line, "after a return");
    let report = place.put(&store, &["c", "d"]).unwrap();
    assert_eq!((report.merged, report.added), (1, 1));
    assert_eq!(large_line(&place), line, "after a merge");
    let settled = place.ack(&store, &tokens[1..]).unwrap();
    assert_eq!(
        settled.kept.len(),
        1,
        "the item was pushed again during its lease"
    );
    place.remove(&store, &[id("c")]).unwrap();
    assert_eq!(large_line(&place), line, "after an acknowledgement");
    place.remove(&store, &[id("a")]).unwrap();
    assert_eq!(large_line(&place), line, "after a removal");
    assert_eq!(place.ids(&place.store()), ["large", "d"]);
    place.compact(&store);
    assert_eq!(large_line(&place), line, "after a compaction");
    assert!(place.quarantined().is_empty());
    assert_eq!(place.array().len(), 2);
}

#[test]
fn an_id_that_is_stored_over_the_limit_is_not_stored_again() {
    let place = three();
    let before = place.bytes();
    let store = limited(&place, LIMIT);
    for _ in 0..2 {
        let error = place.put(&store, &["large"]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}");
        assert_eq!(place.bytes(), before);
    }
    // The large item can be removed by its id, since that does not need its contents.
    let removed = place.remove(&store, &[id("large")]).unwrap();
    assert_eq!(removed.settled, [id("large")]);
    assert_eq!(place.ids(&place.store()), ["a", "c"]);
}

#[test]
fn an_item_over_the_limit_that_fails_its_checksum_is_damage() {
    let place = three();
    let (bytes, line) = (place.bytes(), large_line(&place));
    let start = memchr::memmem::find(&bytes, &line[..40]).unwrap();
    for flipped in [
        15,
        LARGE / 2,
        LARGE / 2 + 1,
        LARGE / 2 + 2,
        LARGE / 2 + 3,
        line.len() - 5,
    ] {
        let mut bytes = bytes.clone();
        bytes[start + flipped] ^= 0x01;
        place.write(&bytes);
        let steps = place.steps(&limited(&place, LIMIT));
        let [
            QueueStep::Entry(_),
            QueueStep::Damage(damage),
            QueueStep::Entry(last),
        ] = &steps[..]
        else {
            panic!("byte {flipped}: {} steps", steps.len());
        };
        assert_eq!(damage.offset, start as u64, "byte {flipped}");
        assert!(
            damage.len >= line.len() as u64 && last.id == id("c"),
            "byte {flipped}: {damage}"
        );
    }
}

#[test]
fn an_item_over_the_limit_that_is_still_being_pushed_is_not_reported() {
    let place = three();
    let (bytes, line) = (place.bytes(), large_line(&place));
    let start = memchr::memmem::find(&bytes, &line[..40]).unwrap();
    let store = limited(&place, LIMIT);
    for written in [30, 3_000, LARGE / 2, line.len() - 1] {
        place.write(&bytes[..start + written]);
        let (ids, large) = read(&place, &store);
        assert_eq!(
            (&ids[..], large.len()),
            (&["a".to_owned()][..], 0),
            "{written} bytes"
        );
    }
    place.write(&bytes);
    assert_eq!(read(&place, &store).1.len(), 1);
}

#[test]
fn items_of_another_program_are_too_large_each_by_its_own_size() {
    let large = format!(
        "{{\n  \"item_id\": \"large\",\n  \"item_data\": [\n\"{}\"\n]\n}}",
        "x\\\"}".repeat(3_000)
    );
    let small: Vec<String> = (0..200)
        .map(|n| format!("{{\"item_id\":\"s{n}\",\"item_data\":{n}}}"))
        .collect();
    let place = Place::holding(format!("[{},{large},{{\"item_id\":\"last\"}}]", small.join(",")));
    let store = limited(&place, LIMIT);
    let (ids, found) = read(&place, &store);
    assert_eq!(ids.len(), 201);
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].len, found[0].verified), (large.len() as u64, false));
    // The id of the item above the limit can't be read, so it may be this one.
    let error = store.queue_get(&place.job, &id("none"), NEVER).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    place.remove(&store, &[id("s7")]).unwrap();
    place.compact(&store);
    let kept = large.trim_end_matches('}');
    assert!(
        memchr::memmem::find(&place.bytes(), kept.as_bytes()).is_some(),
        "the item is copied byte for byte, and its birth is added"
    );
    assert_eq!(place.array().len(), 201);
    assert_eq!(place.array()[199]["queue_birth"], 201);
    let again = limited(&place, LIMIT);
    assert_eq!(place.remove(&again, &[id("s8")]).unwrap().settled.len(), 1);
    assert!(
        !place.journal().is_empty(),
        "the item has a birth, so its line is copied unchanged"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn whatever_the_limit_each_item_is_given_or_reported_too_large_and_outlives_a_rewrite(
        sizes in prop::collection::vec(prop_oneof![3 => 0..500usize, 2 => 500..5_000usize, 1 => 5_000..600_000usize], 1..12),
        limit in 300..6_000u64,
        gone in any::<prop::sample::Index>(),
    ) {
        let place = Place::new();
        let items: Vec<QueueItem> =
            sizes.iter().enumerate().map(|(n, size)| sized(&format!("i{n}"), *size)).collect();
        place.store().queue_put(&place.job, &items, Durability::Strict, None, NEVER).unwrap();
        let names: Vec<String> = items.iter().map(|item| item.id.to_string()).collect();
        let store = limited(&place, limit);
        let mut seen = Vec::new();
        for step in place.steps(&store) {
            match step {
                QueueStep::Entry(entry) => seen.push(entry.id.to_string()),
                QueueStep::TooLarge(item) => {
                    prop_assert!(item.len > limit && item.verified);
                    seen.push(item.id.unwrap());
                }
                QueueStep::Damage(damage) => prop_assert!(false, "{}", damage),
            }
        }
        prop_assert_eq!(&seen, &names);
        place.compact(&place.store());
        let before = place.array();
        let gone = gone.index(names.len());
        place.remove(&store, &[id(&names[gone])]).unwrap();
        place.compact(&store);
        let mut expected = before;
        expected.remove(gone);
        prop_assert!(place.array() == expected, "the other items are unchanged");
    }
}

#[test]
fn elements_over_the_limit_that_are_not_objects_are_skipped_and_kept() {
    let long = "x".repeat(LARGE);
    for element in [format!("\"{long}\""), format!("[1,\n\"{long}\"]")] {
        let place = Place::new();
        place.put(&place.store(), &["a", "b"]).unwrap();
        let text = String::from_utf8(place.bytes()).unwrap();
        place.write(text.replace("[\n", &format!("[\n{element},\n")));
        let store = limited(&place, LIMIT);
        assert_eq!(place.entries(&store).len(), 2);
        assert_eq!(place.skipped(&store), 1);
        place.remove(&store, &[id("a")]).unwrap();
        assert_eq!(place.entries(&store).len(), 1);
        let text = String::from_utf8(place.bytes()).unwrap();
        assert!(text.starts_with(&format!("[\n{element},\n")));
        assert!(!place.folder.path().join("quarantine").exists());
    }
}
