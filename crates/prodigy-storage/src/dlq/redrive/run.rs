//! Runs a redrive.

use std::any::Any;
use std::collections::{HashSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::thread;
use std::time::Duration;

use parking_lot::{Condvar, Mutex, MutexGuard};
use prodigy_storage_backend::dead_letter::facts;
use prodigy_storage_backend::{
    Change, Claim, ErrorKind, LeaseToken, QueueMark, Result, Select, Settled, Settlement, StorageError,
};

use super::options::{Outcome, RedriveOptions};
use super::report::{RedriveError, RedriveReport};
use crate::dlq::{Dlq, DlqItem, Taken, failed, is_passed_over};

/// The longest pause before a worker checks again whether it is to stop or may start an item. The injected clock
/// may run faster than real time, so a pause in real time has to be short.
const TICK: Duration = Duration::from_millis(20);
/// The largest number of items to take in one call.
const MOST: usize = 64;
/// The largest number of takes without an answer in a row after which a run continues.
const UNANSWERED: usize = 3;
/// One call takes as many items as are expected to be finished in this time.
const AHEAD: Duration = Duration::from_millis(100);

/// Names a field of the report that counts items.
type Counter = fn(&mut RedriveReport) -> &mut usize;

type Work<'a> = &'a (dyn Fn(&DlqItem) -> Outcome + Sync);

pub(crate) fn redrive(
    dlq: &Dlq,
    select: Select,
    options: &RedriveOptions,
    work: Work<'_>,
) -> Result<RedriveReport, RedriveError> {
    let mut run = Run::new(dlq, select, options, work);
    run.begin();
    thread::scope(|scope| {
        // Ends the run even if this thread panics, so that the scope does not wait forever for the thread that
        // extends leases.
        let ends = Ends(&run);
        let keeper = thread::Builder::new().spawn_scoped(scope, || run.keep());
        if let Err(error) = keeper {
            run.fail(no_thread(dlq, error));
        }
        let workers: Vec<_> = (1..run.workers)
            .map_while(|_| thread::Builder::new().spawn_scoped(scope, || run.work()).ok())
            .collect();
        run.work();
        for worker in workers {
            if let Err(panic) = worker.join() {
                run.unwind(panic);
            }
        }
        drop(ends);
    });
    run.finish()
}

fn no_thread(dlq: &Dlq, error: std::io::Error) -> StorageError {
    StorageError::new(
        ErrorKind::Io,
        "redrive",
        &dlq.job,
        "no thread could be started to extend leases",
    )
    .with_source(error)
}

/// True if the backend refused the data of a single item, so that other items can still be settled.
fn is_of_the_item(error: &StorageError) -> bool {
    matches!(
        error.kind(),
        ErrorKind::TooLarge | ErrorKind::InvalidInput | ErrorKind::Damaged | ErrorKind::Foreign
    )
}

struct Ends<'r, 'a>(&'r Run<'a>);

impl Drop for Ends<'_, '_> {
    fn drop(&mut self) {
        self.0.state.lock().ended = true;
        self.0.changed.notify_all();
    }
}

struct Run<'a> {
    dlq: &'a Dlq,
    select: Select,
    options: &'a RedriveOptions,
    work: Work<'a>,
    /// The time since the boot at which the run started.
    began: Duration,
    /// The number of worker threads, which is never greater than the number of items.
    workers: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// The items that were taken and whose work has not started.
    hand: VecDeque<Taken>,
    /// The tokens of all items that were taken and are not settled yet.
    held: HashSet<LeaseToken>,
    /// The number of items that may still be taken.
    left: usize,
    /// True while a worker takes items.
    taking: bool,
    /// The number of takes in a row whose outcome is unknown.
    unanswered: usize,
    /// True if no item is left to take.
    drained: bool,
    /// True if no further work may start.
    halted: bool,
    /// True if all workers have ended.
    ended: bool,
    /// The earliest time at which work on the next item may start, since the boot.
    next_begin: Duration,
    /// The time at which the leases are extended next, since the boot.
    extend_at: Duration,
    settled: usize,
    report: RedriveReport,
    error: Option<StorageError>,
    panic: Option<Box<dyn Any + Send>>,
}

impl<'a> Run<'a> {
    fn new(dlq: &'a Dlq, select: Select, options: &'a RedriveOptions, work: Work<'a>) -> Self {
        Self {
            dlq,
            select,
            options,
            work,
            began: dlq.inner.clock.uptime().since,
            workers: options.concurrency.min(options.limit.unwrap_or(usize::MAX)),
            state: Mutex::new(State {
                left: options.limit.unwrap_or(usize::MAX),
                ..State::default()
            }),
            changed: Condvar::new(),
        }
    }

    /// Takes the first items. Their new places follow the number of the last change before the run, which bounds it.
    fn begin(&mut self) {
        self.look_for_stop();
        let mut state = self.state.lock();
        while !state.halted && state.left > 0 {
            self.take(&mut state);
            if state.unanswered == 0 {
                break;
            }
        }
        let places = state.hand.iter().map(|taken| taken.item.place.0);
        let before = places.min().map(|first| QueueMark(first.saturating_sub(1)));
        // With fewer items than workers, a further thread would have nothing to do.
        self.workers = self.workers.min(state.hand.len());
        if let Some(before) = before {
            state.report.bound = self.bound(before);
            self.select.until = Some(state.report.bound);
        }
    }

    /// The bound of the run, if this is the number of the last change before it.
    fn bound(&self, before: QueueMark) -> QueueMark {
        self.select.until.map_or(before, |given| given.min(before))
    }

    fn now(&self) -> Duration {
        self.dlq.inner.clock.uptime().since
    }

    /// Works on one item after another, until no item is left or no further work may start.
    fn work(&self) {
        while let Some(taken) = self.next() {
            let outcome = catch_unwind(AssertUnwindSafe(|| (self.work)(&taken.item)));
            let outcome = outcome.unwrap_or_else(|panic| {
                self.unwind(panic);
                Outcome::release()
            });
            self.settle(&taken, outcome);
        }
    }

    /// The next item to work on; `None` if no item is left or no further work may start.
    fn next(&self) -> Option<Taken> {
        self.look_for_stop();
        let mut state = self.state.lock();
        loop {
            if state.halted || (state.hand.is_empty() && (state.drained || state.left == 0)) {
                return None;
            }
            if state.hand.is_empty() {
                // Items are taken before the pause for the interval: if no item is left, the run ends without the
                // pause.
                if state.taking {
                    self.changed.wait_for(&mut state, TICK);
                } else {
                    self.take(&mut state);
                }
                continue;
            }
            let now = self.now();
            if state.next_begin > now {
                let wait = (state.next_begin - now).min(TICK);
                self.changed.wait_for(&mut state, wait);
            } else if let Some(taken) = state.hand.pop_front() {
                state.next_begin = now.saturating_add(self.options.interval.unwrap_or_default());
                return Some(taken);
            }
        }
    }

    /// Takes more items. The mutex is unlocked during the call of the backend.
    fn take(&self, state: &mut MutexGuard<'_, State>) {
        state.taking = true;
        let wanted = self.ahead(state).min(state.left);
        // The leases begin at some moment during the call, so they are counted from before it.
        let before = self.now();
        let taken = MutexGuard::unlocked(state, || self.dlq.take(&self.select, wanted, self.options.lease));
        state.taking = false;
        match taken {
            Ok(taken) => {
                // The run itself extends, settles and releases these items, so that dropping a `Taken` has no
                // effect.
                taken.iter().for_each(Taken::keep);
                state.unanswered = 0;
                state.drained = taken.is_empty();
                state.left = state.left.saturating_sub(taken.len());
                state.report.taken += taken.len();
                state.held.extend(taken.iter().map(|taken| taken.token().clone()));
                state.extend_at = state.extend_at.min(before.saturating_add(self.options.lease / 3));
                state.hand.extend(taken);
            }
            // The items that such a take leased come back when their leases end. The run can take others.
            Err(error) if error.kind() == ErrorKind::OutcomeUnknown && state.unanswered < UNANSWERED => {
                state.unanswered += 1;
                tracing::warn!(job = %self.dlq.job, error = %error, "a take has no answer, and is made again");
            }
            Err(error) => state.fail(error),
        }
        self.changed.notify_all();
    }

    /// The number of items to take: one for each worker, and more if the work on an item is short.
    fn ahead(&self, state: &State) -> usize {
        let elapsed = self.now().saturating_sub(self.began).max(Duration::from_nanos(1));
        let soon = state.settled as u128 * AHEAD.as_nanos() / elapsed.as_nanos();
        let soon = usize::try_from(soon).unwrap_or(MOST).min(MOST);
        soon.max(self.workers).max(1)
    }

    fn settle(&self, taken: &Taken, outcome: Outcome) {
        let settle = |change| {
            let claim = Claim::from(taken.token());
            self.dlq.settle_one(Settlement::new(claim, change))
        };
        let stored = self
            .change_of(taken, outcome)
            .and_then(|(change, counter)| Ok((settle(change)?, counter)));
        let (stored, unstored) = match stored {
            // The backend refused the failure or the reason of this item, so the item is released.
            Err(error) if is_of_the_item(&error) => {
                let delay = Duration::ZERO;
                let released = settle(Change::Release { delay });
                let counter: Counter = |report| &mut report.released;
                (released.map(|settled| (settled, counter)), Some(error))
            }
            stored => (stored, None),
        };
        let mut state = self.state.lock();
        state.held.remove(taken.token());
        state.settled += 1;
        if let Some(error) = unstored {
            state.report.pass_over(Some(taken.id().clone()), &error);
        }
        match stored {
            Ok((settled, counter)) => {
                let counter: Counter = match settled {
                    Settled::Done => counter,
                    Settled::Kept => |report| &mut report.kept,
                    _ => |report| &mut report.lost,
                };
                *counter(&mut state.report) += 1;
            }
            Err(error) => {
                state.report.unsettled += 1;
                state.fail(error);
                // A settlement wakes no other thread unless it fails and so ends the run.
                self.changed.notify_all();
            }
        }
    }

    /// The change that settles an item after this outcome, and the field of the report that counts the item.
    fn change_of(&self, taken: &Taken, outcome: Outcome) -> Result<(Change, Counter)> {
        Ok(match outcome {
            Outcome::Done => (Change::Remove, |report| &mut report.done),
            Outcome::Release { after } => (Change::Release { delay: after }, |report| &mut report.released),
            Outcome::Park(reason) => (Change::Park { reason }, |report| &mut report.parked),
            Outcome::Failed(failure) => {
                let attempts = facts(&taken.item.body).map_or(0, |facts| facts.failure_count) + 1;
                let parks = self.options.max_attempts.is_some_and(|most| attempts >= most);
                let reason = parks.then(|| format!("it failed {attempts} times"));
                let failed = failed(taken.id(), *failure, reason)?;
                let counter: Counter = match parks {
                    true => |report| &mut report.parked,
                    false => |report| &mut report.failed,
                };
                (Change::Fail(failed), counter)
            }
        })
    }

    /// Extends the leases of all taken items, until the run ends.
    fn keep(&self) {
        let every = self.options.lease / 3;
        let tick = TICK.min(every / 2).max(Duration::from_millis(1));
        let mut state = self.state.lock();
        while !state.ended {
            self.changed.wait_for(&mut state, tick);
            MutexGuard::unlocked(&mut state, || self.look_for_stop());
            let now = self.now();
            if now < state.extend_at || state.ended {
                continue;
            }
            state.extend_at = now.saturating_add(every);
            let tokens: Vec<LeaseToken> = state.held.iter().cloned().collect();
            let extended = MutexGuard::unlocked(&mut state, || self.dlq.extend(&tokens, self.options.lease));
            match extended {
                Ok(extended) => {
                    for (token, settled) in tokens.iter().zip(extended) {
                        if !settled.is_done() {
                            state.lose(token);
                        }
                    }
                }
                Err(error) => {
                    // The extension is tried again soon. If the leases end before that, the settlements of the
                    // items count them as lost.
                    state.extend_at = state.extend_at.min(now.saturating_add(every / 4));
                    tracing::warn!(job = %self.dlq.job, error = %error, "leases could not be extended");
                }
            }
        }
    }

    fn look_for_stop(&self) {
        match catch_unwind(AssertUnwindSafe(|| self.options.stops())) {
            Ok(false) => {}
            Ok(true) => {
                let mut state = self.state.lock();
                let was_halted = std::mem::replace(&mut state.halted, true);
                state.report.stopped = true;
                drop(state);
                if !was_halted {
                    self.changed.notify_all();
                }
            }
            Err(panic) => self.unwind(panic),
        }
    }

    fn fail(&self, error: StorageError) {
        self.state.lock().fail(error);
        self.changed.notify_all();
    }

    fn unwind(&self, panic: Box<dyn Any + Send>) {
        let mut state = self.state.lock();
        state.halted = true;
        state.panic.get_or_insert(panic);
        drop(state);
        self.changed.notify_all();
    }

    /// Lists the items that no take returns, because they can't be read. At the end of a run, few items are left to
    /// look at.
    fn list_unreadable(&self, state: &mut State) -> Result<()> {
        let summary = self.dlq.summary()?;
        if state.report.taken == 0 {
            state.report.bound = self.bound(summary.mark);
        }
        // Unreadable items are only taken if they are selected by key. Without keys, the report lists them.
        if summary.unreadable == 0 || self.select.ids.is_some() {
            return Ok(());
        }
        let select = self.select.clone().until(state.report.bound);
        for item in self.dlq.scan(&select)? {
            match item {
                Ok(item) => {
                    if let Err(error) = facts(&item.body) {
                        state.report.pass_over(Some(item.id), &error);
                    }
                }
                Err(error) if is_passed_over(&error) => state.report.pass_over(None, &error),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Releases the items whose work was not started, and returns the report.
    fn finish(self) -> Result<RedriveReport, RedriveError> {
        let mut state = std::mem::take(&mut *self.state.lock());
        let tokens: Vec<LeaseToken> = state.hand.iter().map(|taken| taken.token().clone()).collect();
        match self.dlq.release(&tokens, Duration::ZERO) {
            Ok(settled) => {
                for settled in settled {
                    match settled.is_done() {
                        true => state.report.released += 1,
                        false => state.report.lost += 1,
                    }
                }
            }
            Err(error) => {
                state.report.unsettled += tokens.len();
                state.fail(error);
            }
        }
        if let Some(panic) = state.panic {
            resume_unwind(panic);
        }
        // A person who stopped the run does not want to wait for the queue to be read.
        if state.error.is_none()
            && !state.report.stopped
            && let Err(error) = self.list_unreadable(&mut state)
        {
            state.fail(error);
        }
        match state.error {
            Some(error) => Err(RedriveError::new(state.report, error)),
            None => Ok(state.report),
        }
    }
}

impl State {
    fn fail(&mut self, error: StorageError) {
        self.halted = true;
        self.error.get_or_insert(error);
    }

    /// Removes a lost lease from the state of the run. If the work on its item has not started, it never starts;
    /// otherwise the item can't be settled.
    fn lose(&mut self, token: &LeaseToken) {
        self.held.remove(token);
        let before = self.hand.len();
        self.hand.retain(|taken| taken.token() != token);
        self.report.lost += before - self.hand.len();
    }
}
