//! Runs the conformance suite, with and without a snapshot.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use prodigy_storage_backend::Backend;
use prodigy_storage_backend::conformance::{
    Harness, HarnessFactory, ManualClock, Outcome, properties, run_all, run_sequences,
};
use prodigy_storage_memory::{MemoryBackend, MemoryOptions};
use tempfile::TempDir;

struct Memory {
    clock: Arc<ManualClock>,
    options: MemoryOptions,
    data: Mutex<Option<MemoryBackend>>,
    _folder: Option<TempDir>,
}

const RECORD_LIMIT: usize = 256 << 10;
const DOCUMENT_LIMIT: usize = 3 << 20;

impl Memory {
    fn new(folder: Option<TempDir>, max_memory: u64) -> Self {
        let clock = Arc::new(ManualClock::new());
        let mut options = MemoryOptions::new()
            .clock(clock.clone())
            .max_memory(max_memory)
            .max_record_size(RECORD_LIMIT as u64)
            .max_document_size(DOCUMENT_LIMIT as u64);
        options.persistence = folder
            .as_ref()
            .map(|folder| -> PathBuf { folder.path().join("store.jsonl") });
        Self {
            clock,
            options,
            data: Mutex::new(None),
            _folder: folder,
        }
    }
}

impl Harness for Memory {
    fn open(&self) -> Arc<dyn Backend> {
        let mut data = self.data.lock().unwrap();
        let backend = data.get_or_insert_with(|| MemoryBackend::new(self.options.clone()).unwrap());
        Arc::new(backend.clone())
    }

    fn clock(&self) -> &ManualClock {
        &self.clock
    }

    fn restart(&self) -> bool {
        if self.options.persistence.is_none() {
            return false;
        }
        // Drops the last handle, which writes the snapshot.
        *self.data.lock().unwrap() = None;
        true
    }

    fn record_limit(&self) -> Option<usize> {
        Some(RECORD_LIMIT)
    }

    fn document_limit(&self) -> Option<usize> {
        Some(DOCUMENT_LIMIT)
    }
}

struct Factory {
    persistent: bool,
}

impl Factory {
    fn store(&self, max_memory: u64) -> Memory {
        let folder = self.persistent.then(|| TempDir::new().unwrap());
        Memory::new(folder, max_memory)
    }

    fn make(&self, max_memory: u64) -> Box<dyn Harness> {
        Box::new(self.store(max_memory))
    }
}

impl HarnessFactory for Factory {
    fn name(&self) -> &str {
        if self.persistent {
            "memory, persistent"
        } else {
            "memory"
        }
    }

    fn fresh(&self) -> Box<dyn Harness> {
        self.make(64 << 20)
    }

    fn small(&self) -> Option<Box<dyn Harness>> {
        Some(self.make(1 << 20))
    }

    fn capped(&self) -> Option<Box<dyn Harness>> {
        let mut store = self.store(64 << 20);
        store.options = store.options.max_queue_size(Some(32 << 10));
        Some(Box::new(store))
    }
}

#[test]
fn every_property_holds() {
    run_all(&Factory { persistent: false });
}

#[test]
fn every_property_holds_over_a_snapshot() {
    let factory = Factory { persistent: true };
    run_all(&factory);
    for property in properties() {
        // A memory store does not support moves, so these properties are skipped.
        let expected = match property.topic {
            "moved" => Outcome::Skipped,
            _ => Outcome::Held,
        };
        assert_eq!(property.run(&factory).unwrap(), expected, "{}", property.name);
    }
}

#[test]
fn random_sequences_agree_with_the_model() {
    run_sequences(&Factory { persistent: false }, 400);
}

#[test]
fn random_sequences_agree_over_restarts() {
    run_sequences(&Factory { persistent: true }, 100);
}

#[test]
fn property_names_are_unique_and_many() {
    let mut names: Vec<_> = properties().map(|property| property.name).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
    assert!(count >= 90, "{count}");
}
