//! A small store with data of every kind.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use prodigy_storage_backend::{
    AppendOptions, Batch, Body, Catalog, Change, Claim, Cursor, Deadline, DocumentStore, EventId, Expected,
    ItemId, LockOptions, LockStore, LogStore, PutOptions, QueueItem, QueueStore, Result, ScanItem,
    ScanOptions, Select, Settlement,
};
use prodigy_storage_file::{FileBackend, FileOptions};
use prodigy_storage_layout::{Document, JobAddress, JobId, LockName, Phase, RepoName};
use prodigy_storage_sim::{Disk, SimClock, SimFs};
use serde_json::value::RawValue;

use crate::letters::{released, removed};

pub const NEVER: fn() -> Deadline = Deadline::never;

/// The files of the store, and facts about them that the test needs.
pub struct Sample {
    pub disk: Disk,
    pub clock: Arc<SimClock>,
    /// A cursor into the middle of the log.
    pub cursor: Cursor,
    pub documents: Vec<Document>,
}

pub fn job() -> JobAddress {
    JobAddress::new(RepoName::new("shop").unwrap(), JobId::new("job-1").unwrap())
}

pub fn lock_names() -> [LockName; 2] {
    [
        LockName::new("deploy").unwrap(),
        LockName::new("shop/job-1/resume").unwrap(),
    ]
}

/// The options for a backend on these files.
pub fn options(fs: &Arc<SimFs>) -> FileOptions {
    fs.options().max_file_size(400)
}

pub fn open(fs: &Arc<SimFs>) -> FileBackend {
    FileBackend::open_on(fs.process(), options(fs)).unwrap()
}

pub fn append(backend: &FileBackend, number: u32) -> Result<()> {
    let mut batch = Batch::new();
    batch
        .push(&serde_json::json!({"n": number, "s": "done"}))
        .unwrap();
    backend
        .append(&job(), &mut batch, &AppendOptions::default(), NEVER())
        .map(drop)
}

fn id(text: &str) -> ItemId {
    ItemId::new(text).unwrap()
}

pub fn item(id: &str) -> QueueItem {
    let body = serde_json::json!({
        "item_id": id, "item_data": {"file": "a.rs"}, "first_attempt": "2026-01-01T00:00:00Z",
        "last_attempt": "2026-01-01T00:00:00Z", "failure_count": 1, "failure_history": [], "error_signature": "e",
        "reprocess_eligible": true, "manual_review_required": false,
    });
    // A queue stores the key of an item first in its line, so the item is built in this order.
    let text = body.to_string();
    QueueItem {
        id: ItemId::new(id).unwrap(),
        body: RawValue::from_string(text).unwrap(),
    }
}

/// A store with two compressed segments (one by gzip), two sealed plain ones, one with late ids and an unsealed one; a
/// queue with taken, released, failed and removed items; documents of every kind; and locks that were held.
pub fn sample() -> Sample {
    let fs = SimFs::new(Disk::default());
    let clock = fs.clock();
    let packing = FileBackend::open_on(fs.process(), options(&fs).compression(true)).unwrap();
    for number in 0..4 {
        append(&packing, number).unwrap();
    }
    packing.flush(NEVER()).unwrap();
    drop(packing);

    let backend = open(&fs);
    for number in 4..18 {
        append(&backend, number).unwrap();
        clock.turn(1_000_000_000);
    }
    let ids = ids(&backend);
    let mut late = Batch::new();
    late.push("late").unwrap();
    late.set_ids([EventId::floor(prodigy_storage_layout::Timestamp::from_nanos(
        ids[4].time().as_nanos() + 1_000_000,
    ))]);
    backend
        .append(&job(), &mut late, &AppendOptions::default(), NEVER())
        .unwrap();

    let items: Vec<_> = (0..6).map(|n| item(&format!("item-{n}"))).collect();
    backend
        .queue_put(&job(), &items, Default::default(), None, NEVER())
        .unwrap();
    let taken = backend
        .queue_take(
            &job(),
            &Select::eligible(),
            3,
            Duration::from_secs(3600),
            None,
            NEVER(),
        )
        .unwrap();
    let token = |at: usize| taken[at].lease.clone().unwrap().token;
    let failed = Settlement::new(Claim::Lease(token(2)), Change::Fail(item("item-2")));
    backend
        .queue_settle(
            &job(),
            &[released(&token(1)), failed, removed(&id("item-5"))],
            None,
            NEVER(),
        )
        .unwrap();

    let strict = PutOptions::default();
    for (phase, times) in [(Phase::Setup, 1), (Phase::Map, 3), (Phase::Reduce, 1)] {
        for time in 0..times {
            let body = format!("{{\"phase\":\"{phase}\",\"data\":{{\"n\":{time}}}}}");
            let body = Body::parse(body.as_bytes()).unwrap();
            backend.add(&job(), phase, body, &strict, NEVER()).unwrap();
        }
    }
    let repo = job().repo;
    for (document, body) in [
        (
            Document::Finished(job()),
            r#"{"finished_at":"2026-01-01T00:00:00Z"}"#,
        ),
        (
            Document::Orphans(job()),
            r#"{"job_id":"job-1","orphaned_worktrees":[]}"#,
        ),
        (
            Document::Repository(repo.clone()),
            r#"{"name":"shop","identity":"/srv/shop/.git","kind":"repository","registered_at":"2026-01-01T00:00:00Z"}"#,
        ),
    ] {
        let new = PutOptions::default().expect(Expected::Absent);
        let body = Body::parse(body.as_bytes()).unwrap();
        backend.put(&document, body, &new, NEVER()).unwrap();
    }
    for name in &lock_names() {
        for _ in 0..2 {
            let guard = backend.lock(name, &LockOptions::new("test"), NEVER()).unwrap();
            guard.release().unwrap();
        }
    }
    let mut documents: Vec<Document> = backend
        .list(
            &prodigy_storage_layout::DocumentScope::Job(job()),
            &Default::default(),
            NEVER(),
        )
        .unwrap()
        .entries
        .into_iter()
        .map(|entry| entry.document)
        .collect();
    documents.push(Document::Finished(job()));
    documents.push(Document::Orphans(job()));
    documents.push(Document::Repository(repo));
    documents.sort();
    documents.dedup();

    let mut scan = backend.scan(&job(), &ScanOptions::all(), NEVER()).unwrap();
    for _ in 0..6 {
        assert!(matches!(scan.next().unwrap(), Some(ScanItem::Record(_))));
    }
    let cursor = scan.cursor();
    drop(scan);
    drop(backend);
    let mut disk = fs.disk();
    gzip_one(&mut disk);
    Sample {
        disk,
        clock,
        cursor,
        documents,
    }
}

fn ids(backend: &FileBackend) -> Vec<EventId> {
    let mut ids = Vec::new();
    let mut scan = backend.scan(&job(), &ScanOptions::all(), NEVER()).unwrap();
    while let Some(found) = scan.next().unwrap() {
        match found {
            ScanItem::Record(record) => ids.push(record.id),
            other => panic!("{other:?}"),
        }
    }
    ids
}

/// Compresses the first sealed plain segment with gzip, as another program does.
fn gzip_one(disk: &mut Disk) {
    let sealed = disk
        .files()
        .into_iter()
        .find(|path| {
            path.extension().is_some_and(|end| end == "jsonl")
                && disk.metadata(path).is_some_and(|found| found.is_sealed())
        })
        .unwrap();
    let bytes = disk.read(&sealed).unwrap();
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    packed.write_all(&bytes).unwrap();
    let path = sealed.with_extension("jsonl.gz");
    assert!(disk.write(&path, packed.finish().unwrap()));
    assert!(disk.set_mode(&path, 0o400));
    assert!(disk.remove(&sealed));
}
