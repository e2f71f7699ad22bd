//! Tests of records above a reader's limit. They are no damage; they are reported, and neither lost nor out of order.

use std::sync::Arc;
use std::time::Duration;

use prodigy_storage_backend::{Cursor, ErrorKind, ScanOptions, StorageError, TooLarge};
use prodigy_storage_layout::{SegmentForm, SegmentName};
use proptest::prelude::*;

use super::support::{Item, Place, at, damage, drain, id, ids, line, lines, name, payloads, set_mode, take};
use crate::FileOptions;
use crate::log::Logs;

/// The size of a record that is too large, and the limit, in bytes.
const LARGE: usize = 9_000;
const LIMIT: u64 = 2_000;

fn limited(place: &Place, limit: u64) -> FileOptions {
    let mut options = place.options().max_record_size(limit);
    options.always_read = 0;
    options
}

fn reader(place: &Place) -> Arc<Logs> {
    place.with(limited(place, LIMIT))
}

fn large() -> String {
    "x".repeat(LARGE)
}

fn too_large(items: &[Item]) -> Vec<TooLarge> {
    let found = items.iter().filter_map(|item| match item {
        Item::TooLarge(record) => Some(record.clone()),
        Item::Event { .. } | Item::Damage(_) => None,
    });
    found.collect()
}

/// Writes a log of three events, of which the second is above the limit.
fn three(place: &Place) -> (std::path::PathBuf, Vec<u8>) {
    let bytes = lines([(id(0), "a"), (id(1), &large()), (id(2), "c")]);
    (place.plant(&name(0, 0), &bytes), bytes)
}

#[test]
fn an_event_over_the_limit_is_reported_with_its_place_and_what_to_set_and_the_rest_is_read() {
    let place = Place::new();
    let (path, bytes) = three(&place);
    let items = place.items(&reader(&place));
    assert_eq!(payloads(&items), ["a", "c"]);
    assert!(damage(&items).is_empty(), "{items:?}");
    let (first, second) = (line(id(0), "a").len(), line(id(1), &large()).len());
    let record = TooLarge {
        place: path.display().to_string(),
        offset: first as u64,
        len: second as u64 - 1,
        id: Some(id(1).to_string()),
        verified: true,
        limit: LIMIT,
    };
    assert_eq!(items[1], Item::TooLarge(record.clone()));
    let error = StorageError::from(record);
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    for part in [
        &*path.display().to_string(),
        &id(1).to_string(),
        &first.to_string(),
    ] {
        assert!(error.to_string().contains(part), "{error}");
    }
    let hint = error.hint().unwrap();
    let named = format!("backend_config.max_record_size` to {}", second - 1);
    assert!(hint.contains(&named), "{hint}");
    // The message names the smallest limit with which the record is read. With one byte less, the record is not read.
    for (limit, read) in [(second as u64 - 1, 3), (second as u64 - 2, 2)] {
        let items = place.items(&place.with(limited(&place, limit)));
        assert_eq!(payloads(&items).len(), read, "under a limit of {limit}");
    }
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
}

#[test]
fn an_event_over_the_limit_that_fails_its_checksum_is_damage() {
    let place = Place::new();
    let (path, bytes) = three(&place);
    let first = line(id(0), "a").len();
    let len = line(id(1), &large()).len();
    for flipped in [0, 9, 60, len / 2, len - 4, len - 2] {
        let mut bytes = bytes.clone();
        bytes[first + flipped] ^= 0x01;
        std::fs::write(&path, &bytes).unwrap();
        let items = place.items(&reader(&place));
        assert_eq!(payloads(&items), ["a", "c"], "byte {flipped}");
        let told = damage(&items);
        assert_eq!(told.len(), 1, "byte {flipped}: {items:?}");
        assert_eq!((told[0].offset, told[0].len), (first as u64, len as u64));
    }
}

#[test]
fn a_cursor_passes_over_a_large_event_only_once_it_was_reported() {
    for form in [SegmentForm::Plain, SegmentForm::Zstd, SegmentForm::Gzip] {
        let place = Place::new();
        let (path, bytes) = three(&place);
        let (segment, _) = SegmentName::parse(&name(0, 0)).unwrap();
        let packed = place.log().join(segment.file_name(form));
        match form {
            SegmentForm::Zstd => std::fs::write(&packed, zstd::encode_all(&bytes[..], 3).unwrap()).unwrap(),
            SegmentForm::Gzip => {
                let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
                std::io::Write::write_all(&mut gz, &bytes).unwrap();
                std::fs::write(&packed, gz.finish().unwrap()).unwrap();
            }
            _ => {}
        }
        if form != SegmentForm::Plain {
            std::fs::remove_file(&path).unwrap();
        }
        let store = reader(&place);
        let all = place.items(&store);
        assert_eq!(too_large(&all).len(), 1);
        goes_on_exactly(&place, &store, &all);
    }
}

/// Checks that a scan from the cursor after each item, and a scan from the beginning, return exactly the remaining
/// items.
fn goes_on_exactly(place: &Place, store: &Arc<Logs>, all: &[Item]) {
    let mut scan = place.scan(store, &ScanOptions::all());
    let mut cursors: Vec<Cursor> = vec![scan.cursor()];
    while take(&mut *scan).unwrap().is_some() {
        cursors.push(scan.cursor());
    }
    assert_eq!(cursors.len(), all.len() + 1);
    for (given, cursor) in cursors.into_iter().enumerate() {
        let (rest, end) = place.after(store, Some(cursor));
        assert_eq!(rest, all[given..], "behind item {given}");
        assert!(place.after(store, Some(end)).0.is_empty(), "behind item {given}");
    }
}

#[test]
fn ids_and_times_ascend_behind_a_last_event_over_the_limit() {
    for sealed in [false, true] {
        let place = Place::new();
        place.clock.turn(700);
        let writer = place.store();
        place.append(&writer, &["a"]).unwrap();
        // The large event's id is just above that of the first event, and far below that of the last one.
        place.clock.turn(200);
        place.append(&writer, &[&large()]).unwrap();
        if sealed {
            place.seal(&writer);
        }
        drop(writer);
        let last = *ids(&place.items(&place.store())).last().unwrap();
        // The clock is set back, and the next writer may not find the last event.
        place.clock.turn(-400);
        place.append(&reader(&place), &["c"]).unwrap();
        let items = place.items(&place.store());
        assert_eq!(payloads(&items), ["a", &large(), "c"]);
        assert!(ids(&items)[2] > last, "sealed {sealed}");
        let times: Vec<_> = {
            let mut scan = place.scan(&place.store(), &ScanOptions::all());
            std::iter::from_fn(|| match scan.next().unwrap()? {
                prodigy_storage_backend::ScanItem::Record(record) => Some(record.time()),
                other => panic!("{other:?}"),
            })
            .collect()
        };
        // Within one segment, times do not decrease.
        assert!(sealed || times.is_sorted(), "{times:?}");
        let seen = place.items(&reader(&place));
        assert!(
            matches!(
                &seen[..],
                [Item::Event { .. }, Item::TooLarge(_), Item::Event { .. }]
            ),
            "{seen:?}"
        );
    }
}

#[test]
fn a_large_event_that_is_still_being_written_is_not_reported() {
    let place = Place::new();
    let (path, bytes) = three(&place);
    let first = line(id(0), "a").len();
    let end = first + line(id(1), &large()).len() - 1;
    let store = reader(&place);
    let all = place.items(&store);
    for written in [first + 1, first + 3_000, first + LARGE, end - 1] {
        std::fs::write(&path, &bytes[..written]).unwrap();
        let (items, cursor) = place.after(&store, None);
        assert_eq!(items, all[..1], "{written} bytes are written");
        // Once the record is complete, it is reported, by a follower as well.
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(
            place.after(&store, Some(cursor)).0,
            all[1..],
            "from {written} bytes on"
        );
        // In a sealed segment, which is complete, a torn record is damage.
        std::fs::write(&path, &bytes[..written]).unwrap();
        set_mode(&path, 0o400);
        let items = place.items(&store);
        assert_eq!(
            (payloads(&items).len(), damage(&items).len()),
            (1, 1),
            "{items:?}"
        );
        std::fs::remove_file(&path).unwrap();
    }
    // A record that lacks only its line end is complete, like a short one.
    std::fs::write(&path, &bytes[..end]).unwrap();
    assert_eq!(place.items(&store), all[..2]);
}

#[test]
fn blank_lines_over_the_limit_are_passed_over() {
    let place = Place::new();
    let blanks = [vec![b' '; LARGE], b"\n".to_vec()].concat();
    let bytes = [line(id(0), "a"), blanks.clone(), line(id(1), "b"), blanks].concat();
    place.plant(&name(0, 0), bytes);
    let items = place.items(&reader(&place));
    assert_eq!(payloads(&items), ["a", "b"]);
    assert_eq!(items.len(), 2, "{items:?}");
}

#[test]
fn a_given_id_that_is_stored_over_the_limit_is_stored() {
    let place = Place::new();
    three(&place);
    set_mode(&place.log().join(name(0, 0)), 0o400);
    let store = reader(&place);
    let appended = place.give(&store, &[(id(1), "again"), (id(3), "d")]).unwrap();
    assert_eq!((appended.stored, appended.duplicates), (1, 1));
    let given = payloads(&place.items(&place.store()));
    assert_eq!(given, ["a", &large(), "c", "d"]);
}

#[test]
fn an_event_over_the_limit_that_is_stored_twice_is_reported_once() {
    let place = Place::new();
    three(&place);
    let store = reader(&place);
    let (items, cursor) = place.after(&store, None);
    assert_eq!(too_large(&items).len(), 1);
    place.plant(&name(1, 5), lines([(id(1), large().as_str()), (id(4), "d")]));
    assert_eq!(payloads(&place.after(&store, Some(cursor)).0), ["d"]);
    let all = place.items(&store);
    assert_eq!((too_large(&all).len(), all.len()), (1, 4));
}

#[test]
fn the_bounds_of_a_scan_hold_for_events_over_the_limit() {
    let place = Place::new();
    three(&place);
    let store = reader(&place);
    for (since, until, expected) in [(1, 2, 1), (0, 1, 0), (2, 9, 0), (0, 9, 1)] {
        let options = ScanOptions::all().between(Some(at(since)), Some(at(until)));
        let items = drain(&mut *place.scan(&store, &options));
        assert_eq!(too_large(&items).len(), expected, "{since} to {until}");
    }
}

#[test]
fn a_line_of_another_program_over_the_limit_is_no_damage() {
    let place = Place::new();
    let foreign = format!(
        "{{\"timestamp\":\"2026-01-01T00:00:00Z\",\"event\":\"{}\"}}\n",
        large()
    );
    let bytes = [
        foreign.clone().into_bytes(),
        line(id(0), "ours"),
        foreign.into_bytes(),
    ]
    .concat();
    place.plant("events-20260101_000000.jsonl", bytes);
    let store = reader(&place);
    let items = place.items(&store);
    assert!(damage(&items).is_empty(), "{items:?}");
    let found = too_large(&items);
    assert_eq!(found.len(), 2);
    assert!(found.iter().all(|record| !record.verified && record.id.is_none()));
    goes_on_exactly(&place, &store, &items);
}

#[test]
fn a_step_that_runs_out_of_time_within_a_large_event_goes_on_in_it() {
    let place = Place::new();
    let bytes = lines([(id(0), "a"), (id(1), &"x".repeat(3 << 20)), (id(2), "c")]);
    place.plant(&name(0, 0), &bytes);
    let options = ScanOptions::all().step_timeout(Some(Duration::ZERO));
    let mut scan = place.scan(&reader(&place), &options);
    let (mut items, mut cut) = (Vec::new(), 0);
    while cut < 100 {
        match take(&mut *scan) {
            Ok(Some(item)) => items.push(item),
            Ok(None) => break,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Timeout);
                cut += 1;
            }
        }
    }
    assert!((2..100).contains(&cut), "it was cut short {cut} times");
    assert!(
        matches!(
            &items[..],
            [Item::Event { .. }, Item::TooLarge(_), Item::Event { .. }]
        ),
        "{items:?}"
    );
}

/// Sizes of payloads: mostly small, sometimes many times the limit.
fn size() -> impl Strategy<Value = usize> {
    prop_oneof![4 => 0..400usize, 2 => 400..3_000usize, 1 => 3_000..40_000usize]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn whatever_the_limit_each_event_is_given_or_reported_too_large(
        sizes in prop::collection::vec((size(), 0..3usize), 1..40),
        limit in 130..6_000u64,
        packed in prop::bool::ANY,
        asleep in prop::bool::ANY,
    ) {
        let place = Place::new();
        // Writes three segments whose ids overlap.
        let mut segments: [Vec<u8>; 3] = Default::default();
        let mut expected = Vec::new();
        for (millis, (size, segment)) in sizes.iter().enumerate() {
            let line = line(id(millis as i64), &"y".repeat(*size));
            expected.push((id(millis as i64), (line.len() - 1) as u64));
            segments[*segment].extend_from_slice(&line);
        }
        for (index, bytes) in segments.iter().enumerate() {
            let name = name(0, index as i64);
            if packed && index == 1 {
                place.plant(&(name + ".zst"), zstd::encode_all(&bytes[..], 1).unwrap());
            } else {
                place.plant(&name, bytes);
            }
        }
        let mut options = limited(&place, limit);
        if asleep {
            options.scan_memory = 0;
        }
        let store = place.with(options);
        let items = place.items(&store);
        prop_assert_eq!(items.len(), expected.len());
        for (item, (id, len)) in items.iter().zip(&expected) {
            match item {
                Item::Event { id: found, verified, .. } => {
                    prop_assert!(*found == *id && *verified && *len <= limit, "{} bytes", len);
                }
                Item::TooLarge(record) => {
                    prop_assert_eq!(record.id.as_deref(), Some(&*id.to_string()));
                    prop_assert!(record.len == *len && *len > limit && record.verified, "{:?}", record);
                }
                Item::Damage(damage) => prop_assert!(false, "{}", damage),
            }
        }
        goes_on_exactly(&place, &store, &items);
    }
}
