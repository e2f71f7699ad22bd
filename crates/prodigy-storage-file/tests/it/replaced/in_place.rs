//! Tests of a backup that is copied over a folder in use: each file keeps its inode, and gets its earlier contents.

use std::os::unix::fs::PermissionsExt;

use prodigy_storage_backend::{QueueStep, Stats};
use prodigy_storage_file::{Doctor, DoctorScope};

use super::*;

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(copied.unwrap().success());
}

impl Place {
    fn back_up(&self) {
        copy(&self.root(), &self.path("backup"));
    }

    fn restore_in_place(&self) {
        copy(&self.path("backup").join("."), &self.root());
    }

    /// The findings of the doctor, as text.
    fn damage(&self) -> Vec<String> {
        let mut found = Vec::new();
        let doctor = Doctor::new(FileOptions::new(self.root())).unwrap();
        doctor
            .examine(&DoctorScope::all(), &mut |finding| {
                found.push(format!("{finding:?}"));
            })
            .unwrap();
        found
    }
}

/// The only segment of the job.
fn segment(place: &Place) -> PathBuf {
    let log = place.root().join(prodigy_storage_layout::events_folder(&job()));
    let mut files = std::fs::read_dir(log).unwrap();
    files.next().unwrap().unwrap().path()
}

/// Pushes an item for each number. Items whose numbers have as many digits have the same size.
fn push_numbers(backend: &FileBackend, numbers: std::ops::Range<u32>) -> Result<()> {
    let items: Result<Vec<_>> = numbers
        .map(|number| {
            let id = format!("item-{number:04}");
            let body = format!("{{\"item_id\":\"{id}\",\"item_data\":\"{}\"}}", "x".repeat(300));
            Ok(QueueItem {
                id: ItemId::new(&id)?,
                body: RawValue::from_string(body).unwrap(),
            })
        })
        .collect();
    backend.queue_put(&job(), &items?, Durability::Strict, None, NEVER)?;
    Ok(())
}

fn ids(backend: &FileBackend) -> Vec<String> {
    let scan = backend.queue_scan(&job(), &Select::any(), NEVER).unwrap();
    let mut ids: Vec<_> = scan
        .map(|step| match step.unwrap() {
            QueueStep::Entry(entry) => entry.id.to_string(),
            other => panic!("{other:?}"),
        })
        .collect();
    ids.sort();
    ids
}

fn numbered(numbers: impl IntoIterator<Item = u32>) -> Vec<String> {
    numbers
        .into_iter()
        .map(|number| format!("item-{number:04}"))
        .collect()
}

/// Takes and acknowledges this number of items.
fn finish(backend: &FileBackend, count: usize) {
    let taken = backend
        .queue_take(
            &job(),
            &Select::eligible(),
            count,
            Duration::from_secs(60),
            None,
            NEVER,
        )
        .unwrap();
    assert_eq!(taken.len(), count);
    let done: Vec<_> = taken
        .iter()
        .map(|item| acknowledged(&item.lease.as_ref().unwrap().token))
        .collect();
    backend.queue_settle(&job(), &done, None, NEVER).unwrap();
}

#[test]
fn a_writer_finds_its_segment_cut_and_leaves_no_hole_in_it() {
    for durability in [Durability::Strict, Durability::Relaxed] {
        let place = Place::new();
        let backend = place.open(1 << 20);
        append(&backend, Durability::Strict).unwrap();
        place.back_up();
        for _ in 0..3 {
            append(&backend, Durability::Strict).unwrap();
        }
        place.restore_in_place();
        place.second_passes();
        let error = append(&backend, durability).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Replaced);
        assert!(error.why().contains("shorter"), "{error}");
        assert!(error.hint().is_some());
        append(&backend, durability).unwrap();
        assert_eq!(events(&backend).unwrap(), 2);
        assert_eq!(place.damage(), [""; 0]);
    }
}

#[test]
fn a_writer_finds_its_segment_longer_and_overwrites_nothing() {
    for durability in [Durability::Strict, Durability::Relaxed] {
        let place = Place::new();
        append(&place.open(1 << 20), Durability::Strict).unwrap();
        copy(&place.root(), &place.path("older"));
        for _ in 0..3 {
            append(&place.open(1 << 20), Durability::Strict).unwrap();
        }
        place.back_up();
        copy(&place.path("older").join("."), &place.root());
        // As long as the older copy and its next event, and less than the newer one.
        let backend = place.open(1 << 20);
        let segment = segment(&place);
        std::fs::set_permissions(&segment, PermissionsExt::from_mode(0o600)).unwrap();
        std::fs::write(&segment, std::fs::read(&segment).unwrap()).unwrap();
        append(&backend, Durability::Strict).unwrap();
        place.restore_in_place();
        place.second_passes();
        let error = append(&backend, durability).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Replaced);
        assert!(error.why().contains("longer"), "{error}");
        assert_eq!(events(&backend).unwrap(), 4);
        append(&backend, durability).unwrap();
        assert_eq!(events(&backend).unwrap(), 5);
        assert_eq!(place.damage(), [""; 0]);
    }
}

#[test]
fn a_queue_goes_on_with_what_is_there() {
    // A small queue has no blanks at its end, and a large one has.
    for count in [3, 40, 400] {
        let place = Place::new();
        let backend = place.open(1 << 20);
        push_numbers(&backend, 0..count).unwrap();
        finish(&backend, 1);
        place.back_up();
        push_numbers(&backend, count..count + 2).unwrap();
        finish(&backend, 1);
        place.restore_in_place();
        push_numbers(&backend, 9_000..9_001).unwrap();
        finish(&backend, 1);
        let left = numbered((2..count).chain([9_000]));
        assert_eq!(ids(&backend), left, "{count}");
        assert_eq!(ids(&place.open(2 << 20)), left, "{count}");
        assert_eq!(place.damage(), [""; 0], "{count}");
    }
}

#[test]
fn a_queue_of_the_same_length_is_not_taken_for_the_one_that_was_known() {
    let place = Place::new();
    let backend = place.open(1 << 20);
    // All later numbers have three digits, so that all later items have the same size.
    push_numbers(&backend, 0..100).unwrap();
    finish(&backend, 100);
    push_numbers(&backend, 100..110).unwrap();
    backend.flush(NEVER).unwrap();
    let items = place.root().join("dlq/shop/mapreduce-7/items.json");
    let before = std::fs::read(&items).unwrap();
    finish(&backend, 10);
    push_numbers(&backend, 110..120).unwrap();
    backend.flush(NEVER).unwrap();
    let after = std::fs::read(&items).unwrap();
    assert_eq!(before.len(), after.len());
    assert_ne!(before, after);
    // Writes the earlier contents to the file, which keeps its inode.
    std::fs::write(&items, before).unwrap();
    push_numbers(&backend, 120..121).unwrap();
    assert_eq!(ids(&backend), numbered((100..110).chain([120])));
    assert_eq!(place.damage(), [""; 0]);
}

#[test]
fn a_holder_that_its_lock_file_does_not_name_any_more_has_lost_the_lock() {
    let place = Place::filled();
    let backend = place.open(1 << 20);
    place.back_up();
    let guard = lock(&backend).unwrap();
    guard.check().unwrap();
    place.restore_in_place();
    let error = guard.check().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Replaced);
    assert_eq!(guard.release().unwrap_err().kind(), ErrorKind::Replaced);
    // The handle still works, and the token of the lock's next holder is accepted.
    let next = lock(&backend).unwrap();
    next.check().unwrap();
}

#[test]
fn a_cursor_behind_the_end_of_a_segment_is_counted_and_gives_events_again() {
    let place = Place::new();
    let backend = place.open(1 << 20);
    append(&backend, Durability::Strict).unwrap();
    place.back_up();
    append(&backend, Durability::Strict).unwrap();
    let mut scan = backend.scan(&job(), &ScanOptions::all(), NEVER).unwrap();
    while scan.next().unwrap().is_some() {}
    let cursor = scan.cursor();
    let again = || {
        let mut scan = backend
            .scan(&job(), &ScanOptions::after(cursor.clone()), NEVER)
            .unwrap();
        let mut given = 0;
        while scan.next().unwrap().is_some() {
            given += 1;
        }
        let mut stats = Stats::default();
        backend.stats(&mut stats);
        (given, stats.get("log.rewound"))
    };
    assert_eq!(again(), (0, 0));
    drop(scan);
    place.restore_in_place();
    assert_eq!(again(), (1, 1));
}
