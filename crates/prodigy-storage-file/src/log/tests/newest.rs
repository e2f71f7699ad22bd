//! Tests of reading the newest events of a log, and of finding its end, without reading the rest.

use prodigy_storage_backend::EventId;

use super::support::{Item, NEVER, Place, damage, drain, id, line, lines, name, payloads, set_mode};
use crate::log::Logs;

/// Writes sealed segments with `events` events each, one per millisecond. Segment `n` begins at `n` times 10 seconds.
fn segments(place: &Place, count: i64, events: i64) -> Vec<String> {
    let mut all = Vec::new();
    for segment in 0..count {
        let ids = (0..events).map(|event| segment * 10_000 + event);
        let texts: Vec<(EventId, String)> = ids.map(|at| (id(at), format!("{at}"))).collect();
        let bytes = lines(texts.iter().map(|(id, text)| (*id, text.as_str())));
        let path = place.plant(&name(segment * 10_000, segment * 10_000), bytes);
        set_mode(&path, 0o400);
        all.extend(texts.into_iter().map(|(_, text)| text));
    }
    all
}

fn tail(place: &Place, store: &Logs, count: usize) -> Vec<Item> {
    drain(&mut *store.tail(&place.job, count, None, NEVER).unwrap())
}

#[test]
fn a_tail_reads_the_end_of_the_newest_segments_only() {
    let place = Place::new();
    // Writes 40 segments of about 350 KiB.
    let all = segments(&place, 40, 4000);
    let (store, reel) = place.taped(place.options());
    for count in [1, 10, 500] {
        reel.take();
        assert_eq!(payloads(&tail(&place, &store, count)), all[all.len() - count..]);
        let gets = reel.take().into_iter().filter(|call| call.starts_with("get "));
        let (newest, others): (Vec<_>, Vec<_>) =
            gets.partition(|call| call.contains(&name(390_000, 390_000)));
        assert!(newest.len() < 40, "{} reads in the newest segment", newest.len());
        // Per other segment: one read of its last record for the search, and one for the cursor.
        assert!(others.len() <= 2 * 39, "{} reads elsewhere", others.len());
    }
    // Asks for more events than one segment holds.
    assert_eq!(payloads(&tail(&place, &store, 5000)), all[all.len() - 5000..]);
}

#[test]
fn the_last_write_needs_the_metadata_of_the_newest_segment_only() {
    let place = Place::new();
    segments(&place, 40, 1);
    let (store, reel) = place.taped(place.options());
    reel.take();
    let last = store.last_write(&place.job, NEVER).unwrap();
    let newest = name(390_000, 390_000);
    let looks = reel.take().into_iter();
    let looks: Vec<_> = looks
        .filter(|call| call.starts_with("stat ") && call.contains("events-"))
        .collect();
    assert!(looks.len() == 1 && looks[0].contains(&newest), "{looks:?}");
    let written = std::fs::metadata(place.log().join(&newest)).unwrap().modified();
    let written = written.unwrap().duration_since(std::time::UNIX_EPOCH).unwrap();
    assert_eq!(last.map(|last| last.as_nanos() as u128), Some(written.as_nanos()));
}

#[test]
fn the_end_takes_a_look_at_each_segment_and_reads_none() {
    let place = Place::new();
    segments(&place, 40, 4000);
    let (store, reel) = place.taped(place.options());
    reel.take();
    let end = store.end(&place.job, NEVER).unwrap();
    let gets = reel.take().iter().filter(|call| call.starts_with("get ")).count();
    assert!(gets <= 40, "{gets} reads");
    assert!(place.after(&store, Some(end.clone())).0.is_empty());
    assert!(
        end.as_str().len() < 200,
        "finished segments are covered by the mark: {end}"
    );
    place.plant(&name(500_000, 500_000), line(id(500_001), "later"));
    assert_eq!(payloads(&place.after(&store, Some(end)).0), ["later"]);
}

#[test]
fn a_tail_and_an_end_pass_over_compressed_segments() {
    let place = Place::new();
    let store = place.with(place.options().max_file_size(300).compression(true));
    let texts: Vec<String> = (0..30).map(|n| format!("event {n}")).collect();
    for text in &texts {
        place.append(&store, &[text]).unwrap();
    }
    store.flush(NEVER).unwrap();
    assert!(place.files().iter().any(|file| file.ends_with(".zst")));
    for count in [1, 7, 29, 30, 31] {
        let from = texts.len().saturating_sub(count);
        assert_eq!(payloads(&tail(&place, &store, count)), texts[from..], "{count}");
    }
    let end = store.end(&place.job, NEVER).unwrap();
    place.append(&store, &["after"]).unwrap();
    assert_eq!(payloads(&place.after(&store, Some(end)).0), ["after"]);
}

#[test]
fn a_tail_counts_the_files_of_other_programs() {
    let place = Place::new();
    segments(&place, 2, 4);
    // Adds a segment of another program that is newer than all of ours.
    place.plant(
        "events-20250101.jsonl",
        lines([(id(5_000), "foreign"), (id(50_000), "newest")]),
    );
    let store = place.store();
    assert_eq!(payloads(&tail(&place, &store, 1)), ["newest"]);
    assert_eq!(
        payloads(&tail(&place, &store, 6)),
        ["foreign", "10000", "10001", "10002", "10003", "newest"]
    );
    let end = store.end(&place.job, NEVER).unwrap();
    assert!(place.after(&store, Some(end)).0.is_empty());
}

#[test]
fn damage_and_a_torn_end_hide_no_event_of_a_tail() {
    let place = Place::new();
    let mut bytes = lines([(id(1), "1"), (id(2), "2"), (id(3), "3"), (id(4), "4")]);
    let third = bytes.len() / 4 * 2;
    bytes[third + 80] ^= 1;
    bytes.extend_from_slice(b"{\"id\":\"half a rec");
    place.plant(&name(1, 1), bytes);
    let store = place.store();
    let items = tail(&place, &store, 2);
    assert_eq!(payloads(&items), ["2", "4"], "what is no record is not counted");
    assert_eq!(damage(&items).len(), 1);
    assert!(
        place
            .after(&store, Some(store.end(&place.job, NEVER).unwrap()))
            .0
            .is_empty()
    );
}
