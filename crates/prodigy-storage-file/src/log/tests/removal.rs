//! Tests of the removal of the oldest segments.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prodigy_storage_backend::{
    AppendOptions, Cursor, Deadline, Durability, ErrorKind, LogSummary, ScanOptions, StorageError,
};
use prodigy_storage_layout::{SegmentForm, SegmentName};

use super::support::{
    Hand, NEVER, Place, at, batch, drain, id, ids, job, line, lines, name, payloads, set_mode, take,
};
use crate::doctor::FindingSeverity;
use crate::log::Logs;

/// Writes sealed segments, each with one event whose time is the segment's creation time.
pub(super) fn sealed(place: &Place, numbers: impl IntoIterator<Item = i64>) {
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

pub(super) fn segments(place: &Place) -> Vec<String> {
    let mut names = place.files();
    names.retain(|name| name.starts_with("events-"));
    names
}

pub(super) fn marks(place: &Place) -> Vec<String> {
    let mut names = place.files();
    names.retain(|name| name.starts_with(".removed-"));
    names
}

/// The cursor after the first `count` events.
pub(super) fn cursor(place: &Place, store: &Arc<Logs>, count: usize) -> Cursor {
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
fn the_newest_events_stay_where_the_segments_behind_them_have_none() {
    let place = Place::new();
    sealed(&place, 0..3);
    // Two writers died before their first events, and the second one left half of it.
    place.plant(&name(3, 3), "");
    place.plant(&name(4, 4), &line(id(4), "4")[..20]);
    let store = place.store();
    let end = cursor(&place, &store, 3);
    assert_eq!(remove(&place, &store, 1_000).segments, 2);
    assert_eq!(place.payloads(&place.store()), ["2"]);
    assert_eq!(place.after(&place.store(), Some(end.clone())).0, []);
    place.append(&place.store(), &["new"]).unwrap();
    assert_eq!(payloads(&place.after(&place.store(), Some(end)).0), ["new"]);
    // A log without any event keeps its segments.
    let place = Place::new();
    for number in 0..2 {
        set_mode(&place.plant(&name(number, number), ""), 0o400);
    }
    assert_eq!(remove(&place, &place.store(), 1_000).segments, 0);
}

#[test]
fn the_newest_event_stays_also_in_a_segment_that_is_not_the_last() {
    let place = Place::new();
    sealed(&place, 10..14);
    // The last segment has only an event with an old id that was given. The newest event is in segment 13.
    set_mode(&place.plant(&name(5, 14), line(id(5), "given")), 0o400);
    let store = place.store();
    assert_eq!(remove(&place, &store, 1_000).segments, 3);
    assert_eq!(place.payloads(&place.store()), ["given", "13"]);
    assert_eq!(remove(&place, &store, 1_000).segments, 0);
}

#[test]
fn the_last_event_decides_and_a_segment_that_is_open_keeps_all_behind_it() {
    let place = Place::new();
    sealed(&place, 0..1);
    set_mode(
        &place.plant(&name(1, 1), lines([(id(1), "1"), (id(50), "50")])),
        0o400,
    );
    sealed(&place, 60..63);
    let store = place.store();
    assert_eq!(remove(&place, &store, 50).segments, 1);
    set_mode(&place.log().join(name(60, 60)), 0o600);
    assert_eq!(remove(&place, &store, 100).segments, 1);
    assert_eq!(place.payloads(&store), ["60", "61", "62"]);
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
    // The reader gave no cursor, so it is not asked to leave it away.
    let (why, hint) = (ended.to_string(), ended.hint().unwrap());
    assert!(
        why.contains("while they were read") && hint.contains("read again"),
        "{why}: {hint}"
    );
    let mut tail = store.tail(&place.job, 2, None, NEVER).unwrap();
    assert_eq!(payloads(&drain(&mut *tail)), ["4", "5"]);
}

#[test]
fn a_scan_without_a_cursor_that_returned_nothing_yet_begins_with_what_a_removal_left() {
    let place = Place::new();
    sealed(&place, 0..6);
    let store = place.store();
    let first = cursor(&place, &store, 1);
    let mut all = place.scan(&store, &ScanOptions::all());
    let mut behind = place.scan(&store, &ScanOptions::after(first));
    remove(&place, &store, 4);
    assert_eq!(payloads(&drain(&mut *all)), ["4", "5"]);
    assert_eq!(place.after(&store, Some(all.cursor())).0, []);
    assert_eq!(take(&mut *behind).unwrap_err().kind(), ErrorKind::CursorGap);
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
        assert_eq!(
            place.quarantined().len(),
            0,
            "the next one frees the space, after {step} calls"
        );
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
    // A removal of younger events would not take it, so it is kept.
    assert_eq!(remove(&place, &store, 1).segments, 0, "moved to the quarantine");
    assert_eq!((segments(&place).len(), place.quarantined().len()), (2, 1));
    sealed(&place, 1..2);
    assert_eq!(remove(&place, &place.store(), 2).segments, 1, "unlinked");
    assert_eq!((segments(&place).len(), place.quarantined().len()), (2, 1));
    // The doctor's repair moves it away as well, and no other one.
    sealed(&place, 1..2);
    assert_eq!(place.findings("/events-", false), [FindingSeverity::Note]);
    assert_eq!(place.findings("/events-", true).len(), 1);
    assert_eq!((segments(&place).len(), place.quarantined().len()), (2, 2));
    assert_eq!(place.findings("/events-", false), []);
}

#[test]
fn what_the_mark_of_a_cleaned_copy_hides_is_reported_and_no_repair_or_removal_loses_it() {
    for repairs in [None, Some(false), Some(true)] {
        let (place, fork) = (Place::new(), Place::new());
        sealed(&place, 0..10);
        // Both have the mark of an earlier removal.
        remove(&place, &place.store(), 1);
        let cursor = place.after(&place.store(), None).1;
        copy_log(&place, &fork, |_| true);
        remove(&fork, &fork.store(), 8);
        let before = marks(&place);
        copy_log(&fork, &place, |name| name.starts_with(".removed-"));
        assert_eq!(place.payloads(&place.store()), ["8", "9"]);
        assert_eq!(place.findings("/.removed-", false), [FindingSeverity::Warning]);
        match repairs {
            Some(true) => assert_eq!(place.findings("/.removed-", true).len(), 1),
            Some(false) => assert_eq!(
                remove(&place, &place.store(), 1).segments,
                0,
                "moved to the quarantine"
            ),
            None => {
                let copied = marks(&place).into_iter().find(|mark| !before.contains(mark));
                std::fs::remove_file(place.log().join(copied.unwrap())).unwrap();
                assert_eq!(place.payloads(&place.store()).len(), 9);
                assert_eq!(place.after(&place.store(), Some(cursor)).0, []);
                continue;
            }
        }
        assert_eq!(place.payloads(&place.store()), ["8", "9"]);
        assert_eq!(place.quarantined().len(), 7);
        assert_eq!(place.findings("/.removed-", false), []);
    }
}

#[test]
fn a_removal_that_failed_at_any_call_is_ended_by_its_process_and_frees_all_space() {
    for step in 0.. {
        let place = Place::new();
        sealed(&place, 0..20);
        let (store, reel) = place.taped(place.options());
        let left = AtomicU64::new(step);
        reel.on(move |_, _| match left.fetch_sub(1, Ordering::Relaxed) {
            0 => Err(io::ErrorKind::StorageFull.into()),
            _ => Ok(()),
        });
        let removed = store.remove_before(&place.job, at(18), NEVER);
        store.remove_before(&place.job, at(18), NEVER).unwrap();
        assert_eq!(segments(&place).len(), 2, "after {step} calls");
        assert_eq!(place.quarantined().len(), 0, "after {step} calls");
        if removed.is_ok() && step > 60 {
            return;
        }
    }
}

#[test]
fn of_what_the_mark_of_a_cleaned_copy_hides_a_removal_frees_no_more_than_it_would_without_the_mark() {
    let (place, fork) = (Place::new(), Place::new());
    sealed(&place, 0..10);
    copy_log(&place, &fork, |_| true);
    remove(&fork, &fork.store(), 8);
    copy_log(&fork, &place, |name| name.starts_with(".removed-"));
    assert_eq!(place.payloads(&place.store()), ["8", "9"]);
    assert_eq!(remove(&place, &place.store(), 3).segments, 3);
    let kept: Vec<_> = (3..8)
        .map(|number| line(id(number), &number.to_string()))
        .collect();
    let mut quarantined = place.quarantined();
    quarantined.sort();
    assert_eq!(quarantined, kept);
}

/// Copies the files of one log into the folder of another one.
fn copy_log(from: &Place, to: &Place, is_copied: impl Fn(&str) -> bool) {
    for name in from.files().into_iter().filter(|name| is_copied(name)) {
        let mode = super::support::mode(&from.log().join(&name));
        let bytes = std::fs::read(from.log().join(&name)).unwrap();
        set_mode(&to.plant(&name, bytes), mode);
    }
}

#[test]
fn a_cursor_that_is_made_beside_segments_that_are_older_than_the_removed_ones_works() {
    let place = Place::new();
    sealed(&place, [100, 200, 300]);
    let before = cursor(&place, &place.store(), 3);
    assert_eq!(remove(&place, &place.store(), 250).segments, 2);
    // The segments of an earlier life of the job are put back.
    sealed(&place, [50, 60]);
    refused(&place, &place.store(), &before);
    let after = cursor(&place, &place.store(), 3);
    sealed(&place, [400]);
    assert_eq!(
        payloads(&place.after(&place.store(), Some(after.clone())).0),
        ["400"]
    );
    assert_eq!(remove(&place, &place.store(), 350).segments, 3);
    assert_eq!(payloads(&place.after(&place.store(), Some(after)).0), ["400"]);
}

#[test]
fn a_mark_that_was_copied_with_the_segment_beside_it_hides_no_event_of_the_other_log() {
    let from = Place::new();
    removed_until_250(&from);
    let place = Place::new();
    sealed(&place, [50, 150, 250, 350]);
    let early = cursor(&place, &place.store(), 1);
    copy_log(&from, &place, |_| true);
    let all = ["50", "150", "250", "300", "350", "400"];
    assert_eq!(place.payloads(&place.store()), all);
    // It is not certain that the cursor misses nothing.
    refused(&place, &place.store(), &early);
    let at_log = || place.findings("/events/shop/j", false);
    assert_eq!(at_log(), [FindingSeverity::Warning]);
    assert_eq!(place.findings("/events/shop/j", true), [FindingSeverity::Warning]);
    // A writer does not pass over an open segment that is older than the removal.
    set_mode(&place.log().join(name(50, 50)), 0o600);
    place.append(&place.store(), &["new"]).unwrap();
    assert_eq!(place.items(&place.store()).len(), 7);
    assert_eq!(remove(&place, &place.store(), 0), LogSummary::default());
    assert_eq!(place.items(&place.store()).len(), 7);
    // The next removal takes the segments whose events are old, and the contradiction ends.
    set_mode(&place.log().join(name(50, 50)), 0o400);
    place.append(&place.store(), &["newer"]).unwrap();
    assert_eq!(remove(&place, &place.store(), 280).segments, 3);
    assert_eq!(place.payloads(&place.store())[..2], ["300", "350"]);
    assert_eq!((marks(&place).len(), at_log()), (1, vec![]));
}

#[test]
fn a_mark_of_a_copy_hides_no_event_that_was_appended_here_after_the_copy() {
    let (place, fork) = (Place::new(), Place::new());
    sealed(&place, [100, 200]);
    place.plant(&name(300, 300), line(id(300), "both"));
    copy_log(&place, &fork, |_| true);
    // Both continue the open segment, and begin a later one.
    for (place, event) in [(&place, 302), (&fork, 301)] {
        let text = event.to_string();
        let events = lines([(id(300), "both"), (id(event), text.as_str())]);
        set_mode(&place.plant(&name(300, 300), events), 0o400);
        sealed(place, [event + 100]);
    }
    sealed(&fork, [500]);
    remove(&fork, &fork.store(), 450);
    copy_log(&fork, &place, |_| true);
    // The segments that both logs have are removed. Those that only this log has stay.
    assert_eq!(place.payloads(&place.store()), ["both", "302", "402", "500"]);
    remove(&place, &place.store(), 0);
    assert_eq!(segments(&place).len(), 3);
    assert_eq!(place.payloads(&place.store()), ["both", "302", "402", "500"]);
}

#[test]
fn a_removal_of_many_segments_is_never_seen_with_a_hole_wherever_it_is_cut_short() {
    let events: Vec<String> = (0..40).map(|number| number.to_string()).collect();
    let mut seen_lengths = std::collections::BTreeSet::new();
    for step in (0..).step_by(5) {
        let place = Place::new();
        sealed(&place, 0..40);
        let (dying, reel) = place.taped(place.options());
        reel.quick.store(true, Ordering::Relaxed);
        let left = AtomicU64::new(step);
        reel.on(move |_, _| {
            left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1))
                .map(drop)
                .map_err(|_| io::Error::other("dead"))
        });
        let removed = dying.remove_before(&place.job, at(37), NEVER);
        drop(dying);
        let seen = place.payloads(&place.store());
        assert_eq!(seen, events[40 - seen.len()..], "after {step} calls");
        seen_lengths.insert(seen.len());
        let store = place.store();
        store.remove_before(&place.job, at(37), NEVER).unwrap();
        assert_eq!(place.payloads(&store), ["37", "38", "39"]);
        assert_eq!((segments(&place).len(), marks(&place).len()), (3, 1));
        if removed.is_ok() {
            break;
        }
    }
    assert_eq!(seen_lengths.into_iter().collect::<Vec<_>>(), [3, 8, 24, 40]);
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
    for fields in [1, 2] {
        let place = Place::new();
        let mark = removed_until_250(&place);
        let old: Vec<&str> = mark.rsplitn(fields + 1, '-').collect();
        let old = *old.last().unwrap();
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
        assert!(now.len() == 1 && now[0].len() > old.len(), "{now:?}");
        // It does not say which segments it removed, so none that it covers is unlinked.
        assert_eq!(place.quarantined(), [line(id(200), "200")]);
        // The log is still the same one.
        let cursor = cursor(&place, &store, 1);
        assert_eq!(place.after(&store, Some(cursor)).0, []);
    }
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
fn each_new_segment_is_made_after_all_others_also_beside_a_mark_of_removed_ones() {
    for number in 0..16 {
        let place = Place::new();
        sealed(&place, [1_000 + number, 2_000, 3_000]);
        remove(&place, &place.store(), 1_500);
        let cursor = place.after(&place.store(), None).1;
        // The clock is behind all segments. Each event fills its segment.
        let store = place.with(place.options().max_file_size(1));
        let new = ["a", "b", "c"];
        for event in new {
            place.append(&store, &[event]).unwrap();
        }
        assert_eq!(payloads(&place.after(&place.store(), Some(cursor)).0), new);
    }
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

/// A follower of a log: its cursor, and the payloads that it was given since it began.
#[derive(Default)]
struct Follower {
    cursor: Option<Cursor>,
    given: BTreeSet<String>,
}

impl Follower {
    /// Reads on to the end. After a gap, begins again.
    fn read_on(&mut self, place: &Place, store: &Arc<Logs>) {
        let options = self
            .cursor
            .clone()
            .map_or_else(ScanOptions::all, ScanOptions::after);
        let mut scan = match store.scan(&place.job, &options, NEVER) {
            Err(gap) => {
                assert_eq!(gap.kind(), ErrorKind::CursorGap);
                *self = Self::default();
                return self.read_on(place, store);
            }
            scan => scan.unwrap(),
        };
        for payload in payloads(&drain(&mut *scan)) {
            assert!(self.given.insert(payload.clone()), "{payload} was given twice");
        }
        self.cursor = Some(scan.cursor());
    }
}

#[test]
fn followers_miss_nothing_beside_removals_restarts_and_clocks_that_step() {
    let mut removed = 0;
    for seed in 0..24 {
        let mut random = fastrand::Rng::with_seed(seed);
        let place = Place::new();
        let clocks = [0; 3].map(|_| Arc::new(Hand::at(0)));
        let compression = random.bool();
        let open = |of: usize| {
            let options = place.options().clock(clocks[of].clone()).max_file_size(400);
            place.with(options.compression(compression))
        };
        let mut stores = [0, 1, 2].map(open);
        let mut followers = [Follower::default(), Follower::default()];
        let deadline = || Deadline::after(Duration::from_secs(20));
        for step in 0..60 {
            let of = random.usize(..3);
            clocks[of].turn(
                random
                    .choice([0, 5, 2_000, -2_000, 3_600_000, -3_600_000])
                    .unwrap(),
            );
            match random.u8(..12) {
                0 => stores[of] = open(of),
                1 => stores[of].seal(&place.job, deadline()).unwrap(),
                2 | 3 => {
                    let newest = place.payloads(&place.store()).pop();
                    let before = at(random.i64(-2..3) * 3_600_000 + 1);
                    removed += stores[of]
                        .remove_before(&place.job, before, deadline())
                        .unwrap()
                        .segments;
                    assert_eq!(
                        place.payloads(&place.store()).pop(),
                        newest,
                        "seed {seed}, step {step}"
                    );
                }
                4 | 5 => followers[random.usize(..2)].read_on(&place, &stores[of]),
                _ => {
                    let texts: Vec<String> =
                        (0..random.usize(1..4)).map(|of| format!("{step}.{of}")).collect();
                    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
                    let options = AppendOptions::new(Durability::Relaxed);
                    stores[of]
                        .append(&place.job, &mut batch(&texts), &options, deadline())
                        .unwrap();
                }
            }
        }
        for store in &stores {
            store.flush(NEVER).unwrap();
        }
        let names = segments(&place);
        let stems: BTreeSet<_> = names
            .iter()
            .map(|name| name.split(".jsonl").next().unwrap())
            .collect();
        assert_eq!(stems.len(), names.len(), "seed {seed}: one name in two forms");
        let stored = place.payloads(&place.store());
        for follower in &mut followers {
            follower.read_on(&place, &place.store());
            for payload in &stored {
                assert!(
                    follower.given.contains(payload),
                    "seed {seed}: {payload} was missed"
                );
            }
        }
    }
    assert!(removed > 20, "{removed} segments were removed");
}
