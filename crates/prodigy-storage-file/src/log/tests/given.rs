//! Tests of appends under given ids.

use prodigy_storage_backend::ErrorKind;

use super::support::{Place, id, ids, lines, name, payloads, set_mode};

#[test]
fn each_is_stored_once_however_it_is_spread() {
    let place = Place::new();
    let store = place.quick(place.options().max_file_size(600));
    let mut random = fastrand::Rng::with_seed(7);
    let mut all: Vec<i64> = (0..300).collect();
    random.shuffle(&mut all);
    for chunk in all.chunks(7) {
        let events: Vec<_> = chunk.iter().map(|n| (id(*n), "x")).collect();
        place.give(&store, &events).unwrap();
        // Appends the events a second time, together with some old ones.
        let again: Vec<_> = chunk.iter().chain(&all[..3]).map(|n| (id(*n), "x")).collect();
        let appended = place.give(&store, &again).unwrap();
        assert!(appended.stored <= 3, "{appended:?}");
    }
    let found = ids(&place.items(&store));
    let wanted: Vec<_> = (0..300).map(id).collect();
    assert_eq!(found, wanted);
    // The ids in each segment ascend, so no event was stored out of order or twice.
    let mut lines = 0;
    for file in place.files() {
        let text = std::fs::read_to_string(place.log().join(&file)).unwrap();
        let own: Vec<&str> = text.lines().map(|line| &line[7..43]).collect();
        assert!(own.is_sorted_by(|a, b| a < b), "{file}");
        lines += own.len();
    }
    assert_eq!(lines, 300);
}

#[test]
fn what_another_process_appended_and_sealed_is_not_forgotten() {
    let place = Place::new();
    let (one, two) = (place.quick(place.options()), place.quick(place.options()));
    place.give(&one, &[(id(0), "a")]).unwrap();
    place.give(&two, &[(id(1), "b")]).unwrap();
    let (tape, reel) = place.taped(place.options());
    // The segment grows and is sealed while the third process is reading it.
    let grown = std::sync::atomic::AtomicBool::new(false);
    let (root, job) = (place.root(), place.job.clone());
    let writer = one.clone();
    reel.on(move |what, path| {
        if what == "stat"
            && path.extension().is_some_and(|end| end == "jsonl")
            && std::fs::metadata(root.join(path)).is_ok()
            && path.to_string_lossy().contains("jsonl")
            && !grown.swap(true, std::sync::atomic::Ordering::Relaxed)
        {
            let mut batch = super::support::batch(&["c"]);
            batch.set_ids([id(2)]);
            let options = prodigy_storage_backend::AppendOptions::default();
            writer
                .append(&job, &mut batch, &options, super::support::NEVER)
                .unwrap();
            writer.seal(&job, super::support::NEVER).unwrap();
        }
        Ok(())
    });
    place.give(&tape, &[(id(9), "x")]).unwrap();
    let again = place.give(&tape, &[(id(2), "c")]).unwrap();
    assert_eq!(again.duplicates, 1);
}

#[test]
fn a_search_looks_at_a_few_blocks_of_a_large_segment() {
    let place = Place::new();
    let count = 40_000;
    let path = place.plant(
        &name(0, 0),
        lines((0..count).map(|n| (id(n), "some payload of an event"))),
    );
    set_mode(&path, 0o400);
    let (store, reel) = place.taped(place.options());
    place.give(&store, &[(id(count + 5), "first")]).unwrap();
    reel.take();
    let again = place.give(&store, &[(id(count / 3), "again")]).unwrap();
    assert_eq!(again.duplicates, 1);
    let reads = reel.take().iter().filter(|call| call.starts_with("get ")).count();
    assert!(reads < 30, "{reads} reads");
}

#[test]
fn ids_that_would_spoil_the_order_are_refused() {
    let place = Place::new();
    let store = place.quick(place.options());
    for bad in [
        "0197f4e2-8a3b-4c1d-9e2f-3a4b5c6d7e8f".parse().unwrap(),
        id(3_600_001),
    ] {
        let error = place.give(&store, &[(id(0), "good"), (bad, "bad")]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
    assert_eq!(place.payloads(&store), [] as [String; 0]);
}

#[test]
fn two_processes_that_store_one_batch_at_one_moment_are_read_once() {
    let place = Place::new();
    let (one, two) = (place.quick(place.options()), place.quick(place.options()));
    let events: Vec<_> = (0..200).map(|n| (id(n), "x")).collect();
    std::thread::scope(|scope| {
        for store in [&one, &two] {
            let (place, events) = (&place, &events);
            scope.spawn(move || {
                for event in events {
                    place.give(store, &[*event]).unwrap();
                }
            });
        }
    });
    assert_eq!(
        ids(&place.items(&one)),
        events.iter().map(|(id, _)| *id).collect::<Vec<_>>()
    );
}

#[test]
fn late_ids_come_after_any_cursor_once() {
    let place = Place::new();
    let store = place.quick(place.options().max_file_size(500));
    let reader = place.store();
    let mut random = fastrand::Rng::with_seed(11);
    let mut all: Vec<i64> = (0..200).collect();
    random.shuffle(&mut all);
    let (mut cursor, mut seen) = (None, Vec::new());
    for chunk in all.chunks(5) {
        let events: Vec<_> = chunk.iter().map(|n| (id(*n), "x")).collect();
        place.give(&store, &events).unwrap();
        let options = cursor.map_or_else(
            prodigy_storage_backend::ScanOptions::all,
            prodigy_storage_backend::ScanOptions::after,
        );
        let mut scan = place.scan(&reader, &options);
        // Some scans stop before the end.
        for _ in 0..random.usize(0..9) {
            match super::support::take(&mut *scan).unwrap() {
                Some(item) => seen.push(item),
                None => break,
            }
        }
        cursor = Some(scan.cursor());
    }
    seen.extend(place.after(&reader, cursor).0);
    let mut found = ids(&seen);
    assert_eq!(payloads(&seen).len(), 200);
    found.sort();
    found.dedup();
    assert_eq!(found.len(), 200);
}

#[test]
fn ids_in_files_of_other_programs_count_whatever_their_order() {
    let place = Place::new();
    place.plant(
        "events-20260101_000000.jsonl",
        lines([(id(9), "c"), (id(1), "a"), (id(5), "b")]),
    );
    let store = place.quick(place.options());
    let again = place
        .give(
            &store,
            &[(id(1), "a"), (id(5), "b"), (id(7), "new"), (id(9), "c")],
        )
        .unwrap();
    assert_eq!((again.stored, again.duplicates), (1, 3));
}

#[test]
fn ids_that_the_log_gave_are_taken_back_however_far_the_clock_stepped_back() {
    let place = Place::new();
    let store = place.quick(place.options());
    place.append(&store, &["a"]).unwrap();
    place.clock.turn(-3 * 60 * 60 * 1000);
    // The id of this event is above the newest id, three hours ahead of the clock. A retry uses the same id.
    let mut batch = super::support::batch(&["b"]);
    let options = prodigy_storage_backend::AppendOptions::default();
    store
        .append(&place.job, &mut batch, &options, super::support::NEVER)
        .unwrap();
    let again = store
        .append(&place.job, &mut batch, &options, super::support::NEVER)
        .unwrap();
    assert_eq!((again.stored, again.duplicates), (0, 1));
    // An id that is ahead of both the clock and the newest id is refused.
    let error = place.give(&store, &[(id(61 * 60 * 1000), "c")]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert_eq!(payloads(&place.items(&store)), ["a", "b"]);
}
