//! A counting semaphore that serves strictly in order of arrival.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::sync::{Condvar, Mutex};

/// So many places, given out in order of arrival. A place that becomes free goes straight to who waits longest: no
/// newcomer overtakes, and no one who waits starves.
#[derive(Debug)]
pub(crate) struct Places {
    size: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    free: usize,
    // Whenever someone waits, no place is free.
    waiting: VecDeque<Arc<Waiter>>,
    counts: LimitStats,
}

#[derive(Debug, Default)]
struct Waiter {
    // Written and read under the state's mutex alone; atomic only to be shared.
    has_place: AtomicBool,
    called: Condvar,
}

/// What a [`Limited`](crate::Limited) did since it was made, and its state now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct LimitStats {
    /// Operations that had to wait for a place.
    pub waits: u64,
    /// Of these, the ones that got none by their deadline.
    pub timeouts: u64,
    /// How long all of them waited, added up.
    pub waited: Duration,
    /// Operations that have a place right now.
    pub running: usize,
    /// Operations that wait for one right now.
    pub waiting: usize,
}

/// A place, given back on drop.
#[must_use = "the place is free again as soon as this is dropped"]
#[derive(Debug)]
pub(crate) struct Place<'a> {
    places: &'a Places,
    waited: Option<Duration>,
}

impl Place<'_> {
    /// How long its taker waited for it; `None` if it was free.
    pub(crate) fn waited(&self) -> Option<Duration> {
        self.waited
    }
}

impl Places {
    /// At least one place, else nothing would ever run.
    pub(crate) fn new(size: usize) -> Self {
        let size = size.max(1);
        let state = State {
            free: size,
            waiting: VecDeque::new(),
            counts: LimitStats::default(),
        };
        Self {
            size,
            state: Mutex::new(state),
        }
    }

    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// Waits for a place, until `deadline` at most. One that is free is given also past the deadline.
    ///
    /// # Errors
    /// How long it waited in vain.
    pub(crate) fn take(&self, deadline: Option<Instant>) -> Result<Place<'_>, Duration> {
        let mut state = self.state.lock();
        if state.free > 0 {
            state.free -= 1;
            return Ok(Place {
                places: self,
                waited: None,
            });
        }
        let begun = Instant::now();
        let waiter = Arc::new(Waiter::default());
        state.waiting.push_back(Arc::clone(&waiter));
        state.counts.waits += 1;
        let mut out_of_time = false;
        loop {
            let has_place = waiter.has_place.load(Ordering::Relaxed);
            let waited = begun.elapsed();
            if has_place || out_of_time {
                state.counts.waited = state.counts.waited.saturating_add(waited);
            }
            if has_place {
                return Ok(Place {
                    places: self,
                    waited: Some(waited),
                });
            }
            if out_of_time {
                state.counts.timeouts += 1;
                state.waiting.retain(|other| !Arc::ptr_eq(other, &waiter));
                return Err(waited);
            }
            match deadline {
                Some(deadline) => out_of_time = waiter.called.wait_until(&mut state, deadline).timed_out(),
                None => waiter.called.wait(&mut state),
            }
        }
    }

    pub(crate) fn counts(&self) -> LimitStats {
        let state = self.state.lock();
        LimitStats {
            running: self.size - state.free,
            waiting: state.waiting.len(),
            ..state.counts
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut state = self.places.state.lock();
        match state.waiting.pop_front() {
            Some(next) => {
                next.has_place.store(true, Ordering::Relaxed);
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
    fn places_are_given_in_order_of_arrival() {
        let (places, order) = (Places::new(1), Mutex::new(Vec::new()));
        let first = places.take(None).unwrap();
        thread::scope(|scope| {
            for number in 0..6 {
                let (places, order) = (&places, &order);
                scope.spawn(move || {
                    let _place = places.take(None).unwrap();
                    order.lock().push(number);
                });
                until(|| places.counts().waiting == number + 1);
            }
            drop(first);
        });
        assert_eq!(*order.lock(), [0, 1, 2, 3, 4, 5]);
        let counts = places.counts();
        assert_eq!(
            (counts.waits, counts.timeouts, counts.running, counts.waiting),
            (6, 0, 0, 0)
        );
    }

    #[test]
    fn a_newcomer_does_not_overtake_who_was_called() {
        let (places, tried) = (Places::new(1), AtomicBool::new(false));
        let first = places.take(None).unwrap();
        thread::scope(|scope| {
            scope.spawn(|| {
                let _place = places.take(None).unwrap();
                until(|| tried.load(Ordering::SeqCst));
            });
            until(|| places.counts().waiting == 1);
            drop(first);
            // The place is the other's already, whether it has woken up or not.
            let taken = places.take(Some(Instant::now())).is_ok();
            tried.store(true, Ordering::SeqCst);
            assert!(!taken);
        });
    }

    #[test]
    fn never_more_at_once_than_there_are_places() {
        let (places, inside, most) = (Places::new(3), AtomicUsize::new(0), AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..500 {
                        let _place = places.take(None).unwrap();
                        let now = inside.fetch_add(1, Ordering::SeqCst) + 1;
                        most.fetch_max(now, Ordering::SeqCst);
                        thread::yield_now();
                        inside.fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
        });
        assert!((1..=3).contains(&most.into_inner()));
        assert_eq!(places.counts().running, 0);
    }

    #[test]
    fn who_gives_up_leaves_the_queue_and_the_place_to_the_next() {
        let places = Places::new(1);
        let first = places.take(None).unwrap();
        let begun = Instant::now();
        let wait = Duration::from_millis(20);
        assert!(places.take(Some(begun + wait)).is_err());
        assert!(begun.elapsed() >= wait);
        let counts = places.counts();
        assert_eq!((counts.waits, counts.timeouts, counts.waiting), (1, 1, 0));
        assert!(counts.waited >= wait);
        drop(first);
        assert!(places.take(Some(begun)).is_ok(), "a free place needs no waiting");
    }

    #[test]
    fn a_panic_gives_the_place_back() {
        let places = Places::new(1);
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _place = places.take(None).unwrap();
            std::panic::resume_unwind(Box::new("a bug in the operation"));
        }));
        assert!(panicked.is_err());
        assert!(places.take(Some(Instant::now())).is_ok());
    }

    #[test]
    fn no_places_counts_as_one() {
        assert_eq!(Places::new(0).size(), 1);
        assert!(Places::new(0).take(None).is_ok());
    }
}
