//! A clock that a test advances, and a short way to make settings.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use prodigy_storage_cache::{CacheSettings, Clock};

#[derive(Debug, Clone, Default)]
pub struct FakeClock {
    passed: Arc<Mutex<Duration>>,
}

impl FakeClock {
    pub fn advance(&self, by: Duration) {
        *self.passed.lock().unwrap() += by;
    }

    pub fn clock(&self) -> Clock {
        let (start, passed) = (Instant::now(), Arc::clone(&self.passed));
        Arc::new(move || start + *passed.lock().unwrap())
    }
}

pub fn settings(max_entries: usize, max_bytes: u64, ttl: Duration) -> CacheSettings {
    CacheSettings::default()
        .max_entries(max_entries)
        .max_bytes(max_bytes)
        .ttl(ttl)
}

/// Yields this thread until the condition is true.
pub fn until(mut condition: impl FnMut() -> bool) {
    while !condition() {
        std::thread::yield_now();
    }
}
