//! Tests of the mark of sealed segments (a `.sealed-…` file).

use std::sync::Arc;

use prodigy_storage_backend::{Deadline, EventId};

use super::support::{NEVER, Place, id, ids, line, lines, name, payloads, sealed, set_mode};
use super::tape::Reel;
use crate::doctor::FindingSeverity;
use crate::log::Logs;

/// A number of segments that is large enough for a new mark.
const MANY: i64 = 300;

fn marks(place: &Place) -> Vec<String> {
    let mut marks = place.files();
    marks.retain(|name| name.starts_with(".sealed-"));
    marks
}

/// Appends as a new process, and waits until its background work is done.
fn append(place: &Place) -> (Arc<Logs>, Arc<Reel>) {
    let (store, reel) = place.taped(place.options());
    place.append(&store, &["new"]).unwrap();
    store.flush(Deadline::never()).unwrap();
    (store, reel)
}

fn segments_examined(reel: &Reel) -> usize {
    reel.take()
        .iter()
        .filter(|call| call.starts_with("stat events-"))
        .count()
}

#[test]
fn the_second_new_writer_of_a_long_log_looks_at_few_segments() {
    let place = Place::new();
    sealed(&place, 0..MANY);
    assert!(segments_examined(&append(&place).1) >= MANY as usize);
    assert_eq!(marks(&place).len(), 1);
    assert!(segments_examined(&append(&place).1) < 10);
    // After another such number of new segments, a newer mark replaces the first one.
    place.seal(&append(&place).0);
    sealed(&place, MANY + 1..2 * MANY + 2);
    let before = marks(&place);
    append(&place);
    let after = marks(&place);
    assert!(after.len() == 1 && after > before, "{after:?}");
    assert_eq!(place.items(&place.store()).len(), 2 * MANY as usize + 1 + 4);
}

#[test]
fn a_writer_that_sealed_many_segments_leaves_a_mark_for_the_next_one() {
    let place = Place::new();
    let mut options = place.options();
    options.max_file_size = 1;
    let (store, _) = place.taped(options);
    for _ in 0..MANY {
        place.append(&store, &["own"]).unwrap();
    }
    store.flush(Deadline::never()).unwrap();
    drop(store);
    assert_eq!(marks(&place).len(), 1);
    // The mark covers the first 256 segments, so that fewer than 64 are examined.
    assert!(segments_examined(&append(&place).1) < 64);
}

#[test]
fn a_mark_of_more_segments_than_one_part_covers_all_of_them() {
    let place = Place::new();
    sealed(&place, 0..1_500);
    append(&place);
    assert_eq!(marks(&place).len(), 1);
    assert!(segments_examined(&append(&place).1) < 10);
}

#[test]
fn events_under_given_ids_are_not_searched_for_in_covered_segments_with_older_ids() {
    let place = Place::new();
    sealed(&place, 0..MANY);
    append(&place);
    let now = EventId::floor(place.options().clock.now());
    let (store, reel) = place.taped(place.options());
    reel.take();
    place.give(&store, &[(now, "given")]).unwrap();
    let opened = reel
        .take()
        .iter()
        .filter(|call| call.contains(" events-"))
        .count();
    assert!(opened < 64, "{opened}");
    // An event in a segment that the mark covers is still found as a duplicate.
    let again = place
        .give(&store, &[(id(MANY - 1), "x"), (now, "given")])
        .unwrap();
    assert_eq!((again.stored, again.duplicates), (0, 2));
}

#[test]
fn a_compression_that_was_cut_short_is_finished_in_a_covered_segment() {
    let place = Place::new();
    sealed(&place, 0..MANY);
    let mut options = place.options();
    options.compression = true;
    let store = place.with(options);
    place.append(&store, &["new"]).unwrap();
    store.flush(NEVER).unwrap();
    drop(store);
    append(&place);
    assert_eq!(marks(&place).len(), 1);
    // Leaves both forms of two segments, as a process does that dies before it removes the plain form.
    let (first, last) = (name(0, 0), name(MANY - 1, MANY - 1));
    for both in [&first, &last] {
        set_mode(
            &place.plant(both, line(id(i64::from(both == &last) * (MANY - 1)), "x")),
            0o400,
        );
    }
    append(&place);
    let files = place.files();
    assert!(!files.contains(&first) && !files.contains(&last), "{files:?}");
    assert_eq!(place.items(&place.store()).len() as i64, MANY + 3);
}

#[test]
fn a_short_log_has_no_mark() {
    let place = Place::new();
    sealed(&place, 0..20);
    append(&place);
    assert!(marks(&place).is_empty());
}

#[test]
fn a_mark_ends_before_the_first_segment_that_is_not_sealed_which_the_next_free_writer_seals() {
    let place = Place::new();
    sealed(&place, 0..MANY);
    let open = place.plant(&name(MANY, MANY), line(id(MANY), "open"));
    sealed(&place, MANY + 1..2 * MANY);
    let (store, _) = place.taped(place.options());
    let held = hold(&open);
    place.append(&store, &["elsewhere"]).unwrap();
    store.flush(NEVER).unwrap();
    drop((store, held));
    let mark = marks(&place);
    assert!(
        mark[0].contains(&name(MANY - 1, MANY - 1)["events-".len()..33]),
        "{mark:?}"
    );
    // Leaves two segments unsealed. A later writer adopts the newer one, and seals the other one, which is old.
    let (first, _) = append(&place);
    let (second, _) = append(&place);
    assert!(!std::fs::read_to_string(&open).unwrap().contains("new"));
    assert!(std::fs::metadata(&open).unwrap().permissions().readonly());
    drop((first, second));
}

/// Takes the lock of a segment, as another process does.
fn hold(path: &std::path::Path) -> std::fs::File {
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.try_lock().unwrap();
    file
}

#[test]
fn new_ids_are_above_those_of_the_segments_that_a_mark_covers() {
    let place = Place::new();
    sealed(&place, 0..MANY);
    // The clock was set back after the segment was written.
    let ahead = id(1_000_000_000);
    set_mode(&place.plant(&name(0, 0), line(ahead, "x")), 0o400);
    append(&place);
    assert_eq!(marks(&place).len(), 1);
    append(&place);
    let ids = ids(&place.items(&place.store()));
    assert!(ids.last().is_some_and(|last| *last > ahead));
}

#[test]
fn covered_segments_are_compressed_when_compression_is_turned_on() {
    let place = Place::new();
    sealed(&place, 0..MANY);
    append(&place);
    assert_eq!(marks(&place).len(), 1);
    let store = place.quick(place.options().compression(true));
    place.append(&store, &["new"]).unwrap();
    store.flush(NEVER).unwrap();
    let packed = place.files().iter().filter(|name| name.ends_with(".zst")).count();
    assert_eq!(packed as i64, MANY);
}

/// Appends events with given ids, older than the clock, each into its own segment. Then the process ends.
fn append_given_to_many(place: &Place) {
    let mut options = place.options();
    options.max_file_size = 1;
    let (store, reel) = place.taped(options);
    reel.quick.store(true, std::sync::atomic::Ordering::Relaxed);
    for number in 0..MANY {
        place.give(&store, &[(id(number), "given")]).unwrap();
    }
    store.flush(NEVER).unwrap();
    drop(store);
    assert_eq!(marks(place).len(), 1);
}

/// Appends from several processes, which start one after the other and stay open, with clocks that differ by two
/// seconds. Checks that a new reader and a follower return each event after all earlier ones.
fn append_in_turn(place: &Place) {
    let (items, mut cursor) = place.after(&place.store(), None);
    let (mut processes, mut wanted, mut followed) = (Vec::new(), payloads(&items), Vec::new());
    let before = wanted.len();
    for turn in 0..8 {
        place.clock.turn(if turn % 2 == 0 { 2_100 } else { -2_000 });
        let store = place.store();
        let payload = format!("turn {turn}");
        place.append(&store, &[&payload]).unwrap();
        wanted.push(payload);
        processes.push(store);
        let (items, next) = place.after(&place.store(), Some(cursor));
        followed.extend(payloads(&items));
        cursor = next;
    }
    assert_eq!(place.payloads(&place.store()), wanted);
    assert_eq!(followed, wanted[before..]);
}

#[test]
fn a_mark_that_is_left_of_removed_files_is_ignored_and_goes() {
    let place = Place::new();
    place.clock.turn(3_600_000);
    append_given_to_many(&place);
    for file in place.files() {
        if file.starts_with("events-") {
            std::fs::remove_file(place.log().join(file)).unwrap();
        }
    }
    assert_eq!(marks(&place).len(), 1);
    // The clock was ahead until now.
    place.clock.turn(-3_500_000);
    append_in_turn(&place);
    assert!(marks(&place).is_empty());
}

/// Copies the files of a log whose names start with `begins`, and gives them the mode of new files.
fn copy(from: &Place, to: &Place, begins: &str) {
    std::fs::create_dir_all(to.log()).unwrap();
    for file in from.files() {
        if file.starts_with(begins) && !to.log().join(&file).exists() {
            std::fs::copy(from.log().join(&file), to.log().join(&file)).unwrap();
            set_mode(&to.log().join(&file), 0o600);
        }
    }
}

#[test]
fn a_log_that_was_copied_by_hand_with_its_mark_or_before_it_is_in_order() {
    let of = Place::new();
    sealed(&of, 0..MANY);
    of.clock.turn(1_000_000);
    append(&of);
    of.seal(&append(&of).0);
    let mark = marks(&of);
    assert_eq!(mark.len(), 1);
    for begins in ["", "events-"] {
        let place = Place::new();
        place.clock.turn(1_000_000 + 10_000);
        copy(&of, &place, begins);
        // The mark is copied only after processes have continued the newest segments.
        let early = [(); 8].map(|()| place.store());
        for store in &early {
            place.append(store, &["early"]).unwrap();
        }
        copy(&of, &place, ".sealed-");
        place.clock.turn(-2_000);
        append_in_turn(&place);
        assert_ne!(marks(&place), mark, "{begins}");
        drop(early);
    }
}

/// The severities of the findings about marks.
fn findings(place: &Place, repair: bool) -> Vec<FindingSeverity> {
    place.findings("/.sealed-", repair)
}

#[test]
fn the_doctor_reports_a_mark_that_was_copied_or_is_untrue_or_knows_more_and_removes_it() {
    let of = Place::new();
    sealed(&of, 0..MANY);
    append(&of);
    assert_eq!(findings(&of, false), []);
    let copied = Place::new();
    copy(&of, &copied, "");
    assert_eq!(findings(&copied, false), [FindingSeverity::Note]);
    let covered = of.log().join(name(7, 7));
    set_mode(&covered, 0o600);
    assert_eq!(findings(&of, false), [FindingSeverity::Warning]);
    std::fs::write(&covered, line(id(7_000_000), "x")).unwrap();
    set_mode(&covered, 0o400);
    assert_eq!(findings(&of, false), [FindingSeverity::Warning]);
    // The newest event of the log is gone, and only the mark shows it.
    let cut = Place::new();
    sealed(&cut, 0..MANY);
    let newest = cut.log().join(name(MANY - 1, MANY - 1));
    set_mode(&newest, 0o600);
    let events = [(id(MANY - 1), "x"), (id(MANY + 7), "newest")];
    std::fs::write(&newest, lines(events)).unwrap();
    set_mode(&newest, 0o400);
    append(&cut);
    assert_eq!(findings(&cut, false), []);
    std::fs::write(&newest, lines([events[0]])).unwrap();
    assert_eq!(findings(&cut, false), [FindingSeverity::Warning]);
    for place in [of, copied, cut] {
        assert_eq!(findings(&place, true).len(), 1);
        assert!(marks(&place).is_empty());
        assert_eq!(findings(&place, false), []);
    }
}
