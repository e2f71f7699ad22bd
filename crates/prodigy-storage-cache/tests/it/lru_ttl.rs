use std::time::Duration;

use prodigy_storage_cache::LruTtl;
use proptest::prelude::*;

use crate::support::{FakeClock, settings};

const TTL: Duration = Duration::from_secs(60);

#[test]
fn the_least_recently_used_goes_first() {
    let mut cache = LruTtl::new(&settings(2, 100, TTL));
    assert!(cache.insert("a", 1, 1));
    assert!(cache.insert("b", 2, 1));
    assert_eq!(cache.get("a"), Some(&1));
    assert!(cache.insert("c", 3, 1));
    assert_eq!(
        (cache.peek("a"), cache.peek("b"), cache.peek("c")),
        (Some(&1), None, Some(&3))
    );
    assert_eq!(cache.evicted(), 1);
}

#[test]
fn peeking_is_no_use() {
    let mut cache = LruTtl::new(&settings(2, 100, TTL));
    cache.insert("a", 1, 1);
    cache.insert("b", 2, 1);
    assert_eq!(cache.peek("a"), Some(&1));
    cache.insert("c", 3, 1);
    assert_eq!(cache.peek("a"), None);
}

#[test]
fn several_go_for_one_that_is_heavy() {
    let mut cache = LruTtl::new(&settings(10, 10, TTL));
    for key in 0..5 {
        cache.insert(key, (), 2);
    }
    assert_eq!(cache.bytes(), 10);
    assert!(cache.insert(5, (), 7));
    assert_eq!((cache.len(), cache.bytes()), (2, 9));
    assert!(cache.peek(&4).is_some());
}

#[test]
fn the_heaviest_possible_fits_and_a_byte_more_does_not() {
    let mut cache = LruTtl::new(&settings(10, 10, TTL));
    cache.insert("small", (), 1);
    assert!(cache.insert("all of it", (), 10));
    assert_eq!((cache.len(), cache.bytes()), (1, 10));
    assert!(!cache.insert("too much", (), 11));
    assert!(
        cache.peek("all of it").is_some(),
        "what did not fit drives nothing out"
    );
}

#[test]
fn a_value_too_heavy_takes_its_older_one_along() {
    let mut cache = LruTtl::new(&settings(10, 10, TTL));
    cache.insert("a", 1, 1);
    assert!(!cache.insert("a", 2, 11));
    assert_eq!((cache.peek("a"), cache.bytes()), (None, 0));
}

#[test]
fn weights_at_the_end_of_the_range_do_not_overflow() {
    let mut cache = LruTtl::new(&settings(10, u64::MAX, TTL));
    assert!(cache.insert("a", (), u64::MAX - 1));
    assert!(cache.insert("b", (), u64::MAX));
    assert_eq!((cache.len(), cache.bytes()), (1, u64::MAX));
}

#[test]
fn an_entry_lives_as_long_as_its_ttl_from_when_it_was_stored() {
    let time = FakeClock::default();
    let mut cache = LruTtl::with_clock(&settings(10, 100, TTL), time.clock());
    cache.insert("a", 1, 5);
    time.advance(TTL);
    assert_eq!(cache.get("a"), Some(&1), "as old as the ttl is not older");
    time.advance(Duration::from_nanos(1));
    assert_eq!(cache.peek("a"), None);
    assert_eq!(cache.len(), 1, "a peek drops nothing");
    assert_eq!(cache.get("a"), None, "a use does not lengthen its life");
    assert_eq!((cache.len(), cache.bytes(), cache.expired()), (0, 0, 1));

    cache.insert("a", 2, 5);
    time.advance(TTL);
    cache.insert("a", 3, 5);
    time.advance(TTL);
    assert_eq!(cache.get("a"), Some(&3), "a new value begins a new life");
}

#[test]
fn no_entries_at_all_is_a_cache_that_keeps_nothing() {
    let mut cache = LruTtl::new(&settings(0, 100, TTL));
    assert!(!cache.insert("a", 1, 1));
    assert!(cache.is_empty());
}

#[test]
fn a_huge_bound_allocates_nothing_ahead() {
    let mut cache = LruTtl::new(&settings(usize::MAX, u64::MAX, TTL));
    assert!(cache.insert("a", 1, 1));
}

#[derive(Debug, Clone)]
enum Step {
    Insert(u8, u64),
    Get(u8),
    Remove(u8),
    RetainEven,
    Advance(u64),
    Clear,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = 0..12u8;
    let step = prop_oneof![
        8 => (key.clone(), 0..30u64).prop_map(|(key, weight)| Step::Insert(key, weight)),
        6 => key.clone().prop_map(Step::Get),
        2 => key.prop_map(Step::Remove),
        2 => (0..40u64).prop_map(Step::Advance),
        1 => Just(Step::RetainEven),
        1 => Just(Step::Clear),
    ];
    prop::collection::vec(step, 0..200)
}

/// A simple model of the cache: its entries in the order of their last use, the most recently used one last.
#[derive(Default)]
struct Model {
    entries: Vec<(u8, u64, u64, Duration)>,
    now: Duration,
}

impl Model {
    fn bytes(&self) -> u64 {
        self.entries.iter().map(|entry| entry.2).sum()
    }
}

proptest! {
    #[test]
    fn does_what_the_plainest_cache_does(
        steps in steps(),
        max_entries in 1..8usize,
        max_bytes in 1..60u64,
    ) {
        let time = FakeClock::default();
        let mut cache = LruTtl::with_clock(&settings(max_entries, max_bytes, TTL), time.clock());
        let mut model = Model::default();
        let mut value = 0u64;
        for step in steps {
            match step {
                Step::Insert(key, weight) => {
                    value += 1;
                    let kept = cache.insert(key, value, weight);
                    prop_assert_eq!(kept, weight <= max_bytes);
                    model.entries.retain(|entry| entry.0 != key);
                    if kept {
                        model.entries.push((key, value, weight, model.now));
                        while model.entries.len() > max_entries || model.bytes() > max_bytes {
                            model.entries.remove(0);
                        }
                    }
                }
                Step::Get(key) => {
                    let at = model.entries.iter().position(|entry| entry.0 == key);
                    let expected = at.and_then(|at| {
                        let entry = model.entries.remove(at);
                        (model.now - entry.3 <= TTL).then(|| {
                            model.entries.push(entry);
                            entry.1
                        })
                    });
                    prop_assert_eq!(cache.get(&key).copied(), expected);
                }
                Step::Remove(key) => {
                    let at = model.entries.iter().position(|entry| entry.0 == key);
                    let expected = at.map(|at| model.entries.remove(at).1);
                    prop_assert_eq!(cache.remove(&key), expected);
                }
                Step::RetainEven => {
                    cache.retain(|key, _| key % 2 == 0);
                    model.entries.retain(|entry| entry.0 % 2 == 0);
                }
                Step::Advance(secs) => {
                    time.advance(Duration::from_secs(secs));
                    model.now += Duration::from_secs(secs);
                }
                Step::Clear => {
                    cache.clear();
                    model.entries.clear();
                }
            }
            prop_assert_eq!(cache.len(), model.entries.len());
            prop_assert_eq!(cache.bytes(), model.bytes());
            prop_assert!(cache.len() <= max_entries && cache.bytes() <= max_bytes);
        }
    }
}
