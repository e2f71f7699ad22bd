//! Tests of fencing tokens after a root was restored or created again, and after a lock file was removed.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use prodigy_storage_backend::{
    AppendOptions, Batch, Body, DocumentStore, ErrorKind, Fence, InvalidFence, LockGuard, LockStore,
    LogStore, PutOptions, Result, ScanItem, ScanOptions, StorageError,
};
use prodigy_storage_file::{Doctor, DoctorScope, FileBackend, FileOptions, Finding, FindingKind};
use prodigy_storage_layout::Phase;
use tempfile::TempDir;

use super::replaced::{NEVER, job, lock};
use super::security::hooked::Hooked;

struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// Opens the store as another process would: handles with different `max_file_size` share no state.
    fn open(&self, process: u64) -> FileBackend {
        let options = FileOptions::new(self.0.path().join("root")).max_file_size(process << 20);
        FileBackend::open(options).unwrap()
    }

    fn copy(&self, from: &str, to: &str) {
        let copied = Command::new("cp")
            .arg("-a")
            .args([self.0.path().join(from), self.0.path().join(to)])
            .status();
        assert!(copied.unwrap().success());
    }

    fn remove(&self, name: impl AsRef<Path>) {
        let path = self.0.path().join(name);
        match path.is_dir() {
            true => std::fs::remove_dir_all(path).unwrap(),
            false => std::fs::remove_file(path).unwrap(),
        }
    }

    fn doctor(&self, repairs: bool) -> Vec<Finding> {
        let mut findings = Vec::new();
        let doctor = Doctor::new(FileOptions::new(self.0.path().join("root"))).unwrap();
        let (scope, tell) = (DoctorScope::all(), &mut |finding| findings.push(finding));
        match repairs {
            true => doctor.repair(&scope, Duration::ZERO, tell).unwrap(),
            false => doctor.examine(&scope, tell).unwrap(),
        };
        findings.retain(|finding| finding.kind == FindingKind::LockBehindMark);
        findings
    }
}

fn save(backend: &FileBackend, fence: &Fence) -> Result<(), StorageError> {
    let options = PutOptions::default().fencing(Some(fence.clone()));
    let body = Body::parse(b"{\"n\":1}").unwrap();
    backend.add(&job(), Phase::Map, body, &options, NEVER).map(drop)
}

/// Takes and releases the lock. Returns its token in the form in which it is passed between processes.
fn take(backend: &FileBackend) -> Fence {
    let guard = lock(backend).unwrap();
    let text = Fence::of(&*guard).unwrap().to_string();
    guard.release().unwrap();
    text.parse().unwrap()
}

fn refused(backend: &FileBackend, fence: &Fence) -> String {
    let error = save(backend, fence).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Fenced, "{error}");
    format!("{error:#} {}", error.hint().unwrap())
}

#[test]
fn a_token_of_a_root_that_was_created_again_counts_no_more() {
    let place = Place::new();
    let old = take(&place.open(1));
    place.remove("root");
    let backend = place.open(2);
    for _ in 0..3 {
        let new = take(&backend);
        save(&backend, &new).unwrap();
    }
    assert!(refused(&backend, &old).contains("another store"));
    // A token with an origin but without the name of its lock is refused when it is parsed.
    let unnamed = old.token_text().parse::<Fence>();
    assert_eq!(unnamed, Err(InvalidFence::WithoutLock));
    // A token that a person typed as a bare number has no origin, and is accepted.
    save(&backend, &"shop/resume=3".parse().unwrap()).unwrap();
}

#[test]
fn a_token_of_a_root_that_was_restored_from_an_older_copy_counts_no_more() {
    let place = Place::new();
    let first = take(&place.open(1));
    place.copy("root", "copy");
    let (same, later) = (take(&place.open(1)), take(&place.open(1)));
    place.remove("root");
    place.copy("copy", "root");
    let backend = place.open(2);
    // The token of the newest holder in the restored copy is still accepted.
    save(&backend, &first).unwrap();
    assert!(refused(&backend, &later).contains("restored"));
    let new = take(&backend);
    assert_eq!(new.token(), same.token());
    assert!(refused(&backend, &same).contains("restored"));
    save(&backend, &new).unwrap();
    // The token from before the restore stays refused, even when newer tokens exceed its number.
    take(&backend);
    assert!(refused(&backend, &same).contains("restored"));
    take(&backend);
    assert!(refused(&backend, &same).contains("taken by others since"));
}

#[test]
fn the_listing_gives_the_origin_of_the_newest_token() {
    let place = Place::new();
    let backend = place.open(1);
    let guard: Box<dyn LockGuard> = lock(&backend).unwrap();
    let listed = backend.locks(&Default::default(), NEVER).unwrap().entries;
    assert_eq!(
        (listed[0].fencing, listed[0].origin),
        (guard.fencing(), guard.origin())
    );
    guard.release().unwrap();
    assert_eq!(
        backend.locks(&Default::default(), NEVER).unwrap().entries,
        [listed[0].clone()].map(|mut info| {
            (info.held, info.holder) = (false, None);
            info
        })
    );
}

#[test]
fn tokens_that_began_again_below_the_mark_are_reported_and_raised_by_a_repair() {
    let place = Place::new();
    let backend = place.open(1);
    for _ in 0..7 {
        take(&backend);
    }
    save(&backend, &take(&backend)).unwrap();
    assert!(place.doctor(false).is_empty());
    drop(backend);
    place.remove("root/locks/2/shop/resume.lock");
    let backend = place.open(2);
    let new = take(&backend);
    assert_eq!(new.token(), 1);
    let said = refused(&backend, &new);
    assert!(
        said.contains("no newer holder took the lock shop/resume") && said.contains("doctor --repair"),
        "{said}"
    );
    let found = place.doctor(false);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].why.contains("lock shop/resume is 8"), "{found:?}");
    assert!(found[0].advice.contains("repair raises"), "{found:?}");
    assert_eq!(place.doctor(true).len(), 1);
    assert!(place.doctor(false).is_empty());
    let after = take(&backend);
    assert!(after.token() > 8, "{after}");
    save(&backend, &after).unwrap();
    assert!(refused(&backend, &new).contains("taken by others since"));
}

#[test]
fn the_greatest_number_that_can_be_typed_is_overcome_by_a_repair() {
    let place = Place::new();
    let backend = place.open(1);
    save(
        &backend,
        &Fence::new("shop/resume".parse().unwrap(), Fence::MAX).unwrap(),
    )
    .unwrap();
    assert!(refused(&backend, &take(&backend)).contains("doctor --repair"));
    assert_eq!(place.doctor(true).len(), 1);
    let after = take(&backend);
    assert!(after.token() > Fence::MAX, "{after}");
    save(&backend, &after).unwrap();
}

#[test]
fn a_mark_that_no_token_can_pass_is_reported_with_a_way_out_that_works() {
    let place = Place::new();
    let backend = place.open(1);
    let greatest = Fence::stored(Some("shop/resume".parse().unwrap()), u64::MAX).unwrap();
    save(&backend, &greatest).unwrap();
    for repairs in [false, true] {
        let found = place.doctor(repairs);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].advice.contains("replace the file by `{\"marks\":[]}`"),
            "{found:?}"
        );
        let file = place.0.path().join("root").join(&found[0].place);
        if repairs {
            std::fs::write(file, "{\"marks\":[]}").unwrap();
        }
    }
    assert!(place.doctor(false).is_empty());
    let new = take(&backend);
    save(&backend, &new).unwrap();
}

#[test]
fn an_append_that_is_overtaken_while_it_is_written_is_fenced_and_its_event_carries_the_token() {
    let place = Place::new();
    let root = place.0.path().join("root");
    let (other, waits) = (place.open(2), AtomicBool::new(true));
    let (older, newer) = (take(&other), take(&other));
    // Lets another process save under a newer token when the log is opened, after the older token was checked.
    let hooked = Hooked::new(&root, move |call, path| {
        if call == "open" && path.starts_with("events") && waits.swap(false, Ordering::SeqCst) {
            save(&other, &newer).unwrap();
        }
    });
    let backend = FileBackend::open_on(Arc::new(hooked), FileOptions::new(&root)).unwrap();
    let mut batch = Batch::new();
    batch.push("late").unwrap();
    batch.set_fence(Some(&older));
    let error = backend
        .append(&job(), &mut batch, &AppendOptions::default(), NEVER)
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Fenced, "{error:#}");
    assert_eq!((error.ids().len(), error.ids()), (1, batch.ids()));
    assert!(error.hint().unwrap().contains("may be stored"), "{error:#}");
    let mut scan = backend.scan(&job(), &ScanOptions::all(), NEVER).unwrap();
    let Some(ScanItem::Record(record)) = scan.next().unwrap() else {
        panic!("the event is stored");
    };
    let stored = record.parse_event::<String>().unwrap();
    assert_eq!((stored.event.as_str(), stored.fence), ("late", Some(older)));
    let error = backend
        .append(&job(), &mut batch, &AppendOptions::default(), NEVER)
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Fenced, "{error:#}");
}
