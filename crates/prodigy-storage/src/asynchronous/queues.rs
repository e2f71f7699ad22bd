//! A queue for each key. At most one thread at a time serves a queue.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;

use parking_lot::Mutex;

use super::pool::{Batch, Pool};

/// Queues that the threads of a pool serve in turn: a queue that still has entries after it was served is served
/// again after the other queues.
pub(super) struct Queues<K, E> {
    pool: Pool,
    queues: Mutex<HashMap<K, VecDeque<E>>>,
    serve: fn(&Self, &K),
}

impl<K, E> Queues<K, E>
where
    K: Clone + Eq + Hash + Send + 'static,
    E: Send + 'static,
{
    /// `serve` is called with the key of a queue. It has to remove at least one entry of that queue, by
    /// [`with`](Self::with).
    pub(super) fn new(pool: Pool, serve: fn(&Self, &K)) -> Arc<Self> {
        Arc::new(Self {
            pool,
            queues: Mutex::default(),
            serve,
        })
    }

    /// Adds an entry to the queue of this key. If no thread can be started, the entry is dropped.
    pub(super) fn push(self: &Arc<Self>, key: K, entry: E) {
        let mut queues = self.queues.lock();
        if let Some(queue) = queues.get_mut(&key) {
            queue.push_back(entry);
            return;
        }
        queues.insert(key.clone(), VecDeque::from([entry]));
        drop(queues);
        self.submit(key);
    }

    /// Calls `work` with the queue of this key.
    pub(super) fn with<R>(&self, key: &K, work: impl FnOnce(&mut VecDeque<E>) -> R) -> R {
        let mut queues = self.queues.lock();
        work(queues.entry(key.clone()).or_default())
    }

    /// Returns a value that an entry can hold: [`served`](Self::served) does not complete until the value is
    /// dropped.
    pub(super) fn hold(&self) -> Batch {
        self.pool.hold()
    }

    /// Completes when each queue that has entries now has been served once, and the values of earlier calls of
    /// [`hold`](Self::hold) are dropped.
    pub(super) fn served(&self) -> impl Future<Output = ()> + Send + use<K, E> {
        self.pool.ended()
    }

    /// A closure that returns whether the pool or one of its threads still exists.
    #[cfg(test)]
    pub(super) fn watch(&self) -> impl Fn() -> bool + use<K, E> {
        self.pool.watch()
    }

    fn submit(self: &Arc<Self>, key: K) {
        let mut turn = Turn {
            queues: Arc::clone(self),
            key,
            begun: false,
        };
        self.pool.submit(move || {
            turn.begun = true;
            (turn.queues.serve)(&turn.queues, &turn.key);
        });
    }
}

/// The right to serve one queue; each queue has one. When it is dropped, even by a panic, and the queue still has
/// entries, the next turn is submitted.
struct Turn<K, E>
where
    K: Clone + Eq + Hash + Send + 'static,
    E: Send + 'static,
{
    queues: Arc<Queues<K, E>>,
    key: K,
    begun: bool,
}

impl<K, E> Drop for Turn<K, E>
where
    K: Clone + Eq + Hash + Send + 'static,
    E: Send + 'static,
{
    fn drop(&mut self) {
        let mut queues = self.queues.queues.lock();
        // If this turn was dropped before it began, no thread could be started. The next turn would have the same
        // problem, so the entries are dropped.
        if self.begun && queues.get(&self.key).is_some_and(|queue| !queue.is_empty()) {
            drop(queues);
            self.queues.submit(self.key.clone());
            return;
        }
        let dropped = queues.remove(&self.key);
        drop(queues);
        drop(dropped);
    }
}

impl<K, E> fmt::Debug for Queues<K, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queues")
            .field("pool", &self.pool)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    type Entry = (u32, mpsc::Sender<(u8, u32)>);

    /// Removes one entry and sends its answer; panics if its number is 0.
    fn serve(queues: &Queues<u8, Entry>, key: &u8) {
        let Some((number, sender)) = queues.with(key, VecDeque::pop_front) else {
            return;
        };
        assert_ne!(number, 0, "as the test wants it");
        sender.send((*key, number)).unwrap();
    }

    #[test]
    fn queues_take_turns_and_each_keeps_its_order() {
        let pool = Pool::new("test", 1);
        let (gate, wait) = mpsc::channel::<()>();
        pool.submit(move || wait.recv().unwrap());
        let queues = Queues::new(pool, serve);
        let (sender, served) = mpsc::channel();
        for key in [1, 2] {
            for number in 1..=3 {
                queues.push(key, (number, sender.clone()));
            }
        }
        gate.send(()).unwrap();
        drop(sender);
        assert_eq!(
            served.iter().collect::<Vec<_>>(),
            [(1, 1), (2, 1), (1, 2), (2, 2), (1, 3), (2, 3)]
        );
    }

    #[test]
    fn a_panic_costs_one_entry_and_the_queue_goes_on() {
        let queues = Queues::new(Pool::new("test", 1), serve);
        let (sender, served) = mpsc::channel();
        for number in [1, 0, 2] {
            queues.push(1, (number, sender.clone()));
        }
        drop(sender);
        assert_eq!(served.iter().collect::<Vec<_>>(), [(1, 1), (1, 2)]);
    }
}
