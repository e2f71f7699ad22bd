use std::time::Duration;

use prodigy_storage_backend::{Clock, ErrorKind, Lease, LeaseToken, QueueEntry, Select};
use prodigy_storage_layout::Timestamp;

use super::support::{NEVER, Place, id, item_of, old_line, value};
use crate::queue::Queues;

const MINUTE: Duration = Duration::from_secs(60);

fn take(place: &Place, store: &Queues, limit: usize) -> Vec<QueueEntry> {
    store
        .queue_take(&place.job, &Select::eligible(), limit, MINUTE, None, NEVER)
        .unwrap()
}

fn token(entry: &QueueEntry) -> LeaseToken {
    entry.lease.clone().unwrap().token
}

fn names(entries: &[QueueEntry]) -> Vec<&str> {
    entries.iter().map(|entry| entry.id.as_str()).collect()
}

#[test]
fn a_taken_item_stays_stored_and_is_not_taken_twice() {
    let place = Place::new();
    let store = place.store();
    place.put(&store, &["c", "a", "b"]).unwrap();
    let first = take(&place, &store, 2);
    assert_eq!(names(&first), ["c", "a"], "by first put");
    assert_ne!(token(&first[0]), token(&first[1]));
    let stored = place.entries(&store);
    assert_eq!(stored[0].lease, first[0].lease);
    assert_eq!(stored[0].body.get(), first[0].body.get());
    assert_eq!((stored.len(), stored[2].lease.is_none()), (3, true));
    place.compact(&store);
    let array = place.array();
    assert_eq!(array[0]["lease_token"], token(&first[0]).as_str());
    assert_eq!(array[0]["lease_until"], "2027-01-15T08:01:00.000000000Z");
    // Another process also respects the leases.
    assert_eq!(names(&take(&place, &place.store(), 9)), ["b"]);
    assert!(take(&place, &store, 9).is_empty());
}

#[test]
fn an_ended_lease_is_pending_and_its_token_counts_until_it_is_taken() {
    let place = Place::new();
    let store = place.store();
    place.put(&store, &["a", "b"]).unwrap();
    let first = take(&place, &store, 9);
    place.clock.turn(59);
    assert!(take(&place, &store, 9).is_empty());
    place.clock.turn(1);
    let second = store
        .queue_take(&place.job, &Select::ids([id("a")]), 9, MINUTE, None, NEVER)
        .unwrap();
    assert_eq!(names(&second), ["a"]);
    assert_ne!(token(&second[0]), token(&first[0]));
    let settled = place.ack(&store, &[token(&first[0]), token(&first[1])]).unwrap();
    assert_eq!(settled.unknown, [token(&first[0])]);
    assert_eq!(settled.settled, [token(&first[1])]);
    assert_eq!(place.ids(&store), ["a"]);
    let settled = place
        .ack(&store, &[token(&second[0]), token(&second[0])])
        .unwrap();
    assert_eq!((settled.settled.len(), settled.unknown.len()), (1, 1));
    assert!(place.ids(&store).is_empty());
    place.compact(&store);
    assert_eq!(place.bytes(), b"[\n]\n");
}

#[test]
fn given_back_is_pending_at_once() {
    let place = Place::new();
    let store = place.store();
    place.put(&store, &["a", "b"]).unwrap();
    let before = place.bytes();
    let taken = take(&place, &store, 9);
    let unknown = LeaseToken::random();
    let settled = place
        .nack(&store, &[unknown.clone(), token(&taken[0]), token(&taken[1])])
        .unwrap();
    assert_eq!(settled.settled, [token(&taken[0]), token(&taken[1])]);
    assert_eq!(settled.unknown, [unknown]);
    assert_eq!(place.bytes(), before, "the file is the same as before the take");
    assert_eq!(place.ack(&store, &[token(&taken[0])]).unwrap().settled, []);
    assert_eq!(names(&take(&place, &store, 9)), ["a", "b"]);
}

#[test]
fn removed_is_gone_taken_or_not_and_can_be_put_again() {
    let place = Place::new();
    let store = place.store();
    place.put(&store, &["a", "b", "c"]).unwrap();
    take(&place, &store, 1);
    let settled = place.remove(&store, &[id("x"), id("a"), id("c")]).unwrap();
    assert_eq!(
        (settled.settled, settled.unknown),
        (vec![id("a"), id("c")], vec![id("x")])
    );
    assert_eq!(place.put(&store, &["a"]).unwrap().added, 1);
    assert_eq!(place.ids(&store), ["b", "a"]);
    let entry = store.queue_get(&place.job, &id("a"), NEVER).unwrap().unwrap();
    assert!(entry.lease.is_none() && value(&entry)["failure_count"] == 1);
    place.compact(&store);
    assert_eq!(place.array().len(), 2);
}

#[test]
fn selection_is_obeyed() {
    let place = Place::new();
    let store = place.store();
    let time = |second: u32| format!("2026-01-01T00:00:{second:02}Z");
    let items = [
        item_of(&format!(
            r#"{{"item_id":"a","item_data":1,"error_signature":"S","last_attempt":"{}"}}"#,
            time(1)
        )),
        item_of(&format!(
            r#"{{"item_id":"b","item_data":1,"error_signature":"S","last_attempt":"{}"}}"#,
            time(9)
        )),
        item_of(&format!(
            r#"{{"item_id":"c","item_data":1,"reprocess_eligible":false,"last_attempt":"{}"}}"#,
            time(1)
        )),
    ];
    store
        .queue_put(&place.job, &items, Default::default(), None, NEVER)
        .unwrap();
    let bound = Timestamp::parse(&time(5)).unwrap();
    let cases = [
        (Select::eligible(), vec!["a", "b"]),
        (Select::eligible().not_after(bound), vec!["a"]),
        (Select::eligible().signature("S").not_after(bound), vec!["a"]),
        (Select::any().not_after(bound), vec!["c", "a"]),
        (Select::ids([id("c"), id("zz")]), vec!["c"]),
        (Select::ids([]), vec![]),
    ];
    for (select, expected) in cases {
        let taken = store
            .queue_take(&place.job, &select, 9, MINUTE, None, NEVER)
            .unwrap();
        assert_eq!(names(&taken), expected, "{select:?}");
        let tokens: Vec<LeaseToken> = taken.iter().map(token).collect();
        place.nack(&store, &tokens).unwrap();
    }
    assert!(take(&place, &store, 0).is_empty());
}

#[test]
fn the_longest_lease_does_not_overflow() {
    let place = Place::new();
    let store = place.store();
    place.put(&store, &["a"]).unwrap();
    let taken = store
        .queue_take(&place.job, &Select::eligible(), 1, Duration::MAX, None, NEVER)
        .unwrap();
    assert_eq!(taken[0].lease.as_ref().unwrap().until, Timestamp::MAX);
    assert_eq!(place.entries(&store)[0].lease, taken[0].lease);
    assert_eq!(place.ack(&store, &[token(&taken[0])]).unwrap().settled.len(), 1);
}

#[test]
fn an_absent_queue_is_empty_and_stays_absent() {
    let place = Place::new();
    let root = place.folder.path().join("root");
    let store = Queues::new(crate::root::Root::new(
        std::sync::Arc::new(crate::fs::RealFs::new(&root)),
        crate::FileOptions::new(&root),
    ));
    assert!(place.entries(&store).is_empty());
    assert!(store.queue_get(&place.job, &id("a"), NEVER).unwrap().is_none());
    assert!(take(&place, &store, 3).is_empty());
    assert_eq!(
        place.ack(&store, &[LeaseToken::random()]).unwrap().unknown.len(),
        1
    );
    assert_eq!(place.remove(&store, &[id("a")]).unwrap().unknown.len(), 1);
    assert!(!root.exists());
}

#[test]
fn writes_are_refused_where_they_may_not_be() {
    let place = Place::new();
    place.put(&place.store(), &["a"]).unwrap();
    let open = |options| {
        Queues::new(crate::root::Root::new(
            std::sync::Arc::new(crate::fs::RealFs::new(place.folder.path())),
            options,
        ))
    };
    let reader = open(place.options().read_only(true));
    let before = place.bytes();
    assert_eq!(
        place.put(&reader, &["b"]).unwrap_err().kind(),
        ErrorKind::ReadOnly
    );
    let error = reader
        .queue_take(&place.job, &Select::eligible(), 1, MINUTE, None, NEVER)
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ReadOnly);
    assert_eq!(place.ids(&reader), ["a"]);
    assert_eq!(place.bytes(), before);
}

#[test]
fn without_file_locks_a_single_process_can_do_it_all() {
    let place = Place::new();
    let options = place.options().file_locks(false);
    let store = Queues::new(crate::root::Root::new(
        std::sync::Arc::new(crate::fs::RealFs::new(place.folder.path())),
        options,
    ));
    place.put(&store, &["a", "b"]).unwrap();
    let taken = take(&place, &store, 1);
    assert_eq!(place.ack(&store, &[token(&taken[0])]).unwrap().settled.len(), 1);
    assert_eq!(place.ids(&store), ["b"]);
}

#[test]
fn steps_of_the_wall_clock_neither_end_a_lease_nor_make_it_last_longer() {
    const YEAR: i64 = 365 * 86_400;
    for step in [YEAR, -YEAR, 74 * YEAR, -2] {
        let place = Place::new();
        let store = place.store();
        place.put(&store, &["a"]).unwrap();
        assert_eq!(names(&take(&place, &store, 9)), ["a"]);
        place.clock.set_by(step);
        place.clock.turn(59);
        assert!(
            take(&place, &place.store(), 9).is_empty(),
            "a clock step of {step} s ended the lease"
        );
        place.clock.turn(1);
        assert_eq!(
            names(&take(&place, &place.store(), 9)),
            ["a"],
            "a clock step of {step} s"
        );
    }
}

#[test]
fn a_lease_of_another_boot_has_ended() {
    let place = Place::new();
    let store = place.store();
    place.put(&store, &["a"]).unwrap();
    let first = take(&place, &store, 9);
    place.compact(&store);
    let array = place.array();
    assert_eq!(array[0]["lease_boot"], "00000000-0000-0000-0000-000000000001");
    assert_eq!(array[0]["lease_boottime"], "160.000000000");
    place.clock.reboot();
    let second = take(&place, &place.store(), 9);
    assert_eq!(names(&second), ["a"]);
    let settled = place.ack(&store, &[token(&first[0])]).unwrap();
    assert_eq!(
        settled.unknown,
        [token(&first[0])],
        "the lease of the dead worker has ended"
    );
}

#[test]
fn a_lease_of_format_1_goes_by_the_wall_clock_within_a_bound() {
    const DAY: i64 = 86_400;
    for (left, held) in [
        (-1, false),
        (0, false),
        (1, true),
        (7 * DAY, true),
        (7 * DAY + 1, false),
        (74 * 365 * DAY, false),
    ] {
        let place = Place::new();
        let store = place.store();
        place.put(&store, &["a"]).unwrap();
        let old = Lease {
            token: LeaseToken::random(),
            until: Timestamp::from_nanos(place.clock.now().as_nanos() + left * 1_000_000_000),
            end: None,
        };
        let line = old_line(&place.entries(&store)[0].body, Some(&old));
        place.write([&b"[\n"[..], &line, b"\n]\n"].concat());
        let stored = place.entries(&place.store());
        assert_eq!(stored[0].lease.as_ref(), Some(&old));
        assert_eq!(take(&place, &place.store(), 9).is_empty(), held, "{left} s left");
    }
}
