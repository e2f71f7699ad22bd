//! A counting semaphore that gives out permits strictly in order of arrival.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::sync::{Condvar, Mutex};

/// A fixed number of permits, given out in order of arrival.
///
/// When a permit is returned, the thread that has waited longest gets it at once. A new caller never gets a permit
/// before a waiting thread, so no thread waits forever.
///
/// ```
/// use std::time::Instant;
///
/// use prodigy_storage_retry::Semaphore;
///
/// let semaphore = Semaphore::new(1);
/// let permit = semaphore.acquire(None)?;
/// // The only permit is taken: a second caller waits until its deadline, which is now.
/// assert!(semaphore.acquire(Some(Instant::now())).is_err());
/// drop(permit);
/// assert!(semaphore.acquire(Some(Instant::now())).is_ok());
/// # Ok::<(), prodigy_storage_retry::NoPermit>(())
/// ```
// Aligned to a cache line of its own, since each operation changes the semaphore and also reads the data next to
// it.
#[derive(Debug)]
#[repr(align(128))]
pub struct Semaphore {
    size: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    free: usize,
    // The threads that wait. If there are any, no permit is free.
    waiting: VecDeque<Arc<Waiter>>,
    counts: SemaphoreStats,
}

#[derive(Debug, Default)]
struct Waiter {
    // Accessed only under the mutex of the state. It is atomic only because the threads share it.
    has_permit: AtomicBool,
    called: Condvar,
}

/// The counters of a [`Semaphore`] since it was made, and its present state.
///
/// ```
/// use prodigy_storage_retry::Semaphore;
///
/// let semaphore = Semaphore::new(2);
/// let permit = semaphore.acquire(None)?;
/// assert_eq!((semaphore.stats().running, semaphore.stats().waiting), (1, 0));
/// # drop(permit);
/// # Ok::<(), prodigy_storage_retry::NoPermit>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct SemaphoreStats {
    /// The number of callers that had to wait for a permit.
    pub waits: u64,
    /// The number of callers that had to wait and got no permit by their deadline.
    pub timeouts: u64,
    /// The total time that all callers have waited.
    pub waited: Duration,
    /// The number of permits that are taken at present.
    pub running: usize,
    /// The number of callers that are waiting at present.
    pub waiting: usize,
}

/// A permit of a [`Semaphore`]. Dropping it returns the permit.
///
/// ```
/// use prodigy_storage_retry::Semaphore;
///
/// let semaphore = Semaphore::new(1);
/// let permit = semaphore.acquire(None)?;
/// assert_eq!(permit.waited(), None); // a permit was free
/// drop(permit);
/// assert_eq!(semaphore.stats().running, 0);
/// # Ok::<(), prodigy_storage_retry::NoPermit>(())
/// ```
#[must_use = "the permit is returned as soon as this is dropped"]
#[derive(Debug)]
pub struct Permit<'a> {
    semaphore: &'a Semaphore,
    waited: Option<Duration>,
}

impl Permit<'_> {
    /// The time that the caller waited for this permit; `None` if a permit was free.
    #[must_use]
    pub fn waited(&self) -> Option<Duration> {
        self.waited
    }
}

/// The error if no permit became free by the deadline.
///
/// ```
/// use std::time::Instant;
/// use prodigy_storage_retry::Semaphore;
///
/// let semaphore = Semaphore::new(1);
/// let taken = semaphore.acquire(None)?;
/// let error = semaphore.acquire(Some(Instant::now())).unwrap_err();
/// println!("{error}, after {:?}", error.waited);
/// # drop(taken);
/// # Ok::<(), prodigy_storage_retry::NoPermit>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct NoPermit {
    /// The time that the caller waited.
    pub waited: Duration,
}

impl fmt::Display for NoPermit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no permit became free within {:?}", self.waited)
    }
}

impl std::error::Error for NoPermit {}

impl Semaphore {
    /// A semaphore with `size` permits. 0 counts as 1, since otherwise no operation could ever run.
    #[must_use]
    pub fn new(size: usize) -> Self {
        let size = size.max(1);
        let state = State {
            free: size,
            waiting: VecDeque::new(),
            counts: SemaphoreStats::default(),
        };
        Self {
            size,
            state: Mutex::new(state),
        }
    }

    /// The number of permits, free or taken.
    #[must_use]
    pub fn size(&self) -> usize {
        self.size
    }

    /// Takes a permit, and waits for one until `deadline` at most. If a permit is free, it is taken even after the
    /// deadline.
    ///
    /// # Errors
    /// [`NoPermit`] if no permit became free by the deadline.
    pub fn acquire(&self, deadline: Option<Instant>) -> Result<Permit<'_>, NoPermit> {
        let mut state = self.state.lock();
        if state.free > 0 {
            state.free -= 1;
            return Ok(self.permit(None));
        }
        let begun = Instant::now();
        let waiter = Arc::new(Waiter::default());
        state.waiting.push_back(Arc::clone(&waiter));
        state.counts.waits += 1;
        let mut out_of_time = false;
        loop {
            let has_permit = waiter.has_permit.load(Ordering::Relaxed);
            let waited = begun.elapsed();
            if has_permit || out_of_time {
                state.counts.waited = state.counts.waited.saturating_add(waited);
            }
            if has_permit {
                return Ok(self.permit(Some(waited)));
            }
            if out_of_time {
                state.counts.timeouts += 1;
                state.waiting.retain(|other| !Arc::ptr_eq(other, &waiter));
                return Err(NoPermit { waited });
            }
            match deadline {
                Some(deadline) => out_of_time = waiter.called.wait_until(&mut state, deadline).timed_out(),
                None => waiter.called.wait(&mut state),
            }
        }
    }

    fn permit(&self, waited: Option<Duration>) -> Permit<'_> {
        Permit {
            semaphore: self,
            waited,
        }
    }

    /// The counters and the present state of the semaphore.
    #[must_use]
    pub fn stats(&self) -> SemaphoreStats {
        let state = self.state.lock();
        SemaphoreStats {
            running: self.size - state.free,
            waiting: state.waiting.len(),
            ..state.counts
        }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        let mut state = self.semaphore.state.lock();
        match state.waiting.pop_front() {
            Some(next) => {
                next.has_permit.store(true, Ordering::Relaxed);
                next.called.notify_one();
            }
            None => state.free += 1,
        }
    }
}

#[cfg(all(test, feature = "model"))]
mod model;

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::thread;

    use super::*;

    fn until(mut condition: impl FnMut() -> bool) {
        while !condition() {
            thread::yield_now();
        }
    }

    #[test]
    fn permits_are_given_in_order_of_arrival() {
        let (semaphore, order) = (Semaphore::new(1), Mutex::new(Vec::new()));
        let first = semaphore.acquire(None).unwrap();
        thread::scope(|scope| {
            for number in 0..6 {
                let (semaphore, order) = (&semaphore, &order);
                scope.spawn(move || {
                    let _permit = semaphore.acquire(None).unwrap();
                    order.lock().push(number);
                });
                until(|| semaphore.stats().waiting == number + 1);
            }
            drop(first);
        });
        assert_eq!(*order.lock(), [0, 1, 2, 3, 4, 5]);
        let counts = semaphore.stats();
        assert_eq!(
            (counts.waits, counts.timeouts, counts.running, counts.waiting),
            (6, 0, 0, 0)
        );
    }

    #[test]
    fn a_newcomer_does_not_overtake_a_thread_that_was_called() {
        let (semaphore, tried) = (Semaphore::new(1), AtomicBool::new(false));
        let first = semaphore.acquire(None).unwrap();
        thread::scope(|scope| {
            scope.spawn(|| {
                let _permit = semaphore.acquire(None).unwrap();
                until(|| tried.load(Ordering::SeqCst));
            });
            until(|| semaphore.stats().waiting == 1);
            drop(first);
            // The returned permit already belongs to the waiting thread, even if that thread has not woken up yet.
            let taken = semaphore.acquire(Some(Instant::now())).is_ok();
            tried.store(true, Ordering::SeqCst);
            assert!(!taken);
        });
    }

    #[test]
    fn never_more_at_once_than_there_are_permits() {
        let (semaphore, inside, most) = (Semaphore::new(3), AtomicUsize::new(0), AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..500 {
                        let _permit = semaphore.acquire(None).unwrap();
                        let now = inside.fetch_add(1, Ordering::SeqCst) + 1;
                        most.fetch_max(now, Ordering::SeqCst);
                        thread::yield_now();
                        inside.fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
        });
        assert!((1..=3).contains(&most.into_inner()));
        assert_eq!(semaphore.stats().running, 0);
    }

    #[test]
    fn a_thread_that_gives_up_leaves_the_queue() {
        let semaphore = Semaphore::new(1);
        let first = semaphore.acquire(None).unwrap();
        let begun = Instant::now();
        let wait = Duration::from_millis(20);
        assert!(semaphore.acquire(Some(begun + wait)).is_err());
        assert!(begun.elapsed() >= wait);
        let counts = semaphore.stats();
        assert_eq!((counts.waits, counts.timeouts, counts.waiting), (1, 1, 0));
        assert!(counts.waited >= wait);
        drop(first);
        assert!(
            semaphore.acquire(Some(begun)).is_ok(),
            "a free permit needs no waiting"
        );
    }

    #[test]
    fn a_panic_returns_the_permit() {
        let semaphore = Semaphore::new(1);
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _permit = semaphore.acquire(None).unwrap();
            std::panic::resume_unwind(Box::new("a bug in the operation"));
        }));
        assert!(panicked.is_err());
        assert!(semaphore.acquire(Some(Instant::now())).is_ok());
    }

    #[test]
    fn a_size_of_zero_counts_as_one() {
        assert_eq!(Semaphore::new(0).size(), 1);
        assert!(Semaphore::new(0).acquire(None).is_ok());
    }
}
