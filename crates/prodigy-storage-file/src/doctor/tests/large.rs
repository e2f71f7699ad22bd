//! Tests of records and documents above the doctor's size limits: they cause a warning, and are never moved.

use std::path::PathBuf;
use std::time::Duration;

use prodigy_storage_backend::{
    AppendOptions, Batch, Body, Catalog, Deadline, DocumentStore, Durability, ErrorKind, Fence, LogStore,
    PutOptions, QueueStore, ScanOptions,
};
use prodigy_storage_layout::{Document, Entry, Phase};

use super::{
    Doctor, DoctorScope, DoctorSummary, Finding, FindingKind, FindingOutcome, Place, append, job, rewrite,
};
use crate::{FileBackend, FileOptions};

const LARGE: usize = 9_000;

/// Options of a doctor with small limits.
fn limited(place: &Place) -> FileOptions {
    let mut options = place.options().max_record_size(2_000).max_document_size(2_000);
    options.always_read = 0;
    options
}

fn repair(place: &Place) -> (DoctorSummary, Vec<Finding>) {
    let mut findings = Vec::new();
    let doctor = Doctor::new(limited(place)).unwrap();
    let summary = doctor
        .repair(&DoctorScope::all(), Duration::ZERO, &mut |finding| {
            findings.push(finding);
        })
        .unwrap();
    (summary, findings)
}

fn kinds(findings: &[Finding]) -> Vec<FindingKind> {
    findings.iter().map(|finding| finding.kind).collect()
}

/// Appends an event with a payload above the small limit: one number of many digits.
fn append_large(backend: &FileBackend, number: u32) {
    let mut batch = Batch::new();
    let payload = format!("{}{number}", " ".repeat(LARGE));
    let raw = serde_json::value::RawValue::from_string(format!("[{payload}]")).unwrap();
    batch.push(&raw).unwrap();
    backend
        .append(&job(), &mut batch, &AppendOptions::default(), Deadline::never())
        .unwrap();
}

/// The payloads that a reader with the default limits returns.
fn payloads(place: &Place) -> Vec<String> {
    let backend = place.open();
    let mut scan = backend
        .scan(&job(), &ScanOptions::all(), Deadline::never())
        .unwrap();
    let mut found = Vec::new();
    while let Some(item) = scan.next().unwrap() {
        let prodigy_storage_backend::ScanItem::Record(record) = item else {
            panic!("{item:?}");
        };
        assert!(record.verified);
        let value: serde_json::Value = record.parse().unwrap();
        found.push(value["event"].to_string());
    }
    found
}

#[test]
fn an_event_over_the_readers_limit_is_no_damage_and_is_never_moved() {
    let place = Place::new();
    let writer = place.with(place.options().max_file_size(1 << 20));
    append(&writer, 0..1);
    append_large(&writer, 1);
    append(&writer, 2..4);
    drop(writer);
    let file = place.files(".jsonl").remove(0);
    let before = std::fs::read(&file).unwrap();
    let (summary, findings) = repair(&place);
    assert_eq!(kinds(&findings), [FindingKind::OverLimit], "{findings:?}");
    assert_eq!(findings[0].outcome, FindingOutcome::Found);
    assert!(findings[0].advice.contains("max_record_size"), "{findings:?}");
    assert_eq!((summary.events, summary.damage, summary.warnings), (4, 0, 1));
    // Damages another record of the segment. The repair leaves the large record unchanged.
    rewrite(&file, |bytes| *bytes.iter_mut().nth_back(20).unwrap() ^= 1);
    let (summary, findings) = repair(&place);
    assert_eq!((summary.damage, summary.left), (1, 0), "{findings:?}");
    let after = std::fs::read(&file).unwrap();
    assert_eq!(after[..before.len() - 300], before[..before.len() - 300]);
    assert_eq!(payloads(&place), ["0", "[1]", "2"]);
}

#[test]
fn a_damaged_event_over_the_readers_limit_is_damage_that_a_larger_limit_repairs() {
    let place = Place::new();
    let writer = place.with(place.options().max_file_size(1 << 20));
    append(&writer, 0..1);
    append_large(&writer, 1);
    append_large(&writer, 2);
    append(&writer, 3..4);
    drop(writer);
    let file = place.files(".jsonl").remove(0);
    // Damages the line end between two records. The two then look like one line, which fails verification.
    rewrite(&file, |bytes| {
        let ends: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] == b'\n').collect();
        bytes[ends[1]] ^= 1;
    });
    let before = std::fs::read(&file).unwrap();
    let (summary, findings) = repair(&place);
    assert_eq!((summary.damage, summary.left), (1, 1), "{findings:?}");
    assert_eq!(kinds(&findings), [FindingKind::DamagedEvents]);
    assert!(
        matches!(&findings[0].outcome, FindingOutcome::Left { why } if why.contains("max_record_size")),
        "{findings:?}"
    );
    assert_eq!(std::fs::read(&file).unwrap(), before);
    assert_eq!(place.repair().0.left, 0);
    assert_eq!(payloads(&place), ["0", "[1]", "[2]", "3"]);
}

#[test]
fn what_decompresses_of_an_archive_is_written_anew_with_its_events_over_the_limit() {
    let place = Place::new();
    let writer = place.with(place.options().max_file_size(4_000).compression(true));
    append(&writer, 0..2);
    append_large(&writer, 2);
    append(&writer, 3..5);
    writer.flush(Deadline::never()).unwrap();
    drop(writer);
    let archive = place.files(".zst").remove(0);
    rewrite(&archive, |bytes| *bytes.last_mut().unwrap() ^= 1);
    let (summary, findings) = repair(&place);
    assert_eq!((summary.damage, summary.left), (1, 0), "{findings:?}");
    assert!(!archive.exists());
    assert_eq!(payloads(&place), ["0", "1", "[2]", "3", "4"]);
}

/// Writes a compressed segment of three events, one of them above the limit.
fn archive_of_three(place: &Place) -> PathBuf {
    let writer = place.with(place.options().max_file_size(4_000).compression(true));
    append(&writer, 0..2);
    append_large(&writer, 2);
    writer.flush(Deadline::never()).unwrap();
    drop(writer);
    place.files(".zst").remove(0)
}

#[test]
fn of_two_forms_each_event_over_the_limit_is_kept_once() {
    let place = Place::new();
    let archive = archive_of_three(&place);
    let plain = archive.with_extension("");
    let mut bytes = zstd::decode_all(std::fs::File::open(&archive).unwrap()).unwrap();
    // Writes a plain form of the segment, without its first event.
    let first = bytes.iter().position(|byte| *byte == b'\n').unwrap();
    bytes.drain(..=first);
    std::fs::write(&plain, bytes).unwrap();
    let (summary, findings) = repair(&place);
    assert_eq!((summary.damage, summary.left), (1, 0), "{findings:?}");
    assert!(plain.exists() && !archive.exists());
    assert_eq!(payloads(&place), ["0", "1", "[2]"]);
}

#[test]
fn events_that_only_the_compressed_form_of_two_holds_are_counted_and_reported_if_over_the_limit() {
    let place = Place::new();
    let archive = archive_of_three(&place);
    let bytes = zstd::decode_all(std::fs::File::open(&archive).unwrap()).unwrap();
    // Writes a plain form of the segment, with only its first event.
    let first = bytes.iter().position(|byte| *byte == b'\n').unwrap();
    std::fs::write(archive.with_extension(""), &bytes[..=first]).unwrap();
    let mut findings = Vec::new();
    let doctor = Doctor::new(limited(&place)).unwrap();
    let summary = doctor
        .examine(&DoctorScope::all(), &mut |finding| findings.push(finding))
        .unwrap();
    assert_eq!(summary.events, 3, "{findings:?}");
    let over: Vec<_> = findings
        .iter()
        .filter(|finding| finding.kind == FindingKind::OverLimit)
        .collect();
    assert!(over.len() == 1 && over[0].place.ends_with(".zst"), "{findings:?}");
}

#[test]
fn an_item_over_the_readers_limit_is_no_damage_and_is_never_moved() {
    let place = Place::new();
    let items: Vec<_> = [("a", 10), ("large", LARGE), ("c", 10)]
        .map(|(id, len)| {
            let json = format!(r#"{{"item_id":"{id}","item_data":"{}"}}"#, "x".repeat(len));
            let raw = serde_json::value::RawValue::from_string(json).unwrap();
            prodigy_storage_backend::dead_letter::normalise(&raw).unwrap()
        })
        .into();
    place
        .open()
        .queue_put(&job(), &items, Durability::Strict, None, Deadline::never())
        .unwrap();
    let file = place.root().join("dlq/shop/job/items.json");
    let line = |file: &PathBuf| -> String {
        let text = std::fs::read_to_string(file).unwrap();
        let line = text.lines().find(|line| line.len() > LARGE).unwrap();
        line.trim_end_matches(',').to_owned()
    };
    let before = line(&file);
    let (summary, findings) = repair(&place);
    assert_eq!(kinds(&findings), [FindingKind::OverLimit], "{findings:?}");
    assert_eq!((summary.damage, place.kept()), (0, 0));
    // Damages another item of the queue. The repair removes that item and leaves the large one unchanged.
    rewrite(&file, |bytes| bytes[20] ^= 1);
    let (summary, findings) = repair(&place);
    assert_eq!((summary.damage, summary.left), (1, 0), "{findings:?}");
    assert_eq!(line(&file), before);
    assert_eq!(place.examine().1.len(), 0);
}

#[test]
fn a_document_over_the_readers_limit_is_no_damage_and_is_never_moved() {
    let place = Place::new();
    let body = format!("{{\"a\":\"{}\"}}", "x".repeat(2 << 20));
    let added = place
        .with(place.options().max_document_size(4 << 20))
        .add(
            &job(),
            Phase::Map,
            Body::parse(body.as_bytes()).unwrap(),
            &PutOptions::default(),
            Deadline::never(),
        )
        .unwrap();
    let document = added.document;
    let path = place.root().join(document.path());
    let before = std::fs::read(&path).unwrap();
    let (summary, findings) = repair(&place);
    assert_eq!(kinds(&findings), [FindingKind::OverLimit], "{findings:?}");
    assert!(findings[0].advice.contains("max_document_size"), "{findings:?}");
    assert_eq!((summary.damage, summary.left, place.kept()), (0, 0, 0));
    assert_eq!(std::fs::read(&path).unwrap(), before);
    // A damaged document above the limit is reported and left, since the doctor does not copy a file of that size.
    rewrite(&path, |bytes| bytes[1 << 20] ^= 1);
    let damaged = std::fs::read(&path).unwrap();
    let (summary, findings) = repair(&place);
    assert_eq!((summary.damage, summary.left), (1, 1), "{findings:?}");
    assert_eq!(std::fs::read(&path).unwrap(), damaged);
    let error = place
        .with(limited(&place))
        .get(&document, Deadline::never())
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Damaged);
    assert_eq!(place.repair().0.left, 0);
}

#[test]
fn the_token_in_a_document_over_the_limit_counts_for_restored_fencing_marks() {
    let place = Place::new();
    let add = |options: FileOptions, text: &str, token| {
        let options_of = PutOptions::default().fencing(Fence::unnamed(token).ok());
        let body = Body::parse(text.as_bytes()).unwrap();
        place
            .with(options)
            .add(&job(), Phase::Map, body, &options_of, Deadline::never())
    };
    let large = format!("{{\"fencing\":9,\"data\":\"{}\"}}", "x".repeat(2 << 20));
    let added = add(place.options(), &large, 9).unwrap();
    let marks = place
        .root()
        .join(Entry::Document(Document::Fencing(job())).path());
    let path = place.root().join(Entry::Document(added.document).path());
    for damaged in [false, true] {
        if damaged {
            rewrite(&path, |bytes| bytes[1 << 20] ^= 1);
        }
        rewrite(&marks, |bytes| bytes[100] ^= 1);
        let (_, findings) = repair(&place);
        assert!(marks.exists(), "{findings:?}");
        let older = add(limited(&place), "{}", 8).map_err(|error| error.kind()).err();
        assert_eq!(
            older,
            (!damaged).then_some(ErrorKind::Fenced),
            "damaged {damaged}"
        );
    }
}
