//! Dead letters that tasks push, take and settle.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use prodigy_storage::{
    AsyncDlq, DeadLetter, ErrorKind, Failure, ItemId, Outcome, RedriveOptions, Select, Settled,
};
use tokio::sync::Semaphore;

use super::support::{Tasks, on_each, poll_once, run, run_bare, until};

const LEASE: Duration = Duration::from_secs(3600);

async fn push(dlq: &AsyncDlq, count: usize) {
    let letters = (0..count).map(|n| DeadLetter::new(ItemId::new(format!("item-{n}")).unwrap(), n));
    dlq.push_batch(letters).await.unwrap();
}

#[test]
fn taken_items_are_settled_one_by_one() {
    on_each(async |tasks| {
        let dlq = tasks.job().dlq();
        push(&dlq, 5).await;
        let taken = dlq.take(&Select::eligible(), 10, LEASE).await.unwrap();
        assert_eq!(taken.len(), 5);
        assert_eq!(
            (taken[0].data::<u32>().unwrap(), taken[0].id()),
            (0, &taken[0].item().id)
        );
        assert_eq!(taken[0].token(), &taken[0].lease().token);
        assert_eq!(taken[0].extend(LEASE).await.unwrap(), Settled::Done);
        assert_eq!(taken[0].ack().await.unwrap(), Settled::Done);
        assert_eq!(
            taken[1].fail(Failure::new("Odd", "odd")).await.unwrap(),
            Settled::Done
        );
        assert_eq!(taken[2].park(Some("look")).await.unwrap(), Settled::Done);
        assert_eq!(taken[3].release(Duration::ZERO).await.unwrap(), Settled::Done);
        let summary = dlq.summary().await.unwrap();
        assert_eq!((summary.pending, summary.parked, summary.leased), (2, 1, 1));
        let ids = [taken[2].id().clone()];
        assert_eq!(dlq.unpark(&ids).await.unwrap(), [Settled::Done]);
        assert_eq!(dlq.release(&ids, Duration::ZERO).await.unwrap(), [Settled::Done]);
        let tokens = [taken[4].token().clone()];
        assert_eq!(dlq.ack(&tokens).await.unwrap(), [Settled::Done]);
        assert_eq!(dlq.remove(&ids).await.unwrap(), [Settled::Done]);
        assert!(dlq.get(&ids[0]).await.unwrap().is_none());
    });
}

#[test]
fn a_take_whose_future_is_dropped_releases_its_items() {
    on_each(async |tasks| {
        let dlq = tasks.job().dlq();
        push(&dlq, 3).await;
        let mut dropped = 0;
        for _ in 0..20 {
            let mut take = dlq.take(&Select::eligible(), 2, LEASE);
            if let Poll::Ready(taken) = poll_once(&mut take) {
                for taken in taken.unwrap() {
                    taken.release(Duration::ZERO).await.unwrap();
                }
                continue;
            }
            // The items were taken for a future that is dropped now.
            until(|| tasks.beside.job().dlq().summary().unwrap().leased == 2);
            drop(take);
            dropped += 1;
            tasks.storage.flush().await.unwrap();
            let summary = dlq.summary().await.unwrap();
            assert_eq!((summary.leased, summary.pending), (0, 3));
        }
        assert!(dropped > 0);
        let taken = dlq.take(&Select::eligible(), 9, LEASE).await.unwrap();
        assert!(
            taken
                .iter()
                .all(|taken| taken.item().clone().summary().unwrap().failure_count == 1)
        );
    });
}

#[test]
fn an_item_that_a_task_drops_is_released() {
    on_each(async |tasks| {
        let dlq = tasks.job().dlq();
        push(&dlq, 3).await;
        let taken = dlq.take(&Select::eligible(), 3, LEASE).await.unwrap();
        taken[0].keep();
        // A call whose future was not polled yet also keeps the item from being released.
        let call = taken[1].ack();
        drop(taken);
        tasks.storage.flush().await.unwrap();
        assert_eq!(dlq.summary().await.unwrap().leased, 2);
        drop(call);
        tasks.storage.flush().await.unwrap();
        let summary = dlq.summary().await.unwrap();
        assert_eq!((summary.leased, summary.pending), (1, 2));
    });
}

#[test]
fn an_acknowledgement_that_is_under_way_outlives_its_item() {
    on_each(async |tasks| {
        let dlq = tasks.job().dlq();
        push(&dlq, 1).await;
        let mut taken = dlq.take(&Select::eligible(), 1, LEASE).await.unwrap();
        let ack = taken.pop().unwrap().ack();
        assert_eq!(ack.await.unwrap(), Settled::Done);
        assert_eq!(dlq.summary().await.unwrap().items, 0);
    });
}

#[test]
fn a_task_that_is_cancelled_while_it_works_on_an_item_releases_it() {
    on_each(async |tasks| {
        let dlq = tasks.job().dlq();
        push(&dlq, 2).await;
        let begun = Arc::new(Semaphore::new(0));
        let (begins, of_task) = (Arc::clone(&begun), dlq.clone());
        let task = tokio::spawn(async move {
            let _taken = of_task.take(&Select::eligible(), 2, LEASE).await.unwrap();
            begins.add_permits(1);
            std::future::pending::<()>().await;
        });
        begun.acquire().await.unwrap().forget();
        assert_eq!(dlq.summary().await.unwrap().leased, 2);
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
        tasks.storage.flush().await.unwrap();
        assert_eq!(dlq.summary().await.unwrap().pending, 2);
    });
}

#[test]
fn a_redrive_runs_futures_and_settles_each_item() {
    on_each(async |tasks| {
        let dlq = tasks.job().dlq();
        push(&dlq, 20).await;
        let running = Arc::new(AtomicUsize::new(0));
        let most = Arc::new(AtomicUsize::new(0));
        let counts = (Arc::clone(&running), Arc::clone(&most));
        let options = RedriveOptions::new().concurrency(4);
        let redrive = dlq.redrive(Select::eligible(), &options, async move |item| {
            let (running, most) = &counts;
            most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(1)).await;
            running.fetch_sub(1, Ordering::SeqCst);
            match item.data::<usize>().unwrap() % 4 {
                0 => Outcome::failed(Failure::new("Multiple", "of four")),
                1 => Outcome::park("one more"),
                _ => Outcome::Done,
            }
        });
        let report = redrive.await.unwrap();
        assert_eq!(
            (report.taken, report.done, report.failed, report.parked),
            (20, 10, 5, 5)
        );
        assert!((2..=4).contains(&most.load(Ordering::SeqCst)), "{most:?}");
        let summary = dlq.summary().await.unwrap();
        assert_eq!((summary.pending, summary.parked, summary.leased), (5, 5, 0));
    });
}

#[test]
fn a_redrive_whose_future_is_dropped_stops_its_work_and_releases_its_items() {
    on_each(async |tasks| {
        let dlq = tasks.job().dlq();
        push(&dlq, 10).await;
        let begun = Arc::new(Semaphore::new(0));
        let begins = Arc::clone(&begun);
        let dropped = Arc::new(AtomicUsize::new(0));
        let drops = Arc::clone(&dropped);
        let options = RedriveOptions::new().concurrency(2).lease(LEASE);
        let redrive = tokio::spawn(dlq.redrive(Select::eligible(), &options, async move |_| {
            struct Counts(Arc<AtomicUsize>);
            impl Drop for Counts {
                fn drop(&mut self) {
                    self.0.fetch_add(1, Ordering::SeqCst);
                }
            }
            let _counts = Counts(Arc::clone(&drops));
            begins.add_permits(1);
            std::future::pending::<Outcome>().await
        }));
        begun.acquire_many(2).await.unwrap().forget();
        redrive.abort();
        assert!(redrive.await.unwrap_err().is_cancelled());
        tasks.storage.flush().await.unwrap();
        assert_eq!(tasks.beside.job().dlq().summary().unwrap().pending, 10);
        assert_eq!(dropped.load(Ordering::SeqCst), 2);
        let taken = dlq.take(&Select::eligible(), 20, LEASE).await.unwrap();
        assert_eq!(taken.len(), 10);
    });
}

/// Sends whether it was dropped by a panic.
struct Dropped(std::sync::mpsc::Sender<bool>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.send(std::thread::panicking()).unwrap();
    }
}

#[test]
fn work_of_a_runtime_that_shuts_down_is_dropped_and_does_not_panic() {
    let tasks = Tasks::narrow();
    run(push(&tasks.job().dlq(), 4));
    // The future of the redrive is dropped by the runtime, or lives longer than the runtime.
    for round in 0..20 {
        let dlq = tasks.job().dlq();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_time()
            .build()
            .unwrap();
        let begun = Arc::new(Semaphore::new(0));
        let (begins, (sender, drops)) = (Arc::clone(&begun), std::sync::mpsc::channel());
        let options = RedriveOptions::new().concurrency(4).lease(LEASE);
        let mut redrive = Box::pin(dlq.redrive(Select::eligible(), &options, async move |_| {
            let _dropped = Dropped(sender.clone());
            begins.add_permits(1);
            tokio::time::sleep(LEASE).await;
            Outcome::Done
        }));
        let mut outlives = None;
        if round % 2 == 0 {
            runtime.spawn(redrive);
        } else {
            let guard = runtime.enter();
            assert!(poll_once(&mut redrive).is_pending());
            drop(guard);
            outlives = Some(redrive);
        }
        runtime.block_on(begun.acquire_many(4)).unwrap().forget();
        drop(runtime);
        let dropped: Vec<bool> = drops.iter().take(4).collect();
        assert_eq!(dropped, [false; 4], "round {round}");
        drop(outlives);
        run(tasks.storage.flush()).unwrap();
        let summary = tasks.beside.job().dlq().summary().unwrap();
        assert_eq!((summary.pending, summary.leased), (4, 0), "round {round}");
    }
}

#[test]
fn a_panic_of_the_work_continues_in_the_task_and_releases_the_item() {
    on_each(async |tasks| {
        let dlq = tasks.job().dlq();
        push(&dlq, 1).await;
        let options = RedriveOptions::new();
        let work = async |_: &_| -> Outcome { panic!("as the test wants it") };
        let redrive = tokio::spawn(dlq.redrive(Select::eligible(), &options, work));
        assert!(redrive.await.unwrap_err().is_panic());
        assert_eq!(dlq.take(&Select::eligible(), 1, LEASE).await.unwrap().len(), 1);
    });
}

#[test]
fn a_redrive_outside_of_a_runtime_is_refused_and_takes_nothing() {
    let tasks = Tasks::narrow();
    run_bare(async {
        let dlq = tasks.job().dlq();
        push(&dlq, 1).await;
        let options = RedriveOptions::new();
        let redrive = dlq.redrive(Select::eligible(), &options, async |_| Outcome::Done);
        let error = redrive.await.unwrap_err();
        assert_eq!(
            (error.error().kind(), error.report().taken),
            (ErrorKind::Unsupported, 0)
        );
        assert_eq!(dlq.summary().await.unwrap().pending, 1);
    });
}

#[test]
fn a_redrive_needs_none_of_the_threads_of_calls() {
    run(async {
        let tasks = Tasks::narrow();
        let dlq = tasks.job().dlq();
        push(&dlq, 3).await;
        let inside = dlq.clone();
        let options = RedriveOptions::new();
        let redrive = dlq.redrive(Select::eligible(), &options, async move |item| {
            // The work does not use the only thread for calls, so a call of the handle succeeds here.
            assert!(inside.get(&item.id).await.unwrap().is_some());
            Outcome::Done
        });
        assert_eq!(redrive.await.unwrap().done, 3);
    });
}
