//! Files that are small on the disk and large when they are read, and files above a size limit.

use std::io::Write;
use std::time::Duration;

use prodigy_storage_backend::{Cursor, ErrorKind, LogStore, ScanOptions};

use crate::store::{NEVER, PLAIN, Store, foreign, record};

const TOO_LONG: &str = "it is longer than `max_record_size` allows, and its checksum does not hold";

fn zst() -> String {
    format!("{PLAIN}.zst")
}

/// Zeros compressed by Zstandard.
fn packed(before: &[u8], zeros: u64, after: &[u8]) -> Vec<u8> {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
    encoder.write_all(before).unwrap();
    let chunk = vec![0; 1 << 20];
    for _ in 0..zeros >> 20 {
        encoder.write_all(&chunk).unwrap();
    }
    encoder.write_all(after).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn a_line_of_a_hundred_megabytes_is_told_and_reading_goes_on_behind_it() {
    let (store, path) = Store::segment(PLAIN, &record(1));
    let mut file = std::fs::OpenOptions::new().append(true).open(path).unwrap();
    file.set_len(100 << 20).unwrap();
    file.write_all(b"\n").unwrap();
    file.write_all(&record(2)).unwrap();
    let told = store.events(None).unwrap();
    assert_eq!(told.len(), 3, "{told:?}");
    assert_eq!((told[0].as_str(), told[2].as_str()), ("verified", "verified"));
    assert!(told[1].ends_with(TOO_LONG), "{}", told[1]);
    store.append("3").unwrap();
    assert_eq!(store.events(None).unwrap().len(), 4);
}

#[test]
fn zeros_that_unpack_to_more_than_a_line_may_have_are_one_damage() {
    let bytes = packed(&record(1), 200 << 20, &[&b"\n"[..], &record(2)].concat());
    assert!(bytes.len() < 1 << 16, "{} bytes", bytes.len());
    let (store, _) = Store::segment(&zst(), &bytes);
    let told = store.events(None).unwrap();
    assert_eq!(told.len(), 3, "{told:?}");
    assert!(told[1].ends_with(TOO_LONG), "{}", told[1]);
    assert_eq!((told[0].as_str(), told[2].as_str()), ("verified", "verified"));
}

#[test]
fn a_bomb_ends_with_the_time_of_a_step() {
    // An event without a checksum in a compressed file makes readers decompress the whole file first.
    let bytes = packed(foreign("1").as_bytes(), 64 << 20, b"");
    let (store, _) = Store::segment(&zst(), &bytes);
    let failure = |options: &ScanOptions| {
        let backend = store.backend();
        let mut scan = backend.scan(&store.job, options, NEVER).unwrap();
        scan.next().map(drop).unwrap_err()
    };
    let options = ScanOptions::all().step_timeout(Some(Duration::ZERO));
    assert_eq!(failure(&options).kind(), ErrorKind::Timeout);
    // A cursor that points far beyond the end makes readers decompress the whole file, too.
    let json = format!(
        "{{\"s\":[[\"{}\",{},null,false]]}}",
        PLAIN.replace(".jsonl", ""),
        1u64 << 50
    );
    let text = format!(
        "v1.file.{}",
        data_encoding::BASE64URL_NOPAD.encode(json.as_bytes())
    );
    let options = ScanOptions::after(Cursor::new(text).unwrap()).step_timeout(Some(Duration::ZERO));
    assert_eq!(failure(&options).kind(), ErrorKind::Timeout);
}

#[test]
fn line_ends_and_nothing_else_are_no_event_in_gzip_either() {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(&vec![b'\n'; 4 << 20]).unwrap();
    let (store, _) = Store::segment(&format!("{PLAIN}.gz"), &encoder.finish().unwrap());
    assert!(store.events(None).unwrap().is_empty());
}

#[test]
fn frames_of_every_kind() {
    let lines = [record(1), record(2)];
    let frames: Vec<_> = lines
        .iter()
        .map(|line| zstd::encode_all(line.as_slice(), 3).unwrap())
        .collect();
    let skippable = b"\x53\x2a\x4d\x18\x02\0\0\0ab";
    let many = [
        &skippable.repeat(1000)[..],
        &frames[0],
        &skippable.repeat(1000),
        &frames[1],
        &skippable[..],
    ]
    .concat();
    let broken = "does not decompress";
    let mut dictionary =
        zstd::bulk::Compressor::with_dictionary(3, b"a dictionary that no reader has, of some length")
            .unwrap();
    let dictionary = dictionary.compress(&lines[1]).unwrap();
    let mut named = b"\x28\xb5\x2f\xfd\x23\x07\x01\x02\x03\x05".to_vec();
    named.extend_from_slice(&dictionary);
    // A frame with a window of 2 GiB, which a decoder would have to allocate.
    let wide = b"\x28\xb5\x2f\xfd\x00\xa8\x01\0\0".to_vec();
    for (bytes, expected) in [
        (many, vec!["verified", "verified"]),
        ([frames[0].clone(), named].concat(), vec!["verified", broken]),
        ([frames[0].clone(), wide].concat(), vec!["verified", broken]),
        (
            [frames[0].clone(), b"rubbish".to_vec()].concat(),
            vec!["verified", broken],
        ),
        (
            [frames[0].clone(), b"\x50\x2a\x4d\x18\xff\xff\xff\xff".to_vec()].concat(),
            vec!["verified", broken],
        ),
        (Vec::new(), vec![broken]),
    ] {
        let (store, _) = Store::segment(&zst(), &bytes);
        let told = store.events(None).unwrap();
        assert_eq!(told.len(), expected.len(), "{told:?}");
        for (told, expected) in told.iter().zip(expected) {
            assert!(told.contains(expected), "{told}");
        }
    }
}
