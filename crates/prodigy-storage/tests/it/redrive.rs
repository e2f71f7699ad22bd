use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::time::Duration;

use prodigy_storage::{
    Clock, DlqItem, ErrorKind, Failure, ItemState, Lease, Outcome, RedriveOptions, RedriveReport, Select,
};
use serde_json::Value;

use crate::dlq::{LEASE, id, letter, number, take_ids};
use crate::support::{TestClock, file_with, memory_with, on_each, on_each_with_clock};

fn adds_up(report: &RedriveReport) {
    let sum = report.done
        + report.failed
        + report.parked
        + report.released
        + report.kept
        + report.lost
        + report.unsettled;
    assert_eq!(report.taken, sum, "{report:?}");
}

fn again() -> Outcome {
    Outcome::failed(Failure::new("panic", "again"))
}

#[test]
fn each_item_is_settled_by_its_outcome_and_the_report_adds_up() {
    on_each_with_clock(|fixture, clock| {
        let dlq = fixture.job().dlq();
        dlq.push_batch((0..12).map(|n| letter(n, "timeout").review(n == 1)))
            .unwrap();
        let seen = Mutex::new(Vec::new());
        let report = dlq
            .redrive(Select::eligible(), &RedriveOptions::new(), |item| {
                seen.lock().unwrap().push(number(item));
                match number(item) % 6 {
                    1 => again(),
                    2 => Outcome::release(),
                    3 => Outcome::Release { after: 2 * LEASE },
                    4 => Outcome::park("by hand"),
                    _ => Outcome::Done,
                }
            })
            .unwrap();
        assert_eq!(*seen.lock().unwrap(), (0..12).collect::<Vec<_>>());
        assert_eq!(
            (
                report.taken,
                report.done,
                report.failed,
                report.released,
                report.parked
            ),
            (12, 4, 2, 4, 2)
        );
        adds_up(&report);
        assert!(!report.stopped && report.passed_over.is_empty());
        let left: Vec<_> = dlq
            .list(&Select::any())
            .unwrap()
            .collect::<Result<_, _>>()
            .unwrap();
        assert_eq!(
            left.iter().map(|item| item.failure_count).collect::<Vec<_>>(),
            [2, 1, 1, 1, 2, 1, 1, 1]
        );
        // The item still needs a review after another failure, and no item is leased.
        assert!(left[0].review && left.iter().all(|item| item.lease.is_none()));
        assert_eq!(take_ids(&dlq, 9), [1, 2, 7, 8].map(id));
        clock.advance_secs(120);
        assert_eq!(take_ids(&dlq, 2), [3, 9].map(id), "they were delayed");
    });
}

#[test]
fn no_item_is_taken_twice_in_one_run() {
    // The clock does not advance, so all times are equal.
    on_each_with_clock(|fixture, _| {
        let dlq = fixture.job().dlq();
        dlq.push_batch((0..9).map(|n| letter(n, "timeout"))).unwrap();
        let pushed = AtomicBool::new(false);
        let other = dlq.clone();
        let seen = Mutex::new(Vec::new());
        let report = dlq
            .redrive(Select::eligible(), &RedriveOptions::new(), |item| {
                if !pushed.swap(true, Ordering::SeqCst) {
                    // Neither the new item nor the new failure of a leased item is handled by this run.
                    other.push(&letter(99, "late")).unwrap();
                    other.push(&letter(number(item), "late")).unwrap();
                }
                seen.lock().unwrap().push(number(item));
                match number(item) % 3 {
                    0 => Outcome::Done,
                    1 => again(),
                    _ => Outcome::release(),
                }
            })
            .unwrap();
        assert_eq!(*seen.lock().unwrap(), (0..9).collect::<Vec<_>>());
        assert_eq!(
            (report.done, report.kept, report.failed, report.released),
            (2, 1, 3, 3)
        );
        adds_up(&report);
        assert_eq!(dlq.summary().unwrap().pending, 8);
        let kept = dlq.get(&id(0)).unwrap().unwrap().summary().unwrap();
        assert_eq!(
            kept.failure_count, 2,
            "the failure that was pushed meanwhile is there"
        );
    });
}

#[test]
fn a_run_takes_no_more_than_its_limit_and_only_what_is_selected() {
    on_each(|fixture| {
        let dlq = fixture.job().dlq();
        dlq.push_batch((0..6).map(|n| letter(n, if n % 2 == 0 { "even" } else { "odd" })))
            .unwrap();
        let options = RedriveOptions::new().limit(Some(2)).concurrency(4);
        let even = Select::eligible().error_type("even");
        let report = dlq.redrive(even, &options, |_| Outcome::Done).unwrap();
        assert_eq!((report.taken, report.done), (2, 2));
        assert_eq!(take_ids(&dlq, 9), [1, 3, 4, 5].map(id));
    });
}

#[test]
fn an_item_is_parked_after_its_last_attempt() {
    on_each(|fixture| {
        let dlq = fixture.job().dlq();
        dlq.push(&letter(1, "timeout")).unwrap();
        let options = RedriveOptions::new().max_attempts(Some(3));
        let run = || dlq.redrive(Select::eligible(), &options, |_| again()).unwrap();
        let (first, second, third) = (run(), run(), run());
        assert_eq!((first.failed, second.parked, third.taken), (1, 1, 0));
        let item = dlq.get(&id(1)).unwrap().unwrap().letter::<Value>().unwrap();
        assert_eq!((item.failure_count, item.failure_history.len()), (Some(3), 3));
        assert!(!item.reprocess_eligible && item.manual_review_required);
        assert_eq!(item.parked_reason.as_deref(), Some("it failed 3 times"));
        // Unparking gives the item one more attempt.
        dlq.unpark(&[id(1)]).unwrap();
        assert_eq!((run().parked, run().taken), (1, 0));
    });
}

#[test]
fn items_are_worked_on_at_the_same_time() {
    on_each(|fixture| {
        let dlq = fixture.job().dlq();
        dlq.push_batch((0..12).map(|n| letter(n, "timeout"))).unwrap();
        // The work on an item waits until the work on four items has begun.
        let barrier = Barrier::new(4);
        let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let report = dlq
            .redrive(Select::eligible(), &RedriveOptions::new().concurrency(4), |_| {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                barrier.wait();
                now.fetch_sub(1, Ordering::SeqCst);
                Outcome::Done
            })
            .unwrap();
        assert_eq!((report.done, most.into_inner()), (12, 4));
    });
}

#[test]
fn items_begin_no_faster_than_the_rate() {
    on_each_with_clock(|fixture, clock| {
        let dlq = fixture.job().dlq();
        dlq.push_batch((0..5).map(|n| letter(n, "timeout"))).unwrap();
        let begun = Mutex::new(Vec::new());
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            // Another thread advances the clock by 100 ms at a time.
            scope.spawn(|| {
                while !over.load(Ordering::SeqCst) {
                    clock.advance(Duration::from_millis(100));
                    std::thread::yield_now();
                }
            });
            let options = RedriveOptions::new()
                .concurrency(3)
                .rate(2, Duration::from_secs(10))
                .lease(Duration::from_secs(1_000_000_000));
            let report = dlq.redrive(Select::eligible(), &options, |_| {
                begun.lock().unwrap().push(clock.uptime().since);
                Outcome::Done
            });
            over.store(true, Ordering::SeqCst);
            assert_eq!(report.unwrap().done, 5);
        });
        let begun = begun.into_inner().unwrap();
        // A single start may be recorded late, but the first and the last one are far enough apart.
        let whole = *begun.last().unwrap() - begun[0];
        assert!(whole >= Duration::from_secs(15), "{begun:?}");
    });
}

#[test]
fn the_last_item_is_followed_by_no_wait() {
    // The clock does not advance, so a pause would never end by itself.
    on_each_with_clock(|fixture, _| {
        let dlq = fixture.job().dlq();
        dlq.push(&letter(0, "timeout")).unwrap();
        let begun = std::time::Instant::now();
        let options = RedriveOptions::new()
            .rate(1, Duration::from_secs(3600))
            .stop(move || begun.elapsed() > Duration::from_secs(60));
        let report = dlq
            .redrive(Select::eligible(), &options, |_| Outcome::Done)
            .unwrap();
        assert_eq!((report.done, report.stopped), (1, false));
    });
}

#[test]
fn no_more_threads_are_started_than_there_are_items() {
    on_each(|fixture| {
        let dlq = fixture.job().dlq();
        let options = RedriveOptions::new().concurrency(usize::MAX);
        for items in [0, 3] {
            dlq.push_batch((0..items).map(|n| letter(n, "timeout"))).unwrap();
            let report = dlq
                .redrive(Select::eligible(), &options, |_| Outcome::Done)
                .unwrap();
            assert_eq!((report.done, report.taken), (items, items));
        }
    });
}

#[test]
fn after_a_panic_only_its_item_comes_back() {
    on_each(|fixture| {
        let dlq = fixture.job().dlq();
        dlq.push_batch((0..8).map(|n| letter(n, "timeout"))).unwrap();
        let barrier = Barrier::new(2);
        let seen = Mutex::new(Vec::new());
        let options = RedriveOptions::new().concurrency(2);
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            dlq.redrive(Select::eligible(), &options, |item| {
                let n = number(item);
                seen.lock().unwrap().push(n);
                if n < 2 {
                    // The work on both items has begun.
                    barrier.wait();
                }
                assert_ne!(n, 1, "item 1 can't be worked on");
                Outcome::Done
            })
        }))
        .unwrap_err();
        let message = panicked.downcast_ref::<String>().unwrap();
        assert!(message.contains("can't be worked on"), "{message}");
        let seen = seen.into_inner().unwrap();
        assert!(seen.contains(&0) && seen.contains(&1));
        // Finished items are removed, and all others are pending at once, without a failure.
        let left: Vec<_> = dlq
            .list(&Select::any())
            .unwrap()
            .collect::<Result<_, _>>()
            .unwrap();
        let done = seen.iter().filter(|n| **n != 1).count();
        assert_eq!(left.len(), 8 - done);
        assert!(
            left.iter()
                .all(|item| item.state == ItemState::Pending && item.failure_count == 1)
        );
        assert!(left.iter().any(|item| item.id == id(1)) && left.iter().all(|item| item.id != id(0)));
    });
}

#[test]
fn a_stopped_run_settles_what_is_in_hand() {
    on_each(|fixture| {
        let dlq = fixture.job().dlq();
        dlq.push_batch((0..8).map(|n| letter(n, "timeout"))).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&stop);
        let options = RedriveOptions::new()
            .concurrency(2)
            .stop(move || flag.load(Ordering::SeqCst));
        let barrier = Barrier::new(2);
        let report = dlq
            .redrive(Select::eligible(), &options, |_| {
                barrier.wait();
                stop.store(true, Ordering::SeqCst);
                barrier.wait();
                Outcome::Done
            })
            .unwrap();
        assert!(report.stopped);
        assert_eq!(report.done, 2, "both that were in work");
        adds_up(&report);
        assert_eq!(dlq.summary().unwrap().pending, 6);
        // A run that is stopped before it starts does nothing.
        let report = dlq
            .redrive(Select::eligible(), &options, |_| Outcome::Done)
            .unwrap();
        assert!(report.stopped && report.taken == 0);
        assert_eq!(dlq.summary().unwrap().pending, 6);
    });
}

#[test]
fn a_panic_of_the_callback_goes_on_too() {
    let fixture = memory_with(|b| b);
    let dlq = fixture.job().dlq();
    dlq.push(&letter(1, "timeout")).unwrap();
    let options = RedriveOptions::new().stop(|| panic!("the callback"));
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        dlq.redrive(Select::eligible(), &options, |_| Outcome::Done)
    }));
    assert_eq!(
        *panicked.unwrap_err().downcast_ref::<&str>().unwrap(),
        "the callback"
    );
    assert_eq!(dlq.summary().unwrap().pending, 1);
}

#[test]
fn work_under_a_lost_lease_does_not_count() {
    on_each(|fixture| {
        let dlq = fixture.job().dlq();
        dlq.push_batch((0..3).map(|n| letter(n, "timeout"))).unwrap();
        let other = dlq.clone();
        let report = dlq
            .redrive(Select::eligible(), &RedriveOptions::new(), |item| {
                if number(item) == 1 {
                    // An operator ends the lease, and another worker takes the item.
                    other.release([&item.id], Duration::ZERO).unwrap();
                    let only = Select::ids([item.id.clone()]);
                    let taken = other.take(&only, 1, LEASE).unwrap();
                    assert_eq!(taken.len(), 1);
                    taken[0].keep();
                }
                Outcome::Done
            })
            .unwrap();
        assert_eq!((report.taken, report.done, report.lost), (3, 2, 1));
        adds_up(&report);
        let left = dlq.get(&id(1)).unwrap().unwrap();
        assert_eq!(left.state, ItemState::Leased, "it is the other worker's");
    });
}

#[test]
fn a_failure_that_cannot_be_stored_does_not_stop_the_others() {
    let set = |b: prodigy_storage::StorageBuilder| b.set("backend_config.max_record_size", "4KiB");
    for fixture in [memory_with(set), file_with(set)] {
        let dlq = fixture.job().dlq();
        dlq.push_batch((0..3).map(|n| letter(n, "timeout"))).unwrap();
        let report = dlq
            .redrive(Select::eligible(), &RedriveOptions::new(), |item| {
                match number(item) {
                    1 => Outcome::failed(Failure::new("long", "x".repeat(8000))),
                    _ => Outcome::Done,
                }
            })
            .unwrap();
        assert_eq!(
            (report.done, report.released, report.passed_over_count),
            (2, 1, 1)
        );
        adds_up(&report);
        assert_eq!(report.passed_over[0].id, Some(id(1)));
        assert!(
            report.passed_over[0].why.contains("max_record_size"),
            "{:?}",
            report.passed_over
        );
        assert_eq!(take_ids(&dlq, 9), [id(1)]);
    }
}

#[test]
fn an_error_of_the_backend_ends_the_run_and_comes_with_the_report() {
    let fixture = memory_with(|b| b.set("backend_config.max_memory", "32KiB"));
    let dlq = fixture.job().dlq();
    dlq.push_batch((0..6).map(|n| letter(n, "timeout"))).unwrap();
    let error = dlq
        .redrive(
            Select::eligible(),
            &RedriveOptions::new().concurrency(1),
            |item| match number(item) {
                2 => Outcome::failed(Failure::new("long", "x".repeat(40_000))),
                _ => Outcome::Done,
            },
        )
        .unwrap_err();
    let report = error.report();
    assert_eq!(error.error().kind(), ErrorKind::DiskFull);
    assert_eq!((report.done, report.unsettled), (2, 1));
    adds_up(report);
    // Items whose work had not started are pending. The item whose failure could not be stored is pending again
    // when its lease ends.
    let summary = dlq.summary().unwrap();
    assert_eq!((summary.pending, summary.leased), (3, 1));
}

/// True if at least two thirds of the lease's length are left.
fn is_fresh(lease: &Lease, length: Duration, clock: &TestClock) -> bool {
    let end = lease.end.unwrap().since;
    end.saturating_sub(clock.uptime().since) * 3 >= length * 2
}

#[test]
fn three_redrivers_whose_leases_are_shorter_than_the_work_do_each_item_once() {
    const ITEMS: usize = 20;
    let lease = Duration::from_secs(30);
    on_each_with_clock(|fixture, clock| {
        let dlq = fixture.job().dlq();
        dlq.push_batch((0..ITEMS).map(|n| letter(n, "timeout"))).unwrap();
        let done: Mutex<HashMap<usize, usize>> = Mutex::default();
        let over = AtomicUsize::new(0);
        let forgotten = AtomicBool::new(false);
        // The work takes ten times the length of a lease.
        let work = |item: &DlqItem| {
            let end = clock.uptime().since + 10 * lease;
            while clock.uptime().since < end && !forgotten.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_micros(100));
            }
            *done.lock().unwrap().entry(number(item)).or_default() += 1;
            Outcome::Done
        };
        // Each thread makes one run after another until no item is left. A later run takes the items that have
        // become pending since.
        let redriver = || {
            let options = RedriveOptions::new().lease(lease).concurrency(2);
            let mut sum = (0, 0);
            while dlq.summary().unwrap().items > 0 {
                let report = dlq.redrive(Select::eligible(), &options, work).unwrap();
                adds_up(&report);
                sum = (sum.0 + report.taken, sum.1 + report.done);
                std::thread::sleep(Duration::from_millis(1));
            }
            over.fetch_add(1, Ordering::SeqCst);
            sum
        };
        let sums: Vec<(usize, usize)> = std::thread::scope(|scope| {
            let redrivers: Vec<_> = (0..3).map(|_| scope.spawn(redriver)).collect();
            // The clock advances by a third of a lease whenever all redrives have extended their leases.
            let mut looks = 0;
            while over.load(Ordering::SeqCst) < 3 {
                let fresh = dlq.list(&Select::any()).unwrap().all(|item| {
                    item.unwrap()
                        .lease
                        .is_none_or(|held| is_fresh(&held, lease, clock))
                });
                if fresh {
                    clock.advance(lease / 3);
                    looks = 0;
                }
                looks += 1;
                if looks > 10_000 {
                    forgotten.store(true, Ordering::SeqCst);
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            redrivers
                .into_iter()
                .map(|redriver| redriver.join().unwrap())
                .collect()
        });
        assert!(
            !forgotten.into_inner(),
            "a lease was not extended while its work lasted"
        );
        let done = done.into_inner().unwrap();
        assert_eq!(done.len(), ITEMS);
        assert!(done.values().all(|times| *times == 1), "{done:?}");
        assert_eq!(sums.iter().map(|sum| sum.0).sum::<usize>(), ITEMS);
        assert_eq!(sums.iter().map(|sum| sum.1).sum::<usize>(), ITEMS);
    });
}

#[test]
fn an_item_that_cannot_be_read_is_reported_and_stops_no_one() {
    let fixture = file_with(|b| b);
    let dlq = fixture.job().dlq();
    dlq.push_batch((0..3).map(|n| letter(n, "timeout"))).unwrap();
    fixture.storage.flush().unwrap();
    // Another program adds an item in its own form before the others.
    let path = fixture.folder.path().join("root/dlq/shop/job-1/items.json");
    let text = std::fs::read_to_string(&path).unwrap();
    let theirs = r#"{"item_id":"theirs","item_data":1,"reprocess_eligible":"perhaps"},"#;
    std::fs::write(&path, text.replacen("[\n", &format!("[\n{theirs}\n"), 1)).unwrap();
    let summary = dlq.summary().unwrap();
    assert_eq!((summary.items, summary.pending, summary.unreadable), (4, 3, 1));
    let report = dlq
        .redrive(Select::eligible(), &RedriveOptions::new(), |_| Outcome::Done)
        .unwrap();
    assert_eq!((report.taken, report.done, report.passed_over_count), (3, 3, 1));
    adds_up(&report);
    let passed_over = &report.passed_over[0];
    assert_eq!(
        passed_over.id.as_ref().map(prodigy_storage::ItemId::as_str),
        Some("theirs")
    );
    assert!(passed_over.why.contains("reprocess_eligible"), "{passed_over:?}");
    assert_eq!(dlq.summary().unwrap().unreadable, 1, "it is left as it is");
    // The item can be taken by its key, and its next failure is merged into it.
    let only = Select::ids([prodigy_storage::ItemId::new("theirs").unwrap()]);
    let report = dlq.redrive(only, &RedriveOptions::new(), |_| again()).unwrap();
    assert_eq!((report.taken, report.failed), (1, 1));
}
