//! A bounded pool of threads that may block. Jobs run in order of arrival.

use std::cell::Cell;
use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tokio::sync::watch;

/// A thread that gets no job for this time ends.
const IDLE: Duration = Duration::from_secs(10);

thread_local! {
    static IS_OF_A_POOL: Cell<bool> = const { Cell::new(false) };
    static WAS_BUSY: Cell<bool> = const { Cell::new(false) };
}

/// True if all threads of the pool were busy when the present job was submitted.
pub(super) fn was_busy() -> bool {
    WAS_BUSY.get()
}

pub(super) type Job = Box<dyn FnOnce() + Send>;

/// Threads that run jobs in order of arrival. A thread is started when a job needs one. The threads end when the
/// pool is dropped and no job is left.
pub(super) struct Pool {
    shared: Arc<Shared>,
}

struct Shared {
    name: &'static str,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    /// The last field is true if all threads were busy when the job was submitted.
    jobs: VecDeque<(Job, Batch, bool)>,
    /// The largest number of threads.
    limit: usize,
    threads: usize,
    idle: usize,
    closed: bool,
    batch: Batch,
    /// One receiver per batch, which notices the end of the batch. The last one belongs to the present batch; the
    /// others to batches that had not ended at the last call of [`Pool::ended`].
    ends: Vec<watch::Receiver<()>>,
}

/// A clone is held by each job that is submitted between two calls of [`Pool::ended`]. The batch ends when the
/// last clone is dropped.
pub(super) type Batch = Arc<watch::Sender<()>>;

fn new_batch() -> (Batch, watch::Receiver<()>) {
    let (sender, receiver) = watch::channel(());
    (Arc::new(sender), receiver)
}

impl Pool {
    /// A pool with at most `limit` threads, and at least one.
    pub(super) fn new(name: &'static str, limit: usize) -> Self {
        let (batch, end) = new_batch();
        Self {
            shared: Arc::new(Shared {
                name,
                state: Mutex::new(State {
                    jobs: VecDeque::new(),
                    limit: limit.max(1),
                    threads: 0,
                    idle: 0,
                    closed: false,
                    batch,
                    ends: vec![end],
                }),
                changed: Condvar::new(),
            }),
        }
    }

    /// Runs a job on one of the threads. If no thread can be started, the job is dropped.
    pub(super) fn submit(&self, job: impl FnOnce() + Send + 'static) {
        let mut state = self.shared.state.lock();
        let batch = Arc::clone(&state.batch);
        let is_idle = state.jobs.len() < state.idle;
        let is_busy = !is_idle && state.threads >= state.limit;
        state.jobs.push_back((Box::new(job), batch, is_busy));
        if is_idle {
            self.shared.changed.notify_one();
            return;
        }
        if is_busy {
            return;
        }
        let shared = Arc::clone(&self.shared);
        let started = thread::Builder::new()
            .name(self.shared.name.to_owned())
            .spawn(move || shared.work());
        match started {
            Ok(_) => state.threads += 1,
            Err(error) if state.threads == 0 => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "no thread can be started"
                );
                let dropped = std::mem::take(&mut state.jobs);
                drop(state);
                drop(dropped);
            }
            // The job stays in the queue, and a running thread will take it.
            Err(_) => {}
        }
    }

    /// On a thread of a pool, runs the job at once, so that it ends before the present job does. On any other
    /// thread, submits it.
    pub(super) fn run(&self, job: impl FnOnce() + Send + 'static) {
        match IS_OF_A_POOL.get() {
            true => job(),
            false => self.submit(job),
        }
    }

    /// Returns a value that counts like a job that was submitted now, until the value is dropped.
    pub(super) fn hold(&self) -> Batch {
        Arc::clone(&self.shared.state.lock().batch)
    }

    /// Completes when all jobs that were submitted before this call have ended.
    pub(super) fn ended(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut state = self.shared.state.lock();
        let (batch, end) = new_batch();
        state.batch = batch;
        // `has_changed` fails once the sender is dropped, which is the end of the batch. Nothing is ever sent.
        state.ends.retain(|end| end.has_changed().is_ok());
        let ends = state.ends.clone();
        state.ends.push(end);
        async move {
            for mut end in ends {
                while end.changed().await.is_ok() {}
            }
        }
    }

    /// A closure that returns whether the pool or one of its threads still exists.
    #[cfg(test)]
    pub(super) fn watch(&self) -> impl Fn() -> bool + use<> {
        let shared = Arc::downgrade(&self.shared);
        move || shared.strong_count() > 0
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.state.lock().closed = true;
        self.shared.changed.notify_all();
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("name", &self.shared.name)
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn work(&self) {
        IS_OF_A_POOL.set(true);
        let mut state = self.state.lock();
        loop {
            if let Some((job, batch, was_busy)) = state.jobs.pop_front() {
                drop(state);
                WAS_BUSY.set(was_busy);
                // A job catches its own panics and sends them to its caller. Only a panic in a destructor is
                // caught here.
                let _ = catch_unwind(AssertUnwindSafe(job));
                drop(batch);
                state = self.state.lock();
                continue;
            }
            if state.closed {
                break;
            }
            state.idle += 1;
            let timed_out = self.changed.wait_for(&mut state, IDLE).timed_out();
            state.idle -= 1;
            if timed_out && state.jobs.is_empty() {
                break;
            }
        }
        state.threads -= 1;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn dropping_a_pool_ends_its_threads_after_the_jobs_that_are_left() {
        let pool = Pool::new("test", 3);
        let is_there = pool.watch();
        let done = Arc::new(AtomicUsize::new(0));
        for _ in 0..100 {
            let done = Arc::clone(&done);
            pool.submit(move || {
                done.fetch_add(1, Ordering::SeqCst);
            });
        }
        drop(pool);
        while is_there() {
            thread::yield_now();
        }
        assert_eq!(done.load(Ordering::SeqCst), 100);
    }

    #[test]
    fn no_more_jobs_run_at_once_than_the_pool_has_threads_and_they_run_in_order_of_arrival() {
        let pool = Pool::new("test", 1);
        let (sender, order) = mpsc::channel();
        let running = Arc::new(AtomicUsize::new(0));
        for number in 0..50 {
            let (sender, running) = (sender.clone(), Arc::clone(&running));
            pool.submit(move || {
                let others = running.fetch_add(1, Ordering::SeqCst);
                sender.send((number, others)).unwrap();
                running.fetch_sub(1, Ordering::SeqCst);
            });
        }
        drop((pool, sender));
        let found: Vec<_> = order.iter().collect();
        assert_eq!(found, (0..50).map(|number| (number, 0)).collect::<Vec<_>>());
    }

    #[test]
    fn a_panic_costs_no_thread() {
        let pool = Pool::new("test", 1);
        let (sender, done) = mpsc::channel();
        pool.submit(|| panic!("a job panics"));
        pool.submit(move || sender.send(()).unwrap());
        assert_eq!(done.recv(), Ok(()));
    }

    #[test]
    fn the_end_covers_the_jobs_before_it_and_no_later_one() {
        let pool = Pool::new("test", 2);
        let (first, gate) = mpsc::channel::<()>();
        pool.submit(move || gate.recv().unwrap());
        let mut ended = Box::pin(pool.ended());
        let (second, later) = mpsc::channel::<()>();
        pool.submit(move || later.recv().unwrap());
        let waker = std::task::Waker::noop();
        let mut context = std::task::Context::from_waker(waker);
        assert!(ended.as_mut().poll(&mut context).is_pending());
        first.send(()).unwrap();
        while ended.as_mut().poll(&mut context).is_pending() {
            thread::yield_now();
        }
        second.send(()).unwrap();
    }
}
