//! Named locks that tasks take.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use prodigy_storage::{ErrorKind, LockOptions};

use super::support::{Tasks, on_each, poll_once, run, until};
use crate::support::file_with;

const NAME: &str = "shop/lock";

fn at_once() -> LockOptions {
    LockOptions::new("at once").wait(Duration::ZERO)
}

#[test]
fn a_lock_excludes_until_it_is_released_or_its_guard_is_dropped() {
    on_each(async |tasks| {
        let lock = tasks.storage.lock(NAME).await.unwrap();
        assert_eq!((lock.name().as_str(), lock.is_inert()), (NAME, false));
        lock.check().await.unwrap();
        let first = lock.fencing().await.unwrap().token();
        for error in [
            tasks.beside.storage.lock_with(NAME, at_once()).unwrap_err(),
            tasks.storage.lock_with(NAME, at_once()).await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::LockUnavailable);
        }
        lock.release().await.unwrap();
        let lock = tasks.storage.lock_with(NAME, at_once()).await.unwrap();
        assert!(lock.fencing().await.unwrap().token() > first);
        drop(lock);
        tasks.storage.flush().await.unwrap();
        drop(tasks.beside.storage.lock_with(NAME, at_once()).unwrap());
    });
}

#[test]
fn a_check_whose_future_was_dropped_does_not_keep_a_lock_from_being_released() {
    on_each(async |tasks| {
        let lock = tasks.storage.lock(NAME).await.unwrap();
        let mut check = lock.check();
        let _ = poll_once(&mut check);
        drop(check);
        lock.release().await.unwrap();
        drop(tasks.beside.storage.lock_with(NAME, at_once()).unwrap());
    });
}

#[test]
fn a_lock_whose_future_is_dropped_is_free() {
    on_each(async |tasks| {
        let mut dropped = 0;
        for _ in 0..20 {
            let mut lock = tasks.storage.lock(NAME);
            if poll_once(&mut lock).is_pending() {
                until(|| tasks.beside.storage.locks().any(|lock| lock.unwrap().held));
                dropped += 1;
            }
            // The lock was taken for a future that is dropped now.
            drop(lock);
            tasks.storage.flush().await.unwrap();
            drop(tasks.beside.storage.lock_with(NAME, at_once()).unwrap());
        }
        assert!(dropped > 0);
    });
}

#[test]
fn a_wait_whose_future_is_dropped_takes_nothing() {
    on_each(async |tasks| {
        let held = tasks.beside.storage.lock(NAME).unwrap();
        let mut waits: Vec<_> = (0..50).map(|_| tasks.storage.lock(NAME)).collect();
        for wait in &mut waits {
            assert!(poll_once(wait).is_pending());
        }
        let last = waits.pop().unwrap();
        drop(waits);
        drop(held);
        // The tasks that waited before this one no longer wait.
        drop(last.await.unwrap());
        tasks.storage.flush().await.unwrap();
        drop(tasks.beside.storage.lock_with(NAME, at_once()).unwrap());
    });
}

#[test]
fn tasks_get_a_lock_in_order_of_arrival() {
    on_each(async |tasks| {
        let held = tasks.beside.storage.lock(NAME).unwrap();
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut waits = Vec::new();
        for number in 0..20 {
            let (storage, order) = (tasks.storage.clone(), Arc::clone(&order));
            let mut wait = Box::pin(async move {
                let lock = storage.lock(NAME).await.unwrap();
                order.lock().unwrap().push(number);
                lock.release().await.unwrap();
            });
            assert!(poll_once(&mut wait).is_pending());
            waits.push(tokio::spawn(wait));
        }
        drop(held);
        for wait in waits {
            wait.await.unwrap();
        }
        assert_eq!(*order.lock().unwrap(), (0..20).collect::<Vec<_>>());
    });
}

#[test]
fn waits_for_one_name_keep_no_other_name_waiting() {
    run(async {
        let tasks = Tasks::narrow();
        let held = tasks.beside.storage.lock("shop/a").unwrap();
        let mut waits: Vec<_> = (0..10).map(|_| Box::pin(tasks.storage.lock("shop/a"))).collect();
        for wait in &mut waits {
            assert!(poll_once(wait).is_pending());
        }
        // A task holds one lock and needs another one, while many tasks wait and there is only one thread.
        let other = tasks.storage.lock("shop/b").await.unwrap();
        drop((other, held));
        for wait in waits {
            wait.await.unwrap().release().await.unwrap();
        }
    });
}

#[test]
fn a_wait_without_success_ends_for_each_task_and_says_how_long_it_was() {
    run(async {
        let tasks = Tasks::new(file_with(|builder| builder));
        let held = tasks
            .beside
            .storage
            .lock_with(NAME, LockOptions::new("the holder"))
            .unwrap();
        let request = LockOptions::new("waits").wait(Duration::from_millis(80));
        let mut waits: Vec<_> = (0..3)
            .map(|_| tasks.storage.lock_with(NAME, request.clone()))
            .collect();
        for wait in &mut waits {
            assert!(poll_once(wait).is_pending());
        }
        for wait in waits {
            let error = wait.await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::LockUnavailable);
            let why = error.why();
            assert!(why.contains("the holder"), "{why}");
            let waited = why.rsplit("waited ").next().unwrap().trim_end_matches(" ms");
            assert!(waited.parse::<u32>().unwrap() >= 80, "{why}");
        }
        drop(held);
    });
}

#[test]
fn a_lock_is_inert_without_locking() {
    run(async {
        let tasks = Tasks::new(file_with(|builder| builder.set("enable_locking", "false")));
        let locks = [
            tasks.storage.lock(NAME).await.unwrap(),
            tasks.storage.lock(NAME).await.unwrap(),
        ];
        assert!(locks.iter().all(|lock| lock.is_inert()));
        assert_eq!(locks[0].fencing().await.unwrap_err().kind(), ErrorKind::Refused);
    });
}

#[test]
fn a_wait_for_a_lock_is_counted_as_one_call() {
    run(async {
        let tasks = Tasks::narrow();
        let held = tasks.storage.lock(NAME).await.unwrap();
        let options = LockOptions::new("waits").wait(Duration::from_millis(100));
        let error = tasks.storage.lock_with(NAME, options).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LockUnavailable);
        let stats = tasks.storage.stats();
        let calls = stats.operation("acquire lock").unwrap();
        assert_eq!((calls.latency.count(), calls.failures), (2, 1));
        assert!(calls.latency.quantile(1.0).unwrap() >= Duration::from_millis(100));
        drop(held);
    });
}
