//! Tests of the compression of sealed segments.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::support::{NEVER, Place, damage, drain, id, ids, line, lines, name, payloads, set_mode, take};
use prodigy_storage_backend::{Damage, ScanOptions};
use prodigy_storage_layout::{SegmentName, events_folder};

use crate::log::Logs;
use crate::log::archive;
use crate::log::segment_ref::SegmentRef;

fn packing(place: &Place) -> Arc<Logs> {
    place.store_with(|options| options.compression(true))
}

impl Place {
    fn store_with(&self, adapt: impl Fn(crate::FileOptions) -> crate::FileOptions) -> Arc<Logs> {
        self.with(adapt(self.options()))
    }
}

fn endings(place: &Place) -> Vec<String> {
    place
        .files()
        .iter()
        .map(|file| {
            file.split_once('.')
                .unwrap()
                .1
                .split_once('.')
                .unwrap()
                .1
                .to_owned()
        })
        .collect()
}

#[test]
fn a_sealed_segment_is_compressed_in_the_background_and_reads_the_same() {
    let place = Place::new();
    let store = packing(&place);
    for n in 0..50 {
        place.relaxed(&store, &[&format!("{n}")]).unwrap();
    }
    let before = place.items(&store);
    place.seal(&store);
    store.flush(NEVER).unwrap();
    assert_eq!(endings(&place), ["jsonl.zst"]);
    assert_eq!(place.items(&store), before);
    let summary = store.log_summary(&place.job, NEVER).unwrap();
    assert_eq!((summary.segments, summary.sealed, summary.compressed), (1, 1, 1));
    let plain = zstd::decode_all(std::fs::File::open(place.only()).unwrap()).unwrap();
    assert_eq!(
        plain.iter().filter(|byte| **byte == b'\n').count(),
        50,
        "any tool reads it"
    );
}

#[test]
fn it_is_synced_renamed_and_synced_before_the_plain_form_goes() {
    let place = Place::new();
    let (store, reel) = place.taped(place.options().compression(true));
    place.append(&store, &["a"]).unwrap();
    reel.take();
    place.seal(&store);
    store.flush(NEVER).unwrap();
    let calls = reel.take();
    let at = |wanted: &str| {
        calls
            .iter()
            .position(|call| call.starts_with(wanted))
            .unwrap_or_else(|| panic!("no `{wanted}` in {calls:?}"))
    };
    let temp = at("sync events/shop/j/.tmp-");
    let renamed = calls
        .iter()
        .position(|call| call.starts_with("rename") && call.ends_with(".zst"))
        .unwrap();
    let folder = renamed
        + calls[renamed..]
            .iter()
            .position(|call| call == "sync-dir events/shop/j")
            .unwrap();
    let unlinked = at("unlink events/shop/j/events-");
    assert!(
        temp < renamed && renamed < folder && folder < unlinked,
        "{calls:?}"
    );
}

#[test]
fn what_a_dead_process_left_at_any_step_is_finished_by_the_next_writer() {
    // The process that compresses dies after this number of system calls.
    for step in 0..200 {
        let place = Place::new();
        let events: Vec<_> = (0..20).map(|n| (id(n), "x")).collect();
        let plain = place.plant(&name(0, 0), lines(events.iter().copied()));
        set_mode(&plain, 0o400);
        let (dying, reel) = place.taped(place.options().compression(true));
        let left = std::sync::atomic::AtomicU64::new(step);
        reel.quick.store(true, Ordering::Relaxed);
        reel.on(move |_, _| {
            left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1))
                .map(drop)
                .map_err(|_| std::io::Error::other("dead"))
        });
        let segment = prodigy_storage_layout::SegmentName::parse(&name(0, 0)).unwrap().0;
        let folder = prodigy_storage_layout::events_folder(&place.job);
        let ended = super::super::archive::compress(SegmentRef::new(&dying.root, &folder, &segment)).is_ok();
        let done = ended && !plain.exists();
        let reader = place.store();
        assert_eq!(place.items(&reader).len(), 20, "after step {step}: counted once");
        drop(dying);
        // The next writer appends an event.
        let (next, reel) = place.taped(place.options().compression(true));
        reel.quick.store(true, Ordering::Relaxed);
        place.give(&next, &[(id(500), "next")]).unwrap();
        next.flush(NEVER).unwrap();
        let mut found = endings(&place);
        found.sort();
        assert_eq!(found, ["jsonl", "jsonl.zst"], "after step {step}");
        assert_eq!(place.items(&reader).len(), 21);
        if done {
            assert!(step > 10);
            return;
        }
    }
    panic!("it never came to its end");
}

#[test]
fn a_compressed_form_that_says_something_else_costs_the_plain_one_nothing() {
    let place = Place::new();
    let plain = place.plant(&name(0, 0), lines([(id(0), "a"), (id(1), "b")]));
    set_mode(&plain, 0o400);
    for packed in [
        b"rubbish".to_vec(),
        zstd::encode_all(&line(id(0), "a")[..], 3).unwrap(),
    ] {
        place.plant(&(name(0, 0) + ".zst"), packed);
        let store = packing(&place);
        place.append(&store, &["c"]).unwrap();
        store.flush(NEVER).unwrap();
        assert!(plain.exists());
        let items = place.items(&store);
        assert_eq!(payloads(&items)[..2], ["a", "b"]);
        // Readers also read the damaged compressed form, and report its damage.
        let is_packed = |damage: &Damage| damage.place.ends_with(".zst");
        assert!(damage(&items).iter().all(is_packed), "{items:?}");
    }
}

#[test]
fn readers_miss_nothing_while_segments_are_compressed_and_removed() {
    let place = Place::new();
    let (writer, reel) = place.taped(place.options().compression(true).max_file_size(400));
    reel.quick.store(true, Ordering::Relaxed);
    let (total, reader) = (600, place.store());
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| {
            for n in 0..total {
                place.append(&writer, &[&format!("{n}")]).unwrap();
            }
            writer.flush(NEVER).unwrap();
        });
        let (mut rounds, mut cursor, mut followed) = (0, None, Vec::new());
        loop {
            let finished = writing.is_finished();
            let read = payloads(&place.items(&reader));
            let wanted: Vec<_> = (0..read.len()).map(|n| n.to_string()).collect();
            assert_eq!(read, wanted, "round {rounds}");
            let (new, next) = place.after(&reader, cursor);
            followed.extend(payloads(&new));
            cursor = Some(next);
            rounds += 1;
            if finished {
                assert_eq!(read.len(), total);
                let wanted: Vec<_> = (0..total).map(|n| n.to_string()).collect();
                assert_eq!(followed, wanted);
                break;
            }
        }
        writing.join().unwrap();
    });
    assert!(
        endings(&place)
            .iter()
            .filter(|ending| *ending == "jsonl.zst")
            .count()
            > 100
    );
}

#[test]
fn a_cursor_goes_on_in_the_compressed_form() {
    let place = Place::new();
    let store = packing(&place);
    for n in 0..20 {
        place.relaxed(&store, &[&format!("{n}")]).unwrap();
    }
    let mut cursors = Vec::new();
    let mut scan = place.scan(&store, &ScanOptions::all());
    loop {
        cursors.push(scan.cursor());
        if take(&mut *scan).unwrap().is_none() {
            break;
        }
    }
    place.seal(&store);
    store.flush(NEVER).unwrap();
    assert_eq!(endings(&place), ["jsonl.zst"]);
    for (given, cursor) in cursors.into_iter().enumerate() {
        let rest = payloads(&place.after(&store, Some(cursor)).0);
        let wanted: Vec<_> = (given..20).map(|n| n.to_string()).collect();
        assert_eq!(rest, wanted);
    }
}

#[test]
fn gzip_is_read() {
    let place = Place::new();
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut gz, &lines([(id(0), "a"), (id(1), "b")])).unwrap();
    place.plant(&(name(0, 0) + ".gz"), gz.finish().unwrap());
    let store = place.store();
    assert_eq!(place.payloads(&store), ["a", "b"]);
    let mut scan = place.scan(&store, &ScanOptions::all());
    take(&mut *scan).unwrap();
    assert_eq!(payloads(&place.after(&store, Some(scan.cursor())).0), ["b"]);
    let again = place.give(&store, &[(id(1), "b")]).unwrap();
    assert_eq!(again.duplicates, 1);
}

#[test]
fn a_small_file_that_unpacks_to_much_is_read_in_bounded_memory() {
    let place = Place::new();
    // A compressed segment with one line that has no end and is much longer than the longest line that is kept in
    // memory.
    let mut packed = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
    std::io::Write::write_all(&mut packed, &line(id(0), "a")).unwrap();
    let block = vec![b' '; 1 << 20];
    for _ in 0..600 {
        std::io::Write::write_all(&mut packed, &block).unwrap();
    }
    std::io::Write::write_all(&mut packed, b"x\n").unwrap();
    std::io::Write::write_all(&mut packed, &line(id(1), "b")).unwrap();
    let packed = packed.finish().unwrap();
    assert!(packed.len() < 1 << 20);
    place.plant(&(name(0, 0) + ".zst"), packed);
    let before = super::scale::peak_memory();
    let items = drain(&mut *place.scan(&place.store(), &ScanOptions::all()));
    assert_eq!(payloads(&items), ["a", "b"]);
    assert_eq!(damage(&items).len(), 1);
    assert_eq!(ids(&items).len(), 2);
    // Compares the peak memory of the whole process, which includes other tests.
    if let (Some(before), Some(after)) = (before, super::scale::peak_memory()) {
        assert!(after - before < 500 << 20, "{} MiB", (after - before) >> 20);
    }
}

#[test]
fn one_that_is_compressed_while_a_writer_looks_still_tells_its_newest_id() {
    let place = Place::new();
    let before = packing(&place);
    // The segment's name does not show the range of its ids, so it has to be read.
    place.give(&before, &[(id(0), "a"), (id(60_000), "b")]).unwrap();
    drop(before);
    let sealed = place.only();
    set_mode(&sealed, 0o400);
    let segment = SegmentName::parse(sealed.file_name().unwrap().to_str().unwrap())
        .unwrap()
        .0;

    let (store, reel) = place.taped(place.options());
    let other = packing(&place);
    let folder = events_folder(&place.job);
    reel.on(move |what, path| {
        if what == "stat" && path.extension().is_some_and(|extension| extension == "jsonl") {
            archive::compress(SegmentRef::new(&other.root, &folder, &segment)).unwrap();
        }
        Ok(())
    });
    place.append(&store, &["c"]).unwrap();
    reel.off();
    assert_eq!(payloads(&place.items(&store)), ["a", "b", "c"]);
}

#[test]
fn a_compressed_segment_that_a_copy_by_hand_has_not_finished_is_not_taken_as_read() {
    let place = Place::new();
    let store = packing(&place);
    let events: Vec<String> = (0..50).map(|n| n.to_string()).collect();
    let events: Vec<&str> = events.iter().map(String::as_str).collect();
    place.relaxed(&store, &events).unwrap();
    place.seal(&store);
    store.flush(NEVER).unwrap();
    let (path, bytes) = (place.only(), std::fs::read(place.only()).unwrap());
    place.append(&store, &["z"]).unwrap();
    place.seal(&store);
    store.flush(NEVER).unwrap();
    drop(store);
    for len in 0..=bytes.len() {
        let (reader, _) = super::cursors::miss_nothing(&place, &path, &bytes, len);
        assert!(reader, "{len}");
    }
}

#[test]
fn a_sealed_segment_that_a_copy_by_hand_has_not_finished_is_not_compressed() {
    let place = Place::new();
    let bytes = line(id(0), "a");
    for len in [0, bytes.len() - 1, bytes.len()] {
        let path = place.plant(&name(0, 0), &bytes[..len]);
        set_mode(&path, 0o400);
        let store = packing(&place);
        place.append(&store, &["z"]).unwrap();
        store.flush(NEVER).unwrap();
        assert_eq!(path.exists(), len < bytes.len(), "{len}");
        std::fs::remove_dir_all(place.root()).unwrap();
    }
}
