//! Tests of cursors: a reader skips no event, and returns none twice.

use std::path::Path;
use std::sync::Arc;

use prodigy_storage_backend::{Cursor, ErrorKind, ScanOptions};

use crate::log::Logs;
use crate::log::cursor::Position;

use super::support::{
    NEVER, Place, at, damage, drain, id, ids, line, lines, name, payloads, sealed, set_mode, take,
};

#[test]
fn damage_is_told_once_and_not_again_from_a_cursor_behind_it() {
    let place = Place::new();
    let mut bytes = line(id(0), "a");
    bytes.extend_from_slice(b"rubbish\n");
    place.plant(&name(0, 0), &bytes);
    let store = place.store();
    let (items, end) = place.after(&store, None);
    assert_eq!((payloads(&items).len(), damage(&items).len()), (1, 1));
    let (items, end) = place.after(&store, Some(end));
    assert_eq!(items, [], "nothing is behind the end");
    place.append(&store, &["b"]).unwrap();
    let (items, _) = place.after(&store, Some(end));
    assert_eq!(
        (payloads(&items), damage(&items).len()),
        (vec!["b".to_owned()], 0)
    );
}

#[test]
fn a_segment_that_grows_and_is_sealed_while_its_reader_sleeps_is_not_taken_as_read() {
    let place = Place::new();
    let mut options = place.options();
    // Without memory for buffers, only one reader at a time has one; the others free theirs.
    options.scan_memory = 0;
    let store = place.quick(options);
    // The ids of all segments are from the same period, so their events alternate.
    for segment in 0..120 {
        let events: Vec<_> = (0..4).map(|n| (id(segment + n * 1000), "x")).collect();
        place.plant(&name(segment, segment), lines(events));
    }
    let mut scan = place.scan(&store, &ScanOptions::all());
    // After this, all segments are open, and most of their readers have freed their buffers.
    let mut seen: Vec<_> = (0..130)
        .flat_map(|_| ids(&[take(&mut *scan).unwrap().unwrap()]))
        .collect();
    // Appends one more event to each segment and seals it, as its writer would do.
    for segment in 0..120 {
        let path = place.log().join(name(segment, segment));
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.extend_from_slice(&line(id(segment + 9000), "late"));
        std::fs::write(&path, bytes).unwrap();
        set_mode(&path, 0o400);
    }
    seen.extend(ids(&drain(&mut *scan)));
    let (rest, _) = place.after(&store, Some(scan.cursor()));
    seen.extend(ids(&rest));
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 120 * 5);
}

#[test]
fn an_empty_segment_holds_the_mark_and_costs_no_repetition() {
    let place = Place::new();
    let store = place.quick(place.options());
    // This segment is empty, was created early, and has a late lower bound. So it is opened after hundreds of others.
    place.plant(&name(5, 5), line(id(5), "first"));
    place.plant(&name(100_000, 6), b"");
    // The number of finished segments that makes the scan drop those covered by the high-water mark.
    for segment in 10..265 {
        set_mode(
            &place.plant(&name(segment, segment), line(id(segment), "x")),
            0o400,
        );
    }
    let (items, end) = place.after(&store, None);
    assert_eq!(payloads(&items).len(), 256);
    let (items, end) = place.after(&store, Some(end));
    assert_eq!(payloads(&items), [] as [String; 0]);
    std::fs::write(place.log().join(name(100_000, 6)), line(id(100_000), "now")).unwrap();
    assert_eq!(payloads(&place.after(&store, Some(end)).0), ["now"]);
}

#[test]
fn an_empty_file_of_another_program_does_not_move_the_mark() {
    let place = Place::new();
    let store = place.quick(place.options());
    place.plant("events-2020-01-01.jsonl", b"");
    for segment in 10..300 {
        set_mode(
            &place.plant(&name(segment, segment), line(id(segment), "x")),
            0o400,
        );
    }
    let (items, end) = place.after(&store, None);
    assert_eq!(payloads(&items).len(), 290);
    assert!(end.as_str().len() < 300, "{} bytes", end.as_str().len());
    assert_eq!(payloads(&place.after(&store, Some(end)).0), [] as [String; 0]);
}

#[test]
fn a_segment_that_is_gone_with_what_was_unread_is_a_gap() {
    let place = Place::new();
    let path = place.plant(&name(0, 0), lines([(id(0), "a"), (id(1), "b")]));
    let other = place.plant(&name(1, 1), line(id(5), "c"));
    let store = place.store();
    for given in 0..=2 {
        let mut scan = place.scan(&store, &ScanOptions::all());
        for _ in 0..given {
            take(&mut *scan).unwrap();
        }
        let cursor = scan.cursor();
        if given == 0 {
            continue;
        }
        let kept = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let error = store
            .scan(&place.job, &ScanOptions::after(cursor), super::support::NEVER)
            .err()
            .unwrap_or_else(|| panic!("no gap after {given}"));
        assert_eq!(error.kind(), ErrorKind::CursorGap);
        std::fs::write(&path, kept).unwrap();
    }
    // A removed segment is a gap even if its first record was only read ahead, and not returned.
    place.plant(&name(0, 2), line(id(3), "d"));
    let mut scan = place.scan(&store, &ScanOptions::all());
    take(&mut *scan).unwrap();
    take(&mut *scan).unwrap();
    let cursor = scan.cursor();
    std::fs::remove_file(place.log().join(name(0, 2))).unwrap();
    let error = store.scan(&place.job, &ScanOptions::after(cursor), super::support::NEVER);
    assert_eq!(error.err().map(|error| error.kind()), Some(ErrorKind::CursorGap));
    drop(other);
}

#[test]
fn a_cursor_past_the_end_of_a_segment_gives_events_again_rather_than_skipping_any() {
    // Events after a power loss that removed the last two events. The clock was set back, so new ids may be below the
    // lost ones.
    let since: [&[i64]; 4] = [&[], &[7], &[1], &[1, 2, 3, 4, 7]];
    for sealed in [false, true] {
        for later in since {
            let place = Place::new();
            let path = place.plant(
                &name(0, 0),
                lines([(id(0), "a"), (id(5), "lost"), (id(6), "lost")]),
            );
            let store = place.store();
            let (_, end) = place.after(&store, None);
            let mut bytes = line(id(0), "a");
            let mut wanted = vec!["a".to_owned()];
            for millis in later {
                let payload = format!("{millis}, longer than what stood there before the power loss");
                bytes.extend(line(id(*millis), &payload));
                wanted.push(payload);
            }
            std::fs::write(&path, bytes).unwrap();
            if sealed {
                set_mode(&path, 0o400);
            }
            assert_eq!(payloads(&place.after(&store, Some(end)).0), wanted, "{later:?}");
        }
    }
}

#[test]
fn a_cursor_that_stands_behind_lost_damage_waits_for_nothing() {
    let place = Place::new();
    let path = place.plant(
        &name(0, 0),
        b"rubbish that is longer than the record which comes in its place".repeat(9),
    );
    std::fs::OpenOptions::new()
        .append(true)
        .open(&path)
        .unwrap()
        .set_len(600)
        .unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    bytes.push(b'\n');
    std::fs::write(&path, &bytes).unwrap();
    let store = place.store();
    let (items, end) = place.after(&store, None);
    assert_eq!((payloads(&items).len(), damage(&items).len()), (0, 1));
    // The damage before the cursor is not reported a second time.
    assert_eq!(place.after(&store, Some(end.clone())).0, []);
    std::fs::write(&path, line(id(3), "now")).unwrap();
    assert_eq!(payloads(&place.after(&store, Some(end)).0), ["now"]);
}

/// Reads a log in which `path` has only the first `len` bytes of a sealed file, and takes its end; both again when the file is
/// whole. Returns whether the reader, and whether the end, missed nothing.
pub(super) fn miss_nothing(place: &Place, path: &Path, bytes: &[u8], len: usize) -> (bool, bool) {
    let write = |bytes: &[u8]| {
        std::fs::remove_file(path).unwrap();
        std::fs::write(path, bytes).unwrap();
        set_mode(path, 0o400);
    };
    write(&bytes[..len]);
    let store = place.store();
    let (first, cursor) = place.after(&store, None);
    let (again, cursor) = place.after(&store, Some(cursor));
    assert_eq!(
        again,
        [],
        "{len}: nothing is new, and no damage is reported again"
    );
    let end = store.end(&place.job, NEVER).unwrap();
    write(bytes);
    let given = ids(&first);
    let all = ids(&place.items(&store));
    let missing: Vec<_> = all.into_iter().filter(|id| !given.contains(id)).collect();
    let has_rest = |cursor| ids(&place.after(&store, Some(cursor)).0) == missing;
    (has_rest(cursor), has_rest(end))
}

#[test]
fn a_sealed_segment_that_a_copy_by_hand_has_not_finished_is_not_taken_as_read() {
    let place = Place::new();
    let bytes = lines([(id(0), "a"), (id(1), "b")]);
    let path = place.plant(&name(0, 0), &bytes);
    set_mode(&place.plant(&name(9, 9), line(id(9), "z")), 0o400);
    let first = line(id(0), "a").len();
    for len in (0..=bytes.len()).filter(|len| *len != first) {
        // A file that ends between two records looks complete.
        assert_eq!(miss_nothing(&place, &path, &bytes, len), (true, true), "{len}");
    }
}

#[test]
fn a_line_end_that_came_later_is_no_line() {
    let place = Place::new();
    let whole = line(id(0), "a");
    let path = place.plant(&name(0, 0), &whole[..whole.len() - 1]);
    let store = place.store();
    let (items, end) = place.after(&store, None);
    assert_eq!(payloads(&items), ["a"]);
    let mut bytes = whole;
    bytes.extend_from_slice(&line(id(1), "b"));
    std::fs::write(&path, bytes).unwrap();
    let (items, _) = place.after(&store, Some(end));
    assert_eq!((payloads(&items), damage(&items)), (vec!["b".to_owned()], vec![]));
}

#[test]
fn a_cursor_between_equal_ids_gives_the_event_once() {
    let place = Place::new();
    place.plant(&name(0, 0), lines([(id(1), "x"), (id(2), "y")]));
    place.plant(&name(0, 1), lines([(id(1), "x"), (id(2), "y")]));
    let store = place.store();
    let mut seen = Vec::new();
    let mut cursor = None;
    loop {
        let options = cursor.map_or_else(ScanOptions::all, ScanOptions::after);
        let mut scan = place.scan(&store, &options);
        let Some(item) = take(&mut *scan).unwrap() else {
            break;
        };
        seen.push(item);
        cursor = Some(scan.cursor());
        assert!(seen.len() < 5, "{seen:?}");
    }
    assert_eq!(payloads(&seen), ["x", "y"]);
}

#[test]
fn an_event_that_stands_again_in_a_later_segment_is_not_given_again() {
    let place = Place::new();
    let sealed = place.plant(&name(0, 0), lines([(id(1), "a"), (id(2), "b")]));
    set_mode(&sealed, 0o400);
    place.plant(&name(3, 3), lines([(id(3), "c"), (id(4), "d")]));
    let store = place.store();
    let (items, end) = place.after(&store, None);
    assert_eq!(payloads(&items), ["a", "b", "c", "d"]);
    // Events that another process stored under the same ids, at the same time or again after a failed sync.
    place.plant(
        &name(1, 9),
        lines([(id(1), "a"), (id(2), "b"), (id(3), "c"), (id(8), "e")]),
    );
    let (items, end) = place.after(&store, Some(end));
    assert_eq!(payloads(&items), ["e"]);
    place.plant(&name(0, 10), lines([(id(0), "new"), (id(3), "c")]));
    assert_eq!(payloads(&place.after(&store, Some(end)).0), ["new"]);
}

#[test]
fn an_error_in_the_middle_passes_over_nothing() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    let place = Place::new();
    for segment in 0..60 {
        let events: Vec<_> = (0..3).map(|n| (id(segment + n * 1000), "x")).collect();
        place.plant(&name(segment, segment), lines(events));
    }
    let (store, reel) = place.taped(place.options());
    let calls = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&calls);
    reel.on(move |what, _| {
        let fails = matches!(what, "get" | "read") && counted.fetch_add(1, Ordering::Relaxed) % 5 == 4;
        if fails {
            Err(std::io::Error::from_raw_os_error(5))
        } else {
            Ok(())
        }
    });
    // Repeats failed calls of the same scan.
    let mut scan = place.scan(&store, &ScanOptions::all());
    let (mut seen, mut failed) = (Vec::new(), 0);
    loop {
        match take(&mut *scan) {
            Ok(Some(item)) => seen.push(item),
            Ok(None) => break,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Io);
                failed += 1;
            }
        }
    }
    assert!(failed > 10, "{failed} failures");
    assert_eq!(ids(&seen).len(), 180);
    // After a failed call, continues from the cursor in a new scan.
    let (mut seen, mut scan) = (Vec::new(), place.scan(&store, &ScanOptions::all()));
    loop {
        match take(&mut *scan) {
            Ok(Some(item)) => seen.push(item),
            Ok(None) => break,
            Err(_) => scan = place.scan(&store, &ScanOptions::after(scan.cursor())),
        }
        if calls.load(Ordering::Relaxed) > 3_000 {
            reel.off();
        }
    }
    let mut all = ids(&seen);
    all.sort();
    all.dedup();
    assert_eq!((seen.len(), all.len()), (180, 180));
}

#[test]
fn following_a_compressed_file_of_another_program_goes_on_where_it_was() {
    let place = Place::new();
    let v4 = |n: u8| format!("{n}0000000-0000-4000-8000-000000000000");
    // The ids of another program's lines are not in order.
    let text: String = [9, 3, 7, 1]
        .iter()
        .map(|&n| {
            format!(
                "{{\"id\":\"{}\",\"timestamp\":\"2027-01-01T00:00:0{n}Z\",\"event\":\"{n}\"}}\n",
                v4(n)
            )
        })
        .collect();
    let packed = zstd::encode_all(text.as_bytes(), 3).unwrap();
    place.plant("events-20270101.jsonl.zst", packed);
    let store = place.store();
    for given in 0..=4 {
        let mut scan = place.scan(&store, &ScanOptions::all());
        let mut seen: Vec<_> = (0..given).map(|_| take(&mut *scan).unwrap().unwrap()).collect();
        seen.extend(place.after(&store, Some(scan.cursor())).0);
        assert_eq!(payloads(&seen), ["9", "3", "7", "1"], "after {given}");
    }
}

#[test]
fn an_event_of_an_old_segment_that_was_written_to_for_long_is_not_returned_again() {
    let place = Place::new();
    // A process continued the oldest segment, while others created more than the replay filter searches.
    let sealed_with = |made: i64, events: &[(i64, &str)]| {
        let events = events.iter().map(|(number, payload)| (id(*number), *payload));
        set_mode(&place.plant(&name(made, made), lines(events)), 0o400);
    };
    sealed_with(0, &[(0, "first"), (600, "again"), (605, "last")]);
    for made in 1..200 {
        sealed_with(made, &[(300 + made, "x")]);
    }
    let (items, cursor) = place.after(&place.store(), None);
    assert_eq!(items.len(), 202);
    // Two processes append the event at the same time; this one creates its segment a moment later.
    let again = [(id(600), "again"), (id(610), "new")];
    set_mode(&place.plant(&name(600, 700), lines(again)), 0o400);
    let (items, cursor) = place.after(&place.store(), Some(cursor));
    assert_eq!(payloads(&items), ["new"]);
    // The cursor names no segment of a log whose segments were written one after the other.
    for made in 800..1_000 {
        sealed_with(made, &[(made, "y")]);
    }
    let (_, cursor) = place.after(&place.store(), Some(cursor));
    assert_eq!(Position::decode(&cursor).unwrap().segments.len(), 0);
}

fn is_gap(place: &Place, store: &Arc<Logs>, cursor: Cursor) -> bool {
    let scan = store.scan(&place.job, &ScanOptions::after(cursor), NEVER);
    scan.err()
        .is_some_and(|error| error.kind() == ErrorKind::CursorGap)
}

#[test]
fn a_follower_whose_newest_segments_were_removed_by_hand_gets_a_gap_and_misses_nothing() {
    // The oldest segments were removed before, so that a mark says where the log began.
    for is_cut in [false, true] {
        for left in [0, 15] {
            let place = Place::new();
            sealed(&place, 0..20);
            if is_cut {
                place.store().remove_before(&place.job, at(10), NEVER).unwrap();
            }
            let (_, cursor) = place.after(&place.store(), None);
            for file in place.files() {
                if file.starts_with("events-") && file >= name(left, left) {
                    std::fs::remove_file(place.log().join(file)).unwrap();
                }
            }
            // The name of the next segment is below those that the cursor covers, and that of the second one is above.
            place.clock.turn(16);
            place.append(&place.store(), &["new"]).unwrap();
            assert!(is_gap(&place, &place.store(), cursor.clone()), "{is_cut}, {left}");
            place.clock.turn(1_000);
            let (store, held) = (place.store(), place.store());
            place.append(&held, &["held"]).unwrap();
            place.append(&store, &["second"]).unwrap();
            assert!(is_gap(&place, &place.store(), cursor), "{is_cut}, {left}");
        }
    }
}

#[test]
fn a_cursor_before_an_empty_segment_that_a_power_loss_took_skips_no_event_of_the_next_one() {
    let place = Place::new();
    sealed(&place, 0..3);
    // The clock of this writer was ahead, and it died before its first record.
    let empty = place.plant(&name(1_000, 1_000), "");
    let (items, cursor) = place.after(&place.store(), None);
    assert_eq!(items.len(), 3);
    let end = place.store().end(&place.job, NEVER).unwrap();
    std::fs::remove_file(empty).unwrap();
    place.clock.turn(10);
    place.append(&place.store(), &["new"]).unwrap();
    for cursor in [cursor, end] {
        let (items, _) = place.after(&place.store(), Some(cursor));
        assert_eq!(payloads(&items), ["new"]);
    }
}

#[test]
fn a_cursor_of_an_earlier_version_continues_whatever_its_mark() {
    let place = Place::new();
    sealed(&place, 0..3);
    let old = Position {
        mark: Some(at(900)),
        newest: Some(id(2)),
        begun: Some(at(0)),
        ..Position::default()
    };
    sealed(&place, [1_000]);
    let (items, cursor) = place.after(&place.store(), Some(old.into_cursor()));
    assert_eq!(ids(&items), [id(1_000)]);
    let position = Position::decode(&cursor).unwrap();
    assert!(position.mark_is_segment);
    assert_eq!(position.mark, Some(at(1_000)));
}

#[test]
fn a_segment_that_is_put_back_in_front_of_a_cursors_first_one_is_a_gap() {
    let place = Place::new();
    for number in [100, 200, 300] {
        set_mode(&place.plant(&name(number, number), line(id(number), "x")), 0o400);
    }
    let (_, of_all) = place.after(&place.store(), None);
    let (first, away) = (place.log().join(name(100, 100)), place.root().join("away"));
    std::fs::rename(&first, &away).unwrap();
    let (_, of_rest) = place.after(&place.store(), None);
    std::fs::rename(&away, &first).unwrap();
    let store = place.store();
    let refused = store.scan(&place.job, &ScanOptions::after(of_rest), NEVER);
    let refused = refused.err().unwrap();
    assert_eq!(refused.kind(), ErrorKind::CursorGap);
    assert!(refused.to_string().contains("older"), "{refused}");
    assert_eq!(place.items(&store).len(), 3);
    // A cursor that knows the segment continues, also over thousands of names.
    for number in 400..600 {
        set_mode(&place.plant(&name(number, number), line(id(number), "x")), 0o400);
    }
    assert_eq!(place.after(&place.store(), Some(of_all)).0.len(), 200);
}
