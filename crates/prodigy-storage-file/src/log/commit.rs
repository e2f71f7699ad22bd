//! Group commit: threads that wait for a sync share one.

use std::ops::RangeInclusive;

use prodigy_storage_backend::Deadline;

use super::sync::{Condvar, Mutex, yield_now};

/// The reason why a write was not synced.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unsynced {
    /// The sync failed, with this message.
    Failed(String),
    /// The deadline passed.
    TimedOut,
}

/// A failed sync, and the number of the last write whose outcome is unknown because of it.
#[derive(Debug)]
pub(crate) struct FailedSync {
    pub(crate) up_to: u64,
    pub(crate) why: String,
}

#[derive(Debug, Default)]
struct State {
    /// All writes with numbers up to this one are decided: either synced, or in one of the failed ranges.
    settled: u64,
    failed: Vec<(RangeInclusive<u64>, String)>,
    /// True if a thread is running a sync, which serves all waiting threads.
    leading: bool,
    waiting: usize,
    /// True if other threads waited for the last sync, besides the thread that ran it.
    shared: bool,
}

/// Numbers the writes and records which of them are synced.
#[derive(Debug, Default)]
pub(crate) struct Commit {
    state: Mutex<State>,
    settled: Condvar,
}

impl Commit {
    /// Waits until the write with number `seq` is synced. The first waiting thread runs `sync` for all threads that
    /// wrote before it. `sync` returns the number of the last write that it covered.
    pub(crate) fn wait(
        &self,
        seq: u64,
        deadline: Deadline,
        sync: impl Fn() -> Result<u64, FailedSync>,
    ) -> Result<(), Unsynced> {
        let mut state = self.state.lock();
        loop {
            if state.settled >= seq {
                let failed = state.failed.iter().find(|(range, _)| range.contains(&seq));
                return failed.map_or(Ok(()), |(_, why)| Err(Unsynced::Failed(why.clone())));
            }
            if state.leading {
                state.waiting += 1;
                let timed_out = match deadline.instant() {
                    None => {
                        self.settled.wait(&mut state);
                        false
                    }
                    Some(at) => self.settled.wait_until(&mut state, at).timed_out(),
                };
                state.waiting -= 1;
                if timed_out && state.settled < seq {
                    return Err(Unsynced::TimedOut);
                }
                continue;
            }
            state.leading = true;
            let in_company = state.shared;
            drop(state);
            if in_company {
                // The threads that the last sync served are about to write again. This thread yields once, so that one
                // sync can serve all of them.
                yield_now();
            }
            let lead = Lead(self);
            let synced = sync();
            drop(lead);
            state = self.state.lock();
            state.leading = false;
            match synced {
                Ok(up_to) => state.settled = state.settled.max(up_to),
                Err(failed) => state.fail(failed),
            }
            state.shared = state.waiting > 0;
            self.settled.notify_all();
        }
    }

    /// Reports a sync that failed elsewhere to all threads whose writes it affects.
    pub(crate) fn fail(&self, failed: FailedSync) {
        self.state.lock().fail(failed);
        self.settled.notify_all();
    }
}

impl State {
    fn fail(&mut self, failed: FailedSync) {
        if failed.up_to > self.settled {
            self.failed.push((self.settled + 1..=failed.up_to, failed.why));
            self.settled = failed.up_to;
        }
    }
}

/// Held by the thread that runs a sync. If the sync panics, the drop lets a waiting thread run the next one.
struct Lead<'a>(&'a Commit);

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.state.lock().leading = false;
            self.0.settled.notify_all();
        }
    }
}

#[cfg(all(test, feature = "model"))]
mod model;

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    #[test]
    fn threads_share_syncs_and_none_returns_early() {
        let (commit, written, synced, syncs) = (
            Commit::default(),
            AtomicU64::new(0),
            AtomicU64::new(0),
            AtomicU64::new(0),
        );
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let seq = written.fetch_add(1, Ordering::SeqCst) + 1;
                        commit
                            .wait(seq, Deadline::never(), || {
                                let target = written.load(Ordering::SeqCst);
                                std::thread::sleep(Duration::from_micros(200));
                                synced.fetch_max(target, Ordering::SeqCst);
                                syncs.fetch_add(1, Ordering::SeqCst);
                                Ok(target)
                            })
                            .unwrap();
                        assert!(synced.load(Ordering::SeqCst) >= seq);
                    }
                });
            }
        });
        assert!(syncs.load(Ordering::SeqCst) < 400, "no sync was shared");
    }

    #[test]
    fn a_failed_sync_fails_those_it_was_for_and_no_other() {
        let commit = Commit::default();
        let fail = || {
            Err(FailedSync {
                up_to: 2,
                why: "EIO".into(),
            })
        };
        assert_eq!(
            commit.wait(1, Deadline::never(), fail),
            Err(Unsynced::Failed("EIO".into()))
        );
        assert_eq!(
            commit.wait(2, Deadline::never(), || Ok(9)),
            Err(Unsynced::Failed("EIO".into()))
        );
        assert_eq!(commit.wait(3, Deadline::never(), || Ok(3)), Ok(()));
    }

    #[test]
    fn after_a_sync_that_panicked_another_thread_syncs() {
        let commit = Commit::default();
        std::thread::scope(|scope| {
            let leader = scope.spawn(|| {
                commit.wait(1, Deadline::never(), || {
                    while commit.state.lock().waiting == 0 {
                        std::thread::yield_now();
                    }
                    panic!("on purpose");
                })
            });
            while !commit.state.lock().leading {
                std::thread::yield_now();
            }
            let follower = scope.spawn(|| commit.wait(2, Deadline::never(), || Ok(2)));
            assert_eq!(follower.join().unwrap(), Ok(()));
            assert!(leader.join().is_err());
        });
    }

    #[test]
    fn a_wait_ends_by_its_deadline() {
        let commit = Commit::default();
        commit.state.lock().leading = true;
        assert_eq!(
            commit.wait(1, Deadline::after(Duration::from_millis(5)), || Ok(1)),
            Err(Unsynced::TimedOut)
        );
    }
}
