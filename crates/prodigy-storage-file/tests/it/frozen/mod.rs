//! Tests with a store that format 1 wrote: it can be read completely, upgraded by writers, and repaired.

mod expected;
mod view;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use prodigy_storage_backend::conformance::ManualClock;
use prodigy_storage_backend::{
    AppendOptions, Batch, Body, Catalog, Deadline, DocumentStore, ErrorKind, Expected, Fence, ItemId,
    LeaseToken, LockOptions, LockStore, LogStore, PutOptions, QueueItem, QueueStore, Select, Settled,
};
use prodigy_storage_file::{
    Doctor, DoctorScope, DoctorSummary, FileBackend, FileOptions, Finding, FindingSeverity,
};
use prodigy_storage_layout::{JobAddress, LockName, Phase, Timestamp};
use serde_json::value::RawValue;
use tempfile::TempDir;

use crate::letters::acknowledged;
use expected::Frozen;
use view::View;

const NEVER: fn() -> Deadline = Deadline::never;

/// A copy of the fixture. The clock shows half an hour before its leases end.
struct Copy {
    folder: TempDir,
    clock: Arc<ManualClock>,
    frozen: Frozen,
}

impl Copy {
    fn new() -> Self {
        let frozen = Frozen::load();
        let folder = tempfile::tempdir().unwrap();
        frozen.unpack(&folder.path().join("root"));
        let clock = Arc::new(ManualClock::new());
        let before = frozen.lease_end().as_nanos() - 1_800_000_000_000;
        clock.set(Timestamp::from_nanos(before));
        Self {
            folder,
            clock,
            frozen,
        }
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    fn options(&self) -> FileOptions {
        FileOptions::new(self.root()).clock(self.clock.clone())
    }

    fn open(&self) -> FileBackend {
        FileBackend::open(self.options()).unwrap()
    }

    fn view(&self, backend: &FileBackend) -> View {
        View::of(backend, &self.frozen)
    }

    fn examine(&self, repair: bool) -> (DoctorSummary, Vec<Finding>) {
        let doctor = Doctor::new(self.options()).unwrap();
        let mut findings = Vec::new();
        let mut keep = |finding| findings.push(finding);
        let scope = DoctorScope::all();
        let summary = if repair {
            doctor.repair(&scope, Duration::ZERO, &mut keep)
        } else {
            doctor.examine(&scope, &mut keep)
        };
        (summary.unwrap(), findings)
    }
}

/// The path, mode and contents of everything below a folder.
fn tree(root: &Path) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let meta = fs::metadata(&path).unwrap();
            let bytes = if meta.is_dir() {
                folders.push(path.clone());
                Vec::new()
            } else {
                fs::read(&path).unwrap()
            };
            let name = path.strip_prefix(root).unwrap().to_owned();
            found.insert(name, (meta.permissions().mode() & 0o7777, bytes));
        }
    }
    found
}

fn append(backend: &FileBackend, job: &JobAddress, text: &str) {
    let mut batch = Batch::new();
    batch.push(text).unwrap();
    backend
        .append(job, &mut batch, &AppendOptions::default(), NEVER())
        .unwrap();
}

fn item(id: &str) -> QueueItem {
    let body = serde_json::json!({
        "item_id": id, "item_data": {"file": "new.rs"}, "first_attempt": "2026-11-28T15:50:00Z",
        "last_attempt": "2026-11-28T15:50:00Z", "failure_count": 1, "failure_history": [], "error_signature": "e",
        "reprocess_eligible": true, "manual_review_required": false,
    });
    QueueItem {
        id: ItemId::new(id).unwrap(),
        body: RawValue::from_string(body.to_string()).unwrap(),
    }
}

#[test]
fn a_store_of_format_1_is_read_whole_and_reading_changes_nothing() {
    let copy = Copy::new();
    let before = tree(&copy.root());
    let backend = FileBackend::open(copy.options().read_only(true)).unwrap();
    copy.view(&backend).check(&copy.frozen);
    let names: Vec<_> = backend
        .repositories(&Default::default(), NEVER())
        .unwrap()
        .entries
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(names, ["api", "shop", "shop-172448bd"]);
    let locks: BTreeMap<_, _> = backend
        .locks(&Default::default(), NEVER())
        .unwrap()
        .entries
        .into_iter()
        .map(|lock| (lock.name.to_string(), (lock.fencing, lock.holder.is_some())))
        .collect();
    let expected = copy
        .frozen
        .locks
        .iter()
        .map(|(name, token)| (name.clone(), (*token, false)));
    assert_eq!(locks, expected.collect());
    drop(backend);
    let (summary, findings) = copy.examine(false);
    copy.frozen.check_findings(&copy.root(), &findings);
    assert_eq!((summary.damage, summary.left), (3, 3));
    assert!(before == tree(&copy.root()), "reading changed the store");
}

#[test]
fn a_store_of_format_1_is_taken_over_by_writers_and_nothing_is_lost() {
    let copy = Copy::new();
    let options = copy.options().compression(true).max_file_size(900);
    let backend = FileBackend::open(options).unwrap();
    let mut frozen = copy.frozen.clone();
    for (job, contents) in &mut frozen.jobs {
        // An append of a stored event under its id is acknowledged, but not stored again.
        if let Some(event) = contents.events.first() {
            let mut batch = Batch::new();
            batch.push(&event.event).unwrap();
            batch.set_ids([event.id]);
            let done = backend
                .append(job, &mut batch, &AppendOptions::default(), NEVER())
                .unwrap();
            assert_eq!((done.stored, done.duplicates), (0, 1), "{job}");
        }
        for number in 0..9 {
            append(&backend, job, &format!("new {number}"));
        }
    }
    backend.flush(NEVER()).unwrap();
    copy.view(&backend).check_grown(&frozen, 9);
    drop(backend);
    copy.view(&copy.open()).check_grown(&frozen, 9);
    let (summary, _) = copy.examine(false);
    assert_eq!(summary.damage, 3, "the damage that was there, and no other");
}

#[test]
fn documents_and_fencing_of_format_1_go_on() {
    let copy = Copy::new();
    let backend = copy.open();
    let job = expected::job("shop/map-7");
    for phase in [Phase::Map, Phase::Reduce] {
        let save = |token: Option<u64>, body: &str| {
            let body = Body::parse(body.as_bytes()).unwrap();
            let options = PutOptions::default().fencing(token.and_then(|token| Fence::unnamed(token).ok()));
            backend.add(&job, phase, body, &options, NEVER())
        };
        let newest = |before| {
            backend
                .newest(&job, phase, before, NEVER())
                .unwrap()
                .unwrap()
                .document
        };
        let old = newest(None);
        save(None, r#"{"data":"without a token"}"#).unwrap();
        let old = newest(None).max(old);
        let refused = save(Some(5), r#"{"data":"late"}"#).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Fenced, "{phase}: {refused}");
        let added = save(Some(7), r#"{"data":"new"}"#).unwrap();
        assert_eq!(newest(None), added.document);
        assert_eq!(newest(Some(&added.document)), old);
    }
    for (document, stored) in &copy.frozen.documents {
        if document.phase().is_some() {
            continue;
        }
        // A conditional write compares with the revision that format 1 stored.
        let body = stored.body.to_string();
        let body = || Body::parse(body.as_bytes()).unwrap();
        let absent = PutOptions::default().expect(Expected::Absent);
        let refused = backend.put(document, body(), &absent, NEVER()).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Conflict, "{document:?}: {refused}");
        let same = PutOptions::default().expect(Expected::Revision(stored.revision()));
        backend.put(document, body(), &same, NEVER()).unwrap();
    }
    for (name, token) in &copy.frozen.locks {
        let name = LockName::new(name).unwrap();
        let guard = backend.lock(&name, &LockOptions::new("after"), NEVER()).unwrap();
        assert_eq!(guard.fencing(), token + 1, "{name}");
    }
}

#[test]
fn leases_of_format_1_hold_until_they_end_and_their_tokens_settle() {
    let copy = Copy::new();
    let backend = copy.open();
    let job = expected::job("shop/map-7");
    let frozen = &copy.frozen.jobs[&job].items;
    let leased: Vec<_> = frozen.iter().filter(|item| item.lease_token.is_some()).collect();
    assert_eq!(leased.len(), 2);
    let take = || {
        let taken = backend
            .queue_take(
                &job,
                &Select::eligible(),
                100,
                Duration::from_secs(60),
                None,
                NEVER(),
            )
            .unwrap();
        taken
            .into_iter()
            .map(|entry| entry.id.to_string())
            .collect::<Vec<_>>()
    };
    let mut pending = take();
    pending.sort();
    assert_eq!(pending, ["item-1", "item-3", "item-4", "item-5"]);
    let token = |item: &expected::Item| LeaseToken::from(item.lease_token.clone().unwrap());
    let ack = |item| {
        backend
            .queue_settle(&job, &[acknowledged(&token(item))], None, NEVER())
            .unwrap()
    };
    assert_eq!(ack(leased[0]), [Settled::Done]);
    copy.clock.advance(Duration::from_secs(3600));
    let mut pending = take();
    pending.sort();
    assert_eq!(pending, ["item-1", "item-2", "item-3", "item-4", "item-5"]);
    assert_eq!(ack(leased[1]), [Settled::Unknown], "another worker has the item");
    let put = backend
        .queue_put(
            &job,
            &[item("new"), item("parked")],
            Default::default(),
            None,
            NEVER(),
        )
        .unwrap();
    assert_eq!((put.added, put.merged), (1, 1));
    drop(backend);
    let read = copy.view(&copy.open());
    let ids: Vec<_> = read.items(&job).iter().map(|item| item.id.as_str()).collect();
    for id in ["item-1", "item-2", "item-3", "item-4", "item-5", "new", "parked"] {
        assert!(ids.contains(&id), "{id} is lost: {ids:?}");
    }
    assert_eq!(ids.len(), 7, "{ids:?}");
}

#[test]
fn a_store_of_format_1_is_repaired_as_before() {
    let copy = Copy::new();
    let before = tree(&copy.root());
    let (summary, findings) = copy.examine(true);
    assert_eq!((summary.damage, summary.left), (3, 0), "{findings:?}");
    let (again, findings) = copy.examine(false);
    assert_eq!(again.damage, 0, "{findings:?}");
    assert!(
        findings
            .iter()
            .all(|finding| finding.severity < FindingSeverity::Damage)
    );
    copy.view(&copy.open()).check_repaired(&copy.frozen);
    let after = tree(&copy.root());
    let quarantined = |(path, _): &(&PathBuf, &(u32, Vec<u8>))| path.starts_with("quarantine");
    let kept: Vec<_> = after
        .iter()
        .filter(quarantined)
        .map(|(_, (_, bytes))| bytes)
        .collect();
    for (path, (_, bytes)) in before.iter().filter(quarantined) {
        assert!(kept.contains(&bytes), "{} is lost", path.display());
    }
    // The bytes that the repair removed are in the quarantine.
    for taken in copy
        .frozen
        .findings
        .iter()
        .filter(|finding| finding.severity == "damage")
    {
        let bytes = &before[Path::new(&taken.place)].1;
        let range = &bytes[taken.offset..taken.offset + taken.len];
        assert!(
            kept.iter()
                .any(|kept| kept.windows(range.len()).any(|part| part == range)),
            "{taken:?}"
        );
    }
    let backend = copy.open();
    let job = expected::job("shop/damaged");
    append(&backend, &job, "after the repair");
    assert_eq!(
        copy.view(&backend).events(&job).len(),
        copy.frozen.jobs[&job].events.len() + 1
    );
}
