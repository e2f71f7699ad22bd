//! A load for which several callers can wait.

use std::time::Instant;

use crate::sync::{Condvar, Mutex, ThreadId, this_thread};

/// A load, with the thread that runs it and its result.
pub(crate) struct Load<V> {
    state: Mutex<State<V>>,
    ended: Condvar,
    leader: ThreadId,
}

enum State<V> {
    Running,
    Loaded(V),
    /// The load failed or panicked: a waiting caller has to load again.
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

    /// True if the calling thread runs this load itself: a wait for it would never end.
    pub(crate) fn is_own(&self) -> bool {
        self.leader == this_thread()
    }

    pub(crate) fn end(&self, value: Option<V>) {
        *self.state.lock() = value.map_or(State::Abandoned, State::Loaded);
        self.ended.notify_all();
    }

    /// Waits for the end of the load, until `deadline` at most. The result of a load that has ended is returned even after the
    /// deadline.
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
