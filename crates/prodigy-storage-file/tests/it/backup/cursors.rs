//! Cursors from before a restore, and what the restored log gives to them.

use std::collections::BTreeSet;
use std::io::Cursor as Reader;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use prodigy_storage_backend::conformance::ManualClock;
use prodigy_storage_backend::{
    AppendOptions, Batch, Catalog, Clock, Cursor, ErrorKind, LogStore, Result, Scan, ScanItem, ScanOptions,
};
use prodigy_storage_file::{Backup, Doctor, DoctorScope, FileBackend, FileOptions, Finding, FindingOutcome};
use prodigy_storage_layout::{SegmentForm, SegmentName, Timestamp};
use serde_json::Value;

use super::{NEVER, Place, append, job};

/// The number of events before the restore, and the payload of the first one after it.
const EVENTS: u32 = 12;
const LATER: u32 = 100;

/// The payloads of the events after a cursor.
fn payloads(backend: &FileBackend, from: &Cursor) -> Result<Vec<u32>> {
    rest(&mut *backend.scan(&job("a"), &ScanOptions::after(from.clone()), NEVER)?)
}

/// The payloads that a scan still has.
fn rest(scan: &mut dyn Scan) -> Result<Vec<u32>> {
    let mut found = Vec::new();
    while let Some(item) = scan.next()? {
        match item {
            ScanItem::Record(record) => {
                let line: Value = serde_json::from_str(record.line).unwrap();
                found.push(u32::try_from(line["event"].as_u64().unwrap()).unwrap());
            }
            other => panic!("{other:?}"),
        }
    }
    Ok(found)
}

fn end(backend: &FileBackend) -> Cursor {
    backend.end(&job("a"), NEVER).unwrap()
}

/// The payloads that a cursor behind `read` events needs from a log of which `kept` events are left, and which was
/// continued with one more.
fn needed(read: u32, kept: u32) -> Vec<u32> {
    (read..kept).chain([LATER]).collect()
}

fn options(place: &Place, name: &str, compression: bool) -> FileOptions {
    FileOptions::new(place.root(name))
        .max_file_size(600)
        .compression(compression)
}

/// Appends events. Returns the cursor behind each, with the number of events in front of it.
fn grow(backend: &FileBackend, events: std::ops::Range<u32>) -> Vec<(u32, Cursor)> {
    let appended = events.map(|event| {
        append(backend, &job("a"), event..event + 1);
        (event + 1, end(backend))
    });
    appended.collect()
}

/// A log of several segments, with an archive of its first `at` events, and cursors.
fn log(options: &FileOptions, at: u32) -> (Vec<u8>, Vec<(u32, Cursor)>) {
    let backend = FileBackend::open(options.clone()).unwrap();
    let (mut archive, mut cursors) = (Vec::new(), vec![]);
    for event in 0..EVENTS {
        cursors.extend(grow(&backend, event..event + 1));
        if event + 1 == at {
            let backup = Backup::new(options.clone()).unwrap();
            backup.write(None, &mut archive).unwrap();
        }
    }
    backend.flush(NEVER).unwrap();
    cursors.push((EVENTS, end(&backend)));
    (archive, cursors)
}

/// Continues a restored log, and reads it with the cursors of before. Each one gets a gap or all events that it did not
/// read, and at most once those that it read and the log still has. Returns the number of gaps.
fn check(restored: &FileOptions, cursors: &[(u32, Cursor)], kept: u32) -> usize {
    let backend = FileBackend::open(restored.clone()).unwrap();
    append(&backend, &job("a"), LATER..LATER + 1);
    backend.flush(NEVER).unwrap();
    let mut gaps = 0;
    for (read, cursor) in cursors {
        let read = *read;
        match payloads(&backend, cursor) {
            Ok(found) if found.len() > needed(read, kept).len() => {
                assert!(found.ends_with(&needed(read, kept)), "{kept} {read}: {found:?}");
                assert!(read > kept, "{kept} {read}: {found:?}");
            }
            Ok(found) => assert_eq!(found, needed(read, kept), "{kept} {read}"),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::CursorGap, "{kept} {read}: {error}");
                assert!(read > kept, "{kept} {read}: {error}");
                gaps += 1;
            }
        }
    }
    gaps
}

#[test]
fn a_cursor_from_before_a_restore_skips_no_event_that_was_appended_after_it() {
    for compression in [false, true] {
        for at in 1..=EVENTS {
            let place = Place::new();
            let first = options(&place, "root", compression);
            let (archive, cursors) = log(&first, at);
            let whole = options(&place, "whole", compression);
            let restore = |into: &FileOptions, one| {
                let backup = Backup::new(into.clone()).unwrap();
                backup.restore(&mut Reader::new(&archive), one).unwrap();
            };
            restore(&whole, None);
            check(&whole, &cursors, at);

            let backend = FileBackend::open(first.clone()).unwrap();
            assert!(backend.delete_job(&job("a"), None, NEVER).unwrap());
            drop(backend);
            restore(&first, Some(&job("a")));
            check(&first, &cursors, at);
        }
    }
}

#[test]
fn a_cursor_behind_a_segment_that_the_archive_holds_open_continues_exactly() {
    let place = Place::new();
    let first = options(&place, "root", false);
    let (archive, cursors) = log(&first, 2);
    let (read, behind) = cursors
        .iter()
        .find(|(_, cursor)| !names_a_segment(cursor))
        .unwrap();
    assert!(*read > 2, "the segment was open at the time of the archive");
    let whole = options(&place, "whole", false);
    let backup = Backup::new(whole.clone()).unwrap();
    backup.restore(&mut Reader::new(&archive), None).unwrap();
    // Also where the file system states no time of creation, which would show a writer that the file is a copy.
    for file in std::fs::read_dir(place.root("whole/events/shop/a")).unwrap() {
        let mode = file.unwrap().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o500);
    }
    let backend = FileBackend::open(whole).unwrap();
    append(&backend, &job("a"), LATER..LATER + 1);
    assert_eq!(payloads(&backend, behind).unwrap(), [LATER]);
}

/// True if the cursor states a position in a segment, and does not only cover segments.
fn names_a_segment(cursor: &Cursor) -> bool {
    let encoded = cursor.as_str().strip_prefix("v1.file.").unwrap();
    let json = data_encoding::BASE64URL_NOPAD.decode(encoded.as_bytes()).unwrap();
    let text: Value = serde_json::from_slice(&json).unwrap();
    text["s"].as_array().is_some_and(|named| !named.is_empty())
}

/// A root, a copy of it that was made by `cp` behind two events, and cursors behind the later ones.
fn copied(place: &Place, how: &str) -> Vec<(u32, Cursor)> {
    let backend = FileBackend::open(options(place, "root", false)).unwrap();
    append(&backend, &job("a"), 0..2);
    drop(backend);
    let mut cp = std::process::Command::new("cp");
    let copied = cp
        .arg(how)
        .arg(place.root("root"))
        .arg(place.root("old"))
        .status();
    assert!(copied.unwrap().success());
    let backend = FileBackend::open(options(place, "root", false)).unwrap();
    grow(&backend, 2..EVENTS)
}

#[test]
fn a_cursor_continues_in_a_copied_folder_whose_segment_was_sealed_since() {
    let place = Place::new();
    let cursors = copied(&place, "-a");
    let (_, behind) = cursors
        .iter()
        .find(|(_, cursor)| !names_a_segment(cursor))
        .unwrap();
    let old = options(&place, "old", false);
    let gaps = check(&old, &cursors, 2);
    let backend = FileBackend::open(old).unwrap();
    assert_eq!(payloads(&backend, behind).unwrap(), [LATER]);
    assert!(gaps > 0, "later segments are gone");
}

#[test]
fn a_cursor_of_a_copied_folder_keeps_its_place_in_a_segment_that_the_copy_does_not_continue() {
    let place = Place::new();
    copied(&place, "-a");
    let log = place.root("old/events/shop/a");
    let before: Vec<_> = std::fs::read_dir(&log)
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    let old = FileBackend::open(options(&place, "old", false)).unwrap();
    append(&old, &job("a"), LATER..LATER + 1);
    // The writer of the copy dies before its first record.
    for file in std::fs::read_dir(&log).unwrap().map(|file| file.unwrap().path()) {
        if !before.contains(&file) {
            std::fs::write(&file, "").unwrap();
        }
    }
    let cursor = end(&FileBackend::open(options(&place, "old", false)).unwrap());
    let original = FileBackend::open(options(&place, "root", false)).unwrap();
    assert_eq!(payloads(&original, &cursor).unwrap(), Vec::from_iter(2..EVENTS));
}

/// Runs `cp -a`.
fn cp(from: &Path, into: &Path) {
    assert!(run_cp(from, into));
}

/// Runs `cp -a`; returns false if it failed.
fn run_cp(from: &Path, into: &Path) -> bool {
    let mut cp = std::process::Command::new("cp");
    cp.arg("-a").args([from, into]).status().unwrap().success()
}

/// Copies a store to a new folder. A thread of the store may still compress a segment; then `cp` can fail, since the plain form
/// disappears, and it is repeated.
fn cp_store(from: &Path, into: &Path) {
    for _ in 0..100 {
        drop(std::fs::remove_dir_all(into));
        std::fs::create_dir_all(into).unwrap();
        if run_cp(&from.join("."), into) {
            return;
        }
    }
    panic!("no copy of {} succeeded", from.display());
}

/// The only segment of the log in a root.
fn segment(root: &Path) -> PathBuf {
    let mut files = std::fs::read_dir(root.join("events/shop/a")).unwrap();
    files.next().unwrap().unwrap().path()
}

#[test]
fn no_copy_with_times_is_continued_however_it_was_made() {
    type Make = fn(&Path, &Path, &FileOptions, &FileOptions);
    let ways: [(&str, Make); 5] = [
        ("once", |one, two, _, _| cp(one, two)),
        ("again, over the first copy", |one, two, live, _| {
            cp(one, two);
            append(&FileBackend::open(live.clone()).unwrap(), &job("a"), 3..4);
            cp(&one.join("events"), two);
        }),
        ("back over the original", |one, two, _, copy| {
            // The copy is continued and put back, so the two have changed places.
            cp(one, two);
            let bak = two.with_file_name("bak");
            cp(two, &bak);
            append(&FileBackend::open(copy.clone()).unwrap(), &job("a"), 30..31);
            std::fs::remove_dir_all(two.join("events")).unwrap();
            cp(&bak.join("events"), two);
        }),
        ("with a time that is ahead", |one, two, _, _| {
            cp(one, two);
            // As if the clock had been ahead when the original was written.
            let ahead = std::time::SystemTime::now() + Duration::from_secs(3_600);
            let copy = std::fs::File::open(segment(two)).unwrap();
            copy.set_modified(ahead).unwrap();
        }),
        ("and repaired", |one, two, _, copy| {
            cp(one, two);
            let (path, mut bytes) = (segment(two), std::fs::read(segment(two)).unwrap());
            bytes[60] ^= 1;
            std::fs::write(&path, bytes).unwrap();
            let modified = std::fs::metadata(segment(one)).unwrap().modified().unwrap();
            std::fs::File::open(&path)
                .unwrap()
                .set_modified(modified)
                .unwrap();
            let mut repaired = 0;
            let doctor = Doctor::new(copy.clone()).unwrap();
            let mut count = |finding: Finding| {
                repaired += usize::from(matches!(finding.outcome, FindingOutcome::Repaired { .. }));
            };
            doctor
                .repair(&DoctorScope::all(), Duration::ZERO, &mut count)
                .unwrap();
            assert_eq!(repaired, 1);
        }),
    ];
    for (how, make) in ways {
        let place = Place::new();
        let (one, two) = (place.root("one"), place.root("two"));
        let (live, copy) = (options(&place, "one", false), options(&place, "two", false));
        append(&FileBackend::open(live.clone()).unwrap(), &job("a"), 0..3);
        make(&one, &two, &live, &copy);
        // The next event fits, and the segment is then full.
        let nearly_full = |root: &Path, options: FileOptions| {
            let len = std::fs::metadata(segment(root)).unwrap().len();
            FileBackend::open(options.max_file_size(len + 1)).unwrap()
        };
        let live = nearly_full(&one, live);
        append(&live, &job("a"), 11..12);
        let cursor = end(&live);
        let copy = nearly_full(&two, copy);
        append(&copy, &job("a"), 21..22);
        append(&copy, &job("a"), 22..23);
        let found = payloads(&copy, &cursor).unwrap_or_else(|error| panic!("{how}: {error}"));
        assert_eq!(found, [21, 22], "{how}");
    }
}

/// Adds the segment that a writer leaves that dies before its first record.
fn leave_empty(root: &Path, made: Timestamp) {
    let name = SegmentName::new(made, made).file_name(SegmentForm::Plain);
    let path = root.join("events/shop/a").join(name);
    std::fs::write(&path, "").unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
}

#[test]
fn no_empty_segment_is_continued_in_two_places() {
    for is_put_back in [false, true] {
        let place = Place::new();
        let (one, two) = (place.root("one"), place.root("two"));
        // Each event fills a segment.
        let open = |name| FileBackend::open(options(&place, name, false).max_file_size(1)).unwrap();
        append(&open("one"), &job("a"), 0..1);
        leave_empty(&one, Timestamp::now());
        cp(&one, &two);
        append(&open("one"), &job("a"), 11..12);
        let cursor = end(&open("one"));
        let continued = match is_put_back {
            true => {
                // Later than a file that was created just now.
                std::thread::sleep(Duration::from_millis(60));
                cp(&two.join("."), &one);
                "one"
            }
            false => "two",
        };
        append(&open(continued), &job("a"), 21..22);
        match payloads(&open(continued), &cursor) {
            Ok(found) => assert_eq!(found, [21], "{is_put_back}"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::CursorGap, "{is_put_back}: {error}"),
        }
    }
}

#[test]
fn a_segment_that_a_writer_left_empty_is_continued() {
    let place = Place::new();
    let open = || FileBackend::open(options(&place, "root", false)).unwrap();
    append(&open(), &job("a"), 0..1);
    std::fs::remove_file(segment(&place.root("root"))).unwrap();
    leave_empty(&place.root("root"), Timestamp::now());
    append(&open(), &job("a"), 1..2);
    assert!(std::fs::metadata(segment(&place.root("root"))).unwrap().len() > 0);
}

#[test]
fn a_cursor_continues_in_a_compressed_segment_that_a_shorter_copy_was_put_beside() {
    let place = Place::new();
    let (one, two) = (place.root("one"), place.root("two"));
    append(
        &FileBackend::open(options(&place, "one", true)).unwrap(),
        &job("a"),
        0..1,
    );
    let cursor = end(&FileBackend::open(options(&place, "one", true)).unwrap());
    cp(&one, &two);
    let backend = FileBackend::open(options(&place, "one", true)).unwrap();
    append(&backend, &job("a"), 1..EVENTS);
    backend.flush(NEVER).unwrap();
    assert!(!segment(&one).ends_with(segment(&two).file_name().unwrap()));
    cp(&two.join("."), &one);
    assert_eq!(payloads(&backend, &cursor).unwrap(), Vec::from_iter(1..EVENTS));
    append(&backend, &job("a"), LATER..LATER + 1);
    assert_eq!(payloads(&backend, &cursor).unwrap(), needed(1, EVENTS));
}

#[test]
fn a_cursor_behind_a_segment_that_a_copied_folder_has_open_again_is_a_gap() {
    let place = Place::new();
    // The copies have the time of the copying, so that no writer knows them for copies.
    let cursors = copied(&place, "-r");
    let gaps = check(&options(&place, "old", false), &cursors, 2);
    assert!(gaps > 0, "a cursor covers the segment that is open again");
}

#[test]
fn no_event_comes_behind_a_cursor_in_an_old_segment_that_is_open_again() {
    for newer in [10, 20, 80] {
        let place = Place::new();
        // Each event fills a segment.
        let open = || FileBackend::open(options(&place, "root", false).max_file_size(1)).unwrap();
        append(&open(), &job("a"), 0..1);
        let first = segment(&place.root("root"));
        let backend = open();
        (1..=newer).for_each(|event| append(&backend, &job("a"), event..event + 1));
        let cursor = end(&backend);
        drop(backend);
        // A copy with the time of the copying is put in its place, so that no writer knows it for a copy.
        let bytes = std::fs::read(&first).unwrap();
        std::fs::remove_file(&first).unwrap();
        std::fs::write(&first, bytes).unwrap();
        let backend = FileBackend::open(options(&place, "root", false)).unwrap();
        append(&backend, &job("a"), LATER..LATER + 1);
        match payloads(&backend, &cursor) {
            Ok(found) => assert_eq!(found, [LATER], "{newer}"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::CursorGap, "{newer}: {error}"),
        }
    }
}

/// Some stores that are restored and copied from each other, and continued at the same time.
struct Branches {
    place: Place,
    random: fastrand::Rng,
    clocks: Vec<Arc<ManualClock>>,
    archives: Vec<Vec<u8>>,
    /// Cursors of any of the stores, each with the events that its reader had got.
    readers: Vec<(Option<Cursor>, BTreeSet<u32>)>,
    /// The events that a removal took in any store. A restore may bring them back, and no cursor of after it returns to them.
    removed: BTreeSet<u32>,
    /// For each store, whether there is an earlier copy of it, and it was not replaced since.
    copied: Vec<bool>,
    next: u32,
}

const STORES: [&str; 3] = ["one", "two", "three"];

impl Branches {
    fn options(&self, store: usize) -> FileOptions {
        let compression = self.random.clone().bool();
        options(&self.place, STORES[store], compression).clock(self.clocks[store].clone())
    }

    fn open(&self, store: usize) -> FileBackend {
        FileBackend::open(self.options(store)).unwrap()
    }

    fn append(&mut self, store: usize) {
        let until = self.next + self.random.u32(1..6);
        let backend = self.open(store);
        append(&backend, &job("a"), self.next..until);
        backend.flush(NEVER).unwrap();
        self.next = until;
    }

    fn restore(&mut self, store: usize) {
        let Some(archive) = self.random.choice(&self.archives) else {
            return;
        };
        let options = self.options(store);
        let one = self.random.bool().then(|| job("a"));
        match &one {
            Some(job) => drop(self.open(store).delete_job(job, None, NEVER).unwrap()),
            None => drop(std::fs::remove_dir_all(self.place.root(STORES[store]))),
        }
        self.copied[store] = false;
        let backup = Backup::new(options).unwrap();
        backup.restore(&mut Reader::new(archive), one.as_ref()).unwrap();
    }

    /// Makes a copy of a store, or puts it back over the store.
    fn copy_or_put_back(&mut self, store: usize) {
        let (root, copy) = (
            self.place.root(STORES[store]),
            self.place.root("copies").join(STORES[store]),
        );
        if self.copied[store] {
            cp(&copy.join("."), &root);
        } else if root.exists() {
            cp_store(&root, &copy);
        }
        self.copied[store] = root.exists() && !self.copied[store];
    }

    /// Removes old events of a store.
    fn clean(&mut self, store: usize) {
        let before = self.all(store);
        let backend = self.open(store);
        let age = self.random.i64(-3_000..1_000) * 1_000_000_000;
        let until = Timestamp::from_nanos(self.clocks[store].now().as_nanos() + age);
        backend.remove_before(&job("a"), until, None, NEVER).unwrap();
        drop(backend);
        let left = self.all(store);
        self.removed.extend(before.difference(&left));
    }

    fn all(&self, store: usize) -> BTreeSet<u32> {
        let backend = self.open(store);
        let mut scan = backend.scan(&job("a"), &ScanOptions::all(), NEVER).unwrap();
        rest(&mut *scan).unwrap().into_iter().collect()
    }

    /// Repairs a store. Nothing is damaged, so no event goes.
    fn repair(&self, store: usize) {
        let before = self.all(store);
        if let Ok(doctor) = Doctor::new(self.options(store)) {
            doctor
                .repair(&DoctorScope::all(), Duration::ZERO, &mut |_| {})
                .unwrap();
        }
        assert_eq!(self.all(store), before);
    }

    /// Imports the events of a store into another one, under their ids, as an import of an export does.
    fn import(&self, from: usize, into: usize) {
        let (source, backend) = (self.open(from), self.open(into));
        let mut scan = source.scan(&job("a"), &ScanOptions::all(), NEVER).unwrap();
        while let Some(item) = scan.next().unwrap() {
            let ScanItem::Record(record) = item else {
                panic!("{item:?}")
            };
            let line: Value = serde_json::from_str(record.line).unwrap();
            let mut batch = Batch::new();
            batch.push(&line["event"]).unwrap();
            batch.set_ids([record.id]);
            let appended = backend.append(&job("a"), &mut batch, &AppendOptions::default(), NEVER);
            // The id may be ahead of the clock of the target.
            if let Err(error) = appended {
                assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
            }
        }
    }

    /// Reads a store with a cursor of any store: the reader gets each event that it had not got, or a gap.
    fn read(&mut self, store: usize) -> bool {
        let (cursor, mut got) = self.readers[self.random.usize(..self.readers.len())].clone();
        let backend = self.open(store);
        let options = cursor.map_or_else(ScanOptions::all, ScanOptions::after);
        let mut scan = match backend.scan(&job("a"), &options, NEVER) {
            Ok(scan) => scan,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::CursorGap, "{error}");
                return false;
            }
        };
        got.extend(rest(&mut *scan).unwrap());
        let all = rest(&mut *backend.scan(&job("a"), &ScanOptions::all(), NEVER).unwrap()).unwrap();
        let is_new = |event: &&u32| !got.contains(event) && !self.removed.contains(event);
        let skipped: Vec<_> = all.iter().filter(is_new).collect();
        assert!(
            skipped.is_empty(),
            "skipped {skipped:?} of {all:?} with {options:?}"
        );
        self.readers.push((Some(scan.cursor()), got));
        true
    }
}

#[test]
fn a_cursor_of_any_copy_skips_no_event_in_any_other_copy() {
    let (mut read, mut gaps) = (0, 0);
    for seed in 0..30 {
        let mut branches = Branches {
            place: Place::new(),
            random: fastrand::Rng::with_seed(seed),
            clocks: STORES.map(|_| Arc::new(ManualClock::new())).into(),
            archives: Vec::new(),
            readers: vec![(None, BTreeSet::new())],
            removed: BTreeSet::new(),
            copied: vec![false; STORES.len()],
            next: 0,
        };
        let hours = branches.random.u64(0..3);
        branches.append(0);
        branches.clocks[0].advance(Duration::from_secs(3_600 * hours));
        for _ in 0..45 {
            let store = branches.random.usize(..STORES.len());
            match branches.random.u32(..15) {
                0..3 => branches.append(store),
                3 if branches.place.root(STORES[store]).join("events/shop/a").exists() => {
                    let mut archive = Vec::new();
                    let backup = Backup::new(branches.options(store));
                    if backup.and_then(|backup| backup.write(None, &mut archive)).is_ok() {
                        branches.archives.push(archive);
                    }
                }
                4 => branches.restore(store),
                5 => {
                    let from = branches.place.root(STORES[(store + 1) % STORES.len()]);
                    let into = branches.place.root(STORES[store]);
                    if from.exists() {
                        cp_store(&from, &into);
                        branches.copied[store] = false;
                    }
                }
                6 => {
                    let seconds = branches.random.i64(-2_000..2_000);
                    let now = branches.clocks[store].now().as_nanos();
                    branches.clocks[store].set(Timestamp::from_nanos(now + seconds * 1_000_000_000));
                }
                7 => branches.copy_or_put_back(store),
                8 if branches.place.root(STORES[store]).join("events/shop/a").exists() => {
                    leave_empty(&branches.place.root(STORES[store]), branches.clocks[store].now());
                }
                11 => branches.clean(store),
                9 => branches.repair(store),
                10 => branches.import((store + 1) % STORES.len(), store),
                _ if branches.read(store) => read += 1,
                _ => gaps += 1,
            }
        }
    }
    assert!(read > 150 && gaps > 25, "{read} reads, {gaps} gaps");
}

#[test]
fn a_damaged_note_about_deleted_logs_keeps_no_archive_from_being_restored() {
    let place = Place::new();
    let (first, into) = (options(&place, "root", false), options(&place, "whole", false));
    append(&FileBackend::open(first.clone()).unwrap(), &job("a"), 0..1);
    std::fs::create_dir(place.root("root").join("deletions")).unwrap();
    std::fs::write(place.root("root").join("deletions/shop.json"), "garbage").unwrap();
    let mut archive = Vec::new();
    Backup::new(first).unwrap().write(None, &mut archive).unwrap();
    let backup = Backup::new(into.clone()).unwrap();
    backup.restore(&mut Reader::new(&archive), None).unwrap();
    let backend = FileBackend::open(into).unwrap();
    let mut scan = backend.scan(&job("a"), &ScanOptions::all(), NEVER).unwrap();
    assert!(scan.next().unwrap().is_some());
}
