//! Writes to a job that other processes delete meanwhile.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use prodigy_storage_backend::{
    AppendOptions, Batch, Body, Catalog, Check, Deadline, DocumentStore, Durability, Entries, ErrorKind,
    ItemId, LockOptions, LockStore, LogStore, PutOptions, QueueItem, QueueStep, QueueStore, Result,
    ScanOptions, Select, Severity, UnfinishedDeletion,
};
use prodigy_storage_file::{Doctor, FileBackend, FileOptions, Leftovers};
use prodigy_storage_layout::{
    Document, DocumentKind, DocumentName, DocumentOwner, Entry, JobAddress, JobId, LockName, RepoName,
    Timestamp,
};
use serde_json::value::RawValue;

use crate::security::hooked::Hooked;

const NEVER: Deadline = Deadline::never();
const WRITES: usize = 60;

fn job() -> JobAddress {
    JobAddress::new(RepoName::new("shop").unwrap(), JobId::new("job-1").unwrap())
}

/// Backends of equal options share their locks and writers, so another limit makes one that is as separate as that of another
/// process.
fn process(root: &Path, number: u64) -> FileBackend {
    let mut options = FileOptions::new(root);
    options.max_record_size -= number;
    FileBackend::open(options).unwrap()
}

fn append(backend: &FileBackend, _: usize) -> Result<()> {
    let mut batch = Batch::new();
    batch.push("1")?;
    backend.append(&job(), &mut batch, &AppendOptions::default(), NEVER)?;
    // Lets go of the segment, so that a deletion finds a job that nobody is active in.
    backend.seal(&job(), NEVER)
}

fn push(backend: &FileBackend, number: usize) -> Result<()> {
    let text = format!("{{\"item_id\":\"item-{number}\",\"item_data\":1}}");
    let item = QueueItem {
        id: ItemId::new(format!("item-{number}"))?,
        body: RawValue::from_string(text).unwrap(),
    };
    backend
        .queue_put(&job(), &[item], Durability::Strict, None, NEVER)
        .map(drop)
}

fn save(backend: &FileBackend, _: usize) -> Result<()> {
    let body = Body::parse(b"{}").unwrap();
    backend
        .put(&Document::Orphans(job()), body, &PutOptions::default(), NEVER)
        .map(drop)
}

type Write = fn(&FileBackend, usize) -> Result<()>;

/// Pushes, appends and saves while two threads delete the job again and again. No write may fail.
fn write_beside_deletions(backend: impl Fn(u64) -> FileBackend + Sync) {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let (backend, stop) = (&backend, &stop);
        let writes: [(u64, Write); 3] = [(1, push), (2, append), (3, save)];
        let writers = writes.map(|(number, write)| {
            scope.spawn(move || {
                let backend = backend(number);
                (0..WRITES).try_for_each(|number| write(&backend, number))
            })
        });
        let deleters = [4, 5].map(|number| {
            scope.spawn(move || {
                let backend = backend(number);
                let mut deleted = 0;
                while !stop.load(Ordering::SeqCst) {
                    match backend.delete_job(&job(), None, NEVER) {
                        // It is active.
                        Err(error) if error.kind() == ErrorKind::LockUnavailable => {}
                        done => deleted += usize::from(done?),
                    }
                    thread::yield_now();
                }
                Ok(deleted)
            })
        });
        let written = writers.map(|writer| writer.join().unwrap());
        stop.store(true, Ordering::SeqCst);
        let deleted: [Result<usize>; 2] = deleters.map(|deleter| deleter.join().unwrap());
        for written in written {
            written.unwrap();
        }
        let deleted: usize = deleted.into_iter().map(Result::unwrap).sum();
        assert!(deleted > 0, "the job was never deleted");
    });
}

#[test]
fn a_write_beside_deletions_by_other_processes_begins_the_job_again() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    write_beside_deletions(|number| process(&root, number));
}

#[test]
fn a_write_beside_deletions_by_other_threads_begins_the_job_again() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    write_beside_deletions(|_| process(&root, 0));
}

/// A backend in which `work` runs once, before the first call of this kind at a path.
fn hooked(
    root: &Path,
    call: &'static str,
    at: PathBuf,
    work: impl Fn() + Send + Sync + 'static,
) -> FileBackend {
    let is_over = AtomicBool::new(false);
    let hooked = Hooked::new(root, move |made, path| {
        if made == call && path == at && !is_over.swap(true, Ordering::SeqCst) {
            work();
        }
    });
    FileBackend::open_on(Arc::new(hooked), FileOptions::new(root)).unwrap()
}

#[test]
fn a_read_that_begins_before_its_job_notices_that_the_job_is_deleted() {
    for is_tail in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        let other = Arc::new(process(&root, 1));
        append(&other, 0).unwrap();
        assert!(other.delete_job(&job(), None, NEVER).unwrap());
        // The job begins again between the look at its folder and the listing of its segments.
        let writer = Arc::clone(&other);
        let log = prodigy_storage_layout::events_folder(&job());
        let backend = hooked(&root, "list", log, move || append(&writer, 1).unwrap());
        let mut scan = match is_tail {
            true => backend.tail(&job(), 1, None, NEVER),
            false => backend.scan(&job(), &ScanOptions::all(), NEVER),
        }
        .unwrap();
        assert!(scan.next().unwrap().is_some());
        assert!(other.delete_job(&job(), None, NEVER).unwrap());
        assert_eq!(scan.next().unwrap_err().kind(), ErrorKind::Deleted);
    }
}

fn keys(backend: &FileBackend) -> Vec<String> {
    let items = backend.queue_scan(&job(), &Select::any(), NEVER).unwrap();
    let key = |step| match step {
        Ok(QueueStep::Entry(entry)) => entry.id.to_string(),
        other => panic!("{other:?}"),
    };
    items.map(key).collect()
}

#[test]
fn a_push_whose_job_is_deleted_before_its_folder_is_synced_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    let other = process(&root, 1);
    // A process that finds the files of another one does not know whether their folder is synced.
    push(&other, 0).unwrap();
    let queue = Entry::Queue(job()).path().parent().unwrap().to_owned();
    let backend = hooked(&root, "sync folder", queue, move || {
        assert!(other.delete_job(&job(), None, NEVER).unwrap());
    });
    push(&backend, 1).unwrap();
    assert_eq!(keys(&backend), ["item-1"]);
}

#[test]
fn a_push_that_finds_a_deletion_which_ends_meanwhile_does_not_mind_a_new_writer() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    let tombstone = half_deleted(&root);
    let other = Arc::new(process(&root, 1));
    let (writer, path) = (Arc::clone(&other), tombstone.clone());
    let backend = hooked(&root, "open", Entry::StateLock(job()).path(), move || {
        fs::remove_file(&path).unwrap();
        let mut batch = Batch::new();
        batch.push("1").unwrap();
        // The segment stays open, so the job is active.
        writer
            .append(&job(), &mut batch, &AppendOptions::default(), NEVER)
            .unwrap();
    });
    push(&backend, 1).unwrap();
    assert!(!tombstone.exists());
    assert_eq!(keys(&backend), ["item-1"]);
}

#[test]
fn a_push_that_can_not_end_a_deletion_in_time_says_so_in_its_own_words() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    half_deleted(&root);
    let backend = process(&root, 0);
    let held = root.join(Entry::StateLock(job()).path());
    fs::create_dir_all(held.parent().unwrap()).unwrap();
    let held = fs::File::create(held).unwrap();
    held.lock().unwrap();
    let text = "{\"item_id\":\"item-1\",\"item_data\":1}";
    let item = QueueItem {
        id: ItemId::new("item-1").unwrap(),
        body: RawValue::from_string(text.to_owned()).unwrap(),
    };
    let soon = Deadline::after(Duration::from_millis(50));
    let error = backend
        .queue_put(&job(), &[item], Durability::Strict, None, soon)
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LockUnavailable, "{error}");
    assert_ne!(error.operation(), "delete job", "{error}");
    assert!(error.why().contains("the job is being deleted"), "{error}");
    assert!(error.hint().unwrap().contains("try again"), "{error}");
}

/// Plants the tombstone of a deletion whose process died.
fn half_deleted(root: &Path) -> PathBuf {
    drop(process(root, 0));
    let tombstone = root.join(Entry::Tombstone(job()).path());
    fs::create_dir_all(tombstone.parent().unwrap()).unwrap();
    fs::write(&tombstone, "{\"deleted_at\":\"2026-11-24T21:01:58Z\"}\n").unwrap();
    tombstone
}

/// A deletion whose process died leaves its tombstone. The writer may hold a named lock of the job.
#[test]
fn the_holder_of_a_lock_of_a_job_that_is_half_deleted_writes_to_it() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    let backend = process(&root, 0);
    push(&backend, 1).unwrap();
    let tombstone = half_deleted(&root);
    let lock = LockName::new("shop/job-1/coordinator").unwrap();
    let _lock = backend.lock(&lock, &LockOptions::new("test"), NEVER).unwrap();
    push(&backend, 2).unwrap();
    assert!(!tombstone.exists());
    assert_eq!(backend.queue_summary(&job(), NEVER).unwrap().items, 1);
}

fn unfinished(backend: &FileBackend) -> Vec<UnfinishedDeletion> {
    let all = Entries::new(|page| backend.unfinished_deletions(page, NEVER));
    all.limit(1).collect::<Result<_>>().unwrap()
}

fn warning(backend: &FileBackend) -> Option<Check> {
    let checks = backend.health(NEVER).unwrap().checks;
    checks.into_iter().find(|check| check.name == Check::DELETIONS)
}

#[test]
fn a_deletion_that_was_cut_short_is_found_and_finished() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    let backend = process(&root, 0);
    push(&backend, 1).unwrap();
    assert!(unfinished(&backend).is_empty() && warning(&backend).is_none());
    let tombstone = half_deleted(&root);
    // A deletion of another job in a repository whose tombstones have a folder of another name.
    let other = JobAddress::new(RepoName::new("a.json").unwrap(), JobId::new("other").unwrap());
    let path = root.join(Entry::Tombstone(other.clone()).path());
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::copy(&tombstone, &path).unwrap();
    // A writer that died left a temporary file beside the folders.
    fs::write(root.join("deletions/.tmp-0123456789abcdef"), "").unwrap();

    let reader = process(&root, 1);
    let found = unfinished(&reader);
    assert_eq!(
        found.iter().map(|left| &left.job).collect::<Vec<_>>(),
        [&other, &job()]
    );
    assert!(found[0].bytes == 0 && found[1].bytes > 50, "{found:?}");
    let check = warning(&reader).unwrap();
    assert_eq!(check.severity, Severity::Warning);
    assert!(check.found.contains(" and 1 more, which `doctor` names,"));
    let command = check.command.unwrap();
    assert!(command.starts_with("prodigy-storage clean --repo ") && command.ends_with(" --yes"));
    for left in [job(), other] {
        assert!(reader.finish_deletion(&left, NEVER).unwrap());
        assert!(!reader.finish_deletion(&left, NEVER).unwrap());
    }
    assert!(unfinished(&backend).is_empty() && warning(&backend).is_none());
    assert!(!root.join(Entry::Queue(job()).path()).exists() && !tombstone.exists());
    push(&backend, 2).unwrap();
    assert_eq!(keys(&backend), ["item-2"]);
}

#[test]
fn a_deletion_that_a_process_is_making_is_not_cut_short() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    let backend = process(&root, 0);
    push(&backend, 1).unwrap();
    half_deleted(&root);
    let held = root.join(Entry::StateLock(job()).path());
    fs::create_dir_all(held.parent().unwrap()).unwrap();
    let held = fs::File::create(held).unwrap();
    held.lock().unwrap();
    assert!(unfinished(&backend).is_empty() && warning(&backend).is_none());
    let soon = Deadline::after(Duration::from_millis(50));
    let error = backend.finish_deletion(&job(), soon).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LockUnavailable, "{error}");
    drop(held);
    assert_eq!(unfinished(&backend).len(), 1);
}

/// A file at the path of a tombstone that no deletion wrote hides no job, and removes none.
#[test]
fn a_damaged_tombstone_is_no_deletion() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    let backend = process(&root, 0);
    push(&backend, 1).unwrap();
    fs::write(half_deleted(&root), "{}").unwrap();
    assert!(unfinished(&backend).is_empty());
    let error = backend.finish_deletion(&job(), NEVER).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Damaged, "{error}");
    assert!(root.join(Entry::Queue(job()).path()).exists());
}

#[test]
fn the_error_for_an_active_job_names_the_process_that_appends_to_it() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    let (writer, other) = (process(&root, 0), process(&root, 1));
    let mut batch = Batch::new();
    batch.push("1").unwrap();
    writer
        .append(&job(), &mut batch, &AppendOptions::default(), NEVER)
        .unwrap();
    let this = format!(
        "the job is active: this process ({}) appends to its log",
        std::process::id()
    );
    let why = |backend: &FileBackend| {
        let error = backend.delete_job(&job(), None, NEVER).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LockUnavailable);
        error.why().to_owned()
    };
    assert_eq!(why(&writer), this);
    let held = why(&other);
    let since = held.strip_prefix(&format!("{this}, to a segment of ")).unwrap();
    assert!(since.parse::<Timestamp>().is_ok(), "{since}");
}

#[test]
fn what_begins_a_deleted_job_again_is_not_of_another_program() {
    let again: [fn(&FileBackend, usize) -> Result<()>; 4] = [append, push, checkpoint, own_document];
    for (n, write) in again.into_iter().enumerate() {
        let folder = tempfile::tempdir().unwrap();
        let backend = process(folder.path(), 0);
        let doctor = Doctor::new(FileOptions::new(folder.path())).unwrap();
        let lock = Entry::QueueLock(job()).path();
        write(&backend, 1).unwrap();
        assert!(backend.delete_job(&job(), None, NEVER).unwrap());
        assert_eq!(doctor.left_of(&job()).unwrap(), Leftovers::default(), "{n}");
        write(&backend, 2).unwrap();
        let left = doctor.left_of(&job()).unwrap();
        assert!(left.begun_again && left.foreign.is_empty(), "{n}: {left:?}");
        // The files of a write under way, and its lock, are of no other program either.
        assert!(backend.delete_job(&job(), None, NEVER).unwrap());
        fs::create_dir_all(folder.path().join(&lock).parent().unwrap()).unwrap();
        fs::write(folder.path().join(&lock), "").unwrap();
        assert_eq!(doctor.left_of(&job()).unwrap(), Leftovers::default(), "{n}");
        let temporary = format!(".tmp-{:032x}", 7);
        fs::write(folder.path().join(lock.with_file_name(temporary)), "").unwrap();
        let left = doctor.left_of(&job()).unwrap();
        assert!(left.begun_again && left.foreign.is_empty(), "{n}: {left:?}");
    }
}

fn checkpoint(backend: &FileBackend, _: usize) -> Result<()> {
    put(backend, &Document::Setup(job()))
}

fn own_document(backend: &FileBackend, _: usize) -> Result<()> {
    let (kind, name) = (DocumentKind::new("plan")?, DocumentName::new("first")?);
    put(backend, &Document::Own(DocumentOwner::Job(job()), kind, name))
}

fn put(backend: &FileBackend, document: &Document) -> Result<()> {
    let body = Body::parse(b"{}").unwrap();
    backend
        .put(document, body, &PutOptions::default(), NEVER)
        .map(drop)
}
