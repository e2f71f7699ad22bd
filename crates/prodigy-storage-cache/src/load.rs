//! A load whose result several callers can wait for.

use std::time::Instant;

use crate::sync::{Condvar, Mutex, ThreadId, this_thread};

/// A load: the thread that runs it, and its result once it has ended.
pub(crate) struct Load<V> {
    state: Mutex<State<V>>,
    ended: Condvar,
    leader: ThreadId,
}

enum State<V> {
    Running,
    Loaded(V),
    /// The load failed or panicked. One of the waiting callers has to load again.
    Abandoned,
}

/// The outcome of a wait.
pub(crate) enum Waited<V> {
    Loaded(V),
    Abandoned,
    TimedOut,
}

impl<V: Clone> Load<V> {
    /// A load that the calling thread is about to run.
    pub(crate) fn begin() -> Self {
        Self {
            state: Mutex::new(State::Running),
            ended: Condvar::new(),
            leader: this_thread(),
        }
    }

    /// True if the calling thread itself runs this load. It must not wait for the load, since that wait would
    /// never end.
    pub(crate) fn is_own(&self) -> bool {
        self.leader == this_thread()
    }

    pub(crate) fn end(&self, value: Option<V>) {
        *self.state.lock() = value.map_or(State::Abandoned, State::Loaded);
        self.ended.notify_all();
    }

    /// Waits until the load has ended, or until `deadline`. If the load has ended already, its result is returned
    /// even after the deadline.
    pub(crate) fn wait(&self, deadline: Option<Instant>) -> Waited<V> {
        let mut state = self.state.lock();
        let mut out_of_time = false;
        loop {
            match &*state {
                State::Loaded(value) => return Waited::Loaded(value.clone()),
                State::Abandoned => return Waited::Abandoned,
                State::Running if out_of_time => return Waited::TimedOut,
                State::Running => {}
            }
            match deadline {
                Some(deadline) => out_of_time = self.ended.wait_until(&mut state, deadline).timed_out(),
                None => self.ended.wait(&mut state),
            }
        }
    }
}
