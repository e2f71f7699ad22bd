//! Storage on each backend, and a clock whose time a test sets.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use prodigy_storage::config::MapEnvironment;
use prodigy_storage::{BootId, Clock, Job, Storage, StorageBuilder, Timestamp, Uptime};
use tempfile::TempDir;

/// Storage, and the temporary folder that it uses.
pub struct Fixture {
    pub storage: Storage,
    pub folder: TempDir,
}

impl Fixture {
    pub fn job(&self) -> Job {
        self.storage.repo("shop").unwrap().job("job-1").unwrap()
    }
}

/// A builder that reads neither the environment of the process nor the current folder.
pub fn builder(folder: &TempDir) -> StorageBuilder {
    Storage::builder()
        .environment(MapEnvironment::new())
        .home(folder.path())
        .project_dir(folder.path())
}

pub fn memory_with(set: impl FnOnce(StorageBuilder) -> StorageBuilder) -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let storage = set(builder(&folder).set("backend", "memory")).open().unwrap();
    Fixture { storage, folder }
}

pub fn file_with(set: impl FnOnce(StorageBuilder) -> StorageBuilder) -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let storage = set(builder(&folder).base_dir(folder.path().join("root")))
        .open()
        .unwrap();
    Fixture { storage, folder }
}

/// Runs a test on every backend.
pub fn on_each(test: impl Fn(&Fixture)) {
    for (name, fixture) in [("memory", memory_with(|b| b)), ("file", file_with(|b| b))] {
        println!("on the {name} backend");
        test(&fixture);
    }
}

/// Runs a test on every backend, with a clock whose time the test sets.
pub fn on_each_with_clock(test: impl Fn(&Fixture, &Arc<TestClock>)) {
    for name in ["memory", "file"] {
        println!("on the {name} backend");
        let clock = TestClock::new();
        let set = |builder: StorageBuilder| builder.clock(Arc::clone(&clock) as _);
        let fixture = match name {
            "memory" => memory_with(set),
            _ => file_with(set),
        };
        test(&fixture, &clock);
    }
}

/// A clock whose time a test sets.
#[derive(Debug)]
pub struct TestClock(AtomicI64);

impl TestClock {
    pub fn new() -> Arc<Self> {
        Arc::new(Self(AtomicI64::new(1_800_000_000_000_000_000)))
    }

    pub fn advance_secs(&self, secs: i64) {
        self.0.fetch_add(secs * 1_000_000_000, Ordering::SeqCst);
    }

    pub fn advance(&self, by: Duration) {
        let nanos = i64::try_from(by.as_nanos()).unwrap();
        self.0.fetch_add(nanos, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(self.0.load(Ordering::SeqCst))
    }

    fn uptime(&self) -> Uptime {
        Uptime {
            boot: BootId::from_u128(1),
            since: Duration::from_nanos(self.0.load(Ordering::SeqCst).unsigned_abs()),
        }
    }
}
