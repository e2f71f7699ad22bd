//! Tests of backups: the contents of archives, restores, and the detection of damage.

mod crashes;
mod cursors;
mod fencing;
mod hostile;

use std::io::Cursor as Reader;
use std::path::{Path, PathBuf};
use std::time::Duration;

use prodigy_storage_backend::dead_letter::DeadLetter;
use prodigy_storage_backend::{
    AppendOptions, Batch, Body, Catalog, Cursor, Deadline, DocumentStore, Durability, ErrorKind, Fence,
    ItemId, LockOptions, LockStore, LogStore, Moved, PageOptions, PutOptions, QueueStep, QueueStore,
    ScanItem, ScanOptions, Select,
};
use prodigy_storage_file::{Backup, Doctor, DoctorScope, FileBackend, FileOptions};
use prodigy_storage_layout::{
    Document, DocumentKind, DocumentName, DocumentOwner, JobAddress, JobId, LockName, Part, Phase, RepoName,
    Timestamp,
};
use tempfile::TempDir;

pub const NEVER: Deadline = Deadline::never();

pub fn job(id: &str) -> JobAddress {
    JobAddress::new(RepoName::new("shop").unwrap(), JobId::new(id).unwrap())
}

/// A temporary folder for several roots.
pub struct Place(TempDir);

impl Place {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn root(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn options(&self, name: &str) -> FileOptions {
        FileOptions::new(self.root(name)).max_file_size(600)
    }

    pub fn open(&self, name: &str) -> FileBackend {
        FileBackend::open(self.options(name)).unwrap()
    }

    pub fn backup(&self, name: &str) -> Backup {
        Backup::new(self.options(name)).unwrap()
    }

    pub fn archive(&self, name: &str, job: Option<&JobAddress>) -> Vec<u8> {
        let mut archive = Vec::new();
        self.backup(name).write(job, &mut archive).unwrap();
        archive
    }

    fn restore(
        &self,
        name: &str,
        archive: &[u8],
        job: Option<&JobAddress>,
    ) -> prodigy_storage_backend::Result<u64> {
        let restored = self.backup(name).restore(&mut Reader::new(archive), job)?;
        Ok(restored.files)
    }

    fn is_clean(&self, name: &str) -> bool {
        let doctor = Doctor::new(self.options(name)).unwrap();
        let mut all = Vec::new();
        doctor
            .examine(&DoctorScope::all(), &mut |finding| all.push(finding))
            .unwrap();
        all.retain(|finding| finding.severity > prodigy_storage_file::FindingSeverity::Note);
        assert!(all.is_empty(), "{all:#?}");
        true
    }
}

pub fn append(backend: &FileBackend, job: &JobAddress, payloads: std::ops::Range<u32>) {
    for payload in payloads {
        let mut batch = Batch::new();
        batch.push(&payload).unwrap();
        backend
            .append(job, &mut batch, &AppendOptions::default(), NEVER)
            .unwrap();
    }
}

/// The lines of a log after a cursor, and the cursor after the last of them.
pub fn lines(backend: &FileBackend, job: &JobAddress, from: Option<Cursor>) -> (Vec<String>, Cursor) {
    let options = from.map_or_else(ScanOptions::all, ScanOptions::after);
    let mut scan = backend.scan(job, &options, NEVER).unwrap();
    let mut lines = Vec::new();
    while let Some(item) = scan.next().unwrap() {
        match item {
            ScanItem::Record(record) => lines.push(record.line.to_string()),
            other => panic!("{other:?}"),
        }
    }
    (lines, scan.cursor())
}

fn items(backend: &FileBackend, job: &JobAddress) -> Vec<String> {
    let scan = backend.queue_scan(job, &Select::any(), NEVER).unwrap();
    scan.map(|step| match step.unwrap() {
        QueueStep::Entry(entry) => format!(
            "{} {:?} {:?} {}",
            entry.id, entry.revision, entry.place, entry.body
        ),
        other => panic!("{other:?}"),
    })
    .collect()
}

pub fn push(backend: &FileBackend, job: &JobAddress, id: &str) {
    let item = DeadLetter::new(ItemId::new(id).unwrap(), id).to_item().unwrap();
    backend
        .queue_put(job, &[item], Durability::Strict, None, NEVER)
        .unwrap();
}

pub fn own(job: &JobAddress) -> Document {
    let owner = DocumentOwner::Job(job.clone());
    Document::Own(
        owner,
        DocumentKind::new("plans").unwrap(),
        DocumentName::new("a").unwrap(),
    )
}

/// Fills a job with data of every kind. Returns a cursor into the middle of its log.
fn fill(backend: &FileBackend, job: &JobAddress) -> Cursor {
    append(backend, job, 0..10);
    let (_, cursor) = lines(backend, job, None);
    let fence = {
        let name = LockName::new(format!("{job}/coordinator")).unwrap();
        for _ in 0..2 {
            backend
                .lock(&name, &LockOptions::new("test"), NEVER)
                .unwrap()
                .release()
                .unwrap();
        }
        let guard = backend.lock(&name, &LockOptions::new("test"), NEVER).unwrap();
        Fence::of(&*guard).unwrap()
    };
    let body = Body::parse(br#"{"state":1}"#).unwrap();
    backend
        .put(
            &Document::Setup(job.clone()),
            body,
            &PutOptions::default().fencing(Some(fence)),
            NEVER,
        )
        .unwrap();
    for _ in 0..2 {
        backend
            .add(job, Phase::Map, body, &PutOptions::default(), NEVER)
            .unwrap();
    }
    for document in [own(job), Document::Orphans(job.clone())] {
        backend
            .put(&document, body, &PutOptions::default(), NEVER)
            .unwrap();
    }
    append(backend, job, 10..15);
    for id in ["one", "two", "three"] {
        push(backend, job, id);
    }
    let taken = backend
        .queue_take(
            job,
            &Select::eligible(),
            2,
            Duration::from_secs(3600),
            None,
            NEVER,
        )
        .unwrap();
    assert_eq!(taken.len(), 2);
    cursor
}

fn body(backend: &FileBackend, document: &Document) -> Vec<u8> {
    backend.get(document, NEVER).unwrap().unwrap().body().to_vec()
}

/// Asserts that a job has the same data in two roots.
fn assert_same(one: &FileBackend, other: &FileBackend, job: &JobAddress, cursor: &Cursor) {
    for from in [None, Some(cursor.clone())] {
        assert_eq!(lines(one, job, from.clone()).0, lines(other, job, from).0);
    }
    assert_eq!(items(one, job), items(other, job));
    for document in [
        Document::Setup(job.clone()),
        own(job),
        Document::Orphans(job.clone()),
    ] {
        assert_eq!(body(one, &document), body(other, &document), "{document}");
    }
    let newest = |backend: &FileBackend| {
        backend
            .newest(job, Phase::Map, None, NEVER)
            .unwrap()
            .unwrap()
            .document
    };
    assert_eq!(newest(one), newest(other));
    let last = |backend: &FileBackend| backend.activity(job, NEVER).unwrap().last_write;
    assert_eq!(last(one), last(other), "a finished job stays finished");
}

#[test]
fn a_root_is_restored_with_all_that_it_has() {
    let place = Place::new();
    let backend = place.open("root");
    let cursors = ["a", "b"].map(|id| fill(&backend, &job(id)));
    let foreign = [
        "dlq/shop/a/mapreduce/item.json",
        "events/shop/a/other-1.jsonl",
        "state/shop/mappings/m.json",
    ];
    for path in foreign {
        let path = place.root("root").join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "not ours").unwrap();
    }
    let archive = place.archive("root", None);
    let summary = Backup::check(&mut archive.as_slice()).unwrap();
    assert_eq!(
        (summary.jobs, summary.damaged, summary.job.as_deref()),
        (2, 0, None)
    );
    assert_eq!(place.restore("copy", &archive, None).unwrap(), summary.files);
    let copy = place.open("copy");
    for (id, cursor) in ["a", "b"].iter().zip(&cursors) {
        assert_same(&backend, &copy, &job(id), cursor);
    }
    for path in foreign {
        assert_eq!(std::fs::read(place.root("copy").join(path)).unwrap(), b"not ours");
    }
    assert_eq!(
        std::fs::read(place.root("root").join("format.json")).unwrap(),
        std::fs::read(place.root("copy").join("format.json")).unwrap(),
        "a copy has the name of the store"
    );
    assert!(place.is_clean("copy"));
    // The leases are gone, tokens continue above the earlier ones, and the queue and the log accept writes.
    let taken = copy
        .queue_take(
            &job("a"),
            &Select::eligible(),
            9,
            Duration::from_secs(9),
            None,
            NEVER,
        )
        .unwrap();
    assert_eq!(taken.len(), 3);
    let name = LockName::new("shop/a/coordinator").unwrap();
    assert_eq!(
        copy.lock(&name, &LockOptions::new("test"), NEVER)
            .unwrap()
            .fencing(),
        4
    );
    push(&copy, &job("a"), "four");
    append(&copy, &job("a"), 15..16);
    assert_eq!(
        (
            items(&copy, &job("a")).len(),
            lines(&copy, &job("a"), None).0.len()
        ),
        (4, 16)
    );
    let refused = place.restore("copy", &archive, None).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Refused, "{refused}");
}

#[test]
fn a_job_is_restored_beside_others() {
    let place = Place::new();
    let backend = place.open("root");
    let cursor = fill(&backend, &job("a"));
    fill(&backend, &job("b"));
    let other = place.open("other");
    append(&other, &job("c"), 0..3);
    let whole = place.archive("root", None);
    let of_one = place.archive("root", Some(&job("a")));
    assert!(of_one.len() < whole.len());
    assert_eq!(
        Backup::check(&mut of_one.as_slice()).unwrap().job.as_deref(),
        Some("shop/a")
    );

    let absent = place.restore("other", &of_one, Some(&job("b"))).unwrap_err();
    assert_eq!(absent.kind(), ErrorKind::NotFound);
    assert!(absent.to_string().contains("shop/a"), "{absent}");
    place.restore("other", &of_one, None).unwrap();
    assert_same(&backend, &other, &job("a"), &cursor);
    let there = place.restore("other", &whole, Some(&job("a"))).unwrap_err();
    assert_eq!(there.kind(), ErrorKind::Conflict);
    place.restore("other", &whole, Some(&job("b"))).unwrap();
    assert_eq!(items(&other, &job("b")), items(&backend, &job("b")));
    assert_eq!(lines(&other, &job("c"), None).0.len(), 3);
    assert!(place.is_clean("other"));

    // The next holder of the job's lock can write.
    let name = LockName::new("shop/a/coordinator").unwrap();
    let guard = other.lock(&name, &LockOptions::new("test"), NEVER).unwrap();
    let options = PutOptions::default().fencing(Some(Fence::of(&*guard).unwrap()));
    other.put(&own(&job("a")), Body::EMPTY, &options, NEVER).unwrap();
    guard.release().unwrap();

    // Deletes the job, and restores it.
    other.seal(&job("a"), NEVER).unwrap();
    assert!(other.delete_job(&job("a"), None, NEVER).unwrap());
    place.restore("other", &of_one, None).unwrap();
    assert_same(&backend, &other, &job("a"), &cursor);
}

/// Files of another program in the folders of a job.
pub const FOREIGN: [&str; 4] = [
    "dlq/shop/a/mapreduce/items/item.json",
    "events/shop/a/other-1.jsonl",
    "events/shop/a/notes/today.txt",
    "state/shop/mapreduce/jobs/a/notes.txt",
];

#[test]
fn a_restored_job_has_the_mark_of_its_removed_events_and_the_files_of_other_programs() {
    let place = Place::new();
    let backend = place.open("root");
    let all = {
        append(&backend, &job("a"), 0..20);
        lines(&backend, &job("a"), None)
    };
    let removed = backend
        .remove_before(&job("a"), Timestamp::MAX, None, NEVER)
        .unwrap();
    assert!(removed.segments > 1);
    for path in FOREIGN {
        let path = place.root("root").join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "not ours").unwrap();
    }
    let of_one = place.archive("root", Some(&job("a")));
    let files = Backup::check(&mut of_one.as_slice()).unwrap().files;
    let whole = place.archive("root", None);
    for (name, archive) in [("one", &of_one), ("of-whole", &whole)] {
        place.restore(name, archive, Some(&job("a"))).unwrap();
        let copy = place.open(name);
        let left = lines(&backend, &job("a"), None).0;
        assert_eq!(lines(&copy, &job("a"), None).0, left);
        assert_eq!(
            lines(&copy, &job("a"), Some(all.1.clone())).0,
            [""; 0],
            "no gap at the end"
        );
        let start = ScanOptions::after(copy.end(&job("absent"), NEVER).unwrap());
        let gap = copy
            .scan(&job("a"), &start, NEVER)
            .err()
            .map(|error| error.kind());
        assert_eq!(gap, Some(ErrorKind::CursorGap), "the removal is known");
        for path in FOREIGN {
            assert_eq!(std::fs::read(place.root(name).join(path)).unwrap(), b"not ours");
        }
    }
    // Each file of the archive but its `format.json` is one of the job.
    place.open("counted");
    assert_eq!(place.restore("counted", &of_one, None).unwrap(), files - 1);
}

#[test]
fn nothing_to_back_up_is_said() {
    let place = Place::new();
    let missing = place.backup("none").write(None, &mut Vec::new()).unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    append(&place.open("root"), &job("a"), 0..1);
    let missing = place
        .backup("root")
        .write(Some(&job("b")), &mut Vec::new())
        .unwrap_err();
    assert_eq!(
        (missing.kind(), missing.target()),
        (ErrorKind::NotFound, "shop/b")
    );
}

#[test]
fn the_end_of_a_write_that_is_under_way_is_left_out() {
    let place = Place::new();
    let backend = place.open("root");
    append(&backend, &job("a"), 0..2);
    push(&backend, &job("a"), "one");
    drop(backend);
    let segment = only_file(&place.root("root").join("events/shop/a"));
    let whole = std::fs::read(&segment).unwrap();
    let second = whole.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    let restored = |name: &str, bytes: &[u8]| {
        std::fs::write(&segment, bytes).unwrap();
        place.restore(name, &place.archive("root", None), None).unwrap();
        std::fs::read(only_file(&place.root(name).join("events/shop/a"))).unwrap()
    };
    assert_eq!(restored("torn", &whole[..whole.len() - 9]), &whole[..second]);
    assert_eq!(
        restored("unended", &whole[..whole.len() - 1]),
        whole,
        "a whole record gets its line end"
    );
    assert!(place.is_clean("torn") && place.is_clean("unended"));
}

fn only_file(folder: &Path) -> PathBuf {
    let mut found: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    found.retain(|path| path.extension().is_some_and(|ending| ending == "jsonl"));
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

#[test]
fn damage_of_a_queue_is_counted_and_the_rest_is_copied() {
    let place = Place::new();
    let backend = place.open("root");
    for id in ["one", "two", "three"] {
        push(&backend, &job("a"), id);
    }
    drop(backend);
    let path = place.root("root").join("dlq/shop/a/items.json");
    let text = std::fs::read_to_string(&path)
        .unwrap()
        .replace("\"two\",\"first", "\"twx\",\"first");
    std::fs::write(&path, text).unwrap();
    let mut archive = Vec::new();
    assert_eq!(place.backup("root").write(None, &mut archive).unwrap().damaged, 1);
    place.restore("copy", &archive, None).unwrap();
    assert_eq!(items(&place.open("copy"), &job("a")).len(), 2);
    assert!(place.is_clean("copy"));
}

#[test]
fn damaged_events_are_counted_and_copied_as_they_are() {
    let place = Place::new();
    let backend = place.open("root");
    append(&backend, &job("a"), 0..3);
    drop(backend);
    let folder = place.root("root").join("events/shop/a");
    let segments = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let segment = segments.min().unwrap();
    let mut bytes = std::fs::read(&segment).unwrap();
    let middle = memchr::memmem::find(&bytes, b"\"event\":").unwrap() + 8;
    bytes[middle] ^= 1;
    std::fs::write(&segment, &bytes).unwrap();
    let mut archive = Vec::new();
    assert_eq!(place.backup("root").write(None, &mut archive).unwrap().damaged, 1);
    place.restore("copy", &archive, None).unwrap();
    let copied = place
        .root("copy")
        .join(segment.strip_prefix(place.root("root")).unwrap());
    assert_eq!(std::fs::read(copied).unwrap(), bytes);
}

#[test]
fn damage_in_a_compressed_segment_is_counted() {
    let place = Place::new();
    let backend = place.open("root");
    append(&backend, &job("a"), 0..3);
    drop(backend);
    let folder = place.root("root").join("events/shop/a");
    let segments = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let plain = &segments.min().unwrap();
    let text = std::fs::read(plain).unwrap();
    let mut wrong = text.clone();
    let middle = memchr::memmem::find(&text, b"\"event\":").unwrap() + 8;
    wrong[middle] ^= 1;
    let packed = plain.with_extension("jsonl.zst");
    std::fs::remove_file(plain).unwrap();
    let damaged = |bytes: &[u8]| {
        std::fs::write(&packed, bytes).unwrap();
        let mut archive = Vec::new();
        let damaged = place.backup("root").write(None, &mut archive).unwrap().damaged;
        Backup::check(&mut &archive[..]).unwrap();
        damaged
    };
    let pack = |text: &[u8]| zstd::encode_all(text, 3).unwrap();
    assert_eq!(damaged(&pack(&text)), 0);
    assert_eq!(damaged(&pack(&wrong)), 1);
    let whole = pack(&text);
    assert_eq!(damaged(&whole[..whole.len() - 9]), 1);
    assert_eq!(damaged(b"no frame"), 1);
}

/// The version in the head of an archive.
fn version(archive: &[u8]) -> u64 {
    let tar = zstd::decode_all(archive).unwrap();
    let mut tar = tar::Archive::new(tar.as_slice());
    let head = tar.entries().unwrap().next().unwrap().unwrap();
    let head: serde_json::Value = serde_json::from_reader(head).unwrap();
    head["archive"].as_u64().unwrap()
}

const NEW: &str = "postgresql://app@db.example.com/jobs";

/// Marks a part as moved to another store.
fn mark(backend: &FileBackend, part: Part, to: &str) {
    let last = match &part {
        Part::Job(job) => backend.activity(job, NEVER).unwrap().last_write,
        _ => None,
    };
    let moved = Moved::new(part, to, Timestamp::from_millis(1_767_225_600_000));
    backend.mark_moved(&moved, last, NEVER).unwrap();
}

fn marks(backend: &FileBackend) -> Vec<Moved> {
    let page = backend.moved(&Part::Store, &PageOptions::default(), NEVER);
    page.unwrap().entries
}

fn refused(backend: &FileBackend, job: &JobAddress) -> ErrorKind {
    let mut batch = Batch::new();
    batch.push(&1).unwrap();
    let appended = backend.append(job, &mut batch, &AppendOptions::default(), NEVER);
    appended.unwrap_err().kind()
}

#[test]
fn what_was_moved_takes_no_writes_where_its_archive_is_restored() {
    let place = Place::new();
    let backend = place.open("root");
    for name in ["a", "b"] {
        append(&backend, &job(name), 0..3);
        backend.seal(&job(name), NEVER).unwrap();
    }
    assert_eq!(version(&place.archive("root", None)), 1, "without a mark");
    mark(&backend, Part::Job(job("a")), NEW);
    assert_eq!(
        version(&place.archive("root", Some(&job("b")))),
        1,
        "of another job"
    );

    // Restores one job, from an archive of this job and from an archive of the whole root.
    let (own, all) = (
        place.archive("root", Some(&job("a"))),
        place.archive("root", None),
    );
    for (name, archive) in [("own", &own), ("all", &all)] {
        assert_eq!(version(archive), 2, "{name}");
        assert_eq!(Backup::check(&mut archive.as_slice()).unwrap().moved, 1, "{name}");
        let restored = place
            .backup(name)
            .restore(&mut Reader::new(archive), Some(&job("a")))
            .unwrap();
        assert_eq!(restored.moved, 1, "{name}");
        let copy = place.open(name);
        assert_eq!(marks(&copy), marks(&backend), "{name}");
        assert_eq!(lines(&copy, &job("a"), None).0.len(), 3, "{name}");
        assert_eq!(refused(&copy, &job("a")), ErrorKind::ReadOnly, "{name}");
        copy.unmark_moved(&Part::Store, NEVER).unwrap();
        append(&copy, &job("a"), 3..4);
        assert!(place.is_clean(name));
    }

    // Restores the whole root.
    mark(&backend, Part::Job(job("b")), NEW);
    mark(&backend, Part::Store, NEW);
    let all = place.archive("root", None);
    let restored = place
        .backup("whole")
        .restore(&mut Reader::new(&all), None)
        .unwrap();
    assert_eq!(restored.moved, 3);
    let copy = place.open("whole");
    assert_eq!(marks(&copy), marks(&backend));
    assert_eq!(refused(&copy, &job("new")), ErrorKind::ReadOnly);
    assert!(place.is_clean("whole"));

    // A job that only the mark of the whole store covers gets a mark of its own in the archive.
    backend.unmark_moved(&Part::Job(job("b")), NEVER).unwrap();
    let own = place.archive("root", Some(&job("b")));
    place.restore("covered", &own, None).unwrap();
    let copy = place.open("covered");
    let parts: Vec<Part> = marks(&copy).into_iter().map(|moved| moved.part).collect();
    assert_eq!(parts, [Part::Job(job("b"))]);
    append(&copy, &job("new"), 0..1);
}

#[test]
fn a_mark_that_names_the_place_of_the_restore_is_not_restored() {
    let place = Place::new();
    let backend = place.open("root");
    append(&backend, &job("a"), 0..3);
    backend.seal(&job("a"), NEVER).unwrap();
    for name in ["whole", "job"] {
        let path = place.root(name);
        backend.unmark_moved(&Part::Store, NEVER).unwrap();
        mark(&backend, Part::Job(job("a")), path.to_str().unwrap());
        let of = (name == "job").then(|| job("a"));
        let archive = place.archive("root", of.as_ref());
        let restored = place
            .backup(name)
            .restore(&mut Reader::new(&archive), of.as_ref())
            .unwrap();
        assert_eq!(restored.moved, 0, "{name}");
        append(&place.open(name), &job("a"), 3..4);
    }
}
