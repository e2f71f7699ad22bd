//! Copies of jobs and stores, including copies that were cut short.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

use std::sync::Arc;
use std::time::Duration;

use prodigy_storage_backend::conformance::ManualClock;
use prodigy_storage_backend::dead_letter::DeadLetter;
use prodigy_storage_backend::{
    Backend, Batch, Clock, Cursor, Deadline, ErrorKind, EventId, ItemId, LogStore, Select, SystemClock,
    Uptime,
};
use prodigy_storage_config::{BackendKind, MapEnvironment, StorageConfig};
use prodigy_storage_file::{FileBackend, FileOptions};
use prodigy_storage_layout::Timestamp;
use prodigy_storage_memory::{MemoryBackend, MemoryOptions};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::call::operation::{ACTIVITY, SCAN, SCAN_ITEMS};
use crate::call::tests::through::Through;
use crate::checkpoints::SaveOptions;
use crate::doctor::DoctorScope;
use crate::documents::DocumentOptions;
use crate::events::ReadOptions;
use crate::job::{Job, JobState};

mod again;

/// A temporary folder in which a test makes its stores.
struct Folders(TempDir);

impl Folders {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn at(&self, name: &str) -> StorageBuilder {
        Storage::builder()
            .environment(MapEnvironment::new())
            .home(self.0.path())
            .project_dir(self.0.path())
            .base_dir(self.0.path().join(name))
    }
}

fn memory() -> Arc<dyn Backend> {
    Arc::new(MemoryBackend::new(MemoryOptions::new()).unwrap())
}

/// A builder for a store with this backend.
fn over(backend: Arc<dyn Backend>) -> StorageBuilder {
    let config = StorageConfig::default().backend(BackendKind::Memory);
    Storage::builder().config(config).backend(backend)
}

fn job(storage: &Storage) -> Job {
    storage.repo("shop").unwrap().job("job-1").unwrap()
}

fn given(millis: i64) -> EventId {
    EventId::for_key(Timestamp::from_millis(1_767_225_600_000 + millis), "copy")
}

fn append(job: &Job, ids: &[EventId]) {
    let mut batch = Batch::new();
    for id in ids {
        batch.push(&id.to_string()).unwrap();
    }
    batch.set_ids(ids.iter().copied());
    job.events().append_prepared(&mut batch, None).unwrap();
}

/// Fills a job with data of every kind. Its checkpoints have a cursor at the end of the log, one in the middle,
/// one from before an event with an older id was stored, or none.
fn fill(storage: &Storage) {
    let job = job(storage);
    append(&job, &[1, 2, 3, 4].map(given));
    let save = |name: &str, cursor: Option<Cursor>| {
        let options = SaveOptions::new().cursor(cursor);
        job.checkpoints()
            .save_map(&json!({"saved": name}), options)
            .unwrap();
    };
    save("without", None);
    let mut reader = job.events().read::<Value>().unwrap();
    reader.next().unwrap().unwrap();
    save("in the middle", Some(reader.cursor()));
    save("at the end", Some(job.events().end().unwrap()));
    save("at the end again", Some(job.events().end().unwrap()));
    // These two events have ids below those of events that were read before.
    append(&job, &[given(0), given(9)]);
    append(
        &job,
        &[EventId::for_key(
            Timestamp::from_millis(1_767_225_600_003),
            "late",
        )],
    );
    save("behind late events", Some(job.events().end().unwrap()));
    append(&job, &[given(12)]);
    job.checkpoints()
        .save_setup(&json!({"items": 3}), SaveOptions::new())
        .unwrap();
    let documents = job.documents("notes").unwrap();
    documents
        .put("one", &json!({"a": 1.50}), DocumentOptions::new())
        .unwrap();
    let of_repo = storage.repo("shop").unwrap().documents("workflows").unwrap();
    of_repo
        .put("nightly", &["build"], DocumentOptions::new())
        .unwrap();
    for name in ["x", "y", "z"] {
        let letter = DeadLetter::new(ItemId::new(name).unwrap(), json!({"of": name}));
        job.dlq().push(&letter).unwrap();
    }
    // The release gives item `x` the last place of the queue, and a delay.
    let taken = job
        .dlq()
        .take(
            &Select::ids([ItemId::new("x").unwrap()]),
            1,
            Duration::from_secs(60),
        )
        .unwrap();
    for item in taken {
        item.release(Duration::from_secs(3600)).unwrap();
    }
    job.finish().unwrap();
}

fn ids(job: &Job, after: Option<Cursor>) -> Vec<EventId> {
    let read = job
        .events()
        .read_with::<Value>(ReadOptions::new().from(after))
        .unwrap();
    read.map(|event| event.unwrap().id).collect()
}

/// Everything that a store holds of the job, as text.
fn contents(storage: &Storage, with_times: bool) -> Vec<String> {
    let job = job(storage);
    let mut found = Vec::new();
    for event in job.events().read::<Value>().unwrap() {
        let event = event.unwrap();
        let time = with_times.then_some(event.timestamp);
        found.push(format!("event {} at {time:?}: {}", event.id, event.event));
    }
    for entry in job.checkpoints().list() {
        let id = entry.unwrap().id;
        let checkpoint = job.checkpoints().get::<Value>(&id).unwrap().unwrap();
        let behind = checkpoint.cursor.map(|cursor| ids(&job, Some(cursor)));
        found.push(format!(
            "checkpoint {id} of {}: {} before {behind:?}",
            checkpoint.saved_at, checkpoint.data
        ));
    }
    let mut letters: Vec<String> = job
        .dlq()
        .scan(&Select::any())
        .unwrap()
        .map(|item| {
            let item = item.unwrap();
            format!("letter {} {}", item.body, item.delay.is_some())
        })
        .collect();
    letters.sort();
    found.extend(letters);
    let notes = job.documents("notes").unwrap();
    found.push(format!(
        "{:?}",
        notes.get_raw("one").unwrap().map(|found| found.data.to_string())
    ));
    let flows = storage.repo("shop").unwrap().documents("workflows").unwrap();
    found.push(format!(
        "{:?}",
        flows
            .get_raw("nightly")
            .unwrap()
            .map(|found| found.data.to_string())
    ));
    found.push(format!("{:?}", job.status().unwrap().state));
    found
}

fn copy_whole(source: &Storage, target: StorageBuilder) -> CopyReport {
    let report = source.copy_to(target, CopyOptions::new()).unwrap();
    assert!(report.refused.is_empty(), "{:?}", report.refused);
    report
}

#[test]
fn a_copy_has_all_that_the_source_has() {
    let folders = Folders::new();
    let source = folders.at("source").open().unwrap();
    fill(&source);
    let report = copy_whole(&source, folders.at("copy"));
    let [copied] = &report.jobs[..] else {
        panic!("{report:?}")
    };
    assert_eq!((copied.events, copied.stored, copied.letters), (8, 8, 3));
    assert_eq!((copied.documents, report.documents), (7, 1));
    let copy = folders.at("copy").open().unwrap();
    assert_eq!(contents(&copy, true), contents(&source, true));
    assert_eq!(job(&copy).status().unwrap().state, JobState::Finished);

    // A second copy stores nothing twice.
    drop(copy);
    let again = copy_whole(&source, folders.at("copy"));
    assert_eq!(
        (again.jobs[0].stored, again.jobs[0].checksum),
        (0, copied.checksum)
    );
    // Copies the copy into a store with another backend.
    let store = memory();
    copy_whole(&folders.at("copy").open().unwrap(), over(Arc::clone(&store)));
    assert_eq!(
        contents(&over(store).open().unwrap(), false),
        contents(&source, false)
    );
}

#[test]
fn an_event_whose_id_was_made_hours_after_its_time_is_copied_with_both() {
    let (clock, folders) = (Arc::new(ManualClock::new()), Folders::new());
    let source = folders.at("source").clock(clock.clone()).open().unwrap();
    // The clock is set back by three hours after the first event.
    clock.set(given(10_800_000).time());
    append(&job(&source), &[given(10_800_000)]);
    clock.set(given(0).time());
    // The copy begins with this one, whose id is the lowest.
    append(&job(&source), &[given(10_740_000)]);
    drop(source);
    let source = folders.at("source").open().unwrap();
    copy_whole(&source, folders.at("copy"));
    let copy = folders.at("copy").open().unwrap();
    assert_eq!(contents(&copy, true), contents(&source, true));
    copy_whole(&copy, folders.at("copy of the copy"));
}

#[test]
fn a_cursor_whose_events_are_gone_is_a_gap_in_a_copy_and_in_its_copy() {
    let folders = Folders::new();
    let source = folders
        .at("source")
        .flag("backend_config.max_file_size", "200")
        .open()
        .unwrap();
    let old = job(&source);
    append(&old, &[given(1)]);
    let save = |name: &str, cursor: Cursor| {
        let saved = old.checkpoints().save_map(&name, SaveOptions::at(cursor));
        saved.unwrap();
    };
    save("gone", old.events().end().unwrap());
    for millis in 2..9 {
        append(&old, &[given(millis)]);
    }
    save("kept", old.events().end().unwrap());
    append(&old, &[given(9)]);
    assert!(old.events().remove_before(Timestamp::MAX).unwrap().segments > 1);
    old.finish().unwrap();

    let store = memory();
    let copy_to = |source: &Storage, target: &dyn Fn() -> StorageBuilder| {
        // The second copy finds everything in the target.
        for _ in 0..2 {
            let options = CopyOptions::new().keep_source(true);
            let report = source.copy_to(target(), options).unwrap();
            assert!(report.refused.is_empty(), "{:?}", report.refused);
        }
        target().open().unwrap()
    };
    let copy = copy_to(&source, &|| folders.at("copy"));
    let other = copy_to(&copy, &|| over(Arc::clone(&store)));
    let third = copy_to(&other, &|| folders.at("third"));
    for store in [&copy, &other, &third] {
        let job = job(store);
        let mut states = Vec::new();
        for entry in job.checkpoints().list() {
            let id = entry.unwrap().id;
            let checkpoint = job.checkpoints().get::<String>(&id).unwrap().unwrap();
            let cursor = checkpoint.cursor.unwrap();
            if checkpoint.data == "gone" {
                assert_eq!(cursor, Cursor::gap());
                let read = job.events().read_with::<Value>(ReadOptions::after(cursor));
                let error = read.and_then(|mut read| read.next().transpose()).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::CursorGap);
            } else {
                assert_eq!(ids(&job, Some(cursor)), [given(9)]);
            }
            states.push(checkpoint.data);
        }
        states.sort();
        assert_eq!(states, ["gone", "kept"]);
    }
    for store in [copy, third] {
        let mut found = Vec::new();
        let doctor = store.doctor().unwrap();
        doctor
            .examine(&DoctorScope::all(), &mut |finding| found.push(finding))
            .unwrap();
        assert!(found.is_empty(), "{found:?}");
    }
}

#[test]
fn a_copy_that_dies_at_any_call_is_made_whole_by_the_next() {
    let folders = Folders::new();
    let source = folders.at("source").open().unwrap();
    fill(&source);
    let wanted = contents(&source, false);
    let mut calls = 0;
    loop {
        // The stores of all rounds have the same name in marks, so the marks of the last round are removed.
        source.reopen(&Part::Store).unwrap();
        let store = memory();
        let dying = Arc::new(Through::dying(Arc::clone(&store), calls));
        let first = source.copy_to(over(dying), CopyOptions::new());
        copy_whole(&source, over(Arc::clone(&store)));
        assert_eq!(
            contents(&over(store).open().unwrap(), false),
            wanted,
            "after {calls} calls"
        );
        if first.is_ok_and(|report| report.refused.is_empty()) {
            break;
        }
        calls += 1;
    }
    assert!(calls > 40, "the copy took only {calls} calls");
}

#[test]
fn an_event_that_is_appended_meanwhile_is_not_in_front_of_a_checkpoint() {
    const EVENTS: i64 = 3_100;
    let folders = Folders::new();
    // A reader opens the last of many segments late, and events are appended to it.
    let file = folders.at("source").flag("backend_config.max_file_size", "64KB");
    let file = file.open().unwrap();
    let memory = over(memory()).open().unwrap();
    for source in [file, memory] {
        let job = job(&source);
        let ids: Vec<EventId> = (1..=EVENTS).map(given).collect();
        append(&job, &ids[..5]);
        let middle = job.events().end().unwrap();
        for ids in ids[5..].chunks(500) {
            append(&job, ids);
        }
        let end = job.events().end().unwrap();
        let mut found = Vec::new();
        positions::between(&source, job.address(), None, Some(&end), |record| {
            if found.len() % 1_000 == 0 {
                // Another process appends: one event after all others, and one before them.
                let number = found.len() as i64;
                append(&job, &[given(EVENTS + 1 + number), given(-1 - number)]);
            }
            found.push(record.id);
            Ok(())
        })
        .unwrap();
        assert_eq!(found, ids);
        // An event behind the earlier one of two positions, and in front of the later one, comes from two readers.
        let fault = positions::between(&source, job.address(), Some(&end), Some(&middle), |_| Ok(()));
        assert_eq!(fault.unwrap_err().kind(), ErrorKind::Conflict);
    }
}

#[test]
fn a_checkpoint_whose_cursor_is_at_another_place_in_the_copy_is_found() {
    let folders = Folders::new();
    let source = folders.at("source").open().unwrap();
    fill(&source);
    let kept = CopyOptions::new().keep_source(true);
    source.copy_to(folders.at("copy"), kept.clone()).unwrap();
    // A copy of an earlier version, beside a process that appended. It left no note of what it stored.
    let copy = folders.at("copy").open().unwrap();
    let notes = begun::documents(&copy).unwrap();
    for note in notes.list() {
        notes
            .delete(note.unwrap().name.as_str(), DocumentOptions::new())
            .unwrap();
    }
    let entry = job(&copy).checkpoints().list().next().unwrap().unwrap();
    let end = job(&copy).events().end().unwrap();
    let document = job::documents(&copy, job(&copy).address())
        .unwrap()
        .into_iter()
        .find(|document| {
            let stored = job::get(&copy, document).unwrap();
            stored
                .is_some_and(|stored| positions::cursor_in(stored.body()).is_some_and(|cursor| cursor != end))
        });
    let document = document.unwrap_or_else(|| panic!("{entry:?} has no cursor"));
    let stored = job::get(&copy, &document).unwrap().unwrap();
    let changed = positions::with_cursor(&stored, &document, &end).unwrap();
    job::put(&copy, &document, &changed).unwrap();
    drop(copy);
    let report = source.copy_to(folders.at("copy"), kept).unwrap();
    assert_eq!(report.refused[0].1.kind(), ErrorKind::Conflict);
}

/// The kind of the error with which the only job was refused.
fn refusal(source: &Storage, target: StorageBuilder) -> ErrorKind {
    let report = source.copy_to(target, CopyOptions::new()).unwrap();
    assert!(report.jobs.is_empty(), "{report:?}");
    report.refused[0].1.kind()
}

#[test]
fn what_can_not_be_copied_exactly_is_refused() {
    let folders = Folders::new();
    let source = folders.at("source").open().unwrap();
    append(&job(&source), &[given(1)]);
    assert_eq!(
        refusal(&source, folders.at("copy")),
        ErrorKind::LockUnavailable,
        "an active job"
    );
    job(&source).finish().unwrap();

    let other = folders.at("other").open().unwrap();
    append(&job(&other), &[given(7)]);
    job(&other).finish().unwrap();
    drop(other);
    assert_eq!(
        refusal(&source, folders.at("other")),
        ErrorKind::Conflict,
        "another job of that name"
    );

    let letter = DeadLetter::new(ItemId::new("x").unwrap(), 1);
    job(&source).dlq().push(&letter).unwrap();
    let taken = job(&source)
        .dlq()
        .take(&Select::any(), 1, Duration::from_secs(60))
        .unwrap();
    assert_eq!(
        refusal(&source, folders.at("copy")),
        ErrorKind::LockUnavailable,
        "a taken dead letter"
    );
    drop(taken);
    let options = CopyOptions::new().keep_source(true);
    let report = source.copy_to(folders.at("copy"), options).unwrap();
    assert_eq!((report.jobs.len(), report.marked.len()), (1, 0), "{report:?}");

    // A link makes a second path of the same store.
    std::os::unix::fs::symlink(folders.0.path().join("source"), folders.0.path().join("link")).unwrap();
    let itself = source
        .copy_to(folders.at("link"), CopyOptions::new())
        .unwrap_err();
    assert!(itself.to_string().contains("same store"), "{itself}");
}

#[test]
fn a_part_is_copied_alone() {
    let folders = Folders::new();
    let source = folders.at("source").open().unwrap();
    for (repo, name) in [("shop", "a"), ("shop", "b"), ("mill", "a")] {
        let job = source.repo(repo).unwrap().job(name).unwrap();
        append(&job, &[given(1)]);
        job.finish().unwrap();
    }
    let shop = CopyOptions::new().repo(RepoName::new("shop").unwrap());
    let names = |options: &CopyOptions, target: &str| -> Vec<String> {
        let options = options.clone().keep_source(true);
        let report = source.copy_to(folders.at(target), options).unwrap();
        report.jobs.iter().map(|job| job.address.to_string()).collect()
    };
    assert_eq!(names(&shop, "one"), ["shop/a", "shop/b"]);
    assert_eq!(names(&shop.job(JobId::new("b").unwrap()), "two"), ["shop/b"]);
    assert_eq!(
        names(&CopyOptions::new(), "three"),
        ["mill/a", "shop/a", "shop/b"]
    );
}

/// The error of an append to the job.
fn refused_append(storage: &Storage) -> StorageError {
    let error = job(storage).events().append(&"late").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ReadOnly, "{error}");
    error
}

#[test]
fn what_was_copied_takes_no_writes_where_it_was_until_it_is_opened_again() {
    let folders = Folders::new();
    let source = folders.at("source").open().unwrap();
    fill(&source);
    let before = contents(&source, true);
    let of_job = CopyOptions::new()
        .repo(RepoName::new("shop").unwrap())
        .job(JobId::new("job-1").unwrap());
    let report = source.copy_to(folders.at("copy"), of_job).unwrap();
    let part = Part::Job(job(&source).address().clone());
    assert_eq!(report.marked, std::slice::from_ref(&part));
    // Another job of the same store was not moved, so it can be written to.
    let other = source.repo("shop").unwrap().job("job-2").unwrap();
    append(&other, &[given(20)]);
    other.finish().unwrap();

    let place = folders.0.path().join("copy").display().to_string();
    for handle in [&source, &folders.at("source").open().unwrap()] {
        let error = refused_append(handle);
        assert!(error.to_string().contains(&place), "{error}");
        assert!(error.hint().unwrap().contains("--reopen"), "{error:?}");
        assert_eq!(contents(handle, true), before);
        assert_eq!(job(handle).moved().unwrap().unwrap().part, part);
    }

    // Now the whole store is copied. After that no new job can begin in the source, and a copy back into it is
    // refused.
    let report = copy_whole(&source, folders.at("copy"));
    assert_eq!(report.marked.last(), Some(&Part::Store));
    let new = source.repo("mill").unwrap().job("new").unwrap();
    assert_eq!(new.events().append(&1).unwrap_err().kind(), ErrorKind::ReadOnly);
    assert_eq!(job(&source).moved().unwrap().unwrap().part, Part::Store);
    let marks = source.moved().all().unwrap();
    assert_eq!(marks.len(), 3, "{marks:?}");
    let copy = folders.at("copy").open().unwrap();
    append(&job(&copy), &[given(30)]);
    job(&copy).finish().unwrap();
    let back = copy
        .copy_to(folders.at("source"), CopyOptions::new())
        .unwrap_err();
    assert_eq!(back.kind(), ErrorKind::ReadOnly, "{back}");

    // Once the marks are removed, a copy back stores the events that came since.
    assert_eq!(source.reopen(&Part::Store).unwrap(), 3);
    let back = copy_whole(&copy, folders.at("source"));
    let stored: Vec<u64> = back.jobs.iter().map(|job| job.stored).collect();
    assert_eq!(stored, [1, 0]);
    append(&job(&source), &[given(40)]);
    refused_append(&copy);
}

#[test]
fn what_was_moved_can_be_deleted() {
    let folders = Folders::new();
    let source = folders.at("source").open().unwrap();
    fill(&source);
    copy_whole(&source, folders.at("copy"));
    assert!(job(&source).delete().unwrap());
    assert_eq!(job(&source).events().read::<Value>().unwrap().count(), 0);
    // A program that still uses the old store can't begin the deleted job again there.
    refused_append(&source);
}

/// A write that another process makes during the copy, through a handle of its own.
type Write = fn(&Job);

fn acknowledge(job: &Job) {
    let taken = job
        .dlq()
        .take(&Select::any(), 1, Duration::from_secs(60))
        .unwrap();
    for item in taken {
        item.ack().unwrap();
    }
}

const WRITES: [(&str, Write); 6] = [
    ("an acknowledgement", acknowledge),
    ("an event", |job| append(job, &[given(13)])),
    ("a dead letter", |job| {
        let letter = DeadLetter::new(ItemId::new("new").unwrap(), 1);
        job.dlq().push(&letter).unwrap();
    }),
    ("a changed dead letter", |job| {
        let letter = DeadLetter::new(ItemId::new("y").unwrap(), json!({"of": "another"}));
        job.dlq().push(&letter).unwrap();
    }),
    ("a document", |job| {
        let notes = job.documents("notes").unwrap();
        notes
            .put("one", &json!({"a": 2}), DocumentOptions::new())
            .unwrap();
    }),
    ("a deleted document", |job| {
        let notes = job.documents("notes").unwrap();
        assert!(notes.delete("one", DocumentOptions::new()).unwrap());
    }),
];

/// A clock that is a day behind, so that the times of its writes do not show that they are new.
#[derive(Debug)]
struct Late;

impl Clock for Late {
    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(SystemClock.now().as_nanos() - 86_400_000_000_000)
    }

    fn uptime(&self) -> Uptime {
        SystemClock.uptime()
    }

    fn monotonic(&self) -> Duration {
        SystemClock.monotonic()
    }
}

/// The store in the folder `source`, in which `work` is done right before a mark of a move is put.
fn overtaken_at_mark(folders: &Folders, work: impl Fn() + Send + Sync + 'static) -> Storage {
    let root = FileOptions::new(folders.0.path().join("source"));
    let backend = Arc::new(FileBackend::open(root).unwrap());
    over(Arc::new(Through::overtaken(backend, MARK_MOVED, work)))
        .open()
        .unwrap()
}

#[test]
fn a_write_right_before_the_mark_is_found_and_leaves_no_mark() {
    for (what, write) in WRITES {
        let folders = Arc::new(Folders::new());
        let source = folders.at("source").open().unwrap();
        fill(&source);
        let of_other = Arc::clone(&folders);
        let report = overtaken_at_mark(&folders, move || {
            let other = of_other.at("source").clock(Arc::new(Late)).open().unwrap();
            write(&job(&other));
        })
        .copy_to(folders.at("copy"), CopyOptions::new())
        .unwrap();
        assert_eq!(
            (report.jobs.len(), report.marked.len()),
            (0, 0),
            "{what}: {report:?}"
        );
        assert_eq!(
            report.refused[0].1.kind(),
            ErrorKind::Conflict,
            "{what}: {report:?}"
        );
        assert_eq!(source.moved().count(), 0, "{what}");

        // A copy into an empty place then succeeds.
        let report = copy_whole(&source, folders.at("again"));
        assert_eq!(report.marked.len(), 2, "{what}");
        assert_eq!(
            contents(&folders.at("again").open().unwrap(), true),
            contents(&source, true),
            "{what}"
        );
    }
}

#[test]
fn a_copy_that_differs_from_what_an_earlier_one_moved_leaves_its_mark() {
    let folders = Folders::new();
    let source = folders.at("source").open().unwrap();
    fill(&source);
    copy_whole(&source, folders.at("copy"));
    let copy = folders.at("copy").open().unwrap();
    acknowledge(&job(&copy));
    let left = contents(&copy, true);
    for keep_source in [false, true] {
        let of_job = CopyOptions::new().job(JobId::new("job-1").unwrap());
        let report = source
            .copy_to(folders.at("copy"), of_job.keep_source(keep_source))
            .unwrap();
        let refused = &report.refused[0].1;
        assert!(refused.hint().unwrap().contains("was moved there"), "{refused:?}");
        refused_append(&source);
        // The item that was settled in the copy does not return.
        assert_eq!(contents(&copy, true), left);
    }
    // If the copy was deleted, the job is copied again.
    assert!(job(&copy).delete().unwrap());
    let again = copy_whole(&source, folders.at("copy"));
    assert_eq!((again.jobs[0].stored, again.jobs[0].letters), (8, 3));
}

#[test]
fn a_document_of_a_repository_that_goes_right_before_the_mark_is_not_in_the_copy() {
    let folders = Folders::new();
    let source = folders.at("source").open().unwrap();
    fill(&source);
    let other = folders.at("source").open().unwrap();
    let overtaken = overtaken_at_mark(&folders, move || {
        let flows = other.repo("shop").unwrap().documents("workflows").unwrap();
        // The job is marked before the repository. The document is deleted between the two marks.
        let is_marked = other.moved().count() > 0;
        assert_eq!(
            is_marked && flows.delete("nightly", DocumentOptions::new()).unwrap(),
            is_marked
        );
    });
    let report = copy_whole(&overtaken, folders.at("copy"));
    assert_eq!((report.documents, report.marked.len()), (0, 2), "{report:?}");
    let copy = folders.at("copy").open().unwrap();
    let flows = copy.repo("shop").unwrap().documents("workflows").unwrap();
    assert!(flows.get_raw("nightly").unwrap().is_none());
}

#[test]
fn a_job_that_another_copy_moves_meanwhile_has_one_new_place() {
    let folders = Arc::new(Folders::new());
    let source = folders.at("source").open().unwrap();
    fill(&source);
    let of_other = Arc::clone(&folders);
    let second = overtaken_at_mark(&folders, move || {
        let other = of_other.at("source").open().unwrap();
        if other.moved().count() == 0 {
            copy_whole(&other, of_other.at("first"));
        }
    })
    .copy_to(folders.at("second"), CopyOptions::new())
    .unwrap();
    assert_eq!((second.jobs.len(), second.marked.len()), (0, 0), "{second:?}");
    assert_eq!(second.refused[0].1.kind(), ErrorKind::ReadOnly, "{second:?}");
    let first = folders.0.path().join("first").display().to_string();
    assert!(
        source
            .moved()
            .all()
            .unwrap()
            .iter()
            .all(|moved| moved.to == first)
    );
}

#[test]
fn a_dry_run_names_the_jobs_and_writes_nothing() {
    let folders = Folders::new();
    let source = folders.at("source").open().unwrap();
    fill(&source);
    let plan = source
        .copy_to(folders.at("copy"), CopyOptions::new().dry_run(true))
        .unwrap();
    let planned: Vec<_> = plan.planned.iter().map(|job| job.address.to_string()).collect();
    assert_eq!((planned, plan.jobs.len()), (vec!["shop/job-1".to_owned()], 0));
    assert!(plan.planned[0].bytes() > 0);
    assert_eq!(
        (source.moved().count(), folders.0.path().join("copy").exists()),
        (0, false)
    );
    let _taken = job(&source)
        .dlq()
        .take(&Select::any(), 1, Duration::from_secs(60))
        .unwrap();
    let plan = source
        .copy_to(folders.at("copy"), CopyOptions::new().dry_run(true))
        .unwrap();
    assert_eq!((plan.planned.len(), plan.refused.len()), (0, 1));
}

#[test]
fn a_job_that_is_deleted_before_or_during_its_copy_is_left_out_and_leaves_nothing() {
    for keep_source in [false, true] {
        // Right before the mark; while its dead letters are read; and before its turn came.
        for before in [MARK_MOVED, SCAN_ITEMS, ACTIVITY] {
            if keep_source && before == MARK_MOVED {
                continue;
            }
            let folders = Arc::new(Folders::new());
            let source = folders.at("source").open().unwrap();
            fill(&source);
            let other = source.repo("shop").unwrap().job("job-2").unwrap();
            append(&other, &[given(1)]);
            other.finish().unwrap();
            drop(other);
            drop(source);
            let of_other = Arc::clone(&folders);
            let root = FileOptions::new(folders.0.path().join("source"));
            let backend = Arc::new(FileBackend::open(root).unwrap());
            let deleting = Through::overtaken(backend, before, move || {
                let other = of_other.at("source").open().unwrap();
                job(&other).delete().unwrap();
            });
            let options = CopyOptions::new().keep_source(keep_source);
            let deleting = over(Arc::new(deleting)).open().unwrap();
            let report = deleting.copy_to(folders.at("copy"), options).unwrap();
            let copied: Vec<_> = report.jobs.iter().map(|job| job.address.job.as_str()).collect();
            let gone: Vec<_> = report.gone.iter().map(|job| job.job.as_str()).collect();
            assert_eq!(
                (&copied[..], &gone[..]),
                (&["job-2"][..], &["job-1"][..]),
                "{report:?}"
            );
            assert!(report.refused.is_empty(), "{report:?}");
            for place in ["source", "copy"] {
                let storage = folders.at(place).open().unwrap();
                assert!(
                    storage
                        .moved()
                        .all()
                        .unwrap()
                        .iter()
                        .all(|moved| moved.part.job().is_none_or(|job| job.as_str() != "job-1")),
                    "{place}"
                );
                let jobs = storage.repo("shop").unwrap().jobs().all().unwrap();
                assert_eq!(jobs, [JobId::new("job-2").unwrap()], "{place} {before:?}");
                assert!(
                    !folders.0.path().join(place).join("dlq/shop/job-1").exists(),
                    "{place}"
                );
            }
        }
    }
}

#[test]
fn an_empty_job_is_left_out_of_a_move_of_the_whole_store() {
    let folders = Folders::new();
    let source = folders.at("source").open().unwrap();
    fill(&source);
    let lock = folders.0.path().join("source/dlq/shop/empty/items.lock");
    std::fs::create_dir_all(lock.parent().unwrap()).unwrap();
    std::fs::write(&lock, "").unwrap();
    let report = copy_whole(&source, folders.at("copy"));
    assert_eq!((report.jobs.len(), report.gone.len()), (1, 1), "{report:?}");
    assert!(report.marked.contains(&Part::Store), "{report:?}");
}

#[test]
fn the_hint_of_a_refused_write_takes_away_the_mark_of_its_job_alone() {
    let folders = Folders::new();
    let source = folders.at("source").open().unwrap();
    fill(&source);
    let part = CopyOptions::new().job(JobId::new("job-1").unwrap());
    source.copy_to(folders.at("copy"), part).unwrap();
    let hint = refused_append(&source).hint().unwrap().to_owned();
    assert!(
        hint.contains("`prodigy-storage copy --reopen --repo shop --job job-1`"),
        "{hint}"
    );
}

/// The audit log of a store, as a job.
fn audit(storage: &Storage) -> Job {
    storage.repo(RepoName::AUDIT).unwrap().job("clean").unwrap()
}

#[test]
fn a_copy_takes_the_audit_log_while_removals_are_recorded_in_it() {
    for keep_source in [false, true] {
        let folders = Arc::new(Folders::new());
        let cleaning = folders.at("source").open().unwrap();
        fill(&cleaning);
        job(&cleaning).finish().unwrap();
        // The process that cleans has the log open until it ends.
        append(&audit(&cleaning), &[given(1), given(3)]);
        assert_eq!(audit(&cleaning).status().unwrap().state, JobState::Active);
        let recorded = std::sync::atomic::AtomicI64::new(0);
        let root = FileOptions::new(folders.0.path().join("source"));
        let backend = Arc::new(FileBackend::open(root).unwrap());
        let beside = Through::overtaken(backend, SCAN_ITEMS, move || {
            // One event has an older id than those that were copied.
            let number = recorded.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            append(&audit(&cleaning), &[given(10 + number), given(2 - 10 * number)]);
        });
        let source = over(Arc::new(beside)).open().unwrap();
        let options = CopyOptions::new().keep_source(keep_source);
        let report = source.copy_to(folders.at("copy"), options).unwrap();
        assert!(report.refused.is_empty(), "{report:?}");
        let copy = folders.at("copy").open().unwrap();
        let (copied, all) = (ids(&audit(&copy), None), ids(&audit(&source), None));
        assert!(
            copied.contains(&given(1)) && copied.contains(&given(3)),
            "{copied:?}"
        );
        assert!(copied.len() < all.len() && copied.iter().all(|id| all.contains(id)));
        // Made again, the copy has what was recorded since.
        drop((copy, source));
        let source = folders.at("source").open().unwrap();
        let report = source
            .copy_to(folders.at("copy"), CopyOptions::new().keep_source(true))
            .unwrap();
        assert!(report.refused.is_empty(), "{report:?}");
        let copy = folders.at("copy").open().unwrap();
        assert_eq!(ids(&audit(&copy), None), ids(&audit(&source), None));
    }
}

#[test]
fn a_copy_begins_again_where_the_oldest_events_are_removed_meanwhile() {
    for (keep_source, before) in [
        (false, SCAN_ITEMS),
        (true, SCAN_ITEMS),
        (false, SCAN),
        (true, SCAN),
    ] {
        for step in 1.. {
            let folders = Folders::new();
            let root = FileOptions::new(folders.0.path().join("source")).max_file_size(200);
            let backend = Arc::new(FileBackend::open(root.clone()).unwrap());
            let storage = over(backend.clone()).open().unwrap();
            append(&job(&storage), &[1, 2, 3, 4].map(given));
            append(&job(&storage), &[5, 6, 7, 8].map(given));
            append(&job(&storage), &[9].map(given));
            job(&storage).finish().unwrap();
            let address = job(&storage).address().clone();
            drop(storage);
            let left = Arc::new(std::sync::atomic::AtomicI64::new(step));
            let counted = Arc::clone(&left);
            let cleaning = Through::overtaken(backend, before, move || {
                if counted.fetch_sub(1, std::sync::atomic::Ordering::Relaxed) == 1 {
                    let other = FileBackend::open(root.clone()).unwrap();
                    let all = (Timestamp::MAX, None, Deadline::never());
                    match other.remove_before(&address, all.0, all.1, all.2) {
                        Ok(removed) => assert!(removed.segments > 0),
                        // The job has the mark of the move.
                        Err(error) => assert_eq!(error.kind(), ErrorKind::ReadOnly),
                    }
                }
            });
            let source = over(Arc::new(cleaning)).open().unwrap();
            let options = CopyOptions::new().keep_source(keep_source);
            let report = source.copy_to(folders.at("copy"), options).unwrap();
            assert!(report.refused.is_empty(), "{before:?} {step}: {report:?}");
            let copy = folders.at("copy").open().unwrap();
            let (copied, left_there) = (ids(&job(&copy), None), ids(&job(&source), None));
            // The removal may come behind the comparison of the events.
            let all: Vec<EventId> = (1..=9).map(given).collect();
            assert!(
                copied == left_there || copied == all,
                "{before:?} {step}: {copied:?}"
            );
            if left.load(std::sync::atomic::Ordering::Relaxed) > 0 {
                assert!(step > 3, "{before:?}: the copy makes only {step} such calls");
                break;
            }
        }
    }
}
