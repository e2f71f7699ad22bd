//! Tests of the results of readers, and of their system calls.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use prodigy_storage_backend::{ErrorKind, ScanOptions};
use prodigy_storage_layout::Timestamp;

use super::support::{Place, at, drain, id, line, lines, name, payloads, set_mode, take};

#[test]
fn a_listing_that_races_with_a_rename_is_made_again() {
    let place = Place::new();
    let plain = place.plant(&name(0, 0), line(id(0), "a"));
    place.plant(&name(1, 1), line(id(1), "b"));
    let (store, reel) = place.taped(place.options());
    // Hides a segment, so that the listing misses both of its names.
    let hidden = place.folder.path().join("hidden");
    std::fs::rename(&plain, &hidden).unwrap();
    let moved = AtomicBool::new(false);
    reel.on(move |what, path| {
        if what == "list" && path.ends_with("j") && moved.swap(true, Ordering::Relaxed) && hidden.exists() {
            std::fs::rename(&hidden, &plain).unwrap();
        }
        Ok(())
    });
    assert_eq!(place.payloads(&store), ["a", "b"]);
}

#[test]
fn a_segment_that_changes_its_form_when_it_is_opened_is_found_in_the_other() {
    let place = Place::new();
    let bytes = lines([(id(0), "a"), (id(1), "b")]);
    let plain = place.plant(&name(0, 0), &bytes);
    let (store, reel) = place.taped(place.options());
    let other = place.log().join(name(0, 0) + ".zst");
    let packed = zstd::encode_all(&bytes[..], 3).unwrap();
    reel.on(move |what, path| {
        if what == "read" && path.ends_with(plain.file_name().unwrap()) && plain.exists() {
            std::fs::write(&other, &packed).unwrap();
            std::fs::remove_file(&plain).unwrap();
        }
        Ok(())
    });
    assert_eq!(place.payloads(&store), ["a", "b"]);
}

#[test]
fn order_is_by_id_over_segments_and_equal_ids_count_once() {
    let place = Place::new();
    let mut random = fastrand::Rng::with_seed(3);
    for segment in 0..30 {
        let mut own: Vec<i64> = (0..100).filter(|_| random.u8(..) < 40).collect();
        own.push(segment);
        own.sort_unstable();
        own.dedup();
        let events: Vec<_> = own.iter().map(|n| (id(*n), "x")).collect();
        place.plant(&name(own[0], 200 + segment), lines(events));
    }
    let store = place.store();
    let read = super::support::ids(&place.items(&store));
    assert!(read.is_sorted_by(|a, b| a < b), "each id once, and in order");
    assert!(read.len() >= 90);
}

#[test]
fn a_scan_ends_at_what_was_stored_when_it_began() {
    let place = Place::new();
    let writer = place.quick(place.options());
    place.append(&writer, &["a", "b"]).unwrap();
    let mut scan = place.scan(&writer, &ScanOptions::all());
    take(&mut *scan).unwrap();
    place.append(&writer, &["c"]).unwrap();
    assert_eq!(payloads(&drain(&mut *scan)), ["b"]);
    assert_eq!(payloads(&place.after(&writer, Some(scan.cursor())).0), ["c"]);
}

#[test]
fn bounds_are_looked_up_and_hold_over_any_segments() {
    let place = Place::new();
    for segment in 0..20 {
        let events: Vec<_> = (0..50).map(|n| (id(segment + n * 20), "x")).collect();
        let bytes = lines(events);
        if segment % 3 == 0 {
            let packed = zstd::encode_all(&bytes[..], 3).unwrap();
            place.plant(&(name(segment, segment) + ".zst"), packed);
        } else {
            set_mode(&place.plant(&name(segment, segment), bytes), 0o400);
        }
    }
    let store = place.store();
    let between = |since: Option<Timestamp>, until: Option<Timestamp>| {
        let mut scan = place.scan(&store, &ScanOptions::all().between(since, until));
        let read = drain(&mut *scan).len();
        // The number of events that were read, and the number that a scan from the cursor would still return.
        (read, place.after(&store, Some(scan.cursor())).0.len())
    };
    for (since, until) in [(0, 1000), (17, 18), (500, 500), (300, 700), (999, 2000)] {
        let (read, rest) = between(Some(at(since)), Some(at(until)));
        let end = until.min(1000);
        assert_eq!(read as i64, end - since, "{since}..{until}");
        assert_eq!(rest as i64, 1000 - end, "behind {since}..{until}");
    }
    assert_eq!(between(None, Some(at(250))), (250, 750));
    assert_eq!(between(Some(at(250)), None), (750, 0));
}

#[test]
fn a_step_ends_by_its_timeout_and_the_scan_can_be_gone_on_with() {
    let place = Place::new();
    // Writes damage without a line end, longer than any line that is kept in memory.
    let mut bytes = line(id(0), "a");
    bytes.resize(80 << 20, b'x');
    bytes.push(b'\n');
    bytes.extend_from_slice(&line(id(1), "b"));
    place.plant(&name(0, 0), bytes);
    let (store, reel) = place.taped(place.options());
    let slow = Arc::new(AtomicBool::new(true));
    let state = Arc::clone(&slow);
    reel.on(move |what, _| {
        if what == "get" && state.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(3));
        }
        Ok(())
    });
    let options = ScanOptions::all().step_timeout(Some(Duration::from_millis(10)));
    let mut scan = place.scan(&store, &options);
    take(&mut *scan).unwrap();
    let error = loop {
        match take(&mut *scan) {
            Ok(item) => assert!(item.is_some(), "it came to the end"),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::Timeout);
    slow.store(false, Ordering::Relaxed);
    let rest = place.after(&store, Some(scan.cursor())).0;
    assert_eq!(payloads(&rest), ["b"]);
}
