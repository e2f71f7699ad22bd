//! Tests of a root that is replaced while a handle is open: restored from a copy, moved, removed, created again,
//! replaced with a link, or hidden by a mount.

mod in_place;
mod links;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::letters::acknowledged;
use prodigy_storage_backend::{
    AppendOptions, Batch, Body, Catalog, Clock, Deadline, DocumentStore, Durability, ErrorKind, EventId,
    IdSource, ItemId, LockOptions, LockStore, LogStore, PutOptions, QueueItem, QueueStore, Result,
    ScanOptions, Select, Severity, StorageError, SystemClock, Uptime,
};
use prodigy_storage_file::{FileBackend, FileOptions};
use prodigy_storage_layout::{JobAddress, JobId, LockName, Phase, RepoName, Timestamp};
use serde_json::value::RawValue;
use tempfile::TempDir;

pub(super) const NEVER: Deadline = Deadline::never();

/// A clock whose monotonic time is set by the test. It shows the real time of day.
#[derive(Debug, Default)]
struct Turned(AtomicU64);

impl Clock for Turned {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn uptime(&self) -> Uptime {
        SystemClock.uptime()
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::SeqCst))
    }
}

pub(super) struct Place {
    folder: TempDir,
    clock: Arc<Turned>,
}

impl Place {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            clock: Arc::default(),
        }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn root(&self) -> PathBuf {
        self.path("root")
    }

    /// Opens a handle. Handles with different `max_file_size` share no state, like those of two processes.
    pub(super) fn open(&self, max_file_size: u64) -> FileBackend {
        let options = FileOptions::new(self.root()).max_file_size(max_file_size);
        FileBackend::open(options.clock(self.clock.clone())).unwrap()
    }

    /// A store with a checkpoint, an event, a dead letter and a lock, which a process wrote that has ended.
    pub(super) fn filled() -> Self {
        let place = Self::new();
        let backend = place.open(1 << 20);
        save(&backend, Durability::Strict).unwrap();
        append(&backend, Durability::Strict).unwrap();
        push(&backend).unwrap();
        lock(&backend).unwrap().release().unwrap();
        place
    }

    /// Advances the clock by two seconds, so that the last check of the root is outdated.
    pub(super) fn second_passes(&self) {
        self.clock.0.fetch_add(2_000, Ordering::SeqCst);
    }
}

/// A way in which the root's folder disappears from its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// It is moved away, and a copy takes its place.
    Restored,
    Moved,
    Removed,
    /// It is removed, and another process creates a store at its path.
    CreatedAgain,
    /// It is moved away, and another process creates a store at its path.
    MovedAndCreated,
    /// It is moved away, and a dangling link takes its place.
    Linked,
    /// It is moved away, and an empty file takes its place.
    File,
}

const WAYS: [Way; 7] = [
    Way::Restored,
    Way::Moved,
    Way::Removed,
    Way::CreatedAgain,
    Way::MovedAndCreated,
    Way::Linked,
    Way::File,
];

impl Way {
    fn go(self, place: &Place) {
        let (root, old) = (place.root(), place.path("old"));
        match self {
            Self::Restored => {
                let copied = Command::new("cp")
                    .arg("-a")
                    .arg(&root)
                    .arg(place.path("copy"))
                    .status();
                assert!(copied.unwrap().success());
                std::fs::rename(&root, old).unwrap();
                std::fs::rename(place.path("copy"), root).unwrap();
            }
            Self::Moved => std::fs::rename(root, old).unwrap(),
            Self::Removed => std::fs::remove_dir_all(root).unwrap(),
            Self::CreatedAgain | Self::MovedAndCreated => {
                match self {
                    Self::CreatedAgain => std::fs::remove_dir_all(root).unwrap(),
                    _ => std::fs::rename(root, old).unwrap(),
                }
                lock(&place.open(7 << 20)).unwrap().release().unwrap();
            }
            Self::Linked => {
                std::fs::rename(&root, &old).unwrap();
                std::os::unix::fs::symlink(place.path("nothing"), root).unwrap();
            }
            Self::File => {
                std::fs::rename(&root, old).unwrap();
                std::fs::write(root, "").unwrap();
            }
        }
    }
}

pub(super) fn job() -> JobAddress {
    JobAddress::new(RepoName::new("shop").unwrap(), JobId::new("mapreduce-7").unwrap())
}

pub(super) fn append(backend: &FileBackend, durability: Durability) -> Result<()> {
    let mut batch = Batch::new();
    batch.push("an event")?;
    backend.append(&job(), &mut batch, &AppendOptions::new(durability), NEVER)?;
    Ok(())
}

/// The time in the next given id, in nanoseconds ahead of the clock.
static AHEAD: AtomicU64 = AtomicU64::new(1_000_000_000);

/// Appends an event under a given id, which is above all earlier ids.
pub(super) fn append_given(backend: &FileBackend) -> Result<()> {
    let mut batch = Batch::new();
    batch.push("an event")?;
    let ahead = AHEAD.fetch_add(1_000_000_000, Ordering::SeqCst);
    let time = Timestamp::from_nanos(Timestamp::now().as_nanos() + ahead as i64);
    batch.set_ids([IdSource::above(EventId::MIN).next(time)]);
    backend.append(&job(), &mut batch, &AppendOptions::default(), NEVER)?;
    Ok(())
}

pub(super) fn save(backend: &FileBackend, durability: Durability) -> Result<()> {
    let options = PutOptions::new(durability);
    backend.add(
        &job(),
        Phase::Map,
        Body::parse(b"{\"n\":1}").unwrap(),
        &options,
        NEVER,
    )?;
    Ok(())
}

pub(super) fn push(backend: &FileBackend) -> Result<()> {
    let body = "{\"item_id\":\"a\",\"item_data\":1}".to_owned();
    let item = QueueItem {
        id: ItemId::new("a")?,
        body: RawValue::from_string(body).unwrap(),
    };
    backend.queue_put(&job(), &[item], Durability::Strict, None, NEVER)?;
    Ok(())
}

/// Takes a lock that is free.
pub(super) fn lock(backend: &FileBackend) -> Result<Box<dyn prodigy_storage_backend::LockGuard>> {
    let name = LockName::new("shop/resume").unwrap();
    backend.lock(
        &name,
        &LockOptions::new("a test"),
        Deadline::after(Duration::ZERO),
    )
}

pub(super) fn events(backend: &FileBackend) -> Result<usize> {
    let mut scan = backend.scan(&job(), &ScanOptions::all(), NEVER)?;
    let mut events = 0;
    while scan.next()?.is_some() {
        events += 1;
    }
    Ok(events)
}

/// Runs every kind of read. Returns the name of each, and the number of things that it found.
fn reads(backend: &FileBackend) -> Vec<(&'static str, Result<usize>)> {
    let newest = backend.newest(&job(), Phase::Map, None, NEVER);
    let items = backend
        .queue_scan(&job(), &Select::any(), NEVER)
        .and_then(|scan| scan.map(|item| item.map(drop)).collect::<Result<Vec<_>>>());
    let scope = prodigy_storage_layout::DocumentScope::Job(job());
    vec![
        ("newest", newest.map(|found| found.iter().count())),
        ("events", events(backend)),
        (
            "summary",
            backend
                .log_summary(&job(), NEVER)
                .map(|log| log.segments as usize),
        ),
        ("items", items.map(|items| items.len())),
        (
            "list",
            backend
                .list(&scope, &Default::default(), NEVER)
                .map(|found| found.entries.len()),
        ),
        (
            "locks",
            backend
                .locks(&Default::default(), NEVER)
                .map(|found| found.entries.len()),
        ),
        (
            "jobs",
            backend
                .jobs(&job().repo, &Default::default(), NEVER)
                .map(|found| found.entries.len()),
        ),
        (
            "repositories",
            backend
                .repositories(&Default::default(), NEVER)
                .map(|found| found.entries.len()),
        ),
        ("usage", backend.usage(NEVER).map(|usage| usage.areas.len())),
    ]
}

fn is_lost(error: &StorageError) -> bool {
    let says = error.to_string();
    matches!(error.kind(), ErrorKind::Replaced | ErrorKind::Refused)
        && error.hint().is_some()
        && says.contains("root")
}

pub(super) fn files(root: &Path) -> Vec<PathBuf> {
    super::security::world::paths(root)
}

#[test]
fn a_root_that_never_was_reads_as_empty() {
    let place = Place::new();
    let backend = place.open(1 << 20);
    for (what, found) in reads(&backend) {
        assert_eq!(found.unwrap(), 0, "{what}");
    }
    assert!(!place.root().exists());
}

#[test]
fn a_reader_never_takes_a_replaced_root_for_an_empty_one() {
    for way in WAYS {
        let place = Place::filled();
        let backend = place.open(1 << 20);
        for (what, found) in reads(&backend) {
            assert_ne!(found.unwrap(), 0, "{what}");
        }
        way.go(&place);
        for seconds in 0..2 {
            for (what, found) in reads(&backend) {
                match (way, found) {
                    (Way::Restored, found) => assert_ne!(found.unwrap(), 0, "{way:?} {what}"),
                    // The last check of the root is valid for one second, so the old folder may still be read.
                    (_, Ok(found)) => assert!(found > 0 && seconds == 0, "{way:?} {what}"),
                    (_, Err(error)) => assert!(is_lost(&error), "{way:?} {what}: {error}"),
                }
            }
            place.second_passes();
        }
        let health = backend.health(NEVER).unwrap().severity();
        assert_eq!(health == Severity::Failure, way != Way::Restored, "{way:?}");
        // A new handle, like the tool or a new process, uses the copy.
        if way == Way::Restored {
            assert_eq!(events(&place.open(1 << 20)).unwrap(), 1, "{way:?}");
        }
    }
}

#[test]
fn a_writer_that_holds_nothing_goes_on_in_a_copy_and_nowhere_else() {
    type Write = fn(&FileBackend) -> Result<()>;
    let writes: [(&str, Write); 4] = [
        ("append", |backend| append(backend, Durability::Strict)),
        ("save", |backend| save(backend, Durability::Strict)),
        ("push", push),
        ("lock", |backend| lock(backend)?.release()),
    ];
    for way in WAYS {
        for (what, write) in writes {
            let place = Place::filled();
            let backend = place.open(1 << 20);
            assert_eq!(events(&backend).unwrap(), 1);
            way.go(&place);
            let (old, new) = (files(&place.path("old")), files(&place.root()));
            match write(&backend) {
                Ok(()) => assert_eq!(way, Way::Restored, "{what}"),
                Err(error) => assert!(way != Way::Restored && is_lost(&error), "{way:?} {what}: {error}"),
            }
            assert_eq!(files(&place.path("old")), old, "{way:?} {what}");
            if way != Way::Restored {
                assert_eq!(files(&place.root()), new, "{way:?} {what}");
            } else if what == "append" {
                assert_eq!(events(&place.open(5 << 20)).unwrap(), 2);
            }
        }
    }
}

#[test]
fn a_log_that_is_open_for_writing_is_lost_with_its_folder() {
    for way in WAYS {
        let place = Place::filled();
        let backend = place.open(1 << 20);
        append(&backend, Durability::Strict).unwrap();
        way.go(&place);
        let error = append(&backend, Durability::Strict).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Replaced, "{way:?}");
        assert!(error.why().contains("open for writing"), "{error}");
        // The handle stays lost even if the path leads to the old folder again.
        if way == Way::Moved {
            std::fs::rename(place.path("old"), place.root()).unwrap();
        }
        assert_eq!(
            append(&backend, Durability::Strict).unwrap_err().kind(),
            ErrorKind::Replaced
        );
        assert_eq!(events(&backend).unwrap_err().kind(), ErrorKind::Replaced);
        // A new handle works, although the lost one is still open.
        if matches!(way, Way::Restored | Way::Moved) {
            let next = place.open(1 << 20);
            append(&next, Durability::Strict).unwrap();
            assert_eq!(events(&next).unwrap(), 3, "{way:?}");
        }
    }
}

#[test]
fn a_lock_of_the_old_root_is_not_held_and_its_token_is_not_accepted() {
    for way in WAYS {
        let place = Place::filled();
        let backend = place.open(1 << 20);
        let guard = lock(&backend).unwrap();
        guard.check().unwrap();
        way.go(&place);
        assert_eq!(guard.check().unwrap_err().kind(), ErrorKind::Replaced, "{way:?}");
        if matches!(way, Way::CreatedAgain | Way::MovedAndCreated) {
            let other = lock(&place.open(7 << 20)).unwrap();
            assert_eq!(other.fencing(), guard.fencing(), "a new store counts afresh");
        }
        // The holder of the lock can write neither to the old folder nor to the new one.
        let new = files(&place.root());
        for error in [
            save(&backend, Durability::Strict).unwrap_err(),
            lock(&backend).map(drop).unwrap_err(),
            push(&backend).unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::Replaced, "{way:?}");
            assert!(error.why().contains("named lock"), "{error}");
        }
        assert_eq!(files(&place.root()), new, "{way:?}");
        assert_eq!(guard.release().unwrap_err().kind(), ErrorKind::Replaced);
        // It still can't write after it has released the lock.
        let error = save(&backend, Durability::Strict).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Replaced);
    }
}

#[test]
fn a_lease_of_the_old_root_is_lost() {
    for way in WAYS {
        let place = Place::filled();
        let backend = place.open(1 << 20);
        let lease = Duration::from_secs(10);
        let taken = backend
            .queue_take(&job(), &Select::eligible(), 1, lease, None, NEVER)
            .unwrap();
        let token = taken[0].lease.as_ref().unwrap().token.clone();
        way.go(&place);
        let error = backend
            .queue_settle(&job(), &[acknowledged(&token)], None, NEVER)
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Replaced, "{way:?}");
        assert!(error.why().contains("a lease"), "{error}");
    }
    // A lease that has ended is not lost with the root.
    let place = Place::filled();
    let backend = place.open(1 << 20);
    let lease = Duration::from_millis(500);
    assert_eq!(
        backend
            .queue_take(&job(), &Select::eligible(), 1, lease, None, NEVER)
            .unwrap()
            .len(),
        1
    );
    place.second_passes();
    Way::Restored.go(&place);
    save(&backend, Durability::Strict).unwrap();
}

#[test]
fn a_relaxed_writer_and_a_flush_notice_within_a_second() {
    for way in WAYS {
        let place = Place::filled();
        let backend = place.open(1 << 20);
        save(&backend, Durability::Relaxed).unwrap();
        way.go(&place);
        let flushed = backend.flush(NEVER).unwrap_err();
        assert_eq!(flushed.kind(), ErrorKind::Replaced, "{way:?}");
        assert!(flushed.why().contains("not flushed"), "{flushed}");

        let place = Place::filled();
        let backend = place.open(1 << 20);
        append(&backend, Durability::Relaxed).unwrap();
        way.go(&place);
        place.second_passes();
        let error = append(&backend, Durability::Relaxed).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Replaced, "{way:?}");
    }
}

#[test]
fn a_scan_under_way_does_not_end_as_if_it_were_complete() {
    for way in WAYS {
        let place = Place::filled();
        let backend = place.open(1 << 20);
        let mut scan = backend.scan(&job(), &ScanOptions::all(), NEVER).unwrap();
        let mut items = backend.queue_scan(&job(), &Select::any(), NEVER).unwrap();
        assert!(scan.next().unwrap().is_some());
        way.go(&place);
        let error = scan.next().map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Replaced, "{way:?}");
        assert!(items.any(|item| item.is_err()), "{way:?}");
        assert!(items.next().is_none());
    }
}

#[test]
fn what_a_process_knows_of_the_old_root_is_not_taken_for_the_new_one() {
    // The handle stores the folders that it has synced by path. In the copy, the same paths are other folders.
    let place = Place::filled();
    let copied = Command::new("cp")
        .arg("-a")
        .arg(place.root())
        .arg(place.path("copy"))
        .status();
    assert!(copied.unwrap().success());
    let backend = place.open(1 << 20);
    for _ in 0..3 {
        save(&backend, Durability::Strict).unwrap();
        backend.newest(&job(), Phase::Map, None, NEVER).unwrap().unwrap();
    }
    let syncs = |backend: &FileBackend| {
        let mut stats = prodigy_storage_backend::Stats::default();
        backend.stats(&mut stats);
        stats.get("file.syncs")
    };
    let before = syncs(&backend);
    save(&backend, Durability::Strict).unwrap();
    let usual = syncs(&backend) - before;
    std::fs::rename(place.root(), place.path("old")).unwrap();
    std::fs::rename(place.path("copy"), place.root()).unwrap();
    save(&backend, Durability::Strict).unwrap();
    assert!(syncs(&backend) > usual, "every folder of the copy is synced once");
    let scope = prodigy_storage_layout::DocumentScope::Job(job());
    let listed = backend.list(&scope, &Default::default(), NEVER).unwrap().entries;
    assert_eq!(listed.len(), 2, "one of the copy, one that was saved now");
    let newest = backend.newest(&job(), Phase::Map, None, NEVER).unwrap().unwrap();
    assert!(listed.iter().any(|entry| entry.document == newest.document));
}

#[test]
fn a_root_that_is_mounted_over_is_not_taken_for_an_empty_one() {
    let may = Command::new("unshare").args(["-m", "true"]).status();
    if !may.is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: this machine allows no mount namespace of its own");
        return;
    }
    let inner = Command::new("unshare")
        .arg("-m")
        .arg(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "replaced::in_a_mount_namespace",
            "--ignored",
            "--nocapture",
        ])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&inner.stdout);
    let failed = String::from_utf8_lossy(&inner.stderr);
    assert!(
        inner.status.success() && said.contains("1 passed"),
        "{said}{failed}"
    );
}

fn mount(arguments: &[&str], at: &Path) {
    let mounted = Command::new("mount").args(arguments).arg(at).status().unwrap();
    assert!(mounted.success(), "mount {arguments:?}");
}

#[test]
#[ignore = "run by `a_root_that_is_mounted_over_is_not_taken_for_an_empty_one`, which makes the namespace"]
fn in_a_mount_namespace() {
    let place = Place::filled();
    let backend = place.open(1 << 20);
    save(&backend, Durability::Strict).unwrap();
    mount(&["-t", "tmpfs", "none"], &place.root());
    let error = save(&backend, Durability::Strict).unwrap_err();
    assert!(is_lost(&error), "{error}");
    assert!(files(&place.root()).len() == 1, "nothing was written to it");
    let unmounted = Command::new("umount").arg(place.root()).status().unwrap();
    assert!(unmounted.success());

    // The root's file system becomes read-only. It is still the same store, and a write fails with that reason.
    let disk = place.path("disk");
    std::fs::create_dir(&disk).unwrap();
    mount(&["-t", "tmpfs", "none"], &disk);
    let backend = FileBackend::open(FileOptions::new(disk.join("root"))).unwrap();
    save(&backend, Durability::Strict).unwrap();
    mount(&["-o", "remount,ro"], &disk);
    let newest = backend.newest(&job(), Phase::Map, None, NEVER).unwrap();
    assert!(newest.is_some());
    let error = save(&backend, Durability::Strict).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotWritable, "{error}");
    // The file system must be unmounted before its folder is removed.
    drop(backend);
    assert!(Command::new("umount").arg(&disk).status().unwrap().success());
}
