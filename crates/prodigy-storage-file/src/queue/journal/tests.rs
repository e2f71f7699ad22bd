//! Tests of journals with damage, with torn and lost writes, and with a writer that is active during the read.

use std::path::Path;

use super::*;
use crate::fs::{FileSystem, OpenMode, RealFs};
use crate::queue::record::{JournalLine, Verb, encode, encode_header, parse};
use crate::queue::standing::Standing;

/// A journal with the changes 2 to 5, and the offsets of its lines.
fn journal() -> (Vec<u8>, Vec<usize>) {
    let (mut bytes, mut starts) = (Vec::new(), Vec::new());
    encode_header(&mut bytes, 1, 1);
    for change in 2..6 {
        starts.push(bytes.len());
        let standing = Standing {
            place: change,
            ..Standing::default()
        };
        encode(&mut bytes, change, 1, Verb::Release, &standing, None);
    }
    (bytes, starts)
}

struct Read {
    changes: Vec<u64>,
    damage: Vec<(u64, u64, bool)>,
    tail: Option<u64>,
    end: u64,
    open: bool,
}

fn read(bytes: &[u8], limit: u64) -> Read {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("j"), bytes).unwrap();
    let file = RealFs::new(folder.path())
        .open(Path::new("j"), OpenMode::Read)
        .unwrap();
    let mut scanner = JournalScanner::new(Arc::from(file), limit, 0).unwrap();
    let (mut changes, mut damage) = (Vec::new(), Vec::new());
    while let Some(piece) = scanner.next().unwrap() {
        match piece {
            Piece::Line { start, range } => {
                let line = scanner.bytes(range);
                assert_eq!(&bytes[start as usize..][..line.len()], line);
                if let Some(JournalLine::Record(record)) = parse(line) {
                    changes.push(record.change);
                }
            }
            Piece::Damage { start, end, hole } => damage.push((start, end, hole)),
            Piece::TooLarge { head, .. } => {
                changes.push(crate::queue::record::parse_large(&head).unwrap().change);
            }
        }
    }
    Read {
        changes,
        damage,
        tail: scanner.tail(),
        end: scanner.end(),
        open: scanner.is_open(),
    }
}

#[test]
fn a_flipped_bit_costs_its_own_record_at_most_and_is_reported() {
    let (whole, starts) = journal();
    for at in 0..whole.len() {
        for bit in 0..8 {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << bit;
            let found = read(&bytes, 1 << 20);
            let hit = starts.iter().rposition(|start| at >= *start);
            let expected = (2..6).filter(|change| Some(*change as usize - 2) != hit);
            for change in expected {
                assert!(
                    found.changes.contains(&change),
                    "byte {at} bit {bit} cost {change}"
                );
            }
            let line_end = whole[at] == b'\n';
            if line_end {
                assert_eq!(found.changes, [2, 3, 4, 5], "byte {at} bit {bit}");
            } else {
                assert_eq!(found.damage.len(), 1, "byte {at} bit {bit}");
                let (start, end, hole) = found.damage[0];
                assert!(
                    (start..end).contains(&(at as u64)) && !hole,
                    "byte {at} bit {bit}"
                );
            }
            assert!(found.tail.is_none() || line_end, "byte {at} bit {bit}");
        }
    }
}

#[test]
fn a_write_that_was_cut_leaves_whole_records_and_a_tail() {
    let (whole, starts) = journal();
    for cut in starts[0]..whole.len() {
        let found = read(&whole[..cut], 1 << 20);
        let line = starts.iter().rposition(|start| cut >= *start).unwrap();
        let last = whole[starts[line]..]
            .split(|byte| *byte == b'\n')
            .next()
            .unwrap()
            .len();
        let is_whole = cut == starts[line] + last;
        let count = line + usize::from(is_whole);
        assert_eq!(found.changes.len(), count, "cut at {cut}");
        assert_eq!((found.damage.len(), found.open), (0, is_whole), "cut at {cut}");
        let torn = cut > starts[line] && !is_whole;
        assert_eq!(found.tail, torn.then_some(starts[line] as u64), "cut at {cut}");
        let end = if is_whole { cut } else { starts[line] };
        assert_eq!(found.end, end as u64, "cut at {cut}");
    }
}

#[test]
fn what_a_power_failure_left_empty_is_a_hole_and_costs_no_later_record() {
    let (whole, starts) = journal();
    for (from, to) in [
        (starts[1], starts[2]),
        (starts[1] + 7, starts[2]),
        (starts[0], starts[3]),
    ] {
        let mut bytes = whole.clone();
        bytes[from..to].fill(0);
        let found = read(&bytes, 1 << 20);
        assert_eq!(found.changes.last(), Some(&5));
        assert_eq!(found.damage.len(), 1);
        assert!(found.damage[0].2, "{:?}", found.damage);
    }
    // At the end of the file, zeros count as a write that was cut short.
    let mut bytes = whole.clone();
    bytes[starts[3]..].fill(0);
    let found = read(&bytes, 1 << 20);
    assert_eq!((found.changes.len(), found.tail), (3, Some(starts[3] as u64)));
}

#[test]
fn a_record_that_is_written_over_blanks_between_two_reads_is_no_damage() {
    let mut bytes = Vec::new();
    encode_header(&mut bytes, 1, 1);
    let mut change = 1;
    while bytes.len() < CHUNK - 400 {
        change += 1;
        encode(&mut bytes, change, 1, Verb::Release, &Standing::default(), None);
    }
    let text = bytes.len();
    bytes.resize(CHUNK + 4_000, BLANK);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("j");
    std::fs::write(&path, &bytes).unwrap();
    let file = RealFs::new(folder.path())
        .open(Path::new("j"), OpenMode::Read)
        .unwrap();
    let mut scanner = JournalScanner::new(Arc::from(file), 1 << 20, 0).unwrap();
    // Returns the header and the records of the first read. The buffer also has the blanks after them.
    for _ in 1..=change {
        assert!(matches!(scanner.next().unwrap(), Some(Piece::Line { .. })));
    }
    let mut records = Vec::new();
    let body = format!("{{\"item_id\":\"l\",\"item_data\":\"{}\"}}", "x".repeat(600));
    let body = serde_json::value::RawValue::from_string(body).unwrap();
    for next in 1..=2 {
        encode(
            &mut records,
            change + next,
            1,
            Verb::Merge,
            &Standing::default(),
            Some(&body),
        );
    }
    assert!(text < CHUNK && text + records.len() > CHUNK);
    let written = std::fs::File::options().write(true).open(&path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&written, &records, text as u64).unwrap();
    for next in 1..=2 {
        let Some(Piece::Line { range, .. }) = scanner.next().unwrap() else {
            panic!("record {next} is damage");
        };
        let Some(JournalLine::Record(record)) = parse(scanner.bytes(range)) else {
            panic!("line {next} is no record");
        };
        assert_eq!(record.change, change + next);
    }
    assert_eq!(scanner.next().unwrap(), None);
    assert_eq!(scanner.end(), (text + records.len()) as u64);
}

#[test]
fn lines_over_the_limit_are_verified_in_pieces() {
    let mut bytes = Vec::new();
    encode_header(&mut bytes, 1, 1);
    let body = format!("{{\"item_id\":\"l\",\"item_data\":\"{}\"}}", "x".repeat(700_000));
    let body = serde_json::value::RawValue::from_string(body).unwrap();
    let start = bytes.len();
    encode(&mut bytes, 2, 1, Verb::Merge, &Standing::default(), Some(&body));
    let end = bytes.len();
    encode(&mut bytes, 3, 1, Verb::Remove, &Standing::default(), None);
    assert_eq!(read(&bytes, 2_000).changes, [2, 3]);
    let mut flipped = bytes.clone();
    flipped[start + 5_000] ^= 1;
    let found = read(&flipped, 2_000);
    assert_eq!(found.changes, [3]);
    assert_eq!(found.damage, [(start as u64, end as u64 - 1, false)]);
    let found = read(&bytes[..end - 100], 2_000);
    assert_eq!(
        (found.changes.len(), found.tail, found.end),
        (0, Some(start as u64), start as u64)
    );
}
