//! Drops thousands of futures at random points, and compares the store with the acknowledgements.

use std::future::poll_fn;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::{Duration, Instant};

use prodigy_storage_backend::{ErrorKind, Select};
use prodigy_storage_config::MapEnvironment;

use super::record::{NAMES, Record};
use super::work::{Draw, Worker};
use crate::asynchronous::AsyncStorage;
use crate::{Job, LockOptions, Storage, StorageBuilder};

/// The largest number of polls before a future is dropped.
const POLLS: u64 = 48;

/// The size of a test.
#[derive(Clone, Copy)]
struct Load {
    /// The least number of rounds. More follow until each kind of call was acknowledged.
    rounds: u64,
    /// The number of futures of each round.
    futures: u64,
    /// The longest time of a future.
    longest: Duration,
}

/// Polls a future until a random time or number of polls, and then drops it. It may also be dropped right before
/// the next poll.
async fn cancelled(mut draw: Draw, longest: Duration, work: impl Future<Output = ()>) {
    let mut work = pin!(work);
    let (mut left, how) = (draw.below(POLLS), draw.below(3));
    let dropped = poll_fn(|context| {
        if how == 0 && left == 0 {
            return Poll::Ready(());
        }
        assert!(work.as_mut().poll(context).is_pending());
        left = left.saturating_sub(1);
        match how == 1 && left == 0 {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    });
    // A follow may wait for an event that never comes.
    let _ = tokio::time::timeout(draw.part_of(longest), dropped).await;
}

/// Counts a dropped future, even one that the runtime drops.
struct Counts(Arc<Record>);

impl Drop for Counts {
    fn drop(&mut self) {
        self.0.cancelled.fetch_add(1, Ordering::SeqCst);
    }
}

/// Runs the futures of a round on a handle of their own, until all of them have ended.
fn round(round: u64, storage: &Storage, load: Load, record: &Arc<Record>) {
    let Load { futures, longest, .. } = load;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_time()
        .build()
        .unwrap();
    let tasks = AsyncStorage::from(storage.clone());
    let threads = tasks.threads.watch();
    let job = tasks.repo("shop").unwrap().job("job-1").unwrap();
    let futures: Vec<_> = (round * futures..(round + 1) * futures)
        .map(|number| {
            let worker = Worker {
                storage: tasks.clone(),
                job: job.clone(),
                record: Arc::clone(record),
                draw: Draw::new(number),
            };
            let counts = Counts(Arc::clone(record));
            runtime.spawn(async move {
                cancelled(Draw::new(!number), longest, worker.work()).await;
                drop(counts);
            })
        })
        .collect();
    drop(job);
    if round.is_multiple_of(2) {
        runtime.block_on(async {
            for future in futures {
                future.await.unwrap();
            }
            tasks.flush().await.unwrap();
        });
        // A flush waits until the leases and locks of dropped futures are released.
        assert!(is_clean(storage));
        drop((tasks, runtime));
    } else {
        // Drops everything while the futures work: the runtime drops the futures, and then the handle is dropped.
        std::thread::sleep(Draw::new(round).part_of(longest));
        drop(tasks);
        // Waits until no future is being polled, so that everything that was acknowledged is recorded.
        runtime.shutdown_timeout(Duration::from_secs(120));
        eventually("a lease or a lock is left", || is_clean(storage));
    }
    eventually("a thread is left", || !threads());
}

/// True if no item is leased and no lock is held.
fn is_clean(storage: &Storage) -> bool {
    let at_once = LockOptions::new("check").wait(Duration::ZERO);
    let are_free = NAMES
        .iter()
        .all(|name| match storage.lock_with(name, at_once.clone()) {
            Ok(lock) => lock.release().is_ok(),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::LockUnavailable);
                false
            }
        });
    are_free && job(storage).dlq().summary().unwrap().leased == 0
}

fn job(storage: &Storage) -> Job {
    storage.repo("shop").unwrap().job("job-1").unwrap()
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(120), "{what}");
        std::thread::yield_now();
    }
}

/// Runs the rounds on one store, and compares it with the acknowledgements.
fn cancel_on(load: Load, set: impl FnOnce(StorageBuilder, &Path) -> StorageBuilder) {
    let folder = tempfile::tempdir().unwrap();
    let builder = Storage::builder()
        .environment(MapEnvironment::new())
        .home(folder.path())
        .project_dir(folder.path());
    let storage = set(builder, folder.path()).open().unwrap();
    let record = Arc::new(Record::default());
    let mut rounds = 0;
    while rounds < load.rounds || !record.has_each_kind() {
        assert!(rounds < 10 * load.rounds, "some calls are never acknowledged");
        round(rounds, &storage, load, &record);
        rounds += 1;
    }
    record.compare(&job(&storage));
    assert_eq!(record.cancelled.load(Ordering::SeqCst), rounds * load.futures);
    // The store still accepts a write.
    job(&storage).events().append(&"the end").unwrap();
    assert!(
        job(&storage)
            .dlq()
            .take(&Select::any(), 1, Duration::ZERO)
            .is_ok()
    );
}

/// Ten thousand futures.
const fn many(longest: Duration) -> Load {
    Load {
        rounds: 10,
        futures: 1_000,
        longest,
    }
}

#[test]
fn ten_thousand_futures_cancelled_at_random_points_lose_nothing_and_leave_nothing_half() {
    cancel_on(many(Duration::from_millis(200)), |builder, _| {
        builder.set("backend", "memory")
    });
}

#[test]
fn ten_thousand_futures_cancelled_at_random_points_lose_nothing_in_files_and_leave_nothing_half() {
    cancel_on(many(Duration::from_secs(2)), |builder, folder| {
        builder.base_dir(folder.join("root"))
    });
}

/// Runs rounds of 100 futures on a private server. Of more futures at once, most would end before their first call,
/// since a database is slow. Skipped where no server is installed.
#[cfg(feature = "postgres")]
fn cancel_on_postgresql(rounds: u64) {
    let Some(server) = super::server::Server::start() else {
        return;
    };
    let load = Load {
        rounds,
        futures: 100,
        longest: Duration::from_secs(1),
    };
    cancel_on(load, |builder, _| {
        builder
            .set("backend", "postgres")
            .set("backend_config.url", server.url())
    });
    // Every session has ended with its handle, and with it every transaction.
    let sessions = "select count(*) from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()";
    eventually("a session is left", || server.psql(sessions).trim() == "0");
}

#[cfg(feature = "postgres")]
#[test]
fn two_thousand_futures_cancelled_at_random_points_lose_nothing_in_a_database_and_leave_nothing_half() {
    cancel_on_postgresql(20);
}

#[cfg(feature = "postgres")]
#[test]
#[ignore = "it takes two minutes"]
fn ten_thousand_futures_cancelled_at_random_points_lose_nothing_in_a_database_and_leave_nothing_half() {
    cancel_on_postgresql(100);
}
