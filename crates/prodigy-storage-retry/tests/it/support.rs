//! A clock that only tests advance.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use prodigy_storage_retry::Time;

/// A clock that each sleep advances at once, without waiting. It records all sleeps.
#[derive(Debug)]
pub struct FakeTime {
    start: Instant,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    passed: Duration,
    sleeps: Vec<Duration>,
    oversleep: Duration,
}

impl FakeTime {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            start: Instant::now(),
            state: Mutex::default(),
        })
    }

    /// A clock on which each sleep takes longer than requested, by `by`.
    pub fn oversleeping(by: Duration) -> Arc<Self> {
        let time = Self::new();
        time.state.lock().unwrap().oversleep = by;
        time
    }

    pub fn advance(&self, by: Duration) {
        self.state.lock().unwrap().passed += by;
    }

    pub fn after(&self, duration: Duration) -> Instant {
        self.now() + duration
    }

    pub fn sleeps(&self) -> Vec<Duration> {
        self.state.lock().unwrap().sleeps.clone()
    }
}

impl Time for FakeTime {
    fn now(&self) -> Instant {
        self.start + self.state.lock().unwrap().passed
    }

    fn sleep(&self, duration: Duration) {
        let mut state = self.state.lock().unwrap();
        let oversleep = state.oversleep;
        state.sleeps.push(duration);
        state.passed += duration + oversleep;
    }
}
