//! Tests of the doctor: a repair keeps readable data, and leaves everything undamaged unchanged.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod large;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use prodigy_storage_backend::{
    AppendOptions, Batch, Body, Catalog, Deadline, DocumentStore, ErrorKind, Fence, LockOptions, LockStore,
    LogStore, PutOptions, ScanItem, ScanOptions,
};
use prodigy_storage_layout::{Document, JobAddress, JobId, LockName, Phase, RepoName};
use tempfile::TempDir;

use super::{Doctor, DoctorScope, DoctorSummary, Finding, FindingKind, FindingOutcome};
use crate::fs::RealFs;
use crate::fs::faulty::{Faulty, Switches};
use crate::{FileBackend, FileOptions};

struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    fn options(&self) -> FileOptions {
        FileOptions::new(self.root()).max_file_size(512)
    }

    fn open(&self) -> FileBackend {
        self.with(self.options())
    }

    fn with(&self, options: FileOptions) -> FileBackend {
        FileBackend::open_on(Arc::new(RealFs::new(self.root())), options).unwrap()
    }

    fn doctor(&self) -> Doctor {
        Doctor::new(self.options()).unwrap()
    }

    fn examine(&self) -> (DoctorSummary, Vec<Finding>) {
        let mut findings = Vec::new();
        let summary = self
            .doctor()
            .examine(&DoctorScope::all(), &mut |finding| findings.push(finding))
            .unwrap();
        (summary, findings)
    }

    fn repair(&self) -> (DoctorSummary, Vec<Finding>) {
        let mut findings = Vec::new();
        let summary = self
            .doctor()
            .repair(&DoctorScope::all(), Duration::ZERO, &mut |finding| {
                findings.push(finding);
            })
            .unwrap();
        (summary, findings)
    }

    /// The log's files whose names end like this, sorted by name.
    fn files(&self, end: &str) -> Vec<PathBuf> {
        let folder = std::fs::read_dir(self.root().join("events/shop/job")).unwrap();
        let mut files: Vec<PathBuf> = folder
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.to_string_lossy().ends_with(end))
            .collect();
        files.sort();
        files
    }

    fn kept(&self) -> usize {
        std::fs::read_dir(self.root().join("quarantine")).map_or(0, Iterator::count)
    }
}

fn job() -> JobAddress {
    JobAddress::new(RepoName::new("shop").unwrap(), JobId::new("job").unwrap())
}

fn append(backend: &FileBackend, numbers: std::ops::Range<u32>) {
    for number in numbers {
        let mut batch = Batch::new();
        batch.push(&number).unwrap();
        backend
            .append(&job(), &mut batch, &AppendOptions::default(), Deadline::never())
            .unwrap();
    }
}

/// The payloads that a reader returns, and the number of damaged places that it reports.
fn read(backend: &FileBackend, options: &ScanOptions) -> (Vec<u32>, usize) {
    let (mut read, mut damaged) = (Vec::new(), 0);
    let mut scan = backend.scan(&job(), options, Deadline::never()).unwrap();
    while let Some(item) = scan.next().unwrap() {
        match item {
            ScanItem::Record(record) => {
                let value: serde_json::Value = record.parse().unwrap();
                read.push(value["event"].as_u64().unwrap() as u32);
            }
            ScanItem::Damage(_) => damaged += 1,
            ScanItem::TooLarge(record) => panic!("{record}"),
        }
    }
    (read, damaged)
}

fn rewrite(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(path).unwrap().permissions().mode();
    let mut bytes = std::fs::read(path).unwrap();
    change(&mut bytes);
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::write(path, bytes).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn where_a_link_in_the_way_leads_to_is_no_stray() {
    for (name, target) in [("dlq", "dlq.old"), ("events", "a")] {
        let place = Place::new();
        append(&place.open(), 0..3);
        let (link, data) = (place.root().join(name), place.root().join(target));
        let _ = std::fs::remove_dir_all(&link);
        std::fs::create_dir(&data).unwrap();
        std::fs::write(data.join("file"), "data").unwrap();
        std::os::unix::fs::symlink(target, &link).unwrap();
        std::fs::create_dir(place.root().join("stray")).unwrap();
        std::fs::write(place.root().join("stray/file"), "data").unwrap();
        let kinds: Vec<_> = place.examine().1.iter().map(|finding| finding.kind).collect();
        let count = |kind| kinds.iter().filter(|found| **found == kind).count();
        assert_eq!(
            (count(FindingKind::InTheWay), count(FindingKind::Stray)),
            (1, 1),
            "{kinds:?}"
        );
        let (_, findings) = place.examine();
        let stray = findings.iter().find(|finding| finding.kind == FindingKind::Stray);
        assert!(stray.unwrap().place.contains("stray"), "{findings:?}");
    }
}

#[test]
fn a_segment_that_a_living_writer_holds_is_left_and_told() {
    let place = Place::new();
    let writer = place.open();
    append(&writer, 0..2);
    let held = place.files(".jsonl").pop().unwrap();
    rewrite(&held, |bytes| bytes[20] ^= 1);
    let (summary, findings) = place.repair();
    assert_eq!((summary.damage, summary.left), (1, 1));
    assert!(
        matches!(&findings[0].outcome, FindingOutcome::Left { why } if why.contains("living writer")),
        "{findings:?}"
    );
    assert_eq!(place.kept(), 0);
    drop(writer);
    let (summary, _) = place.repair();
    assert_eq!((summary.damage, summary.left), (1, 0));
    assert_eq!(place.examine().0.damage, 0);
    assert_eq!(read(&place.open(), &ScanOptions::all()), (vec![1], 0));
}

#[test]
fn what_decompresses_of_an_archive_is_read_on_also_from_a_cursor_and_stays_sealed() {
    let place = Place::new();
    let writer = place.with(place.options().compression(true));
    append(&writer, 0..8);
    writer.flush(Deadline::never()).unwrap();
    drop(writer);
    let backend = place.open();
    let mut scan = backend
        .scan(&job(), &ScanOptions::all(), Deadline::never())
        .unwrap();
    for _ in 0..2 {
        scan.next().unwrap().unwrap();
    }
    let cursor = scan.cursor();
    drop(scan);
    let archive = place.files(".zst").remove(0);
    // Damages the checksum at the end of the compressed file: every record can be decompressed, but the file does not
    // verify.
    rewrite(&archive, |bytes| *bytes.last_mut().unwrap() ^= 1);
    let before = read(&backend, &ScanOptions::all());
    assert_eq!(before, ((0..8).collect(), 1));
    drop(backend);
    let (summary, findings) = place.repair();
    assert_eq!((summary.damage, summary.left), (1, 0), "{findings:?}");
    assert_eq!(findings[0].kind, FindingKind::DamagedArchive);
    assert!(!archive.exists());
    let plain = archive.with_extension("");
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(
        std::fs::metadata(&plain).unwrap().permissions().mode() & 0o777,
        0o400
    );
    assert_eq!(place.examine().0.damage, 0);
    let backend = place.open();
    assert_eq!(read(&backend, &ScanOptions::all()), (before.0, 0));
    assert_eq!(
        read(&backend, &ScanOptions::after(cursor)).0,
        (2..8).collect::<Vec<_>>()
    );
}

#[test]
fn an_archive_that_holds_nothing_any_more_keeps_its_name_for_cursors() {
    let place = Place::new();
    let writer = place.with(place.options().compression(true));
    append(&writer, 0..8);
    writer.flush(Deadline::never()).unwrap();
    let mut scan = writer
        .scan(&job(), &ScanOptions::all(), Deadline::never())
        .unwrap();
    scan.next().unwrap().unwrap();
    let cursor = scan.cursor();
    drop(scan);
    drop(writer);
    let archive = place.files(".zst").remove(0);
    rewrite(&archive, |bytes| bytes.truncate(150));
    let (summary, _) = place.repair();
    assert!(summary.damage >= 1 && summary.left == 0);
    let backend = place.open();
    let (found, damaged) = read(&backend, &ScanOptions::after(cursor));
    assert!(damaged == 0 && found.ends_with(&[7]), "{found:?}");
}

/// Writes a log of this number of events, in one segment that is compressed. Returns the path of its file.
fn compressed(place: &Place, events: u32) -> PathBuf {
    let writer = place.with(place.options().compression(true));
    append(&writer, 0..events);
    writer.flush(Deadline::never()).unwrap();
    drop(writer);
    place.files(".zst").remove(0)
}

#[test]
fn of_two_forms_of_which_one_is_damaged_nothing_is_lost() {
    let place = Place::new();
    let archive = compressed(&place, 5);
    let plain = archive.with_extension("");
    std::fs::write(
        &plain,
        zstd::decode_all(std::fs::File::open(&archive).unwrap()).unwrap(),
    )
    .unwrap();
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(&plain, std::fs::Permissions::from_mode(0o400)).unwrap();
    let (summary, findings) = place.examine();
    assert_eq!((summary.damage, findings[0].kind), (0, FindingKind::TwoForms));
    rewrite(&archive, |bytes| *bytes.last_mut().unwrap() ^= 1);
    assert_eq!(
        place.examine().0.damage,
        2,
        "it differs, and it does not decompress to its end"
    );
    let (summary, _) = place.repair();
    assert_eq!((summary.damage, summary.left), (2, 0));
    assert!(plain.exists() && !archive.exists());
    assert_eq!(place.kept(), 4, "a copy of each form, and its report");
    assert_eq!(read(&place.open(), &ScanOptions::all()), ((0..5).collect(), 0));
}

#[test]
fn of_two_forms_with_the_same_events_a_repair_leaves_one_also_if_the_plain_one_is_open() {
    use std::os::unix::fs::PermissionsExt;
    for (mode, form) in [(0o400, "zst"), (0o600, "zst"), (0o400, "gz"), (0o600, "gz")] {
        let place = Place::new();
        let archive = compressed(&place, 5);
        // The newest segment is open.
        append(&place.open(), 5..7);
        let plain = archive.with_extension("");
        let text = zstd::decode_all(std::fs::File::open(&archive).unwrap()).unwrap();
        std::fs::write(&plain, &text).unwrap();
        std::fs::set_permissions(&plain, std::fs::Permissions::from_mode(mode)).unwrap();
        let packed = plain.with_extension(format!("jsonl.{form}"));
        if form == "gz" {
            std::fs::remove_file(&archive).unwrap();
            let file = std::fs::File::create(&packed).unwrap();
            let mut encoder = flate2::write::GzEncoder::new(file, flate2::Compression::default());
            std::io::Write::write_all(&mut encoder, &text).unwrap();
            encoder.finish().unwrap();
        }
        let (_, findings) = place.examine();
        assert!(
            findings
                .iter()
                .any(|finding| finding.kind == FindingKind::TwoForms)
        );
        place.repair();
        assert_eq!([plain.exists(), packed.exists()], [form == "gz", form == "zst"]);
        let (_, findings) = place.examine();
        assert!(
            !findings
                .iter()
                .any(|finding| finding.kind == FindingKind::TwoForms),
            "{findings:?}"
        );
        append(&place.open(), 7..8);
        assert_eq!(read(&place.open(), &ScanOptions::all()), ((0..8).collect(), 0));
        if form == "gz" {
            assert_eq!(std::fs::read(&plain).unwrap(), text, "it is not continued");
        }
    }
}

#[test]
fn a_compressed_form_that_does_not_decompress_is_reported_beside_a_plain_one_too() {
    let place = Place::new();
    let archive = compressed(&place, 5);
    let all = zstd::decode_all(std::fs::File::open(&archive).unwrap()).unwrap();
    let first = all.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    // Writes a plain form of the segment, with only its first event.
    std::fs::write(archive.with_extension(""), &all[..first]).unwrap();
    rewrite(&archive, |bytes| bytes.truncate(bytes.len() - 5));
    let (_, damaged) = read(&place.open(), &ScanOptions::all());
    assert!(damaged >= 1, "readers report it");
    let (summary, findings) = place.repair();
    assert_eq!((summary.damage, summary.left), (2, 0), "{findings:?}");
    let unreadable = findings.iter().find(|finding| finding.len > 0).unwrap();
    assert_eq!(unreadable.kind, FindingKind::DamagedArchive);
    assert!(unreadable.place.ends_with(".zst"), "{findings:?}");
}

#[test]
fn a_repair_whose_syncs_fail_takes_nothing_from_its_place() {
    let place = Place::new();
    append(&place.open(), 0..2);
    let segment = place.files(".jsonl").pop().unwrap();
    rewrite(&segment, |bytes| bytes[20] ^= 1);
    let damaged = std::fs::read(&segment).unwrap();
    let switches = Arc::new(Switches::default());
    for failing in [&switches.files, &switches.folders] {
        failing.store(true, std::sync::atomic::Ordering::Relaxed);
        let fs = Arc::new(Faulty::new(RealFs::new(place.root()), Arc::clone(&switches)));
        let doctor = Doctor::new_on(fs, place.options()).unwrap();
        let summary = doctor
            .repair(&DoctorScope::all(), Duration::ZERO, &mut |_| {})
            .unwrap();
        assert_eq!((summary.damage, summary.left), (1, 1));
        assert_eq!(std::fs::read(&segment).unwrap(), damaged);
        failing.store(false, std::sync::atomic::Ordering::Relaxed);
    }
    assert_eq!(place.repair().0.left, 0);
}

#[test]
fn a_lock_that_is_held_is_waited_for_and_left() {
    let place = Place::new();
    let backend = place.open();
    let name = LockName::new("deploy").unwrap();
    let guard = backend
        .lock(&name, &LockOptions::new("test"), Deadline::never())
        .unwrap();
    let path = place.root().join("locks/1/deploy.lock");
    rewrite(&path, |bytes| bytes[12] ^= 1);
    let (_, findings) = place.repair();
    assert!(
        matches!(findings[0].outcome, FindingOutcome::Left { .. }),
        "{findings:?}"
    );
    let fencing = guard.fencing();
    drop(guard);
    let (_, findings) = place.repair();
    assert!(
        matches!(findings[0].outcome, FindingOutcome::Repaired { .. }),
        "{findings:?}"
    );
    assert!(place.examine().1.is_empty());
    let next = backend
        .lock(&name, &LockOptions::new("test"), Deadline::never())
        .unwrap();
    assert!(next.fencing() > fencing);
}

#[test]
fn an_emptied_segment_is_noticed_and_a_new_one_is_not() {
    let place = Place::new();
    let backend = place.open();
    append(&backend, 0..1);
    let missing = || {
        let (summary, findings) = place.examine();
        let found = findings
            .iter()
            .filter(|finding| finding.kind == FindingKind::MissingEvents);
        assert_eq!(summary.damage, 0);
        found.count()
    };
    let [segment] = &place.files(".jsonl")[..] else {
        panic!("one segment")
    };
    let file = std::fs::File::options().write(true).open(segment).unwrap();
    let created = file.metadata().unwrap().created().unwrap();
    file.set_len(0).unwrap();
    // As a writer leaves it that died before its first record.
    file.set_modified(created).unwrap();
    assert_eq!(missing(), 0);
    // As another program leaves it that empties it later.
    file.set_modified(created + Duration::from_secs(60)).unwrap();
    assert_eq!(missing(), 1);
    // As a copy of it is that keeps its times.
    file.set_modified(created - Duration::from_secs(60)).unwrap();
    assert_eq!(missing(), 0);
    let mut permissions = file.metadata().unwrap().permissions();
    permissions.set_readonly(true);
    std::fs::set_permissions(segment, permissions).unwrap();
    assert_eq!(missing(), 1);
}

#[test]
fn a_root_opened_for_reading_or_held_by_another_process_is_not_repaired() {
    let place = Place::new();
    let repair = |options| {
        let doctor = Doctor::new(options).unwrap();
        doctor
            .repair(&DoctorScope::all(), Duration::ZERO, &mut |_| {})
            .map(drop)
    };
    let refused = repair(place.options().read_only(true)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ReadOnly);
    assert!(!place.root().exists());
    std::fs::create_dir(place.root()).unwrap();
    let root = std::fs::File::open(place.root()).unwrap();
    root.lock().unwrap();
    let refused = repair(place.options()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::LockUnavailable);
    root.unlock().unwrap();
    root.lock_shared().unwrap();
    repair(place.options()).unwrap();
    let refused = repair(place.options().file_locks(false)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::LockUnavailable);
    drop(root);
    repair(place.options().file_locks(false)).unwrap();
}

#[test]
fn damaged_fencing_marks_are_restored_from_the_tokens_in_documents() {
    let place = Place::new();
    let job = JobAddress::new(RepoName::new("shop").unwrap(), JobId::new("job").unwrap());
    let add = |text: &str, token| {
        let options = PutOptions::default().fencing(Fence::unnamed(token).ok());
        let body = Body::parse(text.as_bytes()).unwrap();
        place
            .open()
            .add(&job, Phase::Map, body, &options, Deadline::never())
    };
    add(r#"{"fencing":9}"#, 9).unwrap();
    let marks = Document::Fencing(job.clone()).path();
    let path = place.root().join(&marks);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    assert!(add("{}", 9).is_err());
    let (_, findings) = place.repair();
    assert!(
        findings
            .iter()
            .any(|finding| finding.place.ends_with("fencing.json")),
        "{findings:?}"
    );
    assert_eq!(place.kept(), 2, "the bytes and their report");
    assert_eq!(add("{}", 8).unwrap_err().kind(), ErrorKind::Fenced);
    add("{}", 9).unwrap();
    assert!(place.examine().1.is_empty());
}

#[test]
fn a_folder_with_temporary_files_alone_is_an_empty_one() {
    let place = Place::new();
    std::fs::create_dir(place.root()).unwrap();
    let left = place.root().join(".tmp-0123456789abcdef0123456789abcdef");
    std::fs::write(&left, "half").unwrap();
    let (_, findings) = place.examine();
    let kinds: Vec<_> = findings.iter().map(|finding| finding.kind).collect();
    assert_eq!(kinds, [FindingKind::Temporary]);
    place.repair();
    assert!(!left.exists());
    std::fs::write(place.root().join("mine"), "x").unwrap();
    assert_eq!(place.examine().1[0].kind, FindingKind::NoStore);
}
