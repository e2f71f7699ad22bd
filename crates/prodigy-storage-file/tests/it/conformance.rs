//! Runs the conformance suite: with file locks, with small compressed segments, and without file locks in a single
//! process.

use std::sync::Arc;

use prodigy_storage_backend::Backend;
use prodigy_storage_backend::conformance::{Harness, HarnessFactory, ManualClock, run_all, run_sequences};
use prodigy_storage_file::{FileBackend, FileOptions};
use tempfile::TempDir;

const RECORD_LIMIT: usize = 256 << 10;
const DOCUMENT_LIMIT: usize = 3 << 20;

struct Folder {
    clock: Arc<ManualClock>,
    options: FileOptions,
    _folder: TempDir,
}

impl Harness for Folder {
    fn open(&self) -> Arc<dyn Backend> {
        Arc::new(FileBackend::open(self.options.clone()).unwrap())
    }

    fn clock(&self) -> &ManualClock {
        &self.clock
    }

    fn restart(&self) -> bool {
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
    name: &'static str,
    adapt: fn(FileOptions) -> FileOptions,
}

impl HarnessFactory for Factory {
    fn name(&self) -> &str {
        self.name
    }

    fn capped(&self) -> Option<Box<dyn Harness>> {
        Some(self.adapted(|options| options.max_queue_size(32 << 10)))
    }

    fn fresh(&self) -> Box<dyn Harness> {
        self.adapted(|options| options)
    }
}

impl Factory {
    fn adapted(&self, adapt: impl Fn(FileOptions) -> FileOptions) -> Box<dyn Harness> {
        let folder = TempDir::new().unwrap();
        let clock = Arc::new(ManualClock::new());
        let options = FileOptions::new(folder.path().join("root"))
            .max_record_size(RECORD_LIMIT as u64)
            .max_document_size(DOCUMENT_LIMIT as u64)
            .clock(clock.clone());
        Box::new(Folder {
            clock,
            options: adapt((self.adapt)(options)),
            _folder: folder,
        })
    }
}

const WHOLE: Factory = Factory {
    name: "file",
    adapt: |options| options,
};
const SMALL: Factory = Factory {
    name: "file, small compressed segments",
    adapt: |options| options.max_file_size(2048).compression(true),
};
const UNLOCKED: Factory = Factory {
    name: "file without file locks",
    adapt: |options| options.file_locks(false),
};

#[test]
fn every_property_holds() {
    run_all(&WHOLE);
}

#[test]
fn every_property_holds_over_small_compressed_segments() {
    run_all(&SMALL);
}

#[test]
fn every_property_holds_without_file_locks_in_one_process() {
    run_all(&UNLOCKED);
}

#[test]
fn random_sequences_agree_with_the_model() {
    run_sequences(&WHOLE, 48);
}

#[test]
fn random_sequences_agree_with_the_model_over_small_compressed_segments() {
    run_sequences(&SMALL, 48);
}
