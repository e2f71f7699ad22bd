//! Every stack of layers over every backend, for the conformance suite. The example `conformance` has it too.
#![allow(clippy::unwrap_used, reason = "what can't be set up ends the run")]
#![allow(dead_code, reason = "the tests and the example use a part each")]

mod faults;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prodigy_storage::config::{BackendKind, CacheSettings, RetrySettings};
use prodigy_storage::{Backend, Storage, StorageConfig};
use prodigy_storage_backend::conformance::{Harness, HarnessFactory, ManualClock};
use prodigy_storage_cache::Cached;
use prodigy_storage_file::{FileBackend, FileOptions};
use prodigy_storage_memory::{MemoryBackend, MemoryOptions};
use prodigy_storage_retry::{Limited, Retrying};
use tempfile::TempDir;

pub use faults::Faulty;

/// What lies below the layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    Memory,
    File,
    Unlocked,
}

impl Base {
    pub const ALL: [Self; 3] = [Self::Memory, Self::File, Self::Unlocked];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::File => "file",
            Self::Unlocked => "file without file locks",
        }
    }
}

/// What stands on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stack {
    Bare,
    Retrying,
    Limited,
    Cached,
    /// All layers, as the facade stacks them.
    Full,
    /// All layers over a backend that fails at random.
    Faulty,
}

impl Stack {
    pub const ALL: [Self; 6] = [
        Self::Bare,
        Self::Retrying,
        Self::Limited,
        Self::Cached,
        Self::Full,
        Self::Faulty,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::Retrying => "retrying",
            Self::Limited => "limited",
            Self::Cached => "cached",
            Self::Full => "full",
            Self::Faulty => "full over faults",
        }
    }

    /// The layers over a handle; the seed is of the faults.
    pub fn over(self, backend: Arc<dyn Backend>, seed: u64) -> Arc<dyn Backend> {
        match self {
            Self::Bare => backend,
            Self::Retrying => Arc::new(Retrying::new(backend, patient())),
            Self::Limited => Arc::new(Limited::new(backend, 2)),
            Self::Cached => Arc::new(Cached::new(backend, &CacheSettings::default())),
            Self::Full => facade(backend),
            Self::Faulty => facade(Arc::new(Faulty::new(backend, seed))),
        }
    }
}

/// So many retries that faults at random never use them up, and hardly a wait between them.
fn patient() -> RetrySettings {
    RetrySettings {
        max_retries: 100,
        initial_delay: Duration::from_nanos(1),
        max_delay: Duration::from_nanos(1),
        jitter: false,
        ..RetrySettings::default()
    }
}

fn facade(backend: Arc<dyn Backend>) -> Arc<dyn Backend> {
    let config = StorageConfig {
        // Nothing is used of it but that it needs no folder.
        backend: BackendKind::Memory,
        enable_cache: true,
        connection_pool_size: 4,
        retry_policy: patient(),
        ..StorageConfig::default()
    };
    let storage = Storage::builder().config(config).backend(backend).open().unwrap();
    Arc::clone(storage.backend())
}

/// The `max_record_size` of every store.
const RECORD_LIMIT: usize = 256 << 10;
/// The size of a store that is soon full.
const SMALL: u64 = 1 << 20;
const LARGE: u64 = 64 << 20;

/// Makes stores of one backend under one stack.
#[derive(Debug)]
pub struct Factory {
    pub base: Base,
    pub stack: Stack,
    name: String,
    seeds: AtomicU64,
}

impl Factory {
    pub fn new(base: Base, stack: Stack) -> Self {
        Self {
            base,
            stack,
            name: format!("{}, {}", base.name(), stack.name()),
            seeds: AtomicU64::new(1),
        }
    }

    fn make(&self, max_memory: u64) -> Store {
        let clock = Arc::new(ManualClock::new());
        let data = match self.base {
            Base::Memory => {
                let options = MemoryOptions::new()
                    .clock(clock.clone())
                    .max_memory(max_memory)
                    .max_record_size(RECORD_LIMIT as u64);
                Data::Memory(MemoryBackend::new(options).unwrap())
            }
            Base::File | Base::Unlocked => {
                let folder = tempfile::tempdir().unwrap();
                let options = FileOptions::new(folder.path().join("root"))
                    .clock(clock.clone())
                    .file_locks(self.base == Base::File)
                    .max_record_size(RECORD_LIMIT as u64);
                Data::Folder {
                    options,
                    _folder: folder,
                }
            }
        };
        Store {
            clock,
            data,
            stack: self.stack,
            // A stream of faults of its own for each store.
            seeds: AtomicU64::new(self.seeds.fetch_add(1, Ordering::Relaxed) << 32),
        }
    }
}

impl HarnessFactory for Factory {
    fn name(&self) -> &str {
        &self.name
    }

    fn fresh(&self) -> Box<dyn Harness> {
        Box::new(self.make(LARGE))
    }

    fn small(&self) -> Option<Box<dyn Harness>> {
        (self.base == Base::Memory).then(|| Box::new(self.make(SMALL)) as Box<dyn Harness>)
    }
}

struct Store {
    clock: Arc<ManualClock>,
    data: Data,
    stack: Stack,
    seeds: AtomicU64,
}

enum Data {
    Memory(MemoryBackend),
    Folder { options: FileOptions, _folder: TempDir },
}

impl Harness for Store {
    /// Layers of its own for each handle: what one caches the other may change.
    fn open(&self) -> Arc<dyn Backend> {
        let backend: Arc<dyn Backend> = match &self.data {
            Data::Memory(backend) => Arc::new(backend.clone()),
            Data::Folder { options, .. } => Arc::new(FileBackend::open(options.clone()).unwrap()),
        };
        self.stack
            .over(backend, self.seeds.fetch_add(1, Ordering::Relaxed))
    }

    fn clock(&self) -> &ManualClock {
        &self.clock
    }

    fn restart(&self) -> bool {
        matches!(self.data, Data::Folder { .. })
    }

    fn named_locks(&self) -> bool {
        match &self.data {
            Data::Memory(_) => true,
            Data::Folder { options, .. } => options.file_locks,
        }
    }

    fn record_limit(&self) -> Option<usize> {
        Some(RECORD_LIMIT)
    }
}
