//! Model tests of the semaphore: a scheduler runs the threads' steps in many orders.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::sync::atomic::AtomicUsize;

use shuttle::sync::Mutex;
use shuttle::thread;

use super::*;

/// A semaphore, and the numbers of the threads that got a permit, in order.
#[derive(Debug)]
struct Room {
    semaphore: Semaphore,
    entered: Mutex<Vec<usize>>,
    inside: Mutex<usize>,
}

impl Room {
    fn new(semaphore: usize) -> Arc<Self> {
        Arc::new(Self {
            semaphore: Semaphore::new(semaphore),
            entered: Mutex::default(),
            inside: Mutex::default(),
        })
    }

    /// Takes a permit and returns it. Returns false if no permit became free by the deadline.
    fn visit(&self, number: usize, deadline: Option<Instant>) -> bool {
        let Ok(permit) = self.semaphore.acquire(deadline) else {
            return false;
        };
        {
            let mut inside = self.inside.lock().unwrap();
            *inside += 1;
            assert!(*inside <= self.semaphore.size());
        }
        self.entered.lock().unwrap().push(number);
        *self.inside.lock().unwrap() -= 1;
        drop(permit);
        true
    }

    fn visitor(self: &Arc<Self>, number: usize, deadline: Option<Instant>) -> thread::JoinHandle<bool> {
        let room = Arc::clone(self);
        thread::spawn(move || room.visit(number, deadline))
    }

    fn waiting(&self) -> usize {
        self.semaphore.stats().waiting
    }

    fn turn(&self, number: usize) -> usize {
        let entered = self.entered.lock().unwrap();
        entered.iter().position(|&other| other == number).unwrap()
    }

    fn assert_empty(&self) {
        let counts = self.semaphore.stats();
        assert_eq!((counts.running, counts.waiting), (0, 0));
    }
}

fn check(model: impl Fn() + Send + Sync + Clone + 'static) {
    shuttle::check_random(model.clone(), 1000);
    shuttle::check_pct(model, 1000, 3);
}

#[test]
fn never_more_inside_than_places_and_everyone_gets_in() {
    for size in 1..=2 {
        check(move || {
            let room = Room::new(size);
            let visitors: Vec<_> = (0..4).map(|number| room.visitor(number, None)).collect();
            for visitor in visitors {
                assert!(visitor.join().unwrap());
            }
            assert_eq!(room.entered.lock().unwrap().len(), 4);
            room.assert_empty();
        });
    }
}

#[test]
fn two_visitors_in_every_order_there_is() {
    shuttle::check_dfs(
        || {
            let semaphore = Arc::new(Semaphore::new(1));
            let other = Arc::clone(&semaphore);
            let other = thread::spawn(move || drop(other.acquire(None).unwrap()));
            let permit = semaphore.acquire(None).unwrap();
            assert_eq!(semaphore.stats().running, 1);
            drop(permit);
            other.join().unwrap();
            let counts = semaphore.stats();
            assert_eq!((counts.running, counts.waiting), (0, 0));
        },
        None,
    );
}

#[test]
fn the_first_to_come_goes_first_and_no_newcomer_overtakes() {
    let (ordered, overtaking) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let counted = (Arc::clone(&ordered), Arc::clone(&overtaking));
    check(move || {
        let room = Room::new(1);
        let first = room.semaphore.acquire(None).unwrap();
        // A thread that is already waiting gets a permit before each thread that starts later.
        let mut visitors = vec![room.visitor(0, None)];
        let zero_waits = room.waiting() == 1;
        visitors.push(room.visitor(1, None));
        let both_wait = room.waiting() == 2;
        visitors.push(room.visitor(2, None));
        let all_wait = room.waiting() == 3;
        drop(first);
        visitors.push(room.visitor(3, None));
        for visitor in visitors {
            assert!(visitor.join().unwrap());
        }
        let turns: Vec<_> = (0..4).map(|number| room.turn(number)).collect();
        if zero_waits {
            assert!(turns[0] < turns[1] && turns[0] < turns[2]);
        }
        if both_wait {
            assert!(turns[0].max(turns[1]) < turns[2]);
        }
        if all_wait {
            assert_eq!(turns[3], 3, "the newcomer was served before a waiting thread");
            counted.1.fetch_add(1, Ordering::Relaxed);
        }
        counted
            .0
            .fetch_add(usize::from(zero_waits && both_wait), Ordering::Relaxed);
        room.assert_empty();
    });
    assert!(ordered.load(Ordering::Relaxed) > 0, "no order was ever known");
    assert!(
        overtaking.load(Ordering::Relaxed) > 0,
        "no thread waited when the newcomer came"
    );
}

#[test]
fn a_thread_that_gives_up_takes_no_permit_along() {
    let given_up = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&given_up);
    check(move || {
        let room = Room::new(1);
        let first = room.semaphore.acquire(None).unwrap();
        let deadline = Some(Instant::now());
        let hasty = [room.visitor(0, deadline), room.visitor(1, deadline)];
        let patient = room.visitor(2, None);
        drop(first);
        assert!(patient.join().unwrap());
        let served = hasty.map(|visitor| visitor.join().unwrap());
        let gave_up = served.iter().filter(|&&served| !served).count();
        assert_eq!(room.entered.lock().unwrap().len(), 3 - gave_up);
        assert_eq!(room.semaphore.stats().timeouts, gave_up as u64);
        room.assert_empty();
        assert!(room.visit(3, deadline), "a permit was lost");
        counted.fetch_add(gave_up, Ordering::Relaxed);
    });
    assert!(given_up.load(Ordering::Relaxed) > 0, "no visitor gave up");
}
