//! The layer that lets only so many operations run at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use prodigy_storage_backend::{
    AppendOptions, Backend, Body, Deadline, Durability, ErrorKind, LockOptions, ScanOptions, Stats,
};
use prodigy_storage_layout::{JobAddress, JobId, LockName};
use prodigy_storage_retry::{Limited, RetrySettings, Retrying};

use crate::fake::{Fake, PASSING};
use crate::forwarding::{FALLIBLE, batch, call_all, document, job};

const NEVER: Deadline = Deadline::never();

fn until(mut condition: impl FnMut() -> bool) {
    while !condition() {
        thread::yield_now();
    }
}

/// A deadline long enough to be queued and short enough to wait for.
fn soon() -> Deadline {
    Deadline::after(Duration::from_millis(20))
}

#[test]
fn every_method_is_forwarded() {
    let layer = Limited::new(Arc::new(Fake::failing([])), 1);
    call_all(&layer, NEVER);
    assert!(layer.health(NEVER).is_ok());
    let calls = layer.inner().calls();
    assert_eq!(calls.split_last(), Some((&"health", &FALLIBLE[..])));
    assert_eq!(layer.counts(), Default::default());
}

#[test]
fn no_more_run_at_once_than_there_are_places() {
    let (inside, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (counted, highest) = (Arc::clone(&inside), Arc::clone(&most));
    let fake = Fake::with_hook(
        |_| None,
        move |_| {
            let now = counted.fetch_add(1, Ordering::SeqCst) + 1;
            highest.fetch_max(now, Ordering::SeqCst);
            thread::yield_now();
            counted.fetch_sub(1, Ordering::SeqCst);
        },
    );
    let layer = Limited::new(Arc::new(fake), 2);
    thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                for _ in 0..200 {
                    layer.get(&document(), NEVER).unwrap();
                }
            });
        }
    });
    assert!((1..=2).contains(&most.load(Ordering::SeqCst)));
    assert_eq!(layer.inner().calls().len(), 1200);
}

/// Runs `meanwhile` while the only place is taken by a call of `get`.
fn while_taken(meanwhile: impl FnOnce(&Limited<Fake>)) {
    let go_on = Arc::new(AtomicUsize::new(0));
    let told = Arc::clone(&go_on);
    let hook = move |call: &str| until(|| call != "get" || told.load(Ordering::SeqCst) == 1);
    let layer = Limited::new(Arc::new(Fake::with_hook(|_| None, hook)), 1);
    thread::scope(|scope| {
        scope.spawn(|| layer.get(&document(), NEVER).unwrap());
        until(|| layer.counts().running == 1);
        let release = scopeguard(|| go_on.store(1, Ordering::SeqCst));
        meanwhile(&layer);
        drop(release);
    });
}

/// Runs on drop, so that a failed assertion does not leave a thread waiting.
fn scopeguard(release: impl FnOnce()) -> impl Drop {
    struct Guard<F: FnOnce()>(Option<F>);
    impl<F: FnOnce()> Drop for Guard<F> {
        fn drop(&mut self) {
            if let Some(release) = self.0.take() {
                release();
            }
        }
    }
    Guard(Some(release))
}

#[test]
fn strict_appends_to_one_log_share_a_place_and_others_take_their_own() {
    let inside = Arc::new(AtomicUsize::new(0));
    let (entered, told) = (Arc::clone(&inside), Arc::clone(&inside));
    let hook = move |call: &str| {
        if call == "append" {
            entered.fetch_add(1, Ordering::SeqCst);
            until(|| entered.load(Ordering::SeqCst) >= 4);
        }
    };
    let layer = Limited::new(Arc::new(Fake::with_hook(|_| None, hook)), 1);
    let append = |job: &JobAddress, durability, deadline| {
        layer.append(job, &mut batch(&["a"]), &AppendOptions::new(durability), deadline)
    };
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| append(&job(), Durability::Strict, NEVER).unwrap());
        }
        until(|| told.load(Ordering::SeqCst) == 3);
        let release = scopeguard(|| told.store(4, Ordering::SeqCst));
        assert_eq!(layer.counts().running, 1);
        let other = JobAddress::new(job().repo, JobId::new("other").unwrap());
        for (job, durability) in [(&other, Durability::Strict), (&job(), Durability::Relaxed)] {
            let error = append(job, durability, soon()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Timeout);
        }
        drop(release);
    });
    assert_eq!(layer.counts().running, 0);
}

#[test]
fn who_waits_too_long_is_told_what_for() {
    while_taken(|layer| {
        let begun = Instant::now();
        let error = layer
            .put(&document(), Body::EMPTY, &Default::default(), soon())
            .unwrap_err();
        assert!(begun.elapsed() >= Duration::from_millis(20));
        assert_eq!((error.kind(), error.is_transient()), (ErrorKind::Timeout, false));
        let text = error.to_string();
        assert!(
            text.starts_with("timeout: put document orphaned_worktrees/shop/job.json"),
            "{text}"
        );
        assert!(
            text.contains("waiting for a free place to run in, of 1 in all"),
            "{text}"
        );
        assert!(error.hint().unwrap().contains("connection_pool_size"));
        assert_eq!(layer.inner().calls(), ["get"], "it was not begun");
        let mut stats = Stats::default();
        layer.stats(&mut stats);
        assert_eq!((stats.get("limit.waits"), stats.get("limit.timeouts")), (1, 1));
        assert!(stats.get("limit.waited_ms") >= 20);
    });
}

#[test]
fn every_operation_waits_but_the_named_lock() {
    while_taken(|layer| {
        let kind = |result: Result<(), prodigy_storage_backend::StorageError>| result.unwrap_err().kind();
        assert_eq!(kind(layer.flush(soon())), ErrorKind::Timeout);
        assert_eq!(kind(layer.health(soon()).map(drop)), ErrorKind::Timeout);
        assert_eq!(
            kind(layer.scan(&job(), &ScanOptions::all(), soon()).map(drop)),
            ErrorKind::Timeout
        );
        let name = LockName::new("shop/job").unwrap();
        // The holder of the lock may need the place before it can release the lock.
        layer
            .lock(&name, &LockOptions::default(), soon())
            .unwrap()
            .release()
            .unwrap();
    });
}

#[test]
fn a_scan_keeps_no_place_while_it_is_read() {
    let layer = Limited::new(Arc::new(Fake::failing([])), 1);
    let mut scan = layer.scan(&job(), &ScanOptions::all(), NEVER).unwrap();
    assert_eq!(layer.counts().running, 0);
    layer.get(&document(), soon()).unwrap();
    assert!(scan.next().unwrap().is_none());
}

#[test]
fn under_the_retry_layer_each_try_takes_its_own_place() {
    let limited = Arc::new(Limited::new(Arc::new(Fake::failing([PASSING, PASSING])), 1));
    let settings = RetrySettings {
        initial_delay: Duration::ZERO,
        ..RetrySettings::default()
    };
    let layer = Retrying::new(Arc::clone(&limited), settings);
    assert!(layer.get(&document(), NEVER).unwrap().is_none());
    assert_eq!((layer.counts().retries, limited.counts().running), (2, 0));
}
