//! Tests of waiting for events of another process. Handles on different file systems share no writer and no
//! notifications, so each of them acts as a process of its own.

use std::fmt::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use prodigy_storage_backend::conformance::ManualClock;
use prodigy_storage_backend::{
    Cursor, Deadline, Durability, Interrupt, LogReports, LogScope, LogStore, WaitOptions,
};
use prodigy_storage_file::{FileBackend, FileOptions};
use tempfile::TempDir;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use super::replaced::{NEVER, append, job};
use super::security::hooked::{Hooked, Watching};

/// Collects the warnings that this thread logs, as text.
#[derive(Clone, Default)]
struct Warnings(Arc<Mutex<Vec<String>>>);

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = write!(self.0, "{field}={value:?} ");
    }
}

impl Subscriber for Warnings {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::WARN
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        self.0.lock().unwrap().push(text.0);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

struct Place {
    folder: TempDir,
    clock: Arc<ManualClock>,
    /// The number of times that a folder was listed.
    lists: Arc<AtomicUsize>,
}

impl Place {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            clock: Arc::default(),
            lists: Arc::default(),
        }
    }

    /// Opens the store as another process would.
    fn open(&self, watching: Watching) -> FileBackend {
        let root = self.folder.path().join("root");
        let lists = Arc::clone(&self.lists);
        let mut fs = Hooked::new(&root, move |call, path: &Path| {
            if call == "list" && path.starts_with("events") {
                lists.fetch_add(1, Ordering::SeqCst);
            }
        });
        fs.watching = watching;
        let options = FileOptions::new(root).clock(self.clock.clone());
        FileBackend::open_on(Arc::new(fs), options).unwrap()
    }

    /// Waits until a poll of the log that began after `before` listings has ended: either no listing was made for a
    /// while, or enough listings for a further poll were made.
    fn is_looked_into(&self, before: usize) {
        let mut last = before;
        loop {
            thread::sleep(Duration::from_millis(20));
            let now = self.lists.load(Ordering::SeqCst);
            if now > before && (now == last || now > before + 2 * CALLS_OF_A_LOOK) {
                return;
            }
            last = now;
        }
    }

    fn append(&self) {
        append(&self.open(Watching::Refused), Durability::Relaxed).unwrap();
    }
}

/// The largest number of times that one poll lists the folder of the log.
const CALLS_OF_A_LOOK: usize = 6;

/// Options with such a long pause between polls that only a notification can end a wait in time.
fn rarely() -> WaitOptions {
    WaitOptions::new().poll(Duration::from_secs(3600))
}

fn often() -> WaitOptions {
    WaitOptions::new().poll(Duration::from_millis(1))
}

fn end(backend: &FileBackend) -> Cursor {
    backend.end(&job(), NEVER).unwrap()
}

/// Waits for an event in a thread, and calls `act` after the first poll. Returns the result of the wait.
fn wait_while(place: &Place, watching: Watching, options: &WaitOptions, act: impl FnOnce()) -> bool {
    let backend = place.open(watching);
    let from = end(&backend);
    let before = place.lists.load(Ordering::SeqCst);
    let minute = Deadline::after(Duration::from_secs(60));
    thread::scope(|scope| {
        let waiting = scope.spawn(|| backend.wait(&job(), &from, options, minute));
        place.is_looked_into(before);
        act();
        waiting.join().unwrap().unwrap()
    })
}

#[cfg(target_os = "linux")]
#[test]
fn an_append_of_another_process_ends_a_wait_at_once() {
    let place = Place::new();
    place.append();
    for _ in 0..5 {
        assert!(wait_while(&place, Watching::Really, &rarely(), || place.append()));
    }
}

#[cfg(target_os = "linux")]
#[test]
fn the_first_event_of_a_job_whose_folders_are_created_meanwhile_ends_a_wait() {
    for existing in ["root", "root/events", "root/events/shop", "root/events/shop/job"] {
        let place = Place::new();
        std::fs::create_dir_all(place.folder.path().join(existing)).unwrap();
        assert!(
            wait_while(&place, Watching::Really, &rarely(), || place.append()),
            "{existing}"
        );
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_wait_without_a_root_finds_the_first_event_by_polling() {
    let place = Place::new();
    assert!(wait_while(&place, Watching::Really, &often(), || place.append()));
}

#[test]
fn a_log_that_cannot_be_watched_is_polled() {
    let place = Place::new();
    place.append();
    assert!(wait_while(&place, Watching::Refused, &often(), || place.append()));
}

#[test]
fn at_the_limit_of_watches_one_warning_names_the_setting_and_every_follow_polls() {
    let place = Place::new();
    place.append();
    let backend = place.open(Watching::Refused);
    let from = end(&backend);
    let warnings = Warnings::default();
    tracing::subscriber::with_default(warnings.clone(), || {
        for _ in 0..3 {
            let briefly = Deadline::after(Duration::from_millis(5));
            assert!(!backend.wait(&job(), &from, &often(), briefly).unwrap());
        }
        for scope in [LogScope::Store, LogScope::Repository(job().repo)] {
            let reports = LogReports::new(Interrupt::new());
            let mut watch = backend.watch(&scope, &reports).unwrap();
            assert!(!watch.include(&job()).unwrap(), "its caller has to poll");
        }
    });
    let warnings = warnings.0.lock().unwrap();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(
        warnings[0].contains("fs.inotify.max_user_watches"),
        "{warnings:?}"
    );
}

#[test]
fn a_report_that_is_lost_delays_an_event_and_loses_none() {
    let place = Place::new();
    place.append();
    let backend = place.open(Watching::Deaf);
    let (from, interrupt) = (end(&backend), Interrupt::new());
    let options = often().interrupt(interrupt.clone());
    let before = place.lists.load(Ordering::SeqCst);
    thread::scope(|scope| {
        let waiting = scope.spawn(|| backend.wait(&job(), &from, &options, NEVER));
        place.is_looked_into(before);
        place.append();
        place.clock.advance(Duration::from_secs(10));
        // The watch reports nothing, and the wait has no deadline, so only a poll can find the event.
        for _ in 0..3_000 {
            if waiting.is_finished() {
                break;
            }
            thread::sleep(Duration::from_millis(10));
        }
        let found = waiting.is_finished();
        interrupt.raise();
        assert!(waiting.join().unwrap().unwrap() && found);
    });
}

#[test]
fn the_last_look_of_a_wait_finds_what_was_not_reported() {
    let place = Place::new();
    place.append();
    let backend = place.open(Watching::Deaf);
    let from = end(&backend);
    let interrupt = Interrupt::new();
    let options = rarely().interrupt(interrupt.clone());
    let briefly = || Deadline::after(Duration::from_millis(400));
    assert!(!backend.wait(&job(), &from, &options, briefly()).unwrap());
    let before = place.lists.load(Ordering::SeqCst);
    thread::scope(|scope| {
        let waiting = scope.spawn(|| backend.wait(&job(), &from, &options, briefly()));
        place.is_looked_into(before);
        place.append();
        assert!(waiting.join().unwrap().unwrap());
    });
}

#[test]
fn an_idle_wait_looks_into_the_log_once_and_not_at_every_poll() {
    let place = Place::new();
    place.append();
    let backend = place.open(Watching::Deaf);
    let from = end(&backend);
    let before = place.lists.load(Ordering::SeqCst);
    let deadline = Deadline::after(Duration::from_millis(200));
    assert!(!backend.wait(&job(), &from, &often(), deadline).unwrap());
    let lists = place.lists.load(Ordering::SeqCst) - before;
    // The folder was listed only by the first poll and by the last one.
    assert!(
        lists <= 2 * CALLS_OF_A_LOOK,
        "the folder was opened {lists} times"
    );
}
