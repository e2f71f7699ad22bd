//! Tests of the blanks at the ends of a queue's two files.

use std::sync::atomic::Ordering;
use std::time::Duration;

use prodigy_storage_backend::{Durability, ItemState, QueueItem, QueueStep, Select};

use super::super::Queues;
use super::support::{Faulty, NEVER, Place, id, item, item_of, value};

const MINUTE: Duration = Duration::from_secs(60);
const SECTOR: usize = 512;

/// An item with data of `len` bytes.
fn long(name: &str, len: usize) -> QueueItem {
    let data = "x".repeat(len);
    item_of(&format!(r#"{{"item_id":"{name}","item_data":"{data}"}}"#))
}

fn put(place: &Place, store: &Queues, items: &[QueueItem]) {
    store
        .queue_put(&place.job, items, Durability::Strict, None, NEVER)
        .unwrap();
}

/// A queue with the items `large`, `a` and `b`, whose files end in blanks.
fn blank() -> (Place, Queues) {
    let place = Place::new();
    let store = place.store();
    put(&place, &store, &[long("large", 60_000)]);
    place.put(&store, &["a"]).unwrap();
    place.put(&store, &["b"]).unwrap();
    assert!(place.bytes().ends_with(b"\t\t"), "there are blanks");
    (place, store)
}

fn text_len(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .rposition(|byte| *byte != b'\t')
        .map_or(0, |at| at + 1)
}

/// The states in which a power loss may leave a file after an unsynced write: each sector is old or new. Returns all of
/// them for a write to few sectors, and a sample for a write to many.
fn torn(before: &[u8], after: &[u8]) -> Vec<Vec<u8>> {
    assert_eq!(before.len(), after.len(), "the file did not grow");
    let changed = |sector: &usize| {
        let range = sector * SECTOR..before.len().min((sector + 1) * SECTOR);
        before[range.clone()] != after[range]
    };
    let sectors: Vec<usize> = (0..before.len().div_ceil(SECTOR)).filter(changed).collect();
    let subsets: Vec<u64> = match sectors.len() {
        0..=7 => (0..1 << sectors.len()).collect(),
        count => {
            let mut random = fastrand::Rng::with_seed(7);
            let singles = (0..count).flat_map(|at| [1 << at, !(1 << at)]);
            singles.chain((0..100).map(|_| random.u64(..))).collect()
        }
    };
    let state = |subset: u64| {
        let mut state = before.to_vec();
        for (bit, sector) in sectors.iter().enumerate() {
            let range = sector * SECTOR..before.len().min((sector + 1) * SECTOR);
            if subset >> bit & 1 == 1 {
                state[range.clone()].copy_from_slice(&after[range]);
            }
        }
        state
    };
    subsets.into_iter().map(state).collect()
}

/// The ids of the items that a reader sees, and the number of damaged places.
fn seen(place: &Place, store: &Queues) -> (Vec<String>, usize) {
    let (mut ids, mut damage) = (Vec::new(), 0);
    for step in place.steps(store) {
        match step {
            QueueStep::Entry(entry) => ids.push(entry.id.to_string()),
            QueueStep::Damage(_) => damage += 1,
            QueueStep::TooLarge(item) => panic!("{item}"),
        }
    }
    (ids, damage)
}

#[test]
fn a_push_goes_over_blanks_in_one_write_and_the_file_is_json_before_and_after_it() {
    let (place, _) = blank();
    let (store, faults) = Faulty::store(&place);
    place.put(&store, &["c"]).unwrap();
    let len = place.bytes().len();
    faults.work();
    for name in ["d", "e", "f"] {
        place.put(&store, &[name]).unwrap();
        let [read, written, writes, syncs] = faults.work();
        assert_eq!((read, writes, syncs), (19, 1, 1));
        assert!(written < 400, "{written}");
        assert_eq!(
            place.bytes().len(),
            len,
            "the file did not grow, so the sync has no length to record"
        );
        let ids: Vec<_> = place.array().iter().map(|item| item["item_id"].clone()).collect();
        assert_eq!(ids.last().unwrap(), name);
        assert_eq!(place.ids(&place.store()).last().unwrap(), name);
    }
}

#[test]
fn records_go_over_blanks_in_one_write() {
    let (place, store) = blank();
    let take = |store: &Queues| {
        let taken = store.queue_take(&place.job, &Select::eligible(), 1, MINUTE, None, NEVER);
        taken.unwrap()[0].lease.clone().unwrap().token
    };
    take(&store);
    let token = take(&store);
    let len = place.journal().len();
    assert!(place.journal().ends_with(b"\t\t"));
    place.ack(&store, &[token]).unwrap();
    take(&store);
    assert_eq!(
        place.journal().len(),
        len,
        "the file did not grow, so the sync has no length to record"
    );
    let records: Vec<serde_json::Value> = serde_json::Deserializer::from_slice(&place.journal())
        .into_iter()
        .map(Result::unwrap)
        .collect();
    assert_eq!(records.len(), 5, "the header, three leases and a removal");
    // Another process appends its record after the last one, over blanks.
    let other = place.store();
    assert_eq!(place.ids(&other).len(), 2);
    place.put(&other, &["z"]).unwrap();
    take(&other);
    assert!(
        store
            .queue_take(&place.job, &Select::eligible(), 1, MINUTE, None, NEVER)
            .unwrap()
            .is_empty(),
        "the first process has read the lease of the other"
    );
}

#[test]
fn a_push_over_blanks_that_stops_anywhere_costs_nothing_that_was_stored() {
    let (place, store) = blank();
    let before = place.bytes();
    place.put(&store, &["c", "d"]).unwrap();
    let after = place.bytes();
    let from = text_len(&before) - 3;
    for cut in from..=text_len(&after) {
        let state = [&after[..cut], &before[cut..]].concat();
        let place = Place::holding(&state);
        let store = place.store();
        let (ids, damage) = seen(&place, &store);
        assert_eq!(
            (&ids[..3], damage),
            (&["large", "a", "b"].map(String::from)[..], 0),
            "cut at {cut}"
        );
        place.put(&store, &["next"]).unwrap();
        let then = place.ids(&store);
        assert_eq!(
            (&then[..ids.len()], then.len()),
            (&ids[..], ids.len() + 1),
            "cut at {cut}"
        );
        assert_eq!(place.array().len(), then.len(), "cut at {cut}");
    }
}

#[test]
fn whatever_sectors_of_a_push_a_power_failure_takes_nothing_else_is_lost_and_none_is_damage() {
    for lens in [vec![1_500], vec![700, 100, 900]] {
        let (place, store) = blank();
        let before = place.bytes();
        let pushed: Vec<QueueItem> = (0..)
            .zip(&lens)
            .map(|(n, len)| long(&format!("n{n}"), *len))
            .collect();
        put(&place, &store, &pushed);
        let after = place.bytes();
        for (number, state) in torn(&before, &after).into_iter().enumerate() {
            let place = Place::holding(&state);
            let store = place.store();
            let (ids, damage) = seen(&place, &store);
            assert_eq!(ids[..3], ["large", "a", "b"], "{number}");
            // Within a batch that was stored in part, a complete item may follow the missing one.
            assert!(
                damage == 0 || lens.len() > 1 && ids.len() > 3,
                "{number}: {damage} of {ids:?}"
            );
            let survey = store.queue_survey_at(&place.job, NEVER).unwrap().unwrap();
            assert!(
                survey.spots.iter().all(|spot| spot.harmless),
                "{number}: {survey:?}"
            );
            place.put(&store, &["next"]).unwrap();
            let (then, _) = seen(&place, &place.store());
            assert_eq!(then.last().unwrap(), "next", "{number}");
            assert_eq!(then[..then.len() - 1], ids, "{number}");
            place.compact(&store);
            assert_eq!(place.array().len(), then.len(), "{number}");
        }
    }
}

#[test]
fn whatever_sectors_of_records_a_power_failure_takes_the_others_count_and_none_is_damage() {
    let place = Place::new();
    let store = place.store();
    put(&place, &store, &[long("large", 60_000)]);
    let names: Vec<String> = (0..12).map(|n| format!("n{n:02}")).collect();
    place
        .put(&store, &names.iter().map(String::as_str).collect::<Vec<_>>())
        .unwrap();
    let take = |store: &Queues, count| {
        store
            .queue_take(&place.job, &Select::eligible(), count, MINUTE, None, NEVER)
            .unwrap()
    };
    take(&store, 1);
    take(&store, 1);
    let (items, before) = (place.bytes(), place.journal());
    assert_eq!(take(&store, 6).len(), 6);
    let after = place.journal();
    for (number, state) in torn(&before, &after).into_iter().enumerate() {
        let place = Place::holding(&items);
        std::fs::write(place.journal_path(), &state).unwrap();
        let store = place.store();
        let survey = store.queue_survey_at(&place.job, NEVER).unwrap().unwrap();
        let journal = survey.journal.unwrap();
        assert!(
            journal.spots.iter().all(|spot| spot.harmless),
            "{number}: {journal:?}"
        );
        let leased = |store: &Queues| {
            let mut leased = Vec::new();
            for step in place.steps(store) {
                if let QueueStep::Entry(entry) = step
                    && entry.state(&*place.clock) == ItemState::Leased
                {
                    leased.push(entry.id.to_string());
                }
            }
            leased
        };
        let before = leased(&store);
        assert_eq!(before[..2], ["large", "n00"], "{number}");
        // The stored lease is still in force, and the other items can be taken.
        let taken = store
            .queue_take(&place.job, &Select::eligible(), 100, MINUTE, None, NEVER)
            .unwrap();
        assert_eq!(taken.len(), 13 - before.len(), "{number}");
        assert!(
            taken.iter().all(|entry| !before.contains(&entry.id.to_string())),
            "{number}"
        );
        assert_eq!(leased(&place.store()).len(), 13, "{number}");
        place.compact(&store);
        let survey = store.queue_survey_at(&place.job, NEVER).unwrap().unwrap();
        assert!(!survey.is_damaged(), "{number}");
    }
}

#[test]
fn a_flipped_bit_before_blanks_is_damage_and_no_torn_write() {
    let (place, store) = blank();
    let taken = store
        .queue_take(&place.job, &Select::ids([id("b")]), 1, MINUTE, None, NEVER)
        .unwrap();
    let token = taken[0].lease.clone().unwrap().token;
    place.nack(&store, &[token]).unwrap();
    let (items, journal) = (place.bytes(), place.journal());
    assert!(journal.ends_with(b"\t"));
    let first = memchr::memmem::find(&items, b"{\"item_id\":\"b\"").unwrap();
    let last = memchr::memrchr(b'}', &items).unwrap();
    for at in first..=last {
        let mut flipped = items.clone();
        flipped[at] ^= 1;
        let place = Place::holding(&flipped);
        let (ids, damage) = seen(&place, &place.store());
        assert_eq!(
            (&ids[..2], damage),
            (&["large", "a"].map(String::from)[..], 1),
            "byte {at}"
        );
    }
    let first = memchr::memmem::rfind(&journal, b"{\"change\":").unwrap();
    let last = memchr::memrchr(b'}', &journal).unwrap();
    for at in first..=last {
        let mut flipped = journal.clone();
        flipped[at] ^= 1;
        place.write(&items);
        std::fs::write(place.journal_path(), &flipped).unwrap();
        let (ids, damage) = seen(&place, &place.store());
        assert_eq!((ids.len(), damage), (3, 1), "byte {at}");
    }
}

#[test]
fn damage_in_an_item_that_is_full_of_spaces_is_damage() {
    let (place, store) = blank();
    let text = format!(r#"{{"item_id":"spaces","item_data":"{}"}}"#, " ".repeat(3_000));
    put(&place, &store, &[item_of(&text)]);
    let mut bytes = place.bytes();
    let at = memchr::memmem::find(&bytes, b"\"item_id\":\"spaces\"").unwrap() + 2;
    bytes[at] ^= 1;
    for more in [false, true] {
        place.write(&bytes);
        let store = place.store();
        if more {
            place.put(&store, &["next"]).unwrap();
        }
        let survey = store.queue_survey_at(&place.job, NEVER).unwrap().unwrap();
        assert_eq!(
            (survey.spots.len(), survey.spots[0].harmless, survey.torn),
            (1, false, None),
            "{more}"
        );
    }
}

#[test]
fn closing_a_small_queue_and_compacting_any_leaves_no_blanks() {
    let (place, store) = blank();
    store.tidy(NEVER).unwrap();
    let bytes = place.bytes();
    assert!(bytes.ends_with(b"\"}\n]\n"), "a small queue");
    assert!(
        !place.journal_path().exists(),
        "no item has changed, so there is no journal"
    );
    // After that, the queue still accepts pushes.
    place.put(&store, &["c"]).unwrap();
    place.put(&place.store(), &["d"]).unwrap();
    assert_eq!(place.ids(&store), ["large", "a", "b", "c", "d"]);

    put(&place, &store, &[long("huge", 2 << 20)]);
    place.put(&store, &["e"]).unwrap();
    store.tidy(NEVER).unwrap();
    assert!(place.bytes().ends_with(b"\t\t"), "a large queue keeps its blanks");
    place.compact(&store);
    assert!(place.bytes().ends_with(b"\"}\n]\n"));
    store
        .queue_take(&place.job, &Select::eligible(), 1, MINUTE, None, NEVER)
        .unwrap();
    store
        .queue_take(&place.job, &Select::eligible(), 1, MINUTE, None, NEVER)
        .unwrap();
    assert!(place.journal().ends_with(b"\t\t"));
    place.compact(&store);
    assert!(place.journal().ends_with(b"}\n"));
    assert_eq!(place.array().len(), 7);
}

#[test]
fn a_reader_does_not_see_what_is_pushed_over_blanks_after_it_began() {
    let (place, store) = blank();
    let mut scan = store.queue_scan(&place.job, &Select::any(), NEVER).unwrap();
    let mark = store.queue_summary(&place.job, NEVER).unwrap().mark;
    let len = place.bytes().len();
    place.put(&store, &["later"]).unwrap();
    assert_eq!(place.bytes().len(), len);
    scan.next().unwrap().unwrap();
    assert_eq!(scan.count(), 2);
    let taken = store
        .queue_take(
            &place.job,
            &Select::eligible().until(mark),
            9,
            MINUTE,
            None,
            NEVER,
        )
        .unwrap();
    assert_eq!(taken.len(), 3);
}

#[test]
fn a_full_disk_that_has_room_for_an_item_takes_it_without_blanks() {
    let place = Place::new();
    let (store, faults) = Faulty::store(&place);
    put(&place, &store, &[long("large", 60_000)]);
    faults.room.store(1_000, Ordering::Relaxed);
    place.put(&store, &["a"]).unwrap();
    faults.room.store(1, Ordering::Relaxed);
    let before = text_len(&place.bytes());
    let error = store
        .queue_put(&place.job, &[long("b", 3_000)], Durability::Strict, None, NEVER)
        .unwrap_err();
    assert_eq!(error.kind(), prodigy_storage_backend::ErrorKind::DiskFull);
    assert_eq!(place.bytes().len(), before);
    faults.room.store(0, Ordering::Relaxed);
    put(&place, &store, &[item("c")]);
    assert_eq!(place.ids(&place.store()), ["large", "a", "c"]);
    assert_eq!(place.array().len(), 3);
    assert_eq!(value(&place.entries(&store)[2])["item_data"]["for"], "c");
}

#[test]
fn what_another_program_writes_behind_blanks_is_kept_in_the_quarantine() {
    let (place, store) = blank();
    let mut bytes = place.bytes();
    bytes.extend_from_slice(b"a note by another program\n");
    place.write(&bytes);
    place.put(&store, &["c"]).unwrap();
    assert_eq!(place.ids(&place.store()), ["large", "a", "b", "c"]);
    assert_eq!(place.array().len(), 4);
    assert_eq!(place.quarantined(), [b"a note by another program".to_vec()]);
}

#[test]
fn a_closing_of_another_program_is_replaced_whole() {
    let (place, _) = blank();
    let bytes = place.bytes();
    let text = bytes[..text_len(&bytes) - 3].to_vec();
    for closing in ["\n\n\n   ]\n\n", "]", "\n]", "\n]\n  \n   ", "\n]\n\t\n\t"] {
        place.write([&text[..], closing.as_bytes()].concat());
        let store = place.store();
        place.put(&store, &["c"]).unwrap();
        assert_eq!(place.array().len(), 4, "{closing:?}");
        place.put(&store, &["d"]).unwrap();
        assert_eq!(place.array().len(), 5, "{closing:?}");
        assert_eq!(place.ids(&place.store()).len(), 5, "{closing:?}");
    }
}
