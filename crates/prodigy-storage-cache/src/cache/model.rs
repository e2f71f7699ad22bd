//! Model tests of concurrent loads: a scheduler runs the threads' steps in many orders.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::Ordering::Relaxed;

use shuttle::sync::Mutex;
use shuttle::sync::atomic::{AtomicU64, Ordering};
use shuttle::thread;

use super::*;

const KEY: u8 = 7;

/// A value, and a cache in front of it.
struct Home {
    cache: Cache<u8, u64>,
    truth: AtomicU64,
    loads: Mutex<Loads>,
}

#[derive(Default)]
struct Loads {
    begun: usize,
    running: usize,
}

/// How a load ends.
#[derive(Clone, Copy)]
enum End {
    Value,
    Error,
    Panic,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Broken;

impl Home {
    fn new() -> Arc<Self> {
        let now = Instant::now();
        Arc::new(Self {
            cache: Cache::with_clock(&CacheSettings::default(), Arc::new(move || now)),
            truth: AtomicU64::new(1),
            loads: Mutex::default(),
        })
    }

    fn read(&self) -> Loaded<u64> {
        let value = self.truth.load(Ordering::SeqCst);
        thread::yield_now();
        Loaded::keep(value, 1)
    }

    /// Loads the value, and checks that no other load runs. The first load ends as `first` says; later ones
    /// succeed.
    fn load(&self, first: End) -> Result<Loaded<u64>, Broken> {
        let is_first = {
            let mut loads = self.loads.lock().unwrap();
            loads.begun += 1;
            loads.running += 1;
            assert_eq!(loads.running, 1, "two loads of one key at once");
            loads.begun == 1
        };
        let loaded = self.read();
        self.loads.lock().unwrap().running -= 1;
        match first {
            End::Error if is_first => Err(Broken),
            // Unlike `panic!`, `resume_unwind` prints no message.
            End::Panic if is_first => resume_unwind(Box::new(Broken)),
            _ => Ok(loaded),
        }
    }

    fn get(&self, first: End, deadline: Option<Instant>) -> Result<u64, LoadError<Broken>> {
        self.cache.get_or_load(&KEY, deadline, || self.load(first))
    }

    fn begun(&self) -> usize {
        self.loads.lock().unwrap().begun
    }

    fn assert_idle(&self) {
        assert_eq!(self.cache.stats().waiting, 0);
        assert!(self.cache.inner.lock().loads.is_empty());
    }
}

fn spawn<T: Send + 'static>(
    home: &Arc<Home>,
    run: impl FnOnce(&Home) -> T + Send + 'static,
) -> thread::JoinHandle<T> {
    let home = Arc::clone(home);
    thread::spawn(move || run(&home))
}

fn join<T>(threads: Vec<thread::JoinHandle<T>>) -> Vec<T> {
    threads.into_iter().map(|thread| thread.join().unwrap()).collect()
}

fn check(model: impl Fn() + Send + Sync + Clone + 'static) {
    shuttle::check_random(model.clone(), 1000);
    shuttle::check_pct(model, 1000, 3);
}

#[test]
fn concurrent_misses_load_once() {
    let shared = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let counted = Arc::clone(&shared);
    check(move || {
        let home = Home::new();
        let got = join(
            (0..4)
                .map(|_| spawn(&home, |home| home.get(End::Value, None)))
                .collect(),
        );
        assert_eq!(got, [Ok(1); 4]);
        assert_eq!(home.begun(), 1);
        let stats = home.cache.stats();
        assert_eq!(stats.hits + stats.misses, 4);
        counted.fetch_add(stats.shared, Relaxed);
        home.assert_idle();
    });
    assert!(shared.load(Relaxed) > 0, "no load was ever shared");
}

#[test]
fn two_misses_in_every_order_there_is() {
    shuttle::check_dfs(
        || {
            let cache = Arc::new(Cache::new(&CacheSettings::default()));
            let loads = Arc::new(std::sync::atomic::AtomicU64::new(0));
            let get = |cache: &Cache<u8, u64>, loads: &std::sync::atomic::AtomicU64| {
                let load = || Ok::<_, Broken>(Loaded::keep(loads.fetch_add(1, Relaxed) + 1, 1));
                assert_eq!(cache.get_or_load(&KEY, None, load), Ok(1));
            };
            let other = {
                let (cache, loads) = (Arc::clone(&cache), Arc::clone(&loads));
                thread::spawn(move || get(&cache, &loads))
            };
            get(&cache, &loads);
            other.join().unwrap();
            assert_eq!(cache.stats().waiting, 0);
        },
        None,
    );
}

#[test]
fn a_failed_load_is_not_kept_and_no_one_hangs() {
    check(|| {
        let home = Home::new();
        let got = join(
            (0..4)
                .map(|_| spawn(&home, |home| home.get(End::Error, None)))
                .collect(),
        );
        let failed = got.iter().filter(|got| **got == Err(LoadError::Failed(Broken)));
        assert_eq!(failed.count(), 1, "only its caller hears of a failed load");
        assert_eq!(got.iter().filter(|got| **got == Ok(1)).count(), 3);
        assert_eq!(home.begun(), 2);
        assert_eq!(home.cache.stats().failed_loads, 1);
        home.assert_idle();
    });
}

#[test]
fn a_loader_that_panics_leaves_no_one_waiting() {
    check(|| {
        let home = Home::new();
        let got = join(
            (0..4)
                .map(|_| {
                    spawn(&home, |home| {
                        catch_unwind(AssertUnwindSafe(|| home.get(End::Panic, None))).ok()
                    })
                })
                .collect(),
        );
        assert_eq!(got.iter().filter(|got| got.is_none()).count(), 1);
        assert_eq!(got.iter().filter(|got| **got == Some(Ok(1))).count(), 3);
        assert_eq!(home.begun(), 2);
        home.assert_idle();
    });
}

#[test]
fn who_gives_up_leaves_the_load_to_the_others() {
    let given_up = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let counted = Arc::clone(&given_up);
    check(move || {
        let home = Home::new();
        let deadline = Some(Instant::now());
        let hasty = [(); 2].map(|()| spawn(&home, move |home| home.get(End::Value, deadline)));
        assert_eq!(home.get(End::Value, None), Ok(1));
        for got in hasty.map(|thread| thread.join().unwrap()) {
            match got {
                Err(LoadError::WaitTimedOut { .. }) => drop(counted.fetch_add(1, Relaxed)),
                got => assert_eq!(got, Ok(1)),
            }
        }
        assert_eq!(home.begun(), 1);
        home.assert_idle();
    });
    assert!(given_up.load(Relaxed) > 0, "no one gave up");
}

#[test]
fn an_invalidation_during_a_load_is_not_undone_by_it() {
    let forget: [fn(&Cache<u8, u64>); 4] = [
        |cache| cache.remove(&KEY),
        |cache| cache.clear(),
        |cache| cache.retain(|_| false),
        |cache| assert!(cache.insert(KEY, 2, 1)),
    ];
    for forget in forget {
        check(move || {
            let home = Home::new();
            let load = |home: &Home| {
                home.cache
                    .get_or_load(&KEY, None, || Ok::<_, Broken>(home.read()))
            };
            let readers = (0..2)
                .map(|_| spawn(&home, move |home| load(home).unwrap()))
                .collect();
            let writer = spawn(&home, move |home| {
                home.truth.store(2, Ordering::SeqCst);
                forget(&home.cache);
                assert_eq!(load(home), Ok(2), "a value from before the invalidation");
            });
            for got in join(readers) {
                assert!(got == 1 || got == 2);
            }
            writer.join().unwrap();
            assert_ne!(home.cache.get(&KEY), Some(1), "the old value came back");
            home.assert_idle();
        });
    }
}

#[test]
fn a_checked_value_is_never_older_than_its_call() {
    check(|| {
        let home = Home::new();
        let get = |home: &Home| {
            let at_least = home.truth.load(Ordering::SeqCst);
            let is_current = |value: &u64| Ok(*value == home.truth.load(Ordering::SeqCst));
            let got = home
                .cache
                .get_or_load_checked(&KEY, None, is_current, || Ok::<_, Broken>(home.read()));
            assert!(got.unwrap() >= at_least);
        };
        // Another process writes here, so the cache does not notice.
        let writer = spawn(&home, |home| {
            for value in 2..=3 {
                home.truth.store(value, Ordering::SeqCst);
            }
        });
        join(
            (0..3)
                .map(|_| {
                    spawn(&home, move |home| {
                        get(home);
                        get(home);
                    })
                })
                .collect(),
        );
        writer.join().unwrap();
        home.assert_idle();
    });
}
