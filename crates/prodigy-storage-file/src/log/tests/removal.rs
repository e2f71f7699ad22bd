//! Tests of the removal of the oldest segments.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prodigy_storage_backend::{AppendOptions, Cursor, ErrorKind, LogSummary, ScanOptions, StorageError};
use prodigy_storage_layout::{SegmentForm, SegmentName};

use super::support::{
    NEVER, Place, at, batch, drain, id, ids, job, line, lines, name, payloads, set_mode, take,
};
use crate::doctor::FindingSeverity;
use crate::log::Logs;

/// Writes sealed segments, each with one event whose time is the segment's creation time.
fn sealed(place: &Place, numbers: impl IntoIterator<Item = i64>) {
    for number in numbers {
        set_mode(
            &place.plant(&name(number, number), line(id(number), &number.to_string())),
            0o400,
        );
    }
}

fn remove(place: &Place, store: &Arc<Logs>, before: i64) -> LogSummary {
    let planned = store.removable_before(&place.job, at(before), NEVER).unwrap();
    let removed = store.remove_before(&place.job, at(before), NEVER).unwrap();
    assert_eq!(planned, removed);
    removed
}

fn segments(place: &Place) -> Vec<String> {
    let mut names = place.files();
    names.retain(|name| name.starts_with("events-"));
    names
}

fn marks(place: &Place) -> Vec<String> {
    let mut names = place.files();
    names.retain(|name| name.starts_with(".removed-"));
    names
}

/// The cursor after the first `count` events.
fn cursor(place: &Place, store: &Arc<Logs>, count: usize) -> Cursor {
    let mut scan = place.scan(store, &ScanOptions::all());
    for _ in 0..count {
        take(&mut *scan).unwrap().unwrap();
    }
    scan.cursor()
}

fn refused(place: &Place, store: &Arc<Logs>, cursor: &Cursor) -> StorageError {
    let scan = store.scan(&place.job, &ScanOptions::after(cursor.clone()), NEVER);
    let error = scan.err().expect("a gap");
    assert_eq!(error.kind(), ErrorKind::CursorGap);
    error
}

#[test]
fn sealed_segments_go_up_to_the_first_with_a_later_event_and_never_the_newest() {
    let place = Place::new();
    sealed(&place, 0..6);
    let store = place.store();
    assert_eq!(remove(&place, &store, 0), LogSummary::default());
    let removed = remove(&place, &store, 3);
    assert_eq!((removed.segments, removed.sealed, removed.compressed), (3, 3, 0));
    assert_eq!(removed.bytes, 3 * line(id(0), "0").len() as u64);
    assert_eq!(place.payloads(&store), ["3", "4", "5"]);
    assert_eq!(segments(&place).len(), 3);
    assert_eq!(remove(&place, &store, 3), LogSummary::default());
    assert_eq!(remove(&place, &store, 1_000).segments, 2);
    assert_eq!(place.payloads(&place.store()), ["5"]);
    assert_eq!(marks(&place).len(), 1);
}

#[test]
fn the_last_event_decides_and_a_segment_that_is_open_keeps_all_behind_it() {
    let place = Place::new();
    sealed(&place, 0..1);
    set_mode(
        &place.plant(&name(1, 1), lines([(id(1), "1"), (id(50), "50")])),
        0o400,
    );
    sealed(&place, 2..5);
    let store = place.store();
    assert_eq!(remove(&place, &store, 50).segments, 1);
    set_mode(&place.log().join(name(2, 2)), 0o600);
    assert_eq!(remove(&place, &store, 51).segments, 1);
    assert_eq!(place.payloads(&store), ["2", "3", "4"]);
}

#[test]
fn a_cursor_that_misses_removed_events_gets_a_gap_and_any_other_continues() {
    let place = Place::new();
    sealed(&place, 0..6);
    let store = place.store();
    let cursors: Vec<Cursor> = (0..=6).map(|count| cursor(&place, &store, count)).collect();
    let nothing = store.end(&job("other"), NEVER).unwrap();
    remove(&place, &store, 3);
    for (count, cursor) in cursors.iter().enumerate() {
        if count < 3 {
            let text = refused(&place, &store, cursor).to_string();
            let newest = at(2).to_rfc3339();
            assert!(text.contains("removed") && text.contains(&newest), "{text}");
        } else {
            store.persist(&place.job, cursor, NEVER).unwrap();
            let (items, _) = place.after(&store, Some(cursor.clone()));
            assert_eq!(payloads(&items).len(), 6 - count, "after {count}");
        }
    }
    refused(&place, &store, &nothing);
    // A cursor made before both removals still identifies the log, and so does a cursor made between them.
    let between = cursor(&place, &store, 2);
    remove(&place, &store, 5);
    assert_eq!(payloads(&place.after(&store, Some(between)).0), ["5"]);
    assert_eq!(payloads(&place.after(&store, Some(cursors[5].clone())).0), ["5"]);
    refused(&place, &store, &cursors[4]);
    // Later events follow the cursor.
    place.append(&store, &["new"]).unwrap();
    assert_eq!(
        payloads(&place.after(&store, Some(cursors[5].clone())).0),
        ["5", "new"]
    );
}

#[test]
fn a_cursor_in_a_removed_segment_is_a_gap_also_for_a_checkpoint() {
    let place = Place::new();
    place.plant(&name(0, 0), lines([(id(0), "a"), (id(1), "b")]));
    sealed(&place, 2..4);
    let store = place.store();
    let partly = cursor(&place, &store, 1);
    set_mode(&place.log().join(name(0, 0)), 0o400);
    remove(&place, &store, 2);
    refused(&place, &store, &partly);
    let error = store.persist(&place.job, &partly, NEVER).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::CursorGap);
    assert!(error.to_string().contains("removed"), "{error}");
}

#[test]
fn a_scan_that_comes_to_a_removed_segment_ends_with_a_gap() {
    let place = Place::new();
    sealed(&place, 0..6);
    let store = place.store();
    let mut scan = place.scan(&store, &ScanOptions::all());
    take(&mut *scan).unwrap();
    remove(&place, &store, 4);
    let ended = loop {
        match take(&mut *scan) {
            Ok(Some(_)) => {}
            Ok(None) => panic!("it ended as if nothing was missing"),
            Err(error) => break error,
        }
    };
    assert_eq!(ended.kind(), ErrorKind::CursorGap);
    let mut tail = store.tail(&place.job, 2, None, NEVER).unwrap();
    assert_eq!(payloads(&drain(&mut *tail)), ["4", "5"]);
}

#[test]
fn a_removal_that_was_cut_short_at_any_call_is_whole_for_readers_and_ended_by_the_next() {
    let mut outcomes = [0, 0];
    for step in 0..200 {
        let place = Place::new();
        sealed(&place, 0..2);
        // The compression of this segment was interrupted, so both of its forms exist.
        let packed = place.log().join(
            SegmentName::parse(&name(1, 1))
                .unwrap()
                .0
                .file_name(SegmentForm::Zstd),
        );
        std::fs::write(&packed, zstd::encode_all(&*line(id(1), "1"), 3).unwrap()).unwrap();
        sealed(&place, 2..5);
        remove(&place, &place.store(), 1);
        let (dying, reel) = place.taped(place.options());
        let left = AtomicU64::new(step);
        reel.on(move |_, _| {
            left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1))
                .map(drop)
                .map_err(|_| io::Error::other("dead"))
        });
        let removed = dying.remove_before(&place.job, at(3), NEVER);
        drop(dying);
        let seen = place.payloads(&place.store());
        match seen.len() {
            4 => assert_eq!(seen, ["1", "2", "3", "4"]),
            _ => assert_eq!(seen, ["3", "4"], "after {step} calls"),
        }
        outcomes[usize::from(seen.len() == 2)] += 1;
        let store = place.store();
        store.remove_before(&place.job, at(3), NEVER).unwrap();
        assert_eq!(place.payloads(&store), ["3", "4"]);
        assert_eq!(segments(&place), [name(3, 3), name(4, 4)], "after {step} calls");
        assert_eq!(marks(&place).len(), 1);
        if removed.is_ok() {
            assert!(outcomes[0] > 3 && outcomes[1] > 3, "{outcomes:?}");
            return;
        }
    }
    panic!("no removal ended");
}

#[test]
fn the_mark_is_durable_before_the_first_file_goes() {
    let place = Place::new();
    sealed(&place, 0..4);
    let (store, reel) = place.taped(place.options());
    store.remove_before(&place.job, at(2), NEVER).unwrap();
    let calls = reel.take();
    let first = |wanted: &str| calls.iter().position(|call| call.starts_with(wanted)).unwrap();
    let made = first("create events/shop/j/.removed-");
    let synced = first("sync-dir events/shop/j");
    assert!(
        made < synced && synced < first("unlink events/shop/j/events-"),
        "{calls:?}"
    );
    assert_eq!(
        calls.iter().rfind(|call| !call.starts_with("stat")).unwrap(),
        "sync-dir events/shop/j"
    );
}

#[test]
fn a_file_that_comes_back_stays_removed_and_goes_with_the_next_removal() {
    let place = Place::new();
    sealed(&place, 0..4);
    let store = place.store();
    let end = cursor(&place, &store, 4);
    remove(&place, &store, 2);
    // A removed segment reappears after a power loss.
    sealed(&place, 1..2);
    let store = place.store();
    assert_eq!(place.payloads(&store), ["2", "3"]);
    assert_eq!(place.after(&store, Some(end)).0, []);
    assert_eq!(remove(&place, &store, 2).segments, 1);
    assert_eq!(segments(&place).len(), 2);
}

/// Writes the segments of a log, removes those before 250, and returns the name of the mark.
fn removed_until_250(place: &Place) -> String {
    sealed(place, [100, 200, 300, 400]);
    remove(place, &place.store(), 250);
    marks(place).remove(0)
}

#[test]
fn a_mark_of_another_log_hides_nothing_and_goes_with_a_repair() {
    let mark = removed_until_250(&Place::new());
    let place = Place::new();
    sealed(&place, [50, 150, 250]);
    let before = cursor(&place, &place.store(), 1);
    place.plant(&mark, "");
    assert_eq!(place.payloads(&place.store()), ["50", "150", "250"]);
    let (items, _) = place.after(&place.store(), Some(before));
    assert_eq!(payloads(&items), ["150", "250"]);
    place.append(&place.store(), &["new"]).unwrap();
    assert_eq!(place.payloads(&place.store()), ["50", "150", "250", "new"]);
    assert_eq!(place.findings("/.removed-", false), [FindingSeverity::Warning]);
    assert_eq!(place.findings("/.removed-", true).len(), 1);
    assert_eq!(marks(&place), [""; 0]);
    assert_eq!(place.findings("/.removed-", false), []);
    // A removal makes a mark of its own, and an untrue one goes as well.
    place.plant(&mark, "");
    assert_eq!(remove(&place, &place.store(), 100).segments, 1);
    assert_eq!(place.payloads(&place.store()), ["150", "250", "new"]);
    assert_eq!(marks(&place).len(), 1);
    assert_ne!(marks(&place), [mark]);
    assert_eq!(place.findings("/.removed-", false), []);
}

#[test]
fn a_mark_of_an_earlier_version_is_read_and_replaced_by_the_next_removal() {
    let place = Place::new();
    let mark = removed_until_250(&place);
    let old = &mark[..mark.rfind('-').unwrap()];
    std::fs::rename(place.log().join(&mark), place.log().join(old)).unwrap();
    sealed(&place, [200]);
    let store = place.store();
    assert_eq!(place.payloads(&store), ["300", "400"]);
    let nothing = store.end(&job("other"), NEVER).unwrap();
    refused(&place, &store, &nothing);
    assert_eq!(place.findings("/.removed-", false), []);
    remove(&place, &store, 350);
    assert_eq!(place.payloads(&store), ["400"]);
    let now = marks(&place);
    assert!(now.len() == 1 && now[0].len() == mark.len(), "{now:?}");
    // The log is still the same one.
    let cursor = cursor(&place, &store, 1);
    assert_eq!(place.after(&store, Some(cursor)).0, []);
}

#[test]
fn files_that_come_back_stay_removed_in_a_log_with_thousands_of_names() {
    let place = Place::new();
    sealed(&place, 0..600);
    remove(&place, &place.store(), 3);
    let (_, end) = place.after(&place.store(), None);
    // A writer marks the sealed segments.
    let writer = place.store();
    place.append(&writer, &["new"]).unwrap();
    writer.flush(NEVER).unwrap();
    drop(writer);
    sealed(&place, 1..3);
    // Only some of the names that the cursor and the mark cover are listed.
    let (items, _) = place.after(&place.store(), Some(end));
    assert_eq!(payloads(&items), ["new"]);
    let (store, reel) = place.taped(place.options());
    place.append(&store, &["newer"]).unwrap();
    let calls = reel.take();
    let examined = calls.iter().filter(|call| call.starts_with("stat events-"));
    assert!(examined.count() < 10, "{calls:?}");
    assert_eq!(place.items(&store).len(), 599);
}

#[test]
fn a_disk_without_room_for_a_name_is_freed_all_the_same() {
    let place = Place::new();
    sealed(&place, 0..5);
    remove(&place, &place.store(), 0);
    let (store, reel) = place.taped(place.options());
    let full = Arc::new(AtomicU64::new(1));
    let (is_full, root) = (Arc::clone(&full), place.root());
    reel.on(move |what, path| {
        let is_segment = path.to_string_lossy().contains("events-");
        if what == "unlink" && is_segment && root.join(path).exists() {
            is_full.store(0, Ordering::Relaxed);
        }
        match what == "create" && is_full.load(Ordering::Relaxed) == 1 {
            true => Err(io::ErrorKind::StorageFull.into()),
            false => Ok(()),
        }
    });
    let removed = store.remove_before(&place.job, at(3), NEVER).unwrap();
    assert_eq!(removed.segments, 3);
    assert_eq!(place.payloads(&store), ["3", "4"]);
    let marks = marks(&place);
    assert_eq!((marks.len(), segments(&place).len()), (1, 2));
    assert_eq!(std::fs::metadata(place.log().join(&marks[0])).unwrap().len(), 0);
    // On a full disk the only removed segment is renamed to be the mark. The next removal frees its space.
    full.store(1, Ordering::Relaxed);
    assert_eq!(store.remove_before(&place.job, at(4), NEVER).unwrap().segments, 1);
    let mark = place.log().join(&self::marks(&place)[0]);
    assert!(std::fs::metadata(&mark).unwrap().len() > 0);
    full.store(0, Ordering::Relaxed);
    assert_eq!(store.remove_before(&place.job, at(4), NEVER).unwrap().segments, 0);
    assert_eq!(std::fs::metadata(&mark).unwrap().len(), 0);
}

#[test]
fn compressed_segments_are_removed_by_their_last_time() {
    let place = Place::new();
    let mut options = place.options().compression(true);
    options.max_file_size = 1;
    let store = place.with(options);
    for number in 0..4 {
        place.append(&store, &[&format!("{number}")]).unwrap();
        place.clock.turn(10);
    }
    store.flush(NEVER).unwrap();
    let removed = remove(&place, &store, 20);
    assert_eq!((removed.segments, removed.compressed), (2, 2));
    assert_eq!(place.payloads(&store), ["2", "3"]);
}

#[test]
fn a_writer_goes_on_while_its_oldest_segments_are_removed_and_forgets_their_ids() {
    let place = Place::new();
    let mut options = place.options();
    options.max_file_size = 1;
    let store = place.with(options);
    let given = id(1);
    place.give(&store, &[(given, "given")]).unwrap();
    place.append(&store, &["a", "b"]).unwrap();
    place.clock.turn(10);
    place.append(&store, &["c"]).unwrap();
    assert_eq!(place.give(&store, &[(given, "given")]).unwrap().duplicates, 1);
    assert!(remove(&place, &place.store(), 5).segments > 0);
    place.append(&store, &["d"]).unwrap();
    let before = ids(&place.items(&store));
    assert!(!before.contains(&given) && before.len() >= 2);
    assert_eq!(place.give(&store, &[(given, "given")]).unwrap().stored, 1);
    assert!(ids(&place.items(&place.store())).contains(&given));
}

#[test]
fn a_new_segment_is_made_after_the_removed_ones_whatever_the_clock_says() {
    let place = Place::new();
    sealed(&place, [1_000, 2_000]);
    remove(&place, &place.store(), 1_500);
    // Another program removes the newest segment, and the clock is behind all segments.
    std::fs::remove_file(place.log().join(name(2_000, 2_000))).unwrap();
    let store = place.store();
    let mut events = batch(&["new"]);
    store
        .append(&place.job, &mut events, &AppendOptions::default(), NEVER)
        .unwrap();
    assert_eq!(place.payloads(&place.store()), ["new"]);
}

#[test]
fn a_compression_that_ends_while_its_segment_is_locked_for_removal_is_no_obstacle() {
    let place = Place::new();
    sealed(&place, 0..3);
    let path = place.log().join(name(0, 0));
    let compressing = std::fs::File::open(&path).unwrap();
    compressing.lock().unwrap();
    let (store, reel) = place.taped(place.options());
    let log = place.log();
    reel.on(move |what, at| {
        let is_marked = std::fs::read_dir(&log).unwrap().any(|entry| {
            entry
                .unwrap()
                .file_name()
                .to_string_lossy()
                .starts_with(".removed-")
        });
        if what == "stat" && is_marked && at.ends_with(path.file_name().unwrap()) && path.exists() {
            let packed = path.with_extension("jsonl.zst");
            std::fs::rename(&path, packed).unwrap();
        }
        Ok(())
    });
    assert_eq!(store.remove_before(&place.job, at(1), NEVER).unwrap().segments, 1);
    drop(compressing);
    assert_eq!(segments(&place).len(), 2);
    assert_eq!(place.payloads(&store), ["1", "2"]);
}
