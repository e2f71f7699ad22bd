//! Tests of segments that mislead a writer, or cost it much time or memory.

use std::time::Duration;

use prodigy_storage_backend::{AppendOptions, Deadline, ErrorKind, EventId, ScanOptions};
use prodigy_storage_layout::{SegmentForm, SegmentName, Timestamp};

use super::support::{Place, batch, id, line, name, set_mode};

#[test]
fn nothing_is_made_after_a_segment_whose_name_stands_at_the_end_of_time() {
    let place = Place::new();
    let last = SegmentName::new(Timestamp::MAX, Timestamp::MAX).file_name(SegmentForm::Plain);
    set_mode(&place.plant(&last, b""), 0o400);
    let error = place.append(&place.store(), &["x"]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Damaged, "{error}");
    assert_eq!(place.files(), [last]);
}

#[test]
fn no_id_is_given_where_none_is_left_and_reading_goes_on() {
    let last: EventId = "ffffffff-ffff-7fff-bfff-ffffffffffff".parse().unwrap();
    for sealed in [false, true] {
        let place = Place::new();
        let path = place.plant(&name(1, 1), [line(id(1), "first"), line(last, "last")].concat());
        if sealed {
            set_mode(&path, 0o400);
        }
        let store = place.store();
        let error = place.append(&store, &["x"]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Damaged, "{error}");
        assert_eq!(place.payloads(&store), ["first", "last"]);
    }
}

#[test]
fn an_id_twice_in_a_segment_is_given_once_also_to_who_goes_on_between_the_two() {
    let place = Place::new();
    let twice = [
        line(id(1), "a"),
        b"rubbish\n".to_vec(),
        line(id(1), "b"),
        line(id(2), "c"),
    ];
    place.plant(&name(1, 1), twice.concat());
    let store = place.store();
    assert_eq!(place.payloads(&store), ["a", "c"]);
    let mut scan = place.scan(&store, &ScanOptions::all());
    for _ in 0..2 {
        scan.next().unwrap();
    }
    let (rest, _) = place.after(&store, Some(scan.cursor()));
    assert_eq!(super::support::payloads(&rest), ["c"]);
}

/// A file without a record, and a file whose only record is followed by more bytes than a line may have: a writer reads
/// the same number of bytes however long the file is. Both are sparse files, much larger than memory.
#[test]
fn a_segment_larger_than_memory_is_no_more_than_its_last_lines_to_a_writer() {
    let place = Place::new();
    let path = place.plant(&name(1, 1), line(id(1), "first"));
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(200 << 20).unwrap();
    set_mode(&path, 0o400);
    let store = place.store();
    place.append(&store, &["second"]).unwrap();
    assert_eq!(place.payloads(&store), ["first", "second"]);
}

#[cfg(feature = "compression")]
#[test]
fn a_position_far_behind_the_end_of_a_compressed_segment_skips_no_event() {
    use data_encoding::BASE64URL_NOPAD;
    let place = Place::new();
    let mut bytes = line(id(1), "first");
    bytes.extend(vec![b'\n'; 1 << 20]);
    let packed = zstd::encode_all(&bytes[..], 3).unwrap();
    place.plant(&name(1, 1).replace(".jsonl", ".jsonl.zst"), packed);
    let stem = name(1, 1).replace(".jsonl", "");
    let json = format!("{{\"s\":[[\"{stem}\",{},null,false]]}}", 1u64 << 50);
    let text = format!("v1.file.{}", BASE64URL_NOPAD.encode(json.as_bytes()));
    let cursor = prodigy_storage_backend::Cursor::new(text).unwrap();
    let store = place.store();
    let items = super::support::drain(&mut *place.scan(&store, &ScanOptions::after(cursor)));
    assert_eq!(super::support::payloads(&items), ["first"], "{items:?}");
    assert_eq!(items.len(), 1);
}

/// The first read of the segment lasts until the deadline, so the writer makes no second one.
#[test]
fn a_writer_that_looks_for_the_last_event_ends_by_its_deadline() {
    for given in [false, true] {
        let place = Place::new();
        let path = place.plant(&name(1, 1), line(id(1), "first"));
        let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(1 << 30).unwrap();
        set_mode(&path, 0o400);
        let (store, reel) = place.taped(place.options());
        let deadline = Deadline::after(Duration::from_millis(100));
        reel.on(move |what, path| {
            while what == "get" && path.starts_with("events") && !deadline.has_passed() {
                std::thread::yield_now();
            }
            Ok(())
        });
        let mut batch = batch(&["x"]);
        if given {
            batch.set_ids([id(2)]);
        }
        let options = AppendOptions::default();
        let error = store
            .append(&place.job, &mut batch, &options, deadline)
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
        let looks = reel.take();
        let looks = looks.iter().filter(|call| call.starts_with("get events")).count();
        assert!(looks <= 1, "{looks}");
    }
}
