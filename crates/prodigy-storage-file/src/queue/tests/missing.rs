//! Tests of items that are missing from a queue whose remaining bytes are undamaged.

use prodigy_storage_backend::{Change, Claim, Deadline, QueueStep, Settlement};

use super::support::*;

/// The array without the lines of these items.
fn without(place: &Place, gone: &[&str]) -> Vec<u8> {
    let text = String::from_utf8(place.bytes()).unwrap();
    let is_kept = |line: &&str| {
        !gone
            .iter()
            .any(|id| line.contains(&format!("\"item_id\":\"{id}\"")))
    };
    let items: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with('{'))
        .filter(is_kept)
        .map(|line| line.trim_end_matches(','))
        .collect();
    match items.len() {
        0 => b"[\n]\n".to_vec(),
        _ => format!("[\n{}\n]\n", items.join(",\n")).into_bytes(),
    }
}

fn missing(place: &Place) -> u64 {
    let survey = place.store().queue_survey_at(&place.job, Deadline::never());
    survey.unwrap().unwrap().missing
}

/// The number of damaged places that a listing of the queue reports. The summary must report the same number.
fn reported(place: &Place) -> u64 {
    let store = place.store();
    let steps = place.steps(&store);
    let damage = steps
        .iter()
        .filter(|step| matches!(step, QueueStep::Damage(_)))
        .count() as u64;
    let summary = store.queue_summary(&place.job, NEVER).unwrap();
    assert_eq!(summary.damaged, damage);
    damage
}

#[test]
fn each_item_that_is_gone_without_a_removal_is_missed_and_a_repair_begins_to_count_again() {
    let place = Place::new();
    let store = place.store();
    place.put(&store, &["a", "b", "c", "d", "e"]).unwrap();
    place.remove(&store, &[id("b")]).unwrap();
    drop(store);
    let whole = place.bytes();
    let store = place.store();
    assert_eq!((missing(&place), reported(&place)), (0, 0));
    for compacted in [false, true] {
        if compacted {
            place.write(&whole);
            place.compact(&store);
        }
        let whole = place.bytes();
        for (gone, count) in [(&["e"][..], 1), (&["a", "c"], 2), (&["a", "c", "d", "e"], 4)] {
            place.write(without(&place, gone));
            assert_eq!(
                (missing(&place), reported(&place)),
                (count, 1),
                "{compacted} {gone:?}"
            );
            place.write(&whole);
        }
        assert_eq!((missing(&place), reported(&place)), (0, 0));
    }
    place.write(without(&place, &["a", "c"]));
    let repaired = place.store().queue_rebuild(&place.job, NEVER, |_, _, _| Ok(()));
    assert!(repaired.unwrap());
    assert_eq!((missing(&place), reported(&place)), (0, 0));
    assert_eq!(place.ids(&place.store()), ["d", "e"]);
}

#[test]
fn an_item_that_was_pushed_after_the_journal_began_is_missed_if_a_change_names_it() {
    let place = Place::new();
    let store = place.store();
    place.put(&store, &["a"]).unwrap();
    let park = |name| {
        [Settlement::new(
            Claim::Item(id(name)),
            Change::Park { reason: None },
        )]
    };
    store.queue_settle(&place.job, &park("a"), None, NEVER).unwrap();
    place.put(&store, &["b"]).unwrap();
    store.queue_settle(&place.job, &park("b"), None, NEVER).unwrap();
    assert_eq!(missing(&place), 0);
    place.write(without(&place, &["b"]));
    assert_eq!(missing(&place), 1);
}

#[test]
fn without_a_journal_a_gap_in_the_numbers_is_a_missing_item() {
    let place = Place::new();
    place.put(&place.store(), &["a", "b", "c"]).unwrap();
    assert!(!place.journal_path().exists());
    assert_eq!(missing(&place), 0);
    place.write(without(&place, &["b"]));
    assert_eq!(missing(&place), 1);
}

#[test]
fn a_journal_whose_items_are_gone_and_a_file_that_was_cut_before_its_first_item_are_damage() {
    let place = Place::new();
    let store = place.store();
    place.put(&store, &["a", "b"]).unwrap();
    let whole = place.bytes();
    for len in [0, 1, 2, 40] {
        place.write(&whole[..len]);
        assert_eq!(reported(&place), 1, "{len}");
    }
    place.write(vec![0; 600]);
    assert_eq!(reported(&place), 1);
    place.write(&whole);
    place.remove(&place.store(), &[id("a")]).unwrap();
    std::fs::remove_file(place.path()).unwrap();
    assert_eq!(reported(&place), 1);
}
