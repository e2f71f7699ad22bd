//! Tests of a folder whose names do not change: a scan from a cursor parses only the names that it needs, and returns
//! the same items as any other scan.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use prodigy_storage_backend::{Cursor, ScanOptions};
use prodigy_storage_layout::SegmentName;

use super::support::{Item, Place, id, line, lines, name, set_mode, take};
use super::tape::Names;
use crate::log::Logs;

/// Writes a segment of a random form and age.
fn plant(place: &Place, random: &mut fastrand::Rng, number: i64) {
    let lower = if random.u8(..8) == 0 {
        random.i64(0..=number)
    } else {
        number
    };
    let first = lower + random.i64(0..50);
    let events: Vec<_> = (0..random.i64(0..4))
        .map(|at| (id(first + at * 1000), "x"))
        .collect();
    let bytes = lines(events.clone());
    let plain = name(lower, number);
    match random.u8(..10) {
        0 => {
            place.plant(&plain, bytes);
        }
        1 | 2 => {
            place.plant(&(plain + ".zst"), zstd::encode_all(&bytes[..], 3).unwrap());
        }
        3 => {
            // The other form of the segment has the same events, as during a compression, or different ones.
            let other = if random.bool() {
                bytes.clone()
            } else {
                line(id(first + 7), "twin")
            };
            place.plant(
                &(plain.clone() + ".zst"),
                zstd::encode_all(&other[..], 3).unwrap(),
            );
            set_mode(&place.plant(&plain, bytes), 0o400);
        }
        4 => {
            let foreign = format!("events-202701{:02}_080000.jsonl", 1 + number % 28);
            place.plant(
                &foreign,
                "{\"id\":\"6f1c1f5e-7c1a-4a53-9d2e-0a3b1c2d3e4f\",\"event\":1}\n",
            );
        }
        _ => set_mode(&place.plant(&plain, bytes), 0o400),
    }
}

/// Reads up to `most` items after a cursor. Returns them, and the cursor after them.
fn read(place: &Place, store: &Arc<Logs>, from: Option<Cursor>, most: usize) -> (Vec<Item>, Cursor) {
    let options = from.map_or(ScanOptions::all(), ScanOptions::after);
    let mut scan = place.scan(store, &options);
    let mut items = Vec::new();
    while items.len() < most
        && let Some(item) = take(&mut *scan).unwrap()
    {
        items.push(item);
    }
    let cursor = scan.cursor();
    (items, cursor)
}

#[test]
fn a_scan_of_names_that_do_not_change_gives_what_a_scan_of_changing_names_gives() {
    for seed in 0..40 {
        let mut random = fastrand::Rng::with_seed(seed);
        let place = Place::new();
        let mut stores = Vec::new();
        for names in [Names::Still, Names::Changing] {
            let (store, reel) = place.taped(place.options());
            *reel.names.lock() = names;
            stores.push(store);
        }
        let segments = random.i64(1..120);
        for number in 0..segments {
            plant(&place, &mut random, number);
        }
        let mut from = None;
        for round in 0..6 {
            let most = random.usize(..segments as usize);
            let [still, changing] = &stores[..] else {
                unreachable!()
            };
            let one = read(&place, still, from.clone(), most);
            let other = read(&place, changing, from.clone(), most);
            assert_eq!(one, other, "seed {seed}, round {round}");
            from = Some(one.1);
            for number in 0..random.i64(0..5) {
                plant(&place, &mut random, segments + round * 10 + number);
            }
        }
    }
}

#[test]
fn names_that_do_not_change_are_read_once_and_others_twice() {
    let place = Place::new();
    for number in 0..300 {
        set_mode(&place.plant(&name(number, number), line(id(number), "x")), 0o400);
    }
    let cursor = read(&place, &place.store(), None, 290).1;
    for (names, passes) in [(Names::Still, 1), (Names::Changing, 3)] {
        let (store, reel) = place.taped(place.options());
        *reel.names.lock() = names;
        let (items, _) = read(&place, &store, Some(cursor.clone()), usize::MAX);
        assert_eq!(items.len(), 10);
        assert_eq!(reel.passes.load(Ordering::Relaxed), passes, "{names:?}");
    }
}

#[test]
fn the_first_append_reads_names_that_do_not_change_once() {
    for (names, passes) in [(Names::Still, 1), (Names::Changing, 4)] {
        let place = Place::new();
        for number in 0..3 {
            set_mode(&place.plant(&name(number, number), line(id(number), "x")), 0o400);
        }
        let (store, reel) = place.taped(place.options());
        *reel.names.lock() = names;
        place.append(&store, &["new"]).unwrap();
        assert_eq!(reel.passes.load(Ordering::Relaxed), passes, "{names:?}");
    }
}

#[test]
fn a_segment_that_is_created_after_the_listing_is_below_the_new_one() {
    const LATER: i64 = 100_000;
    let place = Place::new();
    set_mode(&place.plant(&name(0, 0), line(id(0), "x")), 0o400);
    let (store, reel) = place.taped(place.options());
    *reel.names.lock() = Names::Changing;
    let (log, other) = (place.log(), Arc::clone(&reel));
    let planted = Arc::new(AtomicBool::new(false));
    let plants = Arc::clone(&planted);
    reel.on(move |_, path| {
        let is_listed = other.passes.load(Ordering::Relaxed) == 2;
        if is_listed && path.starts_with("deletions") && !plants.swap(true, Ordering::Relaxed) {
            std::fs::write(log.join(name(LATER, LATER)), line(id(LATER), "x"))?;
        }
        Ok(())
    });
    place.append(&store, &["new"]).unwrap();
    assert!(planted.load(Ordering::Relaxed));
    let [.., later, new] = &place.files()[..] else {
        panic!("{:?}", place.files());
    };
    assert_eq!(later, &name(LATER, LATER));
    let made = |name: &str| SegmentName::parse(name).unwrap().0.made();
    assert!(made(new) > made(later), "{new}");
}
