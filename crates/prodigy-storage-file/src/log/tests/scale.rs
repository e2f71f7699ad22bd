//! Tests with many segments, few descriptors and little memory.

use std::process::Command;

use prodigy_storage_backend::ScanOptions;

use super::support::{Place, id, line, lines, name, payloads, set_mode, take};

const ROOT: &str = "PRODIGY_TEST_ROOT";

/// The peak memory of this process so far, in bytes; `None` except on Linux.
pub(super) fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib << 10)
}

/// Runs one test of this binary in a process that may open only 256 descriptors.
fn child(test: &str, place: &Place) {
    let output = Command::new("sh")
        .arg("-c")
        .arg("ulimit -n 256; exec \"$0\" \"$@\"")
        .arg(std::env::current_exe().unwrap())
        .args([&format!("log::tests::scale::{test}"), "--exact", "--nocapture"])
        .env(ROOT, place.root())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"));
}

/// Opens the root that the parent process prepared. `None` in an ordinary run of all tests.
fn prepared() -> Option<std::sync::Arc<crate::log::Logs>> {
    let root = std::env::var_os(ROOT)?;
    let fs = std::sync::Arc::new(crate::fs::RealFs::new(&root));
    let options = crate::FileOptions::new(root);
    Some(std::sync::Arc::new(crate::log::Logs::new(
        crate::root::Root::new(fs, options),
    )))
}

/// Reads all events twice: in one scan, and then in many scans, each from the last cursor.
fn read_all(events: usize) {
    let Some(store) = prepared() else { return };
    let job = super::support::job("j");
    let begun = peak_memory();
    let mut scan = store
        .scan(&job, &ScanOptions::all(), super::support::NEVER)
        .unwrap();
    let (mut count, mut last) = (0, None);
    while let Some(super::support::Item::Event { id, .. }) = take(&mut *scan).unwrap() {
        assert!(last < Some(id));
        last = Some(id);
        count += 1;
        if count % 4000 == 0 {
            let options = ScanOptions::after(scan.cursor());
            scan = store.scan(&job, &options, super::support::NEVER).unwrap();
        }
    }
    assert_eq!(count, events);
    if let (Some(begun), Some(after)) = (begun, peak_memory()) {
        assert!(after - begun < 64 << 20, "{} MiB more", (after - begun) >> 20);
    }
}

#[test]
fn child_reads_twenty_thousand() {
    read_all(20_000);
}

#[test]
fn child_reads_interleaved() {
    read_all(2000 * 3);
}

#[test]
fn child_reads_interleaved_compressed() {
    read_all(100 * 3);
}

#[test]
fn twenty_thousand_segments_are_read_under_256_descriptors() {
    let place = Place::new();
    for n in 0..20_000 {
        let path = place.plant(&name(n, n), line(id(n), "x"));
        if n % 100 != 0 {
            set_mode(&path, 0o400);
        }
    }
    child("child_reads_twenty_thousand", &place);
}

#[test]
fn two_thousand_segments_that_overlap_are_read_under_256_descriptors() {
    let place = Place::new();
    for n in 0..2000 {
        let events: Vec<_> = (0..3).map(|round| (id(n + round * 2000), "x")).collect();
        let path = place.plant(&name(n, n), lines(events));
        if n % 2 == 0 {
            set_mode(&path, 0o400);
        }
    }
    child("child_reads_interleaved", &place);
}

#[test]
fn compressed_segments_that_overlap_are_read_under_256_descriptors() {
    let place = Place::new();
    for n in 0..100 {
        let events: Vec<_> = (0..3).map(|round| (id(n + round * 100), "x")).collect();
        let packed = zstd::encode_all(&lines(events)[..], 3).unwrap();
        place.plant(&(name(n, n) + ".zst"), packed);
    }
    child("child_reads_interleaved_compressed", &place);
}

#[test]
fn a_merge_opens_a_segment_only_when_it_gets_there() {
    let place = Place::new();
    for n in 0..500 {
        place.plant(&name(n, n), line(id(n), &n.to_string()));
    }
    let (store, reel) = place.taped(place.options());
    let mut scan = place.scan(&store, &ScanOptions::all());
    for n in 0..3 {
        let item = take(&mut *scan).unwrap().unwrap();
        assert_eq!(payloads(&[item]), [n.to_string()]);
    }
    let opened = reel
        .take()
        .iter()
        .filter(|call| call.starts_with("read "))
        .count();
    assert!(opened <= 5, "{opened} were opened");
}

/// Writes overlapping segments. The total number of events is the same for any number of segments.
fn overlapping(place: &Place, segments: i64, events: i64) {
    let payload = "x".repeat(100);
    for segment in 0..segments {
        let ids = (0..events / segments).map(|round| id(segments + round * segments + segment));
        let bytes = lines(ids.map(|id| (id, payload.as_str())));
        set_mode(&place.plant(&name(segment, segment), bytes), 0o400);
    }
}

#[test]
fn a_merge_of_many_segments_opens_and_reads_each_a_few_times_and_not_once_per_event() {
    const EVENTS: i64 = 160_000;
    for segments in [1000, 8000] {
        let place = Place::new();
        overlapping(&place, segments, EVENTS);
        let (store, reel) = place.taped(place.options());
        let mut scan = place.scan(&store, &ScanOptions::all());
        let mut count = 0;
        while scan.next().unwrap().is_some() {
            count += 1;
        }
        assert_eq!(count, EVENTS);
        let calls = reel.take();
        let of = |kind: &str| calls.iter().filter(|call| call.starts_with(kind)).count() as i64;
        let (opens, reads) = (of("read "), of("get "));
        // Even with 8,000 segments, each is read in chunks of more than 10 events.
        assert!(
            opens < EVENTS / 10 + segments,
            "{segments} segments: {opens} opens"
        );
        assert!(
            reads < EVENTS / 10 + segments,
            "{segments} segments: {reads} reads"
        );
    }
}

/// Tests a cursor that is behind one segment: that segment has ids below the newest returned id, and the same ids are
/// spread over all other segments.
#[test]
fn a_reader_that_is_behind_opens_each_earlier_segment_a_few_times_and_not_once_per_event() {
    const SEGMENTS: i64 = 40;
    const EVENTS: i64 = 4_000;
    for compressed in [false, true] {
        let place = Place::new();
        overlapping(&place, SEGMENTS, EVENTS);
        if compressed {
            for segment in 0..SEGMENTS {
                let plain = place.log().join(name(segment, segment));
                let packed = zstd::encode_all(&std::fs::read(&plain).unwrap()[..], 3).unwrap();
                std::fs::remove_file(plain).unwrap();
                place.plant(&(name(segment, segment) + ".zst"), packed);
            }
        }
        let (store, reel) = place.taped(place.options());
        let mut scan = place.scan(&store, &ScanOptions::all());
        while scan.next().unwrap().is_some() {}
        let cursor = scan.cursor();
        // A late writer's segment with the same ids, and one more.
        let late = (0..EVENTS)
            .map(|n| (id(SEGMENTS + n), "y"))
            .chain([(id(SEGMENTS - 1), "z")]);
        let mut late: Vec<_> = late.collect();
        late.sort();
        place.plant(&name(SEGMENTS - 1, SEGMENTS + EVENTS), lines(late));
        reel.take();
        let mut scan = place.scan(&store, &ScanOptions::after(cursor));
        let item = take(&mut *scan).unwrap().unwrap();
        assert_eq!(payloads(&[item]), ["z"]);
        assert_eq!(take(&mut *scan).unwrap(), None);
        let calls = reel.take();
        let opens = calls.iter().filter(|call| call.starts_with("read ")).count() as i64;
        assert!(
            opens < SEGMENTS * 8,
            "{opens} opens for {SEGMENTS} segments, compressed: {compressed}"
        );
    }
}
