//! Tests of `Cache` with a single thread.

use std::convert::Infallible;
use std::time::Duration;

use prodigy_storage_cache::{Cache, LoadError, Loaded};

use crate::support::{FakeClock, settings};

const TTL: Duration = Duration::from_secs(60);

fn cache() -> Cache<&'static str, u32> {
    Cache::new(&settings(10, 100, TTL))
}

fn unwanted() -> Result<Loaded<u32>, Infallible> {
    panic!("there was no need to load")
}

#[test]
fn a_loaded_value_is_there_the_next_time() {
    let cache = cache();
    let loaded = cache.get_or_load(&"a", None, || Ok::<_, Infallible>(Loaded::keep(1, 4)));
    assert_eq!(loaded, Ok(1));
    assert_eq!(cache.get_or_load(&"a", None, unwanted), Ok(1));
    assert_eq!(cache.get(&"a"), Some(1));
    assert_eq!(cache.get(&"b"), None);
    let stats = cache.stats();
    assert_eq!(
        (
            stats.hits,
            stats.misses,
            stats.shared,
            stats.stale,
            stats.failed_loads
        ),
        (2, 2, 0, 0, 0)
    );
    assert_eq!((stats.entries, stats.bytes), (1, 4));
}

#[test]
fn a_failed_load_is_not_kept() {
    let cache = cache();
    assert_eq!(
        cache.get_or_load(&"a", None, || Err("broken")),
        Err(LoadError::Failed("broken"))
    );
    assert_eq!(
        cache.get_or_load(&"a", None, || Ok::<_, &str>(Loaded::keep(2, 1))),
        Ok(2)
    );
    let stats = cache.stats();
    assert_eq!((stats.failed_loads, stats.misses, stats.hits), (1, 2, 0));
}

#[test]
fn a_value_passed_on_is_not_kept() {
    let cache = cache();
    assert_eq!(
        cache.get_or_load(&"a", None, || Ok::<_, Infallible>(Loaded::pass(1))),
        Ok(1)
    );
    assert_eq!(cache.get(&"a"), None);
}

#[test]
fn a_value_too_heavy_is_given_and_not_kept() {
    let cache = cache();
    assert_eq!(
        cache.get_or_load(&"a", None, || Ok::<_, Infallible>(Loaded::keep(1, 101))),
        Ok(1)
    );
    assert_eq!(cache.get(&"a"), None);
}

#[test]
fn an_old_value_is_loaded_afresh() {
    let time = FakeClock::default();
    let cache = Cache::with_clock(&settings(10, 100, TTL), time.clock());
    cache.insert("a", 1, 1);
    time.advance(TTL + Duration::from_secs(1));
    assert_eq!(
        cache.get_or_load(&"a", None, || Ok::<_, Infallible>(Loaded::keep(2, 1))),
        Ok(2)
    );
    assert_eq!(cache.stats().expired, 1);
}

#[test]
fn a_write_during_a_load_wins_over_its_result() {
    let cache = cache();
    let loaded = cache.get_or_load(&"a", None, || {
        cache.insert("a", 2, 1);
        Ok::<_, Infallible>(Loaded::keep(1, 1))
    });
    assert_eq!(loaded, Ok(1), "the read began before the write");
    assert_eq!(cache.get(&"a"), Some(2));
}

#[test]
fn what_is_forgotten_during_a_load_stays_forgotten() {
    let forget: [fn(&Cache<&'static str, u32>); 3] = [
        |cache| cache.remove(&"a"),
        Cache::clear,
        |cache| cache.retain(|key| *key != "a"),
    ];
    for forget in forget {
        let cache = cache();
        let loaded = cache.get_or_load(&"a", None, || {
            forget(&cache);
            Ok::<_, Infallible>(Loaded::keep(1, 1))
        });
        assert_eq!(loaded, Ok(1));
        assert_eq!(cache.get(&"a"), None);
    }
}

#[test]
fn retaining_forgets_the_others() {
    let cache = cache();
    cache.insert("a", 1, 1);
    cache.insert("b", 2, 1);
    cache.retain(|key| *key == "b");
    assert_eq!((cache.get(&"a"), cache.get(&"b")), (None, Some(2)));
}

#[test]
fn a_stale_value_is_replaced() {
    let cache = cache();
    cache.insert("a", 1, 1);
    let value = cache.get_or_load_checked(
        &"a",
        None,
        |value| Ok::<_, Infallible>(*value == 2),
        || Ok(Loaded::keep(2, 1)),
    );
    assert_eq!(value, Ok(2));
    assert_eq!(cache.get(&"a"), Some(2));
    let stats = cache.stats();
    assert_eq!((stats.stale, stats.misses, stats.hits), (1, 1, 1));
}

#[test]
fn a_stale_value_whose_load_fails_is_gone() {
    let cache = cache();
    cache.insert("a", 1, 1);
    let value = cache.get_or_load_checked(&"a", None, |_| Ok(false), || Err("broken"));
    assert_eq!(value, Err(LoadError::Failed("broken")));
    assert_eq!(cache.get(&"a"), None);
}

#[test]
fn a_failed_check_is_the_callers_error_and_the_value_stays() {
    let cache = cache();
    cache.insert("a", 1, 1);
    let value = cache.get_or_load_checked(&"a", None, |_| Err("unreachable"), || Ok(Loaded::keep(2, 1)));
    assert_eq!(value, Err(LoadError::Failed("unreachable")));
    assert_eq!(cache.get(&"a"), Some(1));
}

#[test]
fn a_value_that_replaced_the_stale_one_meanwhile_is_kept() {
    let cache = cache();
    cache.insert("a", 1, 1);
    let value = cache.get_or_load_checked(
        &"a",
        None,
        |value| {
            if *value == 1 {
                cache.insert("a", 2, 1);
            }
            Ok::<_, Infallible>(*value == 2)
        },
        unwanted,
    );
    assert_eq!(value, Ok(2));
}

#[test]
fn a_reader_outrun_by_writers_loads_for_itself() {
    let cache = cache();
    cache.insert("a", 1, 1);
    let mut checks = 0;
    let value = cache.get_or_load_checked(
        &"a",
        None,
        |value| {
            checks += 1;
            cache.insert("a", value + 1, 1);
            Ok::<_, Infallible>(false)
        },
        || Ok(Loaded::keep(100, 1)),
    );
    assert_eq!((value, checks), (Ok(100), 2));
}

#[test]
fn a_loader_may_load_its_own_key() {
    let cache = cache();
    let value = cache.get_or_load(&"a", None, || {
        cache
            .get_or_load(&"a", None, || Ok::<_, Infallible>(Loaded::keep(1, 1)))
            .map(|inner| Loaded::keep(inner + 1, 1))
    });
    assert_eq!(value, Ok(2));
    assert_eq!(cache.get(&"a"), Some(2));
}
