use std::collections::BTreeSet;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use prodigy_storage_backend::{
    Added, Clock, Deadline, Durability, ErrorKind, Expected, PutOptions, Result, Revision,
};
use prodigy_storage_layout::{
    Document, DocumentScope, Entry, JobAddress, JobId, Phase, RepoName, SessionId, Stamp, Timestamp,
};

use super::faulty::{Faulty, Switches};
use crate::fs::{FILE_MODE, FOLDER_MODE, RealFs};
use crate::options::FileOptions;
use crate::store::{Store, TEMP_PREFIX};

#[derive(Debug, Default)]
struct Hand(AtomicI64);

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(self.0.load(Ordering::Relaxed))
    }
}

struct Place {
    dir: tempfile::TempDir,
    hand: Arc<Hand>,
}

impl Place {
    fn new() -> Self {
        let hand = Arc::new(Hand::default());
        hand.0.store(1_764_018_118_000_000_000, Ordering::Relaxed);
        Self {
            dir: tempfile::tempdir().unwrap(),
            hand,
        }
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    /// A store of its own, as another process would have it.
    fn store(&self, change: impl FnOnce(FileOptions) -> FileOptions) -> Store {
        let clock: Arc<dyn Clock> = Arc::clone(&self.hand) as _;
        let options = change(FileOptions::new(self.root()).clock(clock));
        Store::new(Arc::new(RealFs::new(self.root())), options)
    }

    fn writer(&self) -> Store {
        self.store(|options| options)
    }

    fn reader(&self) -> Store {
        self.store(|options| options.read_only(true))
    }

    fn path(&self, document: &Document) -> PathBuf {
        self.root().join(Entry::Document(document.clone()).path())
    }

    /// All that is there, with the bytes of files.
    fn everything(&self) -> BTreeSet<(PathBuf, Vec<u8>)> {
        let mut all = BTreeSet::new();
        let mut folders = vec![self.root()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).into_iter().flatten() {
                let path = entry.unwrap().path();
                let kind = std::fs::symlink_metadata(&path).unwrap();
                all.insert((path.clone(), std::fs::read(&path).unwrap_or_default()));
                if kind.is_dir() {
                    folders.push(path);
                }
            }
        }
        all
    }

    fn quarantined(&self) -> Vec<Vec<u8>> {
        std::fs::read_dir(self.root().join("quarantine"))
            .into_iter()
            .flatten()
            .map(|entry| std::fs::read(entry.unwrap().path()).unwrap())
            .collect()
    }
}

fn job() -> JobAddress {
    JobAddress::new(RepoName::new("shop").unwrap(), JobId::new("mapreduce-7").unwrap())
}

fn never() -> Deadline {
    Deadline::never()
}

fn put(store: &Store, document: &Document, body: &str, expected: Expected) -> Result<Revision> {
    let options = PutOptions::default().expect(expected);
    store.put(document, body.as_bytes(), &options, never())
}

fn add(store: &Store, phase: Phase, body: &str, options: &PutOptions) -> Result<Added> {
    store.add(&job(), phase, body.as_bytes(), options, never())
}

fn body(store: &Store, document: &Document) -> Option<String> {
    let document = store.get(document, never()).unwrap()?;
    Some(String::from_utf8(document.body().to_vec()).unwrap())
}

fn fenced(token: u64) -> PutOptions {
    PutOptions::default().fencing(Some(token))
}

fn kind<T: std::fmt::Debug>(result: Result<T>) -> ErrorKind {
    result.unwrap_err().kind()
}

fn flip(path: &Path, at: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

fn all_documents() -> [Document; 6] {
    let stamp = Stamp::from(Timestamp::from_millis(7));
    [
        Document::Setup(job()),
        Document::Map(job(), stamp.clone()),
        Document::Reduce(job(), stamp),
        Document::Orphans(job()),
        Document::Finished(job()),
        Document::Repository(job().repo),
    ]
}

#[test]
fn a_document_is_put_got_and_deleted() {
    let place = Place::new();
    let store = place.writer();
    for document in all_documents() {
        assert_eq!(body(&store, &document), None);
        let revision = put(&store, &document, " {\"a\": [1,\n2]}\n", Expected::Any).unwrap();
        let got = place.reader().get(&document, never()).unwrap().unwrap();
        assert_eq!(got.body(), b"{\"a\": [1,\n2]}");
        assert!(got.is_verified());
        assert_eq!(got.revision(), revision);
        assert_eq!(store.revision(&document, never()).unwrap(), Some(revision));
        for durability in [Durability::Strict, Durability::Relaxed] {
            let deleted = store
                .delete(&document, Expected::Any, durability, never())
                .unwrap();
            assert_eq!(deleted, durability == Durability::Strict);
        }
        assert_eq!(store.revision(&document, never()).unwrap(), None);
    }
}

#[test]
fn a_condition_that_is_not_true_is_a_conflict_that_names_both() {
    let place = Place::new();
    let store = place.writer();
    for document in all_documents() {
        let other = Revision::random();
        let error = put(&store, &document, "{}", Expected::Revision(other)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert_eq!(
            error.why(),
            format!("expected revision {other}, found no document")
        );
        let first = put(&store, &document, "{\"n\":1}", Expected::Absent).unwrap();
        let error = put(&store, &document, "{\"n\":2}", Expected::Absent).unwrap_err();
        assert_eq!(
            error.why(),
            format!("expected no document, found revision {first}")
        );
        assert!(!error.is_transient());
        let second = put(&store, &document, "{\"n\":2}", Expected::Revision(first)).unwrap();
        let error = put(&store, &document, "{\"n\":3}", Expected::Revision(first)).unwrap_err();
        assert_eq!(
            error.why(),
            format!("expected revision {first}, found revision {second}")
        );
        assert_eq!(body(&store, &document).as_deref(), Some("{\"n\":2}"));
        let delete = |expected| store.delete(&document, expected, Durability::Strict, never());
        assert_eq!(kind(delete(Expected::Revision(first))), ErrorKind::Conflict);
        assert_eq!(kind(delete(Expected::Absent)), ErrorKind::Conflict);
        assert!(delete(Expected::Revision(second)).unwrap());
        assert_eq!(kind(delete(Expected::Revision(second))), ErrorKind::Conflict);
        assert!(!delete(Expected::Absent).unwrap());
    }
}

#[test]
fn of_threads_and_stores_that_race_one_wins_each_round() {
    let place = Place::new();
    let shared = place.writer();
    let alone = place.writer();
    let document = Document::Repository(job().repo);
    put(&shared, &document, "{\"n\":0}", Expected::Absent).unwrap();
    let per_thread = 20;
    std::thread::scope(|scope| {
        for store in [&shared, &shared, &alone, &alone] {
            scope.spawn(|| {
                let mut done = 0;
                while done < per_thread {
                    let found = store.get(&document, never()).unwrap().unwrap();
                    let n: serde_json::Value = serde_json::from_slice(found.body()).unwrap();
                    let next = format!("{{\"n\":{}}}", n["n"].as_u64().unwrap() + 1);
                    let options =
                        PutOptions::new(Durability::Relaxed).expect(Expected::Revision(found.revision()));
                    match store.put(&document, next.as_bytes(), &options, never()) {
                        Ok(_) => done += 1,
                        Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict, "{error}"),
                    }
                }
            });
        }
    });
    assert_eq!(
        body(&shared, &document),
        Some(format!("{{\"n\":{}}}", 4 * per_thread))
    );
}

#[test]
fn stores_that_add_at_once_get_a_name_each_and_one_first() {
    let place = Place::new();
    let stores = [place.writer(), place.writer()];
    let (mut names, mut firsts) = (BTreeSet::new(), 0);
    std::thread::scope(|scope| {
        let threads: Vec<_> = [0, 1, 0, 1]
            .map(|index| {
                let store = &stores[index];
                scope.spawn(move || {
                    let first = PutOptions::new(Durability::Relaxed).expect(Expected::Absent);
                    let first = add(store, Phase::Map, "{}", &first);
                    let any = PutOptions::new(Durability::Relaxed);
                    let more: Vec<_> = (0..10)
                        .map(|_| add(store, Phase::Map, "{}", &any).unwrap())
                        .collect();
                    (first, more)
                })
            })
            .into_iter()
            .collect();
        for thread in threads {
            let (first, more) = thread.join().unwrap();
            match first {
                Ok(added) => {
                    firsts += 1;
                    names.insert(added.document);
                }
                Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict),
            }
            names.extend(more.into_iter().map(|added| added.document));
        }
    });
    assert_eq!((firsts, names.len()), (1, 41));
    let scope = DocumentScope::Checkpoints(job(), Phase::Map);
    let listed = stores[0].list(&scope, never()).unwrap();
    assert!(listed.iter().map(|entry| &entry.document).eq(names.iter()));
}

#[test]
fn a_checkpoint_is_above_the_newest_though_the_clock_steps_back() {
    let place = Place::new();
    let store = place.writer();
    let stamp = |added: &Added| added.document.stamp().unwrap().time();
    let first = add(&store, Phase::Map, "{\"n\":1}", &PutOptions::default()).unwrap();
    assert_eq!(stamp(&first), store.now());
    place.hand.0.fetch_sub(3_600_000_000_000, Ordering::Relaxed);
    let second = add(&place.writer(), Phase::Map, "{\"n\":2}", &PutOptions::default()).unwrap();
    assert_eq!(stamp(&second), stamp(&first).next());
    // Each phase is a series of its own.
    let reduce = add(&store, Phase::Reduce, "{}", &PutOptions::default()).unwrap();
    assert_eq!(stamp(&reduce), store.now());
    place.hand.0.fetch_add(7_200_000_000_000, Ordering::Relaxed);
    let third = add(&store, Phase::Map, "{\"n\":3}", &PutOptions::default()).unwrap();
    assert_eq!(stamp(&third), store.now());
    let listed = store.list(&DocumentScope::Job(job()), never()).unwrap();
    let listed: Vec<_> = listed.into_iter().map(|entry| entry.document).collect();
    assert_eq!(
        listed,
        [reduce.document, first.document, second.document, third.document]
    );
}

#[test]
fn names_of_other_programs_count() {
    let place = Place::new();
    let store = place.writer();
    let foreign = Document::Map(job(), Stamp::parse("20991231_235959").unwrap());
    std::fs::create_dir_all(place.path(&foreign).parent().unwrap()).unwrap();
    std::fs::write(place.path(&foreign), "{\"fencing\": 4}").unwrap();
    let got = store.get(&foreign, never()).unwrap().unwrap();
    assert!(!got.is_verified());
    assert_eq!(store.revision(&foreign, never()).unwrap(), Some(got.revision()));
    assert_eq!(kind(add(&store, Phase::Map, "{}", &fenced(3))), ErrorKind::Fenced);
    let options = fenced(4).expect(Expected::Revision(got.revision()));
    let added = add(&store, Phase::Map, "{}", &options).unwrap();
    assert!(added.document.stamp().unwrap() > foreign.stamp().unwrap());

    let last = Document::Map(job(), Stamp::from(Timestamp::MAX));
    std::fs::write(place.path(&last), "{}").unwrap();
    assert_eq!(
        kind(add(&store, Phase::Map, "{}", &PutOptions::default())),
        ErrorKind::Refused
    );
}

#[test]
fn setup_has_one_name_and_is_replaced_under_the_same_checks() {
    let place = Place::new();
    let store = place.writer();
    let first = add(
        &store,
        Phase::Setup,
        "{\"fencing\":5}",
        &fenced(5).expect(Expected::Absent),
    )
    .unwrap();
    assert_eq!(first.document, Document::Setup(job()));
    let absent = PutOptions::default().expect(Expected::Absent);
    assert_eq!(
        kind(add(&store, Phase::Setup, "{}", &absent)),
        ErrorKind::Conflict
    );
    assert_eq!(
        kind(add(&store, Phase::Setup, "{}", &fenced(4))),
        ErrorKind::Fenced
    );
    let next = PutOptions::default().expect(Expected::Revision(first.revision));
    add(&store, Phase::Setup, "{\"n\":2}", &next).unwrap();
    assert_eq!(body(&store, &first.document).as_deref(), Some("{\"n\":2}"));
}

#[test]
fn an_older_token_is_fenced_off_and_both_are_named() {
    let place = Place::new();
    let store = place.writer();
    add(&store, Phase::Map, "{\"fencing\":7}", &fenced(7)).unwrap();
    let error = add(&store, Phase::Map, "{\"fencing\":6}", &fenced(6)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Fenced);
    assert!(
        error.why().contains("token 6") && error.why().contains("under 7"),
        "{error}"
    );
    add(&store, Phase::Map, "{\"fencing\":7}", &fenced(7)).unwrap();
    let orphans = Document::Orphans(job());
    store
        .put(&orphans, b"{\"fencing\":3}", &fenced(3), never())
        .unwrap();
    assert_eq!(
        kind(store.put(&orphans, b"{}", &fenced(2), never())),
        ErrorKind::Fenced
    );
    store
        .put(&orphans, b"{\"fencing\":4}", &fenced(4), never())
        .unwrap();
}

#[test]
fn a_damaged_newest_one_is_skipped_and_moved_by_a_writer_only() {
    let place = Place::new();
    let store = place.writer();
    let good = add(&store, Phase::Map, "{\"n\":1}", &PutOptions::default()).unwrap();
    let bad = add(&store, Phase::Map, "{\"n\":2}", &PutOptions::default()).unwrap();
    flip(&place.path(&bad.document), 109);
    let damaged = std::fs::read(place.path(&bad.document)).unwrap();
    let before = place.everything();
    for store in [&place.reader(), &store] {
        let error = store.get(&bad.document, never()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Damaged);
        assert!(
            error
                .target()
                .ends_with(place.path(&bad.document).to_str().unwrap())
        );
        assert!(body(store, &good.document).is_some());
    }
    assert_eq!(place.everything(), before);

    let options = PutOptions::default().expect(Expected::Revision(good.revision));
    let next = add(&store, Phase::Map, "{\"n\":3}", &options).unwrap();
    assert!(next.document > bad.document);
    assert_eq!(place.quarantined(), [damaged]);
    assert_eq!(body(&store, &bad.document), None);
    assert_eq!(body(&store, &good.document).as_deref(), Some("{\"n\":1}"));
}

#[test]
fn a_series_of_damage_only_counts_as_empty() {
    let place = Place::new();
    let store = place.writer();
    let bad = add(&store, Phase::Map, "{\"n\":2}", &PutOptions::default()).unwrap();
    std::fs::write(place.path(&bad.document), "").unwrap();
    place.hand.0.fetch_sub(1, Ordering::Relaxed);
    let next = add(
        &store,
        Phase::Map,
        "{}",
        &PutOptions::default().expect(Expected::Absent),
    )
    .unwrap();
    assert!(next.document > bad.document, "its name is not given again");
    assert_eq!(place.quarantined().len(), 1);
}

#[test]
fn a_newer_format_is_an_error_of_its_own() {
    let place = Place::new();
    let store = place.writer();
    let added = add(&store, Phase::Map, "{}", &PutOptions::default()).unwrap();
    std::fs::write(place.path(&added.document), "{\"format\":2,\"x\":1}\n").unwrap();
    let before = place.everything();
    assert_eq!(kind(store.get(&added.document, never())), ErrorKind::NewerFormat);
    assert_eq!(
        kind(store.revision(&added.document, never())),
        ErrorKind::NewerFormat
    );
    assert_eq!(
        kind(add(&store, Phase::Map, "{}", &fenced(1))),
        ErrorKind::NewerFormat
    );
    assert_eq!(place.everything(), before);
}

#[test]
fn a_planted_link_is_not_followed() {
    let place = Place::new();
    let store = place.writer();
    put(&store, &Document::Finished(job()), "{}", Expected::Any).unwrap();
    let outside = place.dir.path().join("outside");
    std::fs::write(&outside, "{\"secret\":1}").unwrap();

    let document = Document::Setup(job());
    symlink(&outside, place.path(&document)).unwrap();
    assert_eq!(kind(store.get(&document, never())), ErrorKind::Refused);
    assert_eq!(
        kind(put(&store, &document, "{}", Expected::Absent)),
        ErrorKind::Refused
    );
    let job_scope = DocumentScope::Job(job());
    assert!(store.list(&job_scope, never()).unwrap().is_empty());
    put(&store, &document, "{\"n\":1}", Expected::Any).unwrap();
    assert!(
        std::fs::symlink_metadata(place.path(&document))
            .unwrap()
            .is_file()
    );

    // The folder of the documents, and the lock.
    let other = JobAddress::new(job().repo, JobId::new("other").unwrap());
    let folder = place
        .path(&Document::Setup(other.clone()))
        .parent()
        .unwrap()
        .to_owned();
    let target = place.dir.path().join("folder");
    std::fs::create_dir(&target).unwrap();
    symlink(&target, &folder).unwrap();
    assert_eq!(
        kind(put(&store, &Document::Setup(other.clone()), "{}", Expected::Any)),
        ErrorKind::Refused
    );
    let lock = place.root().join(Entry::RegistryLock.path());
    symlink(&outside, lock).unwrap();
    assert_eq!(
        kind(put(
            &store,
            &Document::Repository(other.repo),
            "{}",
            Expected::Any
        )),
        ErrorKind::Refused
    );
    assert_eq!(std::fs::read_dir(&target).unwrap().count(), 0);
    assert_eq!(std::fs::read_to_string(&outside).unwrap(), "{\"secret\":1}");
}

#[test]
fn folders_and_files_are_the_owners_alone() {
    let place = Place::new();
    let store = place.writer();
    for document in all_documents() {
        put(&store, &document, "{}", Expected::Any).unwrap();
    }
    for (path, _) in place.everything() {
        let found = std::fs::symlink_metadata(&path).unwrap();
        let wanted = if found.is_dir() { FOLDER_MODE } else { FILE_MODE };
        assert_eq!(found.permissions().mode() & 0o7777, wanted, "{}", path.display());
    }
}

#[test]
fn what_a_dead_writer_left_is_swept_and_no_link_among_it_is_followed() {
    let place = Place::new();
    let store = place.writer();
    let added = add(&store, Phase::Map, "{}", &PutOptions::default()).unwrap();
    let folder = place.path(&added.document).parent().unwrap().to_owned();
    let outside = place.dir.path().join("outside");
    std::fs::write(&outside, "keep").unwrap();
    let (dead, link) = (format!("{TEMP_PREFIX}dead"), format!("{TEMP_PREFIX}link"));
    std::fs::write(folder.join(&dead), "half").unwrap();
    symlink(&outside, folder.join(link)).unwrap();
    add(&store, Phase::Map, "{}", &PutOptions::default()).unwrap();
    assert!(!folder.join(dead).exists());
    assert_eq!(std::fs::read_to_string(outside).unwrap(), "keep");
    assert_eq!(store.list(&DocumentScope::Job(job()), never()).unwrap().len(), 2);
}

#[test]
fn a_read_only_store_refuses_writes_and_makes_nothing() {
    let place = Place::new();
    let store = place.reader();
    for document in all_documents() {
        assert_eq!(
            kind(put(&store, &document, "{}", Expected::Any)),
            ErrorKind::ReadOnly
        );
        let deleted = store.delete(&document, Expected::Any, Durability::Strict, never());
        assert_eq!(kind(deleted), ErrorKind::ReadOnly);
        assert_eq!(body(&store, &document), None);
        assert_eq!(store.revision(&document, never()).unwrap(), None);
    }
    assert_eq!(
        kind(add(&store, Phase::Map, "{}", &PutOptions::default())),
        ErrorKind::ReadOnly
    );
    assert!(
        store
            .list(&DocumentScope::Repositories, never())
            .unwrap()
            .is_empty()
    );
    assert!(store.repositories(never()).unwrap().is_empty());
    assert!(store.jobs(&job().repo, never()).unwrap().is_empty());
    assert!(store.worktrees(&job().repo, never()).unwrap().is_empty());
    assert!(!place.root().exists());
}

#[test]
fn what_is_refused_stores_nothing() {
    let place = Place::new();
    let store = place.writer();
    assert_eq!(
        kind(put(&store, &Document::Setup(job()), "[]", Expected::Any)),
        ErrorKind::InvalidInput
    );
    assert!(!place.root().exists());
    let passed = Deadline::after(Duration::ZERO);
    assert_eq!(
        kind(store.put(&Document::Setup(job()), b"{}", &PutOptions::default(), passed)),
        ErrorKind::Timeout
    );
    assert_eq!(
        kind(store.get(&Document::Setup(job()), passed)),
        ErrorKind::Timeout
    );
    assert_eq!(body(&store, &Document::Setup(job())), None);
}

#[test]
fn a_writer_waits_for_another_until_its_deadline() {
    let place = Place::new();
    let (one, other) = (place.writer(), place.writer());
    let lock = Entry::StateLock(job()).path();
    let held = one.lock_file(&lock, "test", "a long write", never()).unwrap();
    let soon = Deadline::after(Duration::from_millis(20));
    let error = other
        .put(&Document::Setup(job()), b"{}", &PutOptions::default(), soon)
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LockUnavailable);
    assert!(error.why().contains(&std::process::id().to_string()), "{error}");
    // Another job's documents have another lock, and readers take none.
    put(&other, &Document::Repository(job().repo), "{}", Expected::Any).unwrap();
    assert_eq!(body(&other, &Document::Setup(job())), None);
    drop(held);
    put(&other, &Document::Setup(job()), "{}", Expected::Any).unwrap();
}

#[test]
fn without_file_locks_nothing_is_moved() {
    let place = Place::new();
    let store = place.store(|options| options.file_locks(false));
    let one = add(&store, Phase::Map, "{}", &PutOptions::default()).unwrap();
    let two = add(&store, Phase::Map, "{}", &PutOptions::default()).unwrap();
    assert!(two.document > one.document);
    flip(&place.path(&two.document), 80);
    let options = PutOptions::default().expect(Expected::Revision(one.revision));
    add(&store, Phase::Map, "{}", &options).unwrap();
    assert!(place.path(&two.document).exists());
    assert!(place.quarantined().is_empty());
}

#[test]
fn repositories_jobs_and_sessions_are_told_by_what_is_there() {
    let place = Place::new();
    let store = place.writer();
    let make = |folder: &str| std::fs::create_dir_all(place.root().join(folder)).unwrap();
    for folder in [
        "events/a/job-e",
        "dlq/b/job-d",
        "state/c/mapreduce/jobs/job-s",
        "worktrees/d/session-1",
        "worktrees/d/other",
        "events/.hidden",
        "locks/state/z",
    ] {
        make(folder);
    }
    std::fs::write(place.root().join("events/file"), "").unwrap();
    std::fs::write(place.root().join("worktrees/d/session-2"), "").unwrap();
    let e = JobAddress::new(RepoName::new("e").unwrap(), JobId::new("job-o").unwrap());
    put(&store, &Document::Orphans(e.clone()), "{}", Expected::Any).unwrap();
    put(&store, &Document::Repository(e.repo.clone()), "{}", Expected::Any).unwrap();
    let repos = store.repositories(never()).unwrap();
    let names: Vec<_> = repos.iter().map(RepoName::as_str).collect();
    assert_eq!(names, ["a", "b", "c", "d", "e"]);
    for (repo, job) in repos
        .iter()
        .zip([Some("job-e"), Some("job-d"), Some("job-s"), None, Some("job-o")])
    {
        let jobs = store.jobs(repo, never()).unwrap();
        assert_eq!(jobs.first().map(JobId::as_str), job);
        assert!(jobs.len() <= 1);
    }
    let d = RepoName::new("d").unwrap();
    let session = SessionId::new("1").unwrap();
    assert_eq!(
        store.worktrees(&d, never()).unwrap(),
        std::slice::from_ref(&session)
    );
    assert_eq!(
        store.worktree_path(&d, &session).unwrap(),
        place.root().join("worktrees/d/session-1")
    );
    let listed = store.list(&DocumentScope::Repositories, never()).unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].document, Document::Repository(e.repo.clone()));
    assert_eq!(
        listed[0].bytes,
        std::fs::metadata(place.path(&listed[0].document)).unwrap().len()
    );
    let orphans = store
        .list(&DocumentScope::Orphans(e.repo.clone()), never())
        .unwrap();
    assert_eq!(orphans[0].document, Document::Orphans(e));
}

#[test]
fn a_worktree_path_is_absolute() {
    let options = FileOptions::new("relative/root");
    let store = Store::new(Arc::new(RealFs::new("relative/root")), options);
    let path = store
        .worktree_path(&job().repo, &SessionId::new("x").unwrap())
        .unwrap();
    assert!(path.is_absolute() && path.ends_with("relative/root/worktrees/shop/session-x"));
}

#[test]
fn a_failed_sync_stores_nothing_before_the_rename_and_is_unclear_after_it() {
    let place = Place::new();
    let switches = Arc::new(Switches::default());
    let fs = Faulty::new(RealFs::new(place.root()), Arc::clone(&switches));
    let store = Store::new(Arc::new(fs), FileOptions::new(place.root()));
    let document = Document::Finished(job());
    put(&store, &document, "{\"n\":1}", Expected::Any).unwrap();

    switches.files.store(true, Ordering::Relaxed);
    assert_eq!(
        kind(put(&store, &document, "{\"n\":2}", Expected::Any)),
        ErrorKind::Io
    );
    assert_eq!(body(&store, &document).as_deref(), Some("{\"n\":1}"));
    let folder = place.path(&document).parent().unwrap().to_owned();
    assert_eq!(
        std::fs::read_dir(folder).unwrap().count(),
        1,
        "no temporary file stays"
    );
    switches.files.store(false, Ordering::Relaxed);

    switches.folders.store(true, Ordering::Relaxed);
    let error = put(&store, &document, "{\"n\":3}", Expected::Any).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown);
    assert!(!error.is_transient());
    assert_eq!(body(&store, &document).as_deref(), Some("{\"n\":3}"));
    let error = add(&store, Phase::Map, "{}", &PutOptions::default()).unwrap_err();
    assert_eq!(
        (error.kind(), error.is_transient()),
        (ErrorKind::OutcomeUnknown, false)
    );
    let error = store
        .delete(&document, Expected::Any, Durability::Strict, never())
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown);
    // Relaxed asks for no sync, so that none fails.
    let relaxed = PutOptions::new(Durability::Relaxed);
    store.put(&document, b"{}", &relaxed, never()).unwrap();
    assert!(
        store
            .delete(&document, Expected::Any, Durability::Relaxed, never())
            .unwrap()
    );
}
