//! Many threads miss the same key. No test sleeps: each test waits until the cache's counters show that the
//! threads wait.

use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use prodigy_storage_cache::{Cache, CacheSettings, LoadError, Loaded};

use crate::support::until;

const READERS: usize = 8;

fn cache() -> Cache<u32, usize> {
    Cache::new(&CacheSettings::default())
}

#[test]
fn concurrent_misses_load_once() {
    let (cache, loads) = (cache(), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..READERS {
            scope.spawn(|| {
                let value = cache.get_or_load(&1, None, || {
                    let load = loads.fetch_add(1, Ordering::SeqCst) + 1;
                    until(|| cache.stats().waiting == READERS - 1);
                    Ok::<_, Infallible>(Loaded::keep(load, 1))
                });
                assert_eq!(value, Ok(1));
            });
        }
    });
    assert_eq!(loads.into_inner(), 1);
    let stats = cache.stats();
    let others = u64::try_from(READERS - 1).unwrap();
    assert_eq!(
        (stats.misses, stats.shared, stats.hits, stats.waiting),
        (others + 1, others, 0, 0)
    );
}

#[test]
fn a_value_that_is_not_kept_still_serves_all_who_wait() {
    let (cache, loads) = (cache(), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..READERS {
            scope.spawn(|| {
                let value = cache.get_or_load(&1, None, || {
                    loads.fetch_add(1, Ordering::SeqCst);
                    until(|| cache.stats().waiting == READERS - 1);
                    Ok::<_, Infallible>(Loaded::pass(7))
                });
                assert_eq!(value, Ok(7));
            });
        }
    });
    assert_eq!((loads.into_inner(), cache.stats().entries), (1, 0));
}

#[test]
fn different_keys_do_not_wait_for_each_other() {
    let cache = cache();
    let value = cache.get_or_load(&1, None, || {
        thread::scope(|scope| {
            let other =
                scope.spawn(|| cache.get_or_load(&2, None, || Ok::<_, Infallible>(Loaded::keep(2, 1))));
            assert_eq!(other.join().unwrap(), Ok(2));
        });
        Ok::<_, Infallible>(Loaded::keep(1, 1))
    });
    assert_eq!(value, Ok(1));
}

#[test]
fn after_a_failed_load_another_of_those_who_wait_loads() {
    let (cache, loads) = (cache(), AtomicUsize::new(0));
    let failures = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..READERS {
            scope.spawn(|| {
                let value = cache.get_or_load(&1, None, || {
                    if loads.fetch_add(1, Ordering::SeqCst) == 0 {
                        until(|| cache.stats().waiting == READERS - 1);
                        return Err("broken");
                    }
                    Ok(Loaded::keep(2, 1))
                });
                match value {
                    Ok(value) => assert_eq!(value, 2),
                    Err(error) => {
                        assert_eq!(error, LoadError::Failed("broken"));
                        failures.fetch_add(1, Ordering::SeqCst);
                    }
                }
            });
        }
    });
    assert_eq!(failures.into_inner(), 1, "the error is its own loader's alone");
    assert_eq!(loads.into_inner(), 2);
}

#[test]
fn a_loader_that_panics_leaves_no_one_waiting() {
    let (cache, loads) = (cache(), AtomicUsize::new(0));
    let panics = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..READERS {
            scope.spawn(|| {
                let value = catch_unwind(AssertUnwindSafe(|| {
                    cache.get_or_load(&1, None, || {
                        if loads.fetch_add(1, Ordering::SeqCst) == 0 {
                            until(|| cache.stats().waiting == READERS - 1);
                            std::panic::resume_unwind(Box::new("a bug in the loader"));
                        }
                        Ok::<_, Infallible>(Loaded::keep(2, 1))
                    })
                }));
                match value {
                    Ok(value) => assert_eq!(value, Ok(2)),
                    Err(_) => {
                        panics.fetch_add(1, Ordering::SeqCst);
                    }
                }
            });
        }
    });
    assert_eq!((panics.into_inner(), loads.into_inner()), (1, 2));
    assert_eq!(cache.stats().failed_loads, 1);
}

#[test]
fn who_waits_waits_until_its_own_deadline() {
    let cache = cache();
    let value = cache.get_or_load(&1, None, || {
        thread::scope(|scope| {
            // The load ends only after the scope of this wait, so nothing but the deadline can end the wait.
            let waiter = scope.spawn(|| {
                let deadline = Instant::now() + Duration::from_millis(20);
                cache.get_or_load(&1, Some(deadline), || Ok::<_, Infallible>(Loaded::keep(2, 1)))
            });
            let Err(LoadError::WaitTimedOut { waited }) = waiter.join().unwrap() else {
                panic!("there was nothing to be had before the deadline");
            };
            assert!(waited >= Duration::from_millis(20), "{waited:?}");
        });
        Ok::<_, Infallible>(Loaded::keep(1, 1))
    });
    assert_eq!(value, Ok(1));
    assert_eq!(cache.stats().waiting, 0);
}

#[test]
fn a_value_read_before_this_call_began_is_checked() {
    // The store changes after the load has read it and before the second reader begins.
    let (cache, store) = (cache(), AtomicUsize::new(1));
    let read = || Ok::<_, Infallible>(Loaded::keep(store.load(Ordering::SeqCst), 1));
    let current = |value: &usize| Ok(*value == store.load(Ordering::SeqCst));
    thread::scope(|scope| {
        let first = cache.get_or_load_checked(&1, None, current, || {
            let old = read();
            store.store(2, Ordering::SeqCst);
            scope.spawn(|| assert_eq!(cache.get_or_load_checked(&1, None, current, read), Ok(2)));
            until(|| cache.stats().waiting == 1);
            old
        });
        assert_eq!(first, Ok(1));
    });
    assert!(cache.stats().stale >= 1);
}

#[test]
fn no_read_is_older_than_the_last_write_before_it() {
    const ROUNDS: usize = 2_000;
    let (cache, store) = (cache(), AtomicUsize::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            for round in 1..=ROUNDS {
                store.store(round, Ordering::SeqCst);
                if round % 3 == 0 {
                    cache.insert(1, round, 1);
                }
            }
        });
        for _ in 0..3 {
            scope.spawn(|| {
                loop {
                    let before = store.load(Ordering::SeqCst);
                    let value = cache
                        .get_or_load_checked(
                            &1,
                            None,
                            |value| Ok::<_, Infallible>(*value == store.load(Ordering::SeqCst)),
                            || Ok(Loaded::keep(store.load(Ordering::SeqCst), 1)),
                        )
                        .unwrap();
                    assert!(value >= before, "read {value} after {before} was written");
                    if value == ROUNDS {
                        break;
                    }
                }
            });
        }
    });
}
