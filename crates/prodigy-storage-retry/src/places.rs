//! A counting semaphore that serves strictly in order of arrival.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use prodigy_storage_layout::JobAddress;

use crate::sync::{Condvar, Mutex};

/// So many places, given out in order of arrival. A place that becomes free goes straight to who waits longest: no
/// newcomer overtakes, and no one who waits starves.
///
/// In cache lines of its own: each operation changes it, and reads what stands beside it.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Places {
    size: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    free: usize,
    // Whenever someone waits, no place is free.
    waiting: VecDeque<Arc<Waiter>>,
    groups: HashMap<JobAddress, Group>,
    counts: LimitStats,
}

/// Operations that are one piece of work.
#[derive(Debug, Default)]
struct Group {
    members: usize,
    /// Places they have. More than one if some of them had to wait, as all others do.
    places: usize,
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
    /// Places that are taken right now.
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
    group: Option<&'a JobAddress>,
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
            groups: HashMap::new(),
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
        self.take_in(None, deadline)
    }

    /// The same for an operation that is one piece of work with the others of its group: it shares their place, unless
    /// someone waits for one. Then it waits too, so that no group keeps its place for ever.
    ///
    /// # Errors
    /// How long it waited in vain.
    pub(crate) fn take_among<'a>(
        &'a self,
        group: &'a JobAddress,
        deadline: Option<Instant>,
    ) -> Result<Place<'a>, Duration> {
        self.take_in(Some(group), deadline)
    }

    fn take_in<'a>(
        &'a self,
        group: Option<&'a JobAddress>,
        deadline: Option<Instant>,
    ) -> Result<Place<'a>, Duration> {
        let mut state = self.state.lock();
        if let Some(key) = group
            && state.waiting.is_empty()
            && let Some(joined) = state.groups.get_mut(key)
        {
            joined.members += 1;
            return Ok(self.place(None, group));
        }
        if state.free > 0 {
            state.free -= 1;
            state.join(group);
            return Ok(self.place(None, group));
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
                state.join(group);
                return Ok(self.place(Some(waited), group));
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

    fn place<'a>(&'a self, waited: Option<Duration>, group: Option<&'a JobAddress>) -> Place<'a> {
        Place {
            places: self,
            waited,
            group,
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

impl State {
    /// Counts an operation that has a place of its own into its group.
    fn join(&mut self, group: Option<&JobAddress>) {
        if let Some(key) = group {
            let joined = self.groups.entry(key.clone()).or_default();
            joined.members += 1;
            joined.places += 1;
        }
    }

    /// Takes an operation out of its group: whether a place becomes free by that.
    fn leave(&mut self, group: Option<&JobAddress>) -> bool {
        let Some(key) = group else { return true };
        let Some(left) = self.groups.get_mut(key) else {
            return true;
        };
        left.members -= 1;
        if left.members >= left.places {
            return false;
        }
        left.places -= 1;
        if left.members == 0 {
            self.groups.remove(key);
        }
        true
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut state = self.places.state.lock();
        if !state.leave(self.group) {
            return;
        }
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

    fn group(name: &str) -> JobAddress {
        JobAddress::new("shop".parse().unwrap(), name.parse().unwrap())
    }

    #[test]
    fn a_group_has_one_place_until_the_last_of_it_leaves() {
        let (places, one, other) = (Places::new(1), group("one"), group("other"));
        let first = places.take_among(&one, None).unwrap();
        let second = places.take_among(&one, None).unwrap();
        assert_eq!(places.counts().running, 1);
        drop(first);
        assert!(places.take(Some(Instant::now())).is_err());
        assert!(places.take_among(&other, Some(Instant::now())).is_err());
        drop(second);
        assert_eq!(places.counts().running, 0);
        assert!(places.take_among(&other, Some(Instant::now())).is_ok());
        assert!(places.state.lock().groups.is_empty());
    }

    #[test]
    fn no_one_joins_a_group_past_one_who_waits() {
        let (places, busy) = (Places::new(1), group("busy"));
        let order = Mutex::new(Vec::new());
        let first = places.take_among(&busy, None).unwrap();
        thread::scope(|scope| {
            scope.spawn(|| {
                let _place = places.take(None).unwrap();
                order.lock().push("other");
            });
            until(|| places.counts().waiting == 1);
            scope.spawn(|| {
                let _place = places.take_among(&busy, None).unwrap();
                order.lock().push("busy");
            });
            // Or it is in already, which is what must not be.
            until(|| places.counts().waiting == 2 || !order.lock().is_empty());
            drop(first);
        });
        assert_eq!(*order.lock(), ["other", "busy"]);
        assert_eq!(places.counts().running, 0);
    }

    #[test]
    fn a_group_of_several_places_gives_them_back_one_by_one() {
        let (places, busy) = (Places::new(2), group("busy"));
        let first = places.take_among(&busy, None).unwrap();
        let other = places.take(None).unwrap();
        thread::scope(|scope| {
            let waits = scope.spawn(|| places.take(None).map(drop).is_ok());
            until(|| places.counts().waiting == 1);
            let second = scope.spawn(|| places.take_among(&busy, None).unwrap());
            until(|| places.counts().waiting == 2);
            drop(other);
            assert!(waits.join().unwrap());
            let second = second.join().unwrap();
            assert_eq!(places.counts().running, 2);
            let third = places.take_among(&busy, None).unwrap();
            assert_eq!(places.counts().running, 2);
            drop(first);
            assert_eq!(places.counts().running, 2, "two of it are left, and two places");
            drop(third);
            assert_eq!(places.counts().running, 1);
            drop(second);
        });
        assert_eq!(places.counts().running, 0);
        assert!(places.state.lock().groups.is_empty());
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
