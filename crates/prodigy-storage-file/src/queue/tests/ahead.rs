//! Tests that a long queue is read before its lock is taken.

use std::sync::atomic::Ordering;
use std::thread::ScopedJoinHandle;
use std::time::Duration;

use prodigy_storage_backend::{Deadline, Durability, QueueItem, Select};

use super::support::{Faults, Faulty, NEVER, Place, id, item, item_of};
use crate::queue::Queues;
use crate::queue::compact::Unreadable;
use crate::queue::record::Verb;
use crate::queue::standing::Standing;
use crate::queue::turn::Turn;

/// The number of items in a queue of more than a megabyte.
const ITEMS: usize = 1_100;

fn filled() -> (Place, Queues, u64) {
    let place = Place::new();
    let store = place.store();
    let text = "x".repeat(1_000);
    let items: Vec<QueueItem> = (0..ITEMS)
        .map(|n| item_of(&format!(r#"{{"item_id":"n{n:05}","item_data":"{text}"}}"#)))
        .collect();
    store
        .queue_put(&place.job, &items, Durability::Strict, None, NEVER)
        .unwrap();
    let len = place.bytes().len() as u64;
    (place, store, len)
}

/// Takes one item, and returns its id.
fn take(place: &Place, store: &Queues) -> Vec<String> {
    let (lease, soon) = (Duration::from_secs(600), Deadline::after(Duration::from_secs(60)));
    let taken = store.queue_take(&place.job, &Select::eligible(), 1, lease, None, soon);
    let taken = taken.unwrap().into_iter();
    taken.map(|entry| entry.id.to_string()).collect()
}

fn turn<'q>(store: &'q Queues, place: &Place) -> Turn<'q> {
    Turn::begin(store, "test", &place.job, "queue", NEVER).unwrap()
}

/// Removes the item with this birth, and pushes a new item.
fn change(turn: &mut Turn<'_>, birth: u64, new: &QueueItem) {
    let at = turn.files.index.find(birth).unwrap();
    let number = turn.next().unwrap();
    turn.change(at, number, Verb::Remove, &Standing::default(), None);
    turn.commit(Durability::Strict).unwrap();
    let number = turn.next().unwrap();
    let pushed = [(&*new.body, &new.id, number)];
    turn.push(&pushed, Durability::Strict).unwrap();
}

/// Waits until a thread has read this number of bytes, or has ended.
fn until_read<T>(thread: &ScopedJoinHandle<'_, T>, faults: &Faults, bytes: u64) {
    while faults.read.load(Ordering::Relaxed) < bytes && !thread.is_finished() {
        std::thread::yield_now();
    }
}

#[test]
fn a_long_queue_is_read_without_its_lock_and_changed_only_with_it() {
    let (place, one, len) = filled();
    let (two, faults) = Faulty::store(&place);
    let held = turn(&one, &place);
    let before = place.bytes();
    let taken = std::thread::scope(|scope| {
        let taken = scope.spawn(|| take(&place, &two));
        until_read(&taken, &faults, len);
        assert!(!taken.is_finished() && faults.written.load(Ordering::Relaxed) == 0);
        assert!(place.bytes() == before);
        drop(held);
        taken.join().unwrap()
    });
    assert_eq!(taken, ["n00000"]);
}

#[test]
fn what_others_changed_between_the_reading_and_the_lock_counts() {
    let (place, one, len) = filled();
    let (two, faults) = Faulty::store(&place);
    let (place, two) = (&place, &two);
    for (birth, new) in [(1, "x"), (3, "y")] {
        let mut held = turn(&one, place);
        if birth == 3 {
            // Replaces the array, which the other handle has already read.
            held.compact(Unreadable::Kept).unwrap();
        }
        faults.work();
        let taken = std::thread::scope(|scope| {
            let taken = scope.spawn(move || take(place, two));
            until_read(&taken, &faults, len - 4_000);
            change(&mut held, birth, &item(new));
            held.end(Durability::Strict).unwrap();
            taken.join().unwrap()
        });
        // The first item in the queue was removed while the other handle read, so that handle takes the second one.
        assert_eq!(taken, [format!("n{birth:05}")], "{new}");
        let read = faults.work()[0];
        assert!(
            read < len + len / 2,
            "{new}: {read} of {len}, so it was read once"
        );
        assert_eq!(place.put(two, &[new]).unwrap().merged, 1);
    }
    let gone = [id("n00000"), id("n00002")];
    assert!(place.ids(&one).iter().all(|found| !gone.contains(&id(found))));
    assert_eq!(place.ids(&one).len(), ITEMS);
}
