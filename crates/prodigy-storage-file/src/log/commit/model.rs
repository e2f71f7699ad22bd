//! Tests group commit in every order of steps that a scheduler could choose.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use shuttle::sync::{Condvar, Mutex};
use shuttle::thread;

use super::*;

/// The real outcome of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Unknown,
    Safe,
    /// Not durable, because the sync with this number failed; 0 for a failure outside of any sync.
    Lost(usize),
}

/// A simulated file, the numbers of the writes to it, and what a crash would leave of it.
#[derive(Debug, Default)]
struct Disk {
    state: Mutex<Written>,
    commit: Commit,
    /// The number of the sync that fails, counted from 1.
    failing: usize,
}

#[derive(Debug, Default)]
struct Written {
    outcomes: Vec<Outcome>,
    syncs: usize,
    is_syncing: bool,
}

impl Written {
    fn last(&self) -> u64 {
        self.outcomes.len() as u64
    }

    fn decide(&mut self, up_to: u64, outcome: Outcome) {
        for known in self.outcomes.iter_mut().take(up_to as usize) {
            if *known == Outcome::Unknown {
                *known = outcome;
            }
        }
    }
}

impl Disk {
    fn failing(failing: usize) -> Arc<Self> {
        Arc::new(Self {
            failing,
            ..Self::default()
        })
    }

    fn write(&self) -> u64 {
        let mut state = self.state.lock().unwrap();
        state.outcomes.push(Outcome::Unknown);
        state.last()
    }

    /// Syncs as the writer of a log does: reads the number of the last write, syncs, and after a failure counts all
    /// writes so far as suspect.
    fn sync(&self) -> Result<u64, FailedSync> {
        let (reach, number) = {
            let mut state = self.state.lock().unwrap();
            assert!(!state.is_syncing, "two syncs at once");
            state.is_syncing = true;
            state.syncs += 1;
            (state.last(), state.syncs)
        };
        let mut state = self.state.lock().unwrap();
        state.is_syncing = false;
        if number == self.failing {
            let up_to = state.last();
            state.decide(up_to, Outcome::Lost(number));
            return Err(FailedSync {
                up_to,
                why: number.to_string(),
            });
        }
        state.decide(reach, Outcome::Safe);
        Ok(reach)
    }

    /// Reports a failure outside of any sync, as the writer of a log does while it holds its own lock.
    fn fail(&self) -> u64 {
        let mut state = self.state.lock().unwrap();
        let up_to = state.last();
        state.decide(up_to, Outcome::Lost(0));
        self.commit.fail(FailedSync {
            up_to,
            why: "0".to_owned(),
        });
        up_to
    }

    fn commit(&self, seq: u64) -> Result<(), Unsynced> {
        self.commit.wait(seq, Deadline::never(), || self.sync())
    }

    fn outcome(&self, seq: u64) -> Outcome {
        self.state.lock().unwrap().outcomes[seq as usize - 1]
    }

    fn assert_idle(&self) {
        let state = self.commit.state.lock();
        assert!(!state.leading);
        assert_eq!(state.waiting, 0);
    }
}

fn spawn<T: Send + 'static>(
    disk: &Arc<Disk>,
    run: impl FnOnce(&Disk) -> T + Send + 'static,
) -> thread::JoinHandle<T> {
    let disk = Arc::clone(disk);
    thread::spawn(move || run(&disk))
}

fn join<T>(threads: Vec<thread::JoinHandle<T>>) -> Vec<T> {
    threads.into_iter().map(|thread| thread.join().unwrap()).collect()
}

fn check(model: impl Fn() + Send + Sync + Clone + 'static) {
    shuttle::check_random(model.clone(), 1000);
    shuttle::check_pct(model, 1000, 3);
}

#[test]
fn none_returns_before_a_sync_that_began_after_its_write() {
    let (shared, seen) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (counted, runs) = (Arc::clone(&shared), Arc::clone(&seen));
    check(move || {
        let disk = Disk::failing(0);
        join(
            (0..3)
                .map(|_| {
                    spawn(&disk, |disk| {
                        for _ in 0..2 {
                            let seq = disk.write();
                            assert_eq!(disk.commit(seq), Ok(()));
                            assert_eq!(disk.outcome(seq), Outcome::Safe);
                        }
                    })
                })
                .collect(),
        );
        disk.assert_idle();
        let syncs = disk.state.lock().unwrap().syncs;
        assert!((2..=6).contains(&syncs));
        counted.fetch_add(usize::from(syncs < 6), Ordering::Relaxed);
        runs.fetch_add(1, Ordering::Relaxed);
    });
    assert!(shared.load(Ordering::Relaxed) > seen.load(Ordering::Relaxed) / 10);
}

#[test]
fn two_writers_in_every_order_there_is() {
    // Uses atomics of the standard library, which are no steps for the scheduler. Without them, few enough steps are
    // left to try every order.
    #[derive(Default)]
    struct Log {
        commit: Commit,
        written: AtomicU64,
        synced: AtomicU64,
    }
    fn append(log: &Log) {
        let seq = log.written.fetch_add(1, Ordering::SeqCst) + 1;
        let sync = || {
            let reach = log.written.load(Ordering::SeqCst);
            thread::yield_now();
            log.synced.fetch_max(reach, Ordering::SeqCst);
            Ok(reach)
        };
        assert_eq!(log.commit.wait(seq, Deadline::never(), sync), Ok(()));
        assert!(log.synced.load(Ordering::SeqCst) >= seq);
    }
    shuttle::check_dfs(
        || {
            let log = Arc::new(Log::default());
            let other = Arc::clone(&log);
            let other = thread::spawn(move || append(&other));
            append(&log);
            other.join().unwrap();
        },
        None,
    );
}

/// Writes once, and checks that the reported outcome is the real one.
fn reports_the_real_outcome(disk: &Disk) {
    let seq = disk.write();
    let reported = match disk.commit(seq) {
        Ok(()) => Outcome::Safe,
        Err(Unsynced::Failed(why)) => Outcome::Lost(why.parse().unwrap()),
        Err(Unsynced::TimedOut) => panic!("there was no deadline"),
    };
    assert_eq!(reported, disk.outcome(seq));
}

#[test]
fn a_failed_sync_fails_what_it_may_have_covered_and_nothing_later() {
    for failing in 1..=3 {
        check(move || {
            let disk = Disk::failing(failing);
            join(
                (0..3)
                    .map(|_| {
                        spawn(&disk, |disk| {
                            reports_the_real_outcome(disk);
                            reports_the_real_outcome(disk);
                        })
                    })
                    .collect(),
            );
            disk.assert_idle();
            // After the failed sync, all later writes succeed.
            let seq = disk.write();
            assert!(disk.state.lock().unwrap().syncs < failing || disk.commit(seq) == Ok(()));
        });
    }
}

#[test]
fn a_failure_elsewhere_is_never_taken_for_a_sync() {
    check(|| {
        let disk = Disk::failing(0);
        let elsewhere = spawn(&disk, Disk::fail);
        let reported = join(
            (0..3)
                .map(|_| {
                    spawn(&disk, |disk| {
                        let seq = disk.write();
                        (seq, disk.commit(seq))
                    })
                })
                .collect(),
        );
        let up_to = elsewhere.join().unwrap();
        for (seq, reported) in reported {
            match reported {
                Ok(()) => assert_eq!(disk.outcome(seq), Outcome::Safe),
                // A sync that ended at the same time may have stored the write, so an error is allowed.
                Err(_) => assert!(seq <= up_to),
            }
        }
        disk.assert_idle();
    });
}

#[test]
fn a_failure_elsewhere_wakes_who_waits_for_a_sync_that_hangs() {
    check(|| {
        let disk = Disk::failing(0);
        let hang = Arc::new((Mutex::new((false, false)), Condvar::new()));
        let (first, second) = (disk.write(), disk.write());
        let leader = {
            let (disk, hang) = (Arc::clone(&disk), Arc::clone(&hang));
            thread::spawn(move || {
                let sync = || {
                    let mut state = hang.0.lock().unwrap();
                    state.0 = true;
                    hang.1.notify_all();
                    let state = hang.1.wait_while(state, |state| !state.1).unwrap();
                    drop(state);
                    Ok(second)
                };
                disk.commit.wait(first, Deadline::never(), sync)
            })
        };
        drop(
            hang.1
                .wait_while(hang.0.lock().unwrap(), |state| !state.0)
                .unwrap(),
        );
        let waiter = spawn(&disk, move |disk| disk.commit(second));
        disk.fail();
        assert_eq!(waiter.join().unwrap(), Err(Unsynced::Failed("0".to_owned())));
        hang.0.lock().unwrap().1 = true;
        hang.1.notify_all();
        assert_eq!(leader.join().unwrap(), Err(Unsynced::Failed("0".to_owned())));
        disk.assert_idle();
    });
}

#[test]
fn who_gives_up_leaves_the_others_to_be_served() {
    let given_up = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&given_up);
    check(move || {
        let disk = Disk::failing(0);
        let patient = spawn(&disk, reports_the_real_outcome);
        let reported = join(
            (0..3)
                .map(|_| {
                    spawn(&disk, |disk| {
                        let seq = disk.write();
                        let deadline = Deadline::after(Duration::ZERO);
                        let reported = disk.commit.wait(seq, deadline, || disk.sync());
                        assert!(reported.is_err() || disk.outcome(seq) == Outcome::Safe);
                        reported
                    })
                })
                .collect(),
        );
        patient.join().unwrap();
        for reported in reported {
            counted.fetch_add(usize::from(reported.is_err()), Ordering::Relaxed);
            assert!(matches!(reported, Ok(()) | Err(Unsynced::TimedOut)));
        }
        disk.assert_idle();
    });
    assert!(given_up.load(Ordering::Relaxed) > 0);
}
