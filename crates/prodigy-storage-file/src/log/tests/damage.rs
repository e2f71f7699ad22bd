//! Tests that damage is found and reported, and affects no other events.

use prodigy_storage_backend::ScanOptions;

use super::support::{Item, NEVER, Place, at, damage, drain, id, line, lines, name, payloads, set_mode};

fn small() -> (Vec<u8>, Vec<String>) {
    let names = ["alpha", "bravo", "charlie", "delta"];
    let events = names.iter().enumerate().map(|(n, name)| (id(n as i64), *name));
    (
        lines(events),
        names.iter().map(|name| (*name).to_owned()).collect(),
    )
}

/// Checks what a reader returns for a log of four events in which one byte was flipped.
fn check(found: &[Item], all: &[String], flipped: usize, what: &str) {
    let read = payloads(found);
    assert!(
        read.iter().all(|payload| all.contains(payload)),
        "{what}: a wrong value: {read:?}"
    );
    for (index, payload) in all.iter().enumerate() {
        let count = read.iter().filter(|read| *read == payload).count();
        assert!(
            count == 1 || (count == 0 && index == flipped),
            "{what}: {payload} is read {count} times"
        );
    }
}

#[test]
fn a_flipped_byte_costs_its_record_at_most() {
    let (bytes, all) = small();
    let place = Place::new();
    let path = place.plant(&name(0, 0), &bytes);
    let store = place.store();
    for sealed in [false, true] {
        for at in 0..bytes.len() {
            for mask in [0x01, 0x20, 0x80, bytes[at] ^ b'\n'] {
                let mut flipped = bytes.clone();
                flipped[at] ^= mask;
                let _ = std::fs::remove_file(&path);
                std::fs::write(&path, &flipped).unwrap();
                if sealed {
                    set_mode(&path, 0o400);
                }
                let record = bytes[..at].iter().filter(|byte| **byte == b'\n').count();
                let what = format!("byte {at}, mask {mask:#x}, sealed {sealed}");
                let items = place.items(&store);
                check(&items, &all, record, &what);
                if payloads(&items).len() < all.len() {
                    let told = damage(&items);
                    let last = record == all.len() - 1 && !sealed;
                    assert!(last || !told.is_empty(), "{what}: nothing is told");
                    for damage in told {
                        assert_eq!(damage.place, path.display().to_string());
                        assert!(damage.offset + damage.len <= bytes.len() as u64, "{what}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_flipped_byte_of_a_compressed_segment_is_contained() {
    let (bytes, all) = small();
    let place = Place::new();
    let packed = zstd::encode_all(&bytes[..], 3).unwrap();
    let plain = place.plant(&name(50, 50), line(id(50), "neighbour"));
    let before = line(id(-50), "before");
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut gz, &bytes).unwrap();
    let gz = gz.finish().unwrap();
    place.plant(&name(-50, -50), before);
    let store = place.store();
    for (ending, form) in [(".zst", packed), (".gz", gz)] {
        for at in 0..form.len() {
            for mask in [0x01, 0x80, 0xff] {
                let mut flipped = form.clone();
                flipped[at] ^= mask;
                let path = place.plant(&(name(0, 0) + ending), &flipped);
                let items = place.items(&store);
                let read = payloads(&items);
                assert_eq!(
                    (read.first().unwrap().as_str(), read.last().unwrap().as_str()),
                    ("before", "neighbour"),
                    "{ending} byte {at}: the segments around it are read"
                );
                let inner = &read[1..read.len() - 1];
                assert!(inner.iter().all(|payload| all.contains(payload)), "{inner:?}");
                assert!(
                    inner.len() == all.len() || !damage(&items).is_empty(),
                    "{ending} byte {at}: nothing is told"
                );
                std::fs::remove_file(path).unwrap();
            }
        }
    }
    drop(plain);
}

#[test]
fn a_cut_compressed_segment_gives_what_stands_before_the_cut() {
    let place = Place::new();
    let events: Vec<_> = (0..20_000)
        .map(|n| (id(n), format!("payload {}", n * 7919)))
        .collect();
    let bytes = lines(events.iter().map(|(id, payload)| (*id, payload.as_str())));
    let packed = zstd::encode_all(&bytes[..], 3).unwrap();
    place.plant(&(name(0, 0) + ".zst"), &packed[..packed.len() / 2]);
    place.plant(&name(1, 1), line(id(1), "neighbour"));
    let store = place.store();
    let items = place.items(&store);
    assert!(payloads(&items).len() > 5000, "{}", payloads(&items).len());
    let told = damage(&items);
    assert_eq!(told.len(), 1);
    assert!(told[0].place.ends_with(".zst"));
    assert!(told[0].offset > 100_000, "{told:?}");
    // An append under a given id searches for the id, and damage does not stop this search either.
    place.give(&store, &[(id(30_000), "given")]).unwrap();
    assert_eq!(payloads(&place.items(&store)).last().unwrap(), "given");
}

#[test]
fn damage_in_the_middle_is_told_with_file_and_offset() {
    let place = Place::new();
    let first = line(id(0), "a");
    let mut bytes = first.clone();
    bytes.extend_from_slice(b"what is this?\n");
    bytes.extend_from_slice(&line(id(1), "b"));
    let path = place.plant(&name(0, 0), &bytes);
    let items = place.items(&place.store());
    let [Item::Event { .. }, Item::Damage(damage), Item::Event { .. }] = &items[..] else {
        panic!("{items:?}");
    };
    assert_eq!(damage.place, path.display().to_string());
    assert_eq!((damage.offset, damage.len), (first.len() as u64, 13));
}

#[test]
fn a_damaged_line_does_not_mislead_a_search() {
    let place = Place::new();
    let count = 4000;
    let lines: Vec<_> = (0..count).map(|n| line(id(n), &format!("{n:0100}"))).collect();
    let bytes: Vec<u8> = lines.concat();
    let store = place.store();
    let path = place.plant(&name(0, 0), &bytes);
    // Replaces records that a binary search reads first: one gets an id from long ago, another one an id from the far
    // future.
    let target = 1000;
    for (place_of, digit) in [
        (count as usize / 2, b'0'),
        (600, b'f'),
        (count as usize / 4, b'0'),
    ] {
        for around in 0..3 {
            let mut bytes = bytes.clone();
            let offset = lines[..place_of + around].iter().map(Vec::len).sum::<usize>();
            bytes[offset + 8] = digit;
            std::fs::write(&path, &bytes).unwrap();
            let scan = ScanOptions::all().between(Some(at(target)), None);
            let read = payloads(&drain(&mut *place.scan(&store, &scan))).len();
            let lost = usize::from(place_of + around >= target as usize);
            assert_eq!(
                read,
                (count - target) as usize - lost,
                "line {}",
                place_of + around
            );
        }
    }
}

#[test]
fn many_damaged_lines_do_not_stop_a_search() {
    let place = Place::new();
    let mut bytes = line(id(0), "a");
    bytes.extend_from_slice(&b"x\n".repeat(2000));
    bytes.extend_from_slice(&line(id(5), "b"));
    set_mode(&place.plant(&name(0, 0), &bytes), 0o400);
    let store = place.store();
    let appended = place.give(&store, &[(id(5), "b"), (id(3), "c")]).unwrap();
    assert_eq!((appended.stored, appended.duplicates), (1, 1));
    assert_eq!(payloads(&place.items(&store)), ["a", "c", "b"]);
}

#[test]
fn the_last_of_joined_records_is_the_newest() {
    let place = Place::new();
    let mut bytes = line(id(0), "a");
    bytes.pop();
    bytes.extend_from_slice(&line(id(4), "b"));
    place.plant(&name(0, 0), &bytes);
    let store = place.store();
    let appended = place.give(&store, &[(id(4), "b"), (id(2), "late")]).unwrap();
    assert_eq!((appended.stored, appended.duplicates), (1, 1));
    assert_eq!(payloads(&place.items(&store)), ["a", "late", "b"]);
}

#[test]
fn a_large_damaged_record_full_of_beginnings_costs_no_neighbour() {
    let place = Place::new();
    // Many texts in the payload look like the beginning of a record.
    let inner = "{\"id\":\"3\"},".repeat(200_000);
    let payload = format!("[{inner}0]");
    let mut bytes = Vec::new();
    let body = format!(",\"event\":{payload}");
    prodigy_storage_backend::record::RecordEncoder::new().encode(&mut bytes, id(0), at(0), body.as_bytes());
    bytes.push(b'\n');
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x01;
    bytes.extend_from_slice(&line(id(1), "b"));
    place.plant(&name(0, 0), &bytes);
    let store = place.store();
    let items = place.items(&store);
    assert_eq!(
        (payloads(&items), damage(&items).len()),
        (vec!["b".to_owned()], 1)
    );
}

#[test]
fn lines_of_other_programs_are_read_and_told_apart() {
    let place = Place::new();
    let text = concat!(
        "\u{feff}{\"id\":\"0197f4e2-8a3b-4c1d-9e2f-3a4b5c6d7e8f\",\"timestamp\":\"2026-01-01T00:00:00Z\",\"event\":\"v4\"}\r\n",
        "\r\n",
        "{\"timestamp\":\"2026-01-01T00:00:01Z\",\"id\":\"0197f4e2-8a3b-7c1d-9e2f-3a4b5c6d7e8f\",\"event\":\"other order\"}\n",
        "{\"id\":\"no uuid\",\"event\":1}\n",
    );
    let mut bytes = text.as_bytes().to_vec();
    bytes.extend_from_slice(&line(id(0), "ours"));
    place.plant("events-20260101_000000.jsonl", bytes);
    let items = place.items(&place.store());
    assert_eq!(payloads(&items), ["v4", "other order", "ours"]);
    let verified: Vec<_> = items
        .iter()
        .filter_map(|item| match item {
            Item::Event { verified, .. } => Some(*verified),
            Item::Damage(_) | Item::TooLarge(_) => None,
        })
        .collect();
    assert_eq!(verified, [false, false, true]);
    // A line of another program that is not an event is skipped. It is not damage.
    assert!(damage(&items).is_empty());
}

#[test]
fn times_of_other_programs_lines_are_looked_at_one_by_one() {
    let place = Place::new();
    // A file of another program: its ids are not in order, and its name is later than they are.
    place.plant(
        "events-20300101_000000.jsonl",
        lines([
            (id(10), "c"),
            (id(2), "a"),
            (id(30), "e"),
            (id(5), "b"),
            (id(20), "d"),
        ]),
    );
    place.plant(&name(7, 7), line(id(7), "ours"));
    place.plant(&name(90_000_000, 90_000_000), line(id(90_000_000), "far"));
    let store = place.store();
    let between = ScanOptions::all().between(Some(at(5)), Some(at(20)));
    let mut read = payloads(&drain(&mut *store.scan(&place.job, &between, NEVER).unwrap()));
    read.sort();
    assert_eq!(read, ["b", "c", "ours"]);
}

#[test]
fn an_id_of_another_program_does_not_lead_ours_astray() {
    let place = Place::new();
    let mut bytes = line(id(0), "a");
    bytes.extend_from_slice(
        b"{\"id\":\"ffffffff-8a3b-4c1d-9e2f-3a4b5c6d7e8f\",\"timestamp\":\"2026-01-01T00:00:00Z\",\"event\":\"by hand\"}\n",
    );
    place.plant(&name(0, 0), &bytes);
    let store = place.store();
    place.clock.turn(1000);
    place.append(&store, &["b"]).unwrap();
    let last = *super::support::ids(&place.items(&store)).last().unwrap();
    assert!(last.is_v7() && last.time() < at(2000), "{last}");
}

#[test]
fn a_last_line_end_that_became_white_space_costs_no_record() {
    let (bytes, all) = small();
    for sealed in [false, true] {
        for space in [&b" "[..], b"\t", b"\r", b"\x0c", b" \t"] {
            let place = Place::new();
            let whole = bytes.strip_suffix(b"\n").unwrap();
            let path = place.plant(&name(0, 0), [whole, space].concat());
            if sealed {
                set_mode(&path, 0o400);
            }
            assert_eq!(
                payloads(&place.items(&place.store())),
                all,
                "{space:?}, sealed {sealed}"
            );
            // The next writer adds the missing line end, and no event is read twice.
            let store = place.store();
            place.append(&store, &["next"]).unwrap();
            let read = payloads(&place.items(&place.store()));
            assert_eq!(read[..4], all[..]);
            assert_eq!(read.len(), 5, "{space:?}, sealed {sealed}");
        }
    }
}
