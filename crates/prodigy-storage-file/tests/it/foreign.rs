//! Tests with a root that the Prodigy program, version 0.4.4, wrote, and in which both programs work. The fixture
//! `tests/fixtures/prodigy-0.4.4` is the root as that program left it.

mod skipped;

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::letters::removed;
use prodigy_storage_backend::dead_letter::{DeadLetter, normalise};
use prodigy_storage_backend::{
    AppendOptions, Batch, Body, Catalog, Deadline, DocumentStore, Durability, ErrorKind, Expected,
    ForeignKind, ItemId, LogStore, PutOptions, QueueStore, ScanItem, ScanOptions, Select, Settled, Stats,
};
use prodigy_storage_file::{
    Doctor, DoctorScope, DoctorSummary, FileBackend, FileOptions, Finding, FindingKind, FindingSeverity,
};
use prodigy_storage_layout::{Document, DocumentScope, JobAddress, JobId, Phase, RepoName, Stamp, Timestamp};
use tempfile::TempDir;

const JOB: &str = "mapreduce-1001";
const LOG: &str = "events/shop/mapreduce-1001";
const ORPHANS: &str = "orphaned_worktrees/shop/mapreduce-1001.json";
const ROTATED: &str = "events-20261128_110000.20261128_120000.jsonl.gz";
const CURRENT: &str = "events-20261128_130446.jsonl";

/// A length above the default limit for documents, in bytes.
const OVER_LIMIT: u64 = 66 << 20;

/// Extends a file beyond the limit, without writing to it.
fn make_large(path: &Path) {
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    file.set_len(OVER_LIMIT).unwrap();
}

struct Place {
    folder: TempDir,
}

/// For each file: its contents, mode, mtime in nanoseconds, and inode.
type Files = BTreeMap<PathBuf, (Vec<u8>, u32, i128, u64)>;

fn job() -> JobAddress {
    JobAddress::new(RepoName::new("shop").unwrap(), JobId::new(JOB).unwrap())
}

fn never() -> Deadline {
    Deadline::never()
}

/// Copies a folder, and gives the copy the modes of the other program's files.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    std::fs::set_permissions(to, std::fs::Permissions::from_mode(0o755)).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::write(&target, std::fs::read(entry.path()).unwrap()).unwrap();
            std::fs::set_permissions(&target, std::fs::Permissions::from_mode(0o644)).unwrap();
        }
    }
}

impl Place {
    fn new() -> Self {
        let place = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/prodigy-0.4.4");
        copy(&fixture, &place.root());
        place
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    fn write(&self, below: &str, text: &str) {
        let path = self.root().join(below);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    }

    fn files(&self) -> Files {
        fn collect(folder: &Path, files: &mut Files) {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let found = std::fs::metadata(&path).unwrap();
                if found.is_dir() {
                    collect(&path, files);
                } else {
                    let modified = i128::from(found.mtime()) * 1_000_000_000 + i128::from(found.mtime_nsec());
                    let facts = (std::fs::read(&path).unwrap(), found.mode(), modified, found.ino());
                    files.insert(path, facts);
                }
            }
        }
        let mut files = Files::new();
        collect(&self.root(), &mut files);
        files
    }

    fn options(&self) -> FileOptions {
        FileOptions::new(self.root())
    }

    fn backend(&self) -> FileBackend {
        FileBackend::open(self.options()).unwrap()
    }

    fn look(&self, repair: bool) -> (DoctorSummary, Vec<Finding>) {
        let (doctor, mut findings) = (Doctor::new(self.options()).unwrap(), Vec::new());
        let scope = DoctorScope::all();
        let mut found = |finding| findings.push(finding);
        let summary = if repair {
            doctor.repair(&scope, Duration::ZERO, &mut found)
        } else {
            doctor.examine(&scope, &mut found)
        };
        (summary.unwrap(), findings)
    }

    /// The lines of the job's events, the number of damaged places that the scan reports, and the cursor at the end.
    fn events(&self, options: &ScanOptions) -> (Vec<String>, usize, prodigy_storage_backend::Cursor) {
        let backend = self.backend();
        let mut scan = backend.scan(&job(), options, never()).unwrap();
        let (mut lines, mut damaged) = (Vec::new(), 0);
        while let Some(item) = scan.next().unwrap() {
            match item {
                ScanItem::Record(record) => lines.push(record.line.to_owned()),
                ScanItem::Damage(_) => damaged += 1,
                ScanItem::TooLarge(record) => panic!("{record}"),
            }
        }
        (lines, damaged, scan.cursor())
    }
}

/// The number of files or lines of this kind that the backend has skipped.
fn skipped(backend: &FileBackend, kind: ForeignKind) -> u64 {
    let mut stats = Stats::default();
    backend.stats(&mut stats);
    stats.get(kind.counter())
}

/// Writes data of every kind with this project, to the job of the other program.
fn work(backend: &FileBackend) {
    let mut batch = Batch::new();
    batch.push(&"ours").unwrap();
    backend
        .append(&job(), &mut batch, &AppendOptions::default(), never())
        .unwrap();
    backend.seal(&job(), never()).unwrap();
    let raw = serde_json::from_str(r#"{"item_id":"ours","item_data":1}"#).unwrap();
    let item = normalise(raw).unwrap();
    backend
        .queue_put(&job(), &[item], Durability::Strict, None, never())
        .unwrap();
    let body = Body::parse(b"{\"phase\":\"map\",\"data\":1}").unwrap();
    for document in [
        Document::Map(job(), Timestamp::now().into()),
        Document::Finished(job()),
    ] {
        let options = PutOptions::new(Durability::Strict);
        backend.put(&document, body, &options, never()).unwrap();
    }
    backend.flush(never()).unwrap();
}

#[test]
fn a_repair_changes_nothing_in_the_root_of_another_program() {
    let place = Place::new();
    let before = place.files();
    let (summary, findings) = place.look(true);
    assert_eq!((summary.damage, summary.repaired), (0, 0), "{findings:?}");
    assert_eq!(place.files(), before);
}

#[test]
fn a_repair_changes_nothing_of_another_program_after_our_writers_worked_beside_it() {
    let place = Place::new();
    let before = place.files();
    for options in [place.options(), place.options().compression(true)] {
        work(&FileBackend::open(options).unwrap());
    }
    let (summary, findings) = place.look(true);
    assert_eq!((summary.damage, summary.repaired), (0, 0), "{findings:?}");
    let mut after = place.files();
    assert!(after.len() > before.len());
    after.retain(|path, _| before.contains_key(path));
    assert_eq!(after, before);
    let (lines, damaged, _) = place.events(&ScanOptions::all());
    assert_eq!((lines.len(), damaged), (16, 0));
}

#[test]
fn a_doctor_tells_each_kind_of_another_programs_files_once() {
    let place = Place::new();
    let (summary, findings) = place.look(false);
    assert!(summary.is_clean() && summary.damage == 0, "{findings:?}");
    let mut told: Vec<_> = findings
        .iter()
        .map(|finding| {
            (
                finding.why.split(" of ").next().unwrap().to_owned(),
                finding.count,
            )
        })
        .collect();
    let kinds = told.len();
    told.sort();
    told.dedup_by(|one, other| one.0 == other.0);
    assert!(told.len() == kinds && kinds <= 9, "{told:?}");
    let counts: BTreeMap<String, u64> = findings
        .iter()
        .map(|finding| (finding.why.clone(), finding.count))
        .collect();
    let count = |word: &str| {
        counts
            .iter()
            .find(|(why, _)| why.contains(word))
            .map_or(0, |(_, count)| *count)
    };
    assert_eq!(count("event files of another"), 2, "{counts:?}");
    assert_eq!(count("dead letters"), 4, "{counts:?}");
    assert_eq!(count("list of orphaned"), 1, "{counts:?}");
    assert_eq!(count("documents of another"), 3, "{counts:?}");
    assert_eq!(count("about jobs"), 9, "{counts:?}");
}

#[test]
fn a_rotated_file_is_read_although_its_name_says_that_it_is_compressed() {
    let place = Place::new();
    let (lines, damaged, _) = place.events(&ScanOptions::all());
    assert_eq!((lines.len(), damaged), (14, 0));
    assert!(
        lines[0].contains("173e42d1-78ab-4800-a10a-07661bd2e559"),
        "{}",
        lines[0]
    );
}

#[test]
fn a_cursor_goes_on_in_a_file_that_the_other_program_rotated_since() {
    let place = Place::new();
    let (all, _, _) = place.events(&ScanOptions::all());
    let backend = place.backend();
    let mut scan = backend.scan(&job(), &ScanOptions::all(), never()).unwrap();
    for _ in 0..5 {
        scan.next().unwrap().unwrap();
    }
    let cursor = scan.cursor();
    drop(scan);
    let log = place.root().join(LOG);
    let rotated = log.join("events-20261128_130446.20261128_140000.jsonl.gz");
    std::fs::rename(log.join(CURRENT), rotated).unwrap();
    let (rest, damaged, _) = place.events(&ScanOptions::after(cursor));
    assert_eq!((rest.as_slice(), damaged), (&all[5..], 0));
}

#[test]
fn lines_without_an_id_are_read_in_place_and_a_cursor_stands_at_them() {
    let place = Place::new();
    let path = place.root().join(LOG).join(CURRENT);
    let text = std::fs::read_to_string(&path).unwrap();
    let bare: String = text
        .lines()
        .map(|line| format!("{{{}\n", line.split_once(',').unwrap().1))
        .collect();
    std::fs::write(&path, &bare).unwrap();
    let before = place.files();
    let (all, damaged, _) = place.events(&ScanOptions::all());
    assert_eq!((all.len(), damaged), (14, 0));
    assert_eq!(
        all[2..]
            .iter()
            .map(|line| format!("{line}\n"))
            .collect::<String>(),
        bare
    );
    let backend = place.backend();
    for read in 1..all.len() {
        let mut scan = backend.scan(&job(), &ScanOptions::all(), never()).unwrap();
        for _ in 0..read {
            scan.next().unwrap().unwrap();
        }
        let (rest, _, _) = place.events(&ScanOptions::after(scan.cursor()));
        assert_eq!(rest, all[read..], "behind {read}");
    }
    place.look(true);
    assert_eq!(place.files(), before);
}

#[test]
fn a_list_of_orphans_that_is_a_bare_array_is_read_and_is_no_damage() {
    let place = Place::new();
    let found = place
        .backend()
        .get(&Document::Orphans(job()), never())
        .unwrap()
        .unwrap();
    assert!(!found.is_verified());
    let body: serde_json::Value = serde_json::from_slice(found.body()).unwrap();
    assert_eq!(body["orphaned_worktrees"][0]["path"], "/tmp/wt/agent-1");
}

#[test]
fn what_another_program_writes_at_this_moment_is_not_moved() {
    let place = Place::new();
    place.write(ORPHANS, "[\n  {\n    \"path\"");
    place.write(
        &format!("state/shop/mapreduce/jobs/{JOB}/setup-checkpoint.json"),
        "{\n  \"",
    );
    // An empty file with a name that only the other program uses belongs to that program.
    place.write(
        &format!("state/shop/mapreduce/jobs/{JOB}/map-checkpoint-20261128_140000.json"),
        "",
    );
    place.write(
        &format!("state/shop/mapreduce/jobs/{JOB}/map-checkpoint-20261128_150000.json"),
        "{\"a\":",
    );
    place.write(
        &format!("dlq/shop/{JOB}/items.json"),
        "[\n  {\"item_id\": \"a\", \"item",
    );
    let before = place.files();
    let (summary, findings) = place.look(true);
    assert_eq!((summary.damage, summary.repaired), (0, 0), "{findings:?}");
    assert_eq!(place.files(), before);
}

#[test]
fn a_file_of_ours_in_the_same_root_is_still_repaired() {
    let place = Place::new();
    work(&place.backend());
    let log = place.root().join(LOG);
    let ours = std::fs::read_dir(&log)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| !path.ends_with(CURRENT) && !path.ends_with(ROTATED))
        .unwrap();
    let mut bytes = std::fs::read(&ours).unwrap();
    bytes[100] ^= 1;
    std::fs::set_permissions(&ours, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::write(&ours, bytes).unwrap();
    let (summary, findings) = place.look(true);
    assert_eq!((summary.damage, summary.left), (1, 0), "{findings:?}");
}

#[test]
fn no_write_and_no_deletion_touches_a_file_of_another_program() {
    let place = Place::new();
    let stamp = Stamp::parse("20261128_130446").unwrap();
    let unreadable = format!("state/shop/mapreduce/jobs/{JOB}/map-checkpoint-20261128_150000.json");
    place.write(&unreadable, "");
    let before = place.files();
    let backend = place.backend();
    let body = Body::parse(b"{\"data\":1}").unwrap();
    let refused = |result: Option<ErrorKind>| assert_eq!(result, Some(ErrorKind::Unsupported));
    for document in [
        Document::Setup(job()),
        Document::Orphans(job()),
        Document::Map(job(), stamp.clone()),
        Document::Map(job(), Stamp::parse("20261128_150000").unwrap()),
        Document::Reduce(job(), stamp),
    ] {
        let mut conditions = vec![Expected::Any];
        conditions.extend(
            backend
                .revision(&document, never())
                .ok()
                .flatten()
                .map(Expected::Revision),
        );
        for expected in conditions {
            let options = PutOptions::new(Durability::Strict).expect(expected);
            let put = backend.put(&document, body, &options, never());
            refused(put.err().map(|error| error.kind()));
            let deleted = backend.delete(&document, expected, Durability::Strict, None, never());
            refused(deleted.err().map(|error| error.kind()));
        }
    }
    let saved = backend.add(&job(), Phase::Setup, body, &PutOptions::default(), never());
    refused(saved.err().map(|error| error.kind()));
    let added = backend.add(&job(), Phase::Map, body, &PutOptions::default(), never());
    assert!(added.is_ok(), "a new name is ours");
    let mut after = place.files();
    after.retain(|path, _| before.contains_key(path));
    assert_eq!(after, before);
}

#[test]
fn what_another_program_stored_stays_when_a_job_is_deleted() {
    let place = Place::new();
    let before = place.files();
    let backend = place.backend();
    work(&backend);
    assert!(backend.delete_job(&job(), None, never()).unwrap());
    let after = place.files();
    for (path, facts) in &before {
        // This project appends an item to the other program's array, so that file changes.
        if !path.ends_with("items.json") {
            assert_eq!(after.get(path), Some(facts), "{}", path.display());
        }
    }
    let is_left = |path: &PathBuf| {
        !before.contains_key(path)
            && !path.ends_with("format.json")
            && !path.ends_with("deletions/shop.json")
            && !path.starts_with(place.root().join("locks"))
    };
    let left: Vec<PathBuf> = after.into_keys().filter(is_left).collect();
    assert_eq!(left, Vec::<PathBuf>::new());
    let (lines, ..) = place.events(&ScanOptions::all());
    assert!(
        !lines.is_empty() && lines.iter().all(|line| !line.contains("ours")),
        "{lines:?}"
    );
}

/// The contents of a tombstone, as a deletion writes it.
const TOMBSTONE: &str = "{\"deleted_at\":\"2026-11-28T15:00:00Z\"}\n";

#[test]
fn an_unfinished_deletion_hides_the_job_and_the_next_write_finishes_it() {
    let place = Place::new();
    let backend = place.backend();
    let ours = JobAddress::new(RepoName::new("ours").unwrap(), JobId::new("job-1").unwrap());
    let append = |text: &str| {
        let mut batch = Batch::new();
        batch.push(&text).unwrap();
        let options = AppendOptions::default();
        backend.append(&ours, &mut batch, &options, never()).unwrap();
        backend.seal(&ours, never()).unwrap();
    };
    let count = || {
        let mut scan = backend.scan(&ours, &ScanOptions::all(), never()).unwrap();
        std::iter::from_fn(|| scan.next().unwrap().map(drop)).count()
    };
    let jobs = || {
        backend
            .jobs(&ours.repo, &Default::default(), never())
            .unwrap()
            .entries
            .len()
    };
    append("before");
    append("before");
    place.write("deletions/ours/job-1.json", TOMBSTONE);
    assert_eq!((count(), jobs()), (0, 0));
    let (_, findings) = place.look(false);
    let is_unfinished = |finding: &&Finding| finding.kind == FindingKind::UnfinishedDeletion;
    assert_eq!(findings.iter().filter(is_unfinished).count(), 1, "{findings:?}");
    append("after");
    assert_eq!((count(), jobs()), (1, 1));
    assert!(!place.root().join("deletions/ours/job-1.json").exists());
    // A mark of sealed segments (a `.sealed-…` file) is part of a log, so the doctor does not report it.
    let mark = ".sealed-20261128T150000.000000000Z-00000000-0000-7000-8000-000000000000";
    place.write(&format!("events/ours/job-1/{mark}"), "");
    let (_, findings) = place.look(false);
    assert!(
        findings.iter().all(|finding| !finding.place.contains(".sealed")),
        "{findings:?}"
    );
    // An interrupted deletion is completed by deleting the job again.
    place.write("deletions/ours/job-1.json", TOMBSTONE);
    assert!(backend.delete_job(&ours, None, never()).unwrap());
    assert_eq!((count(), jobs()), (0, 0));
    assert!(!backend.delete_job(&ours, None, never()).unwrap());
    assert!(!place.root().join("events/ours/job-1").exists());
}

#[test]
fn a_thing_at_the_path_of_a_tombstone_neither_hides_the_job_nor_has_it_removed() {
    let ours = JobAddress::new(RepoName::new("ours").unwrap(), JobId::new("job-1").unwrap());
    let place = Place::new();
    let append = |backend: &FileBackend| {
        let mut batch = Batch::new();
        batch.push(&1).unwrap();
        backend.append(&ours, &mut batch, &AppendOptions::default(), never())
    };
    append(&place.backend()).unwrap();
    let path = place.root().join("deletions/ours/job-1.json");
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let things: [&dyn Fn(); 6] = [
        &|| std::fs::write(&path, "").unwrap(),
        &|| std::fs::write(&path, "{}").unwrap(),
        &|| std::fs::write(&path, &TOMBSTONE[..20]).unwrap(),
        &|| std::os::unix::fs::symlink("/nonexistent", &path).unwrap(),
        &|| std::os::unix::fs::symlink(place.root().join("format.json"), &path).unwrap(),
        &|| std::fs::create_dir(&path).unwrap(),
    ];
    for (at, put) in things.iter().enumerate() {
        put();
        let backend = place.backend();
        append(&backend).unwrap_err();
        backend
            .scan(&ours, &ScanOptions::all(), never())
            .map(drop)
            .unwrap_err();
        backend.delete_job(&ours, None, never()).unwrap_err();
        let listed = backend
            .jobs(&ours.repo, &Default::default(), never())
            .unwrap()
            .entries;
        assert_eq!(listed, std::slice::from_ref(&ours.job), "{at}");
        let (_, findings) = place.look(true);
        assert!(
            findings
                .iter()
                .any(|finding| finding.severity == FindingSeverity::Damage
                    && finding.place.contains("deletions/ours/")),
            "{at}: {findings:?}"
        );
        drop(backend);
        match (at < 3, path.is_dir()) {
            (true, _) => assert!(!path.exists(), "{at}"),
            (false, true) => std::fs::remove_dir(&path).unwrap(),
            (false, false) => std::fs::remove_file(&path).unwrap(),
        }
        let backend = place.backend();
        let mut scan = backend.scan(&ours, &ScanOptions::all(), never()).unwrap();
        let events = std::iter::from_fn(|| scan.next().unwrap().map(drop)).count();
        assert_eq!(events, 1, "{at}");
    }
}

#[test]
fn the_next_write_of_any_kind_finishes_an_unfinished_deletion_and_is_not_taken_by_it() {
    let ours = JobAddress::new(RepoName::new("ours").unwrap(), JobId::new("job-1").unwrap());
    let push = |backend: &FileBackend, id: &str| {
        let letter = DeadLetter::new(ItemId::new(id).unwrap(), 1);
        let item = letter.to_item().unwrap();
        backend
            .queue_put(&ours, &[item], Durability::Strict, None, never())
            .unwrap();
    };
    let letters = |backend: &FileBackend| backend.queue_summary(&ours, never()).unwrap().items;
    let place = Place::new();
    push(&place.backend(), "before");
    place.write("deletions/ours/job-1.json", TOMBSTONE);
    assert_eq!(letters(&place.backend()), 0);
    push(&place.backend(), "after");
    assert!(!place.root().join("deletions/ours/job-1.json").exists());
    let mut batch = Batch::new();
    batch.push(&1).unwrap();
    let options = AppendOptions::default();
    place
        .backend()
        .append(&ours, &mut batch, &options, never())
        .unwrap();
    assert_eq!(letters(&place.backend()), 1);

    let document = Document::Finished(ours.clone());
    let put = |backend: &FileBackend| {
        let body = Body::parse(b"{}").unwrap();
        backend
            .put(&document, body, &PutOptions::default(), never())
            .unwrap();
    };
    put(&place.backend());
    place.write("deletions/ours/job-1.json", TOMBSTONE);
    assert!(place.backend().get(&document, never()).unwrap().is_none());
    put(&place.backend());
    assert!(!place.root().join("deletions/ours/job-1.json").exists());
    assert!(place.backend().get(&document, never()).unwrap().is_some());
    assert_eq!(letters(&place.backend()), 0);
}

#[test]
fn a_line_without_an_id_that_stands_twice_in_a_row_is_one_event_for_readers_and_for_the_doctor() {
    let place = Place::new();
    let line = "{\"timestamp\":\"2026-11-28T15:00:00Z\",\"event\":1}\n";
    let other = "{\"timestamp\":\"2026-11-28T15:00:01Z\",\"event\":2}\n";
    place.write(
        &format!("{LOG}/events-20261128_150000.jsonl"),
        &[line, line, other].concat(),
    );
    let (lines, _, _) = place.events(&ScanOptions::all());
    assert_eq!(lines.len(), 14 + 2);
    assert_eq!(place.look(false).0.events, 14 + 2);
}

#[test]
fn a_repair_changes_no_file_of_another_program_that_is_over_the_limit() {
    let place = Place::new();
    let jobs = format!("state/shop/mapreduce/jobs/{JOB}");
    let mut over = vec![ORPHANS.to_owned()];
    for name in [
        "setup-checkpoint.json",
        "map-checkpoint-20261128_130446.json",
        "reduce-checkpoint-v1-20261128_130446.json",
    ] {
        over.push(format!("{jobs}/{name}"));
    }
    let facts = || {
        let path = |below: &String| place.root().join(below);
        let facts = |found: std::fs::Metadata| (found.mode(), found.mtime(), found.ino(), found.len());
        over.iter()
            .map(|below| facts(std::fs::metadata(path(below)).unwrap()))
            .collect::<Vec<_>>()
    };
    for below in &over {
        place.write(below, if below == ORPHANS { "[{" } else { "{\"a\":" });
        make_large(&place.root().join(below));
    }
    let before = facts();
    let (summary, findings) = place.look(true);
    assert_eq!((summary.damage, summary.repaired), (0, 0), "{findings:?}");
    let counts: Vec<u64> = findings
        .iter()
        .filter(|finding| finding.why.contains("max_document_size"))
        .map(|finding| finding.count)
        .collect();
    assert_eq!(counts, [4], "{findings:?}");
    assert_eq!(facts(), before);
}

#[test]
fn the_mode_of_our_document_is_set_also_if_it_is_over_the_limit() {
    let place = Place::new();
    let text = format!("{{\"data\":1{}}}", " ".repeat(OVER_LIMIT as usize));
    let other = JobAddress::new(job().repo, JobId::new("other").unwrap());
    let body = Body::parse(text.as_bytes()).unwrap();
    let backend = FileBackend::open(place.options().max_document_size(2 * OVER_LIMIT)).unwrap();
    let options = PutOptions::new(Durability::Strict);
    backend
        .put(&Document::Setup(other), body, &options, never())
        .unwrap();
    let path = place
        .root()
        .join("state/shop/mapreduce/jobs/other/setup-checkpoint.json");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let (summary, findings) = place.look(true);
    assert_eq!(summary.repaired, 1, "{findings:?}");
    assert!(
        findings
            .iter()
            .any(|finding| finding.why.contains("max_document_size"))
    );
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
}
