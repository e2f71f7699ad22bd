//! Cancellation, drop and panic under load.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::{Duration, Instant};

use prodigy_storage::{
    AsyncJob, AsyncStorage, CheckpointId, DeadLetter, ErrorKind, EventId, ItemId, ItemState, LockOptions,
    Phase, SaveOptions, Select, Settled, Storage,
};
use serde::{Deserialize, Deserializer};

use crate::support::{Fixture, file_with, memory_with};

const ROUNDS: u64 = 10;
const FUTURES: u64 = 1_000;
const NAMES: [&str; 4] = ["shop/a", "shop/b", "shop/c", "shop/d"];
/// Longer than the test.
const LEASE: Duration = Duration::from_secs(36_000);

/// Everything that was acknowledged to the futures, recorded in the poll that acknowledged it.
#[derive(Default)]
struct Acknowledged {
    events: Mutex<Vec<(EventId, String)>>,
    pushed: Mutex<Vec<ItemId>>,
    /// Items that were handed out.
    taken: Mutex<BTreeSet<ItemId>>,
    settled: Mutex<BTreeSet<ItemId>>,
    saved: Mutex<Vec<CheckpointId>>,
    held: [AtomicBool; NAMES.len()],
}

/// A small generator of numbers that look random.
struct Draw(u64);

impl Draw {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

#[derive(Debug)]
struct Panics;

impl<'de> Deserialize<'de> for Panics {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        panic!("as the test wants it")
    }
}

/// The work of one future.
async fn work(number: u64, storage: AsyncStorage, job: AsyncJob, acknowledged: Arc<Acknowledged>) {
    match number % 8 {
        0..=2 => {
            let text = format!("event {number}");
            let id = job.events().append(&text).await.unwrap();
            acknowledged.events.lock().unwrap().push((id, text));
        }
        3 => {
            let id = ItemId::new(format!("item-{number}")).unwrap();
            job.dlq()
                .push(&DeadLetter::new(id.clone(), number))
                .await
                .unwrap();
            acknowledged.pushed.lock().unwrap().push(id);
        }
        4 => {
            let taken = job.dlq().take(&Select::eligible(), 2, LEASE).await.unwrap();
            acknowledged
                .taken
                .lock()
                .unwrap()
                .extend(taken.iter().map(|taken| taken.id().clone()));
            for taken in taken {
                if taken.ack().await.unwrap() == Settled::Done {
                    acknowledged.settled.lock().unwrap().insert(taken.id().clone());
                }
            }
        }
        5 => {
            let name = usize::try_from(number / 8).unwrap() % NAMES.len();
            let lock = storage.lock(NAMES[name]).await.unwrap();
            let held = &acknowledged.held[name];
            assert!(!held.swap(true, Ordering::SeqCst), "two hold {}", NAMES[name]);
            let alone = Alone(held);
            lock.check().await.unwrap();
            drop(alone);
            match number % 16 {
                5 => lock.release().await.unwrap(),
                _ => drop(lock),
            }
        }
        6 => {
            let added = job
                .checkpoints()
                .save_map(&number, SaveOptions::new())
                .await
                .unwrap();
            acknowledged.saved.lock().unwrap().push(added.id);
        }
        _ if number.is_multiple_of(5) => {
            let loaded = job.checkpoints().latest_map::<Panics>().await.unwrap();
            assert!(loaded.is_none());
        }
        _ => {
            let mut events = job.events().read::<String>().await.unwrap();
            for _ in 0..200 {
                let Some(event) = events.next().await else { break };
                assert!(event.unwrap().event.event.starts_with("event "));
            }
        }
    }
}

/// Ends before the lock is released, also if the future is dropped.
struct Alone<'a>(&'a AtomicBool);

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

/// Drops a future after a number of polls, or after a time, or never.
async fn cancelled(mut draw: Draw, work: impl Future<Output = ()>) {
    let mut work = pin!(work);
    match draw.below(3) {
        0 => work.await,
        1 => {
            let time = Duration::from_micros(draw.below(4_000));
            let _ = tokio::time::timeout(time, work).await;
        }
        _ => {
            for _ in 0..draw.below(4) {
                let polled = std::future::poll_fn(|context| Poll::Ready(work.as_mut().poll(context))).await;
                if polled.is_ready() {
                    return;
                }
                tokio::task::yield_now().await;
            }
        }
    }
}

/// One round: a handle of its own, 1,000 futures, and its end.
fn round(round: u64, storage: &Storage, acknowledged: &Arc<Acknowledged>) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_time()
        .build()
        .unwrap();
    let storage = AsyncStorage::from(storage.clone());
    let job = storage.repo("shop").unwrap().job("job-1").unwrap();
    let tasks: Vec<_> = (0..FUTURES)
        .map(|future| {
            let number = round * FUTURES + future;
            let draw = Draw(0x9E37_79B9_7F4A_7C15 ^ (number + 1));
            let work = work(number, storage.clone(), job.clone(), Arc::clone(acknowledged));
            runtime.spawn(cancelled(draw, work))
        })
        .collect();
    drop(job);
    if round.is_multiple_of(2) {
        runtime.block_on(async {
            for (number, task) in (round * FUTURES..).zip(tasks) {
                match task.await {
                    Ok(()) => {}
                    // Loaded a checkpoint that panics; anything else is a failure of the test.
                    Err(error) => assert!(
                        error.is_panic() && number % 8 == 7 && number % 5 == 0,
                        "{number}: {error}"
                    ),
                }
            }
            storage.flush().await.unwrap();
        });
    } else {
        // Everything is dropped while it works: the futures by the runtime, and the handle.
        std::thread::sleep(Duration::from_millis(2 + round * 3));
        drop(storage);
        // Waits for the polls that are under way, so that everything acknowledged is recorded.
        runtime.shutdown_timeout(Duration::from_secs(120));
    }
}

/// The leases and locks of cancelled futures end a moment later.
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(120), "{what}");
        std::thread::yield_now();
    }
}

fn check(fixture: &Fixture, acknowledged: &Acknowledged) {
    let (storage, job) = (&fixture.storage, fixture.job());

    // Every name is free.
    let at_once = LockOptions::new("check").wait(Duration::ZERO);
    for name in NAMES {
        eventually(name, || match storage.lock_with(name, at_once.clone()) {
            Ok(lock) => {
                lock.release().unwrap();
                true
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::LockUnavailable);
                false
            }
        });
    }

    // Each item that was pushed is there or settled, and each lease was handed out.
    let settled = acknowledged.settled.lock().unwrap().clone();
    let taken = acknowledged.taken.lock().unwrap().clone();
    eventually("an item is leased to nobody", || {
        let items: Vec<_> = job
            .dlq()
            .scan(&Select::any())
            .unwrap()
            .map(Result::unwrap)
            .collect();
        items
            .iter()
            .all(|item| item.state != ItemState::Leased || taken.contains(&item.id))
    });
    let items: HashMap<ItemId, _> = job
        .dlq()
        .scan(&Select::any())
        .unwrap()
        .map(|item| item.unwrap())
        .map(|item| (item.id.clone(), item))
        .collect();
    for id in acknowledged.pushed.lock().unwrap().iter() {
        assert!(items.contains_key(id) || taken.contains(id), "{id} is lost");
    }
    for id in &settled {
        assert!(!items.contains_key(id), "{id} was settled and is there");
    }
    for (id, item) in &items {
        assert_eq!(
            item.data::<u64>().unwrap().to_string(),
            id.as_str().trim_start_matches("item-")
        );
        assert_eq!(item.clone().summary().unwrap().failure_count, 1);
    }

    // Each event is there once, whole, under its acknowledged id.
    let mut events = BTreeMap::new();
    let mut texts = BTreeSet::new();
    for event in job.events().read::<String>().unwrap() {
        let event = event.unwrap();
        assert!(
            texts.insert(event.event.clone()),
            "{} is there twice",
            event.event
        );
        events.insert(event.id, event.event);
    }
    for (id, text) in acknowledged.events.lock().unwrap().iter() {
        assert_eq!(events.get(id), Some(text));
    }

    // Each checkpoint is there, and whole.
    for id in acknowledged.saved.lock().unwrap().iter() {
        assert!(job.checkpoints().get::<u64>(id).unwrap().is_some());
    }
    for entry in job.checkpoints().list_phase(Phase::Map) {
        assert!(
            job.checkpoints()
                .get::<u64>(&entry.unwrap().id)
                .unwrap()
                .is_some()
        );
    }
}

#[test]
fn ten_thousand_futures_cancelled_at_random_points_lose_nothing_and_leave_nothing_half() {
    for fixture in [memory_with(|builder| builder), file_with(|builder| builder)] {
        let acknowledged = Arc::new(Acknowledged::default());
        for number in 0..ROUNDS {
            round(number, &fixture.storage, &acknowledged);
            check(&fixture, &acknowledged);
        }
        let count = |acknowledged: usize| assert!(acknowledged > 100, "{acknowledged}");
        count(acknowledged.events.lock().unwrap().len());
        count(acknowledged.pushed.lock().unwrap().len());
        count(acknowledged.settled.lock().unwrap().len());
        count(acknowledged.saved.lock().unwrap().len());
    }
}
