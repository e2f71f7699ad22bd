//! Runs the conformance suite through the caller, with cache, limit and retries on: over each backend, and over
//! one whose calls fail at random.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prodigy_storage_backend::Backend;
use prodigy_storage_backend::conformance::{Harness, HarnessFactory, ManualClock, run_all, run_sequences};
use prodigy_storage_file::{FileBackend, FileOptions};
use prodigy_storage_memory::{MemoryBackend, MemoryOptions};
use tempfile::TempDir;

use super::through::{Through, everything};

/// The `max_record_size` of every store.
const RECORD_LIMIT: usize = 256 << 10;
const DOCUMENT_LIMIT: usize = 3 << 20;
/// The size in bytes of a store that a test can fill quickly.
const SMALL: u64 = 1 << 20;
const LARGE: u64 = 64 << 20;

struct Store {
    clock: Arc<ManualClock>,
    data: Data,
    /// The seed of the random failures of each new handle; `None` if no calls fail.
    seeds: Option<AtomicU64>,
}

enum Data {
    Memory(MemoryBackend),
    Folder { options: FileOptions, _folder: TempDir },
}

impl Harness for Store {
    /// Each handle has its own cache, so a document in it may be changed through another handle.
    fn open(&self) -> Arc<dyn Backend> {
        let backend: Arc<dyn Backend> = match &self.data {
            Data::Memory(backend) => Arc::new(backend.clone()),
            Data::Folder { options, .. } => Arc::new(FileBackend::open(options.clone()).unwrap()),
        };
        let backend: Arc<dyn Backend> = match &self.seeds {
            Some(seeds) => Arc::new(Through::faulty(
                backend,
                seeds.fetch_add(1, Ordering::Relaxed),
                false,
            )),
            None => backend,
        };
        Arc::new(Through::new(backend, &everything()))
    }

    fn clock(&self) -> &ManualClock {
        &self.clock
    }

    fn restart(&self) -> bool {
        matches!(self.data, Data::Folder { .. })
    }

    fn record_limit(&self) -> Option<usize> {
        Some(RECORD_LIMIT)
    }

    fn document_limit(&self) -> Option<usize> {
        Some(DOCUMENT_LIMIT)
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Base {
    Memory,
    File,
}

struct Factory {
    name: &'static str,
    base: Base,
    faulty: bool,
    made: AtomicU64,
}

impl Factory {
    const fn new(name: &'static str, base: Base, faulty: bool) -> Self {
        Self {
            name,
            base,
            faulty,
            made: AtomicU64::new(1),
        }
    }

    fn make(&self, max_memory: u64, max_queue_size: Option<u64>) -> Box<dyn Harness> {
        let clock = Arc::new(ManualClock::new());
        let data = match self.base {
            Base::Memory => Data::Memory(
                MemoryBackend::new(
                    MemoryOptions::new()
                        .clock(clock.clone())
                        .max_memory(max_memory)
                        .max_queue_size(max_queue_size)
                        .max_record_size(RECORD_LIMIT as u64)
                        .max_document_size(DOCUMENT_LIMIT as u64),
                )
                .unwrap(),
            ),
            Base::File => {
                let folder = tempfile::tempdir().unwrap();
                Data::Folder {
                    options: FileOptions::new(folder.path().join("root"))
                        .clock(clock.clone())
                        .max_record_size(RECORD_LIMIT as u64)
                        .max_document_size(DOCUMENT_LIMIT as u64)
                        .max_queue_size(max_queue_size),
                    _folder: folder,
                }
            }
        };
        let seed = self.made.fetch_add(1, Ordering::Relaxed) << 32;
        Box::new(Store {
            clock,
            data,
            seeds: self.faulty.then(|| AtomicU64::new(seed)),
        })
    }
}

impl HarnessFactory for Factory {
    fn name(&self) -> &str {
        self.name
    }

    fn fresh(&self) -> Box<dyn Harness> {
        self.make(LARGE, None)
    }

    fn small(&self) -> Option<Box<dyn Harness>> {
        (self.base == Base::Memory).then(|| self.make(SMALL, None))
    }

    fn capped(&self) -> Option<Box<dyn Harness>> {
        Some(self.make(LARGE, Some(32 << 10)))
    }
}

macro_rules! conformance {
    ($($name:ident, $sequences:ident: $base:expr, $faulty:literal;)+) => {$(
        #[test]
        fn $name() {
            run_all(&Factory::new(stringify!($name), $base, $faulty));
        }

        #[test]
        fn $sequences() {
            run_sequences(&Factory::new(stringify!($sequences), $base, $faulty), 16);
        }
    )+};
}

conformance! {
    memory, memory_sequences: Base::Memory, false;
    memory_over_faults, memory_sequences_over_faults: Base::Memory, true;
    file, file_sequences: Base::File, false;
    file_over_faults, file_sequences_over_faults: Base::File, true;
}
