//! Each increment of a counter also emits a `tracing` event.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use prodigy_storage_backend::dead_letter::{DeadLetter, Failure};
use prodigy_storage_backend::{Backend, ItemId, Stats};
use tempfile::TempDir;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Dispatch, Event, Metadata, Subscriber};

use super::through::Through;
use crate::config::MapEnvironment;
use crate::{ForeignKind, SaveOptions, Storage, StorageBuilder};

const SECRET: &str = "a-payload-that-no-event-may-show";

/// For each message, the number of times that it was emitted, and the sum of each of its numeric fields.
#[derive(Clone, Default)]
struct Emitted(Arc<Mutex<HashMap<String, Sums>>>);

#[derive(Default)]
struct Sums {
    times: u64,
    fields: HashMap<&'static str, u64>,
}

impl Emitted {
    fn times(&self, message: &str) -> u64 {
        self.0.lock().get(message).map_or(0, |sums| sums.times)
    }

    fn sum(&self, message: &str, field: &str) -> u64 {
        self.0
            .lock()
            .get(message)
            .and_then(|sums| sums.fields.get(field).copied())
            .unwrap_or(0)
    }
}

#[derive(Default)]
struct Fields {
    message: String,
    numbers: Vec<(&'static str, u64)>,
}

impl Visit for Fields {
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.numbers.push((field.name(), value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        assert!(!text.contains(SECRET), "{}: {text}", field.name());
        if field.name() == "message" {
            self.message = text;
        }
    }
}

impl Subscriber for Emitted {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("prodigy_storage")
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let mut emitted = self.0.lock();
        let sums = emitted.entry(fields.message).or_default();
        sums.times += 1;
        for (name, number) in fields.numbers {
            *sums.fields.entry(name).or_default() += number;
        }
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// Calls `run`, and collects the `tracing` events of this thread meanwhile.
fn listen(run: impl Fn() -> Stats) -> (Emitted, Stats) {
    // Other tests run the same code. If there is only one subscriber, the first thread that runs a line with an
    // event decides for all threads whether the event is enabled. So there are two subscribers, and a first run
    // covers all lines.
    run();
    let emitted = Emitted::default();
    let _second = Dispatch::new(Emitted::default());
    let stats = tracing::subscriber::with_default(emitted.clone(), &run);
    (emitted, stats)
}

/// A builder that reads neither the environment of the process nor the current folder.
fn builder(folder: &TempDir) -> StorageBuilder {
    Storage::builder()
        .environment(MapEnvironment::new())
        .home(folder.path())
        .project_dir(folder.path())
}

/// A storage over a backend that is already open.
fn over(backend: Arc<dyn Backend>, folder: &TempDir) -> Storage {
    builder(folder)
        .set("enable_cache", "true")
        .set("cache_config.max_entries", "2")
        .set("retry_policy.max_retries", "100")
        .set("retry_policy.initial_delay", "1ns")
        .set("retry_policy.max_delay", "1ns")
        .backend(backend)
        .open()
        .unwrap()
}

fn scenario() -> Stats {
    let folder = tempfile::tempdir().unwrap();
    let below = builder(&folder)
        .base_dir(folder.path().join("root"))
        .set("backend_config.max_file_size", "4096")
        .open()
        .unwrap();
    let faulty = Arc::new(Through::faulty(Arc::clone(below.backend()), 7, false));
    let storage = over(faulty, &folder);
    let repo = storage.repo("shop").unwrap();

    let events = repo.job("job-1").unwrap().events();
    for _ in 0..60 {
        events.append(&SECRET.repeat(4)).unwrap();
    }
    for name in ["job-1", "job-2", "job-3"] {
        let checkpoints = repo.job(name).unwrap().checkpoints();
        checkpoints.save_map(&SECRET, SaveOptions::default()).unwrap();
        for _ in 0..2 {
            checkpoints.latest_map::<String>().unwrap().unwrap();
        }
    }
    // Another handle writes a document that this handle has in its cache.
    let same = below.repo("shop").unwrap().job("job-3").unwrap();
    for save in 0..2 {
        same.checkpoints()
            .save_setup(&(SECRET, save), SaveOptions::default())
            .unwrap();
        let setup = repo.job("job-3").unwrap().checkpoints();
        setup.latest_setup::<(String, i32)>().unwrap().unwrap();
    }
    let dlq = repo.job("job-1").unwrap().dlq();
    let letter = DeadLetter::new(ItemId::new("item-1").unwrap(), SECRET);
    dlq.push(&letter).unwrap();
    dlq.push(&letter.failure(Failure::new("Timeout", SECRET)))
        .unwrap();
    dlq.compact().unwrap();
    storage.stats()
}

#[test]
fn each_counter_that_moved_has_its_events() {
    let (emitted, stats) = listen(scenario);
    for (counter, message) in [
        ("cache.hits", "cache hit"),
        ("cache.misses", "cache miss"),
        ("cache.stale", "cache entry stale"),
        ("cache.evicted", "cache entry evicted"),
        ("cache.failed_loads", "cache load failed"),
        ("retry.retries", "failed, will be tried again"),
        ("retry.recovered", "succeeded after retries"),
        ("log.appends", "appended"),
        ("log.sealed", "sealed"),
        ("file.syncs", "sync"),
        ("document.writes", "document written"),
        ("queue.rewrites", "queue compacted"),
    ] {
        let counted = stats.get(counter);
        assert_eq!(emitted.times(message), counted, "{counter}: {stats:?}");
        // In this test every load of a document succeeds in the end.
        assert_eq!(
            counted == 0,
            counter == "cache.failed_loads",
            "{counter}: {stats:?}"
        );
    }
    assert_eq!(emitted.sum("appended", "events"), stats.get("log.events"));
    assert_eq!(emitted.sum("appended", "bytes"), stats.get("log.bytes"));
}

#[test]
fn what_is_skipped_is_warned_of_once_and_counted() {
    let (emitted, stats) = listen(|| {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        for job in ["job-1", "job-2"] {
            let items = root.join(format!("dlq/shop/{job}/mapreduce/dlq/{job}/items"));
            std::fs::create_dir_all(&items).unwrap();
            std::fs::write(items.join("item_0.json"), SECRET).unwrap();
        }
        for name in ["session-1", "agent-1", "agent-2"] {
            std::fs::create_dir_all(root.join("worktrees/shop").join(name)).unwrap();
        }
        let storage = builder(&folder).base_dir(&root).open().unwrap();
        let repo = storage.repo("shop").unwrap();
        for job in ["job-1", "job-2", "job-1"] {
            assert_eq!(
                repo.job(job)
                    .unwrap()
                    .dlq()
                    .scan(&prodigy_storage_backend::Select::any())
                    .unwrap()
                    .count(),
                0
            );
            assert_eq!(repo.worktrees().list().unwrap().len(), 1);
        }
        storage.stats()
    });
    let counted = |kind: ForeignKind| stats.get(kind.counter());
    assert_eq!(
        (counted(ForeignKind::DeadLetters), counted(ForeignKind::Worktrees)),
        (2, 2)
    );
    // One event for each of the two kinds of foreign data.
    let message = "another program's data is skipped";
    assert_eq!((emitted.times(message), emitted.sum(message, "count")), (2, 3));
}

#[test]
fn a_document_over_a_tenth_of_the_limit_is_a_warning_and_one_over_the_limit_is_refused() {
    const WARNING: &str = "the document is larger than a tenth of `max_document_size`: keep large data in files of its own, and their paths here";
    let (emitted, _) = listen(|| {
        let folder = tempfile::tempdir().unwrap();
        let storage = builder(&folder)
            .base_dir(folder.path().join("root"))
            .set("backend_config.max_document_size", "10000")
            .open()
            .unwrap();
        let job = storage.repo("shop").unwrap().job("job").unwrap();
        let notes = job.documents("notes").unwrap();
        for bytes in [500, 1_500, 9_000] {
            let text = "x".repeat(bytes);
            job.checkpoints().save_map(&text, SaveOptions::new()).unwrap();
            notes.put("n", &text, crate::DocumentOptions::new()).unwrap();
        }
        let text = "x".repeat(10_001);
        let save = job.checkpoints().save_map(&text, SaveOptions::new());
        let put = notes.put("n", &text, crate::DocumentOptions::new());
        for error in [save.unwrap_err(), put.unwrap_err()] {
            assert_eq!(error.kind(), crate::ErrorKind::TooLarge);
        }
        storage.stats()
    });
    // For each of two kinds: the two large documents. The error of the one that is refused says enough.
    assert_eq!(emitted.times(WARNING), 4);
    let bytes = emitted.sum(WARNING, "bytes");
    assert!(
        (2 * (1_500 + 9_000)..2 * 10_001 + 1_500).contains(&bytes),
        "{bytes}"
    );
}
