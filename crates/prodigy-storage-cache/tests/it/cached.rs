//! The layer that keeps documents. A write through `inner` is another process's.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use prodigy_storage_backend::{
    Backend, Body, Deadline, Durability, ErrorKind, Expected, PutOptions, Result, Stats, StoredDocument,
};
use prodigy_storage_cache::{CacheSettings, Cached};
use prodigy_storage_layout::{Document, DocumentScope, JobAddress, JobId, Phase};

use crate::fake::Fake;
use crate::forwarding::{FALLIBLE, call_all, document, job};
use crate::support::{FakeClock, settings, until};

const NEVER: Deadline = Deadline::never();
const TTL: Duration = Duration::from_secs(60);

fn over(fake: Fake) -> Cached<Fake> {
    Cached::new(Arc::new(fake), &CacheSettings::default())
}

fn put(backend: &dyn Backend, document: &Document, body: &[u8]) {
    let body = Body::parse(body).unwrap();
    backend
        .put(document, body, &PutOptions::default(), NEVER)
        .unwrap();
}

fn body(got: Result<Option<StoredDocument>>) -> Option<Vec<u8>> {
    got.unwrap().map(|document| document.body().to_vec())
}

fn read(backend: &dyn Backend, document: &Document) -> Option<Vec<u8>> {
    body(backend.get(document, NEVER))
}

fn numbered(number: usize) -> Document {
    Document::Orphans(JobAddress::new(
        job().repo,
        JobId::new(format!("job-{number}")).unwrap(),
    ))
}

#[test]
fn every_method_is_forwarded() {
    let layer = over(Fake::new());
    call_all(&layer, NEVER);
    assert_eq!(layer.inner().calls(), FALLIBLE);
    assert!(layer.health(NEVER).is_ok());
    assert_eq!(layer.inner().calls().last(), Some(&"health"));
}

#[test]
fn a_hit_asks_for_the_revision_alone() {
    let layer = over(Fake::new());
    put(&layer, &document(), b"{\"n\":1}");
    for _ in 0..3 {
        let got = layer.get(&document(), NEVER).unwrap().unwrap();
        assert_eq!((got.body(), got.is_verified()), (&b"{\"n\":1}"[..], true));
        assert_eq!(
            Some(got.revision()),
            layer.inner().revision(&document(), NEVER).unwrap()
        );
    }
    assert_eq!(layer.inner().count("get"), 1);
    let mut stats = Stats::default();
    layer.stats(&mut stats);
    assert_eq!(
        (
            stats.get("cache.hits"),
            stats.get("cache.misses"),
            stats.get("cache.entries")
        ),
        (2, 1, 1)
    );
}

#[test]
fn own_writes_are_seen_at_once() {
    let layer = over(Fake::new());
    let setup = Document::Setup(job());
    for number in 0..3 {
        let text = format!("{{\"n\":{number}}}").into_bytes();
        put(&layer, &document(), &text);
        assert_eq!(read(&layer, &document()), Some(text.clone()));
        layer
            .add(
                &job(),
                Phase::Setup,
                Body::parse(&text).unwrap(),
                &PutOptions::default(),
                NEVER,
            )
            .unwrap();
        assert_eq!(read(&layer, &setup), Some(text));
    }
    assert_eq!(
        layer.counts().stale,
        0,
        "a write forgets its document, no check is needed"
    );
    assert!(
        layer
            .delete(&document(), Expected::Any, Durability::Strict, NEVER)
            .unwrap()
    );
    assert_eq!(read(&layer, &document()), None);
}

#[test]
fn another_processs_write_is_never_hidden() {
    let layer = over(Fake::new());
    for number in 0..1_000 {
        let text = format!("{{\"n\":{number}}}").into_bytes();
        put(&**layer.inner(), &document(), &text);
        assert_eq!(read(&layer, &document()), Some(text.clone()));
        assert_eq!(read(&layer, &document()), Some(text));
    }
    let counts = layer.counts();
    assert_eq!((counts.hits, counts.stale), (1_000, 999));
    layer
        .inner()
        .delete(&document(), Expected::Any, Durability::Strict, NEVER)
        .unwrap();
    assert_eq!(read(&layer, &document()), None);
    put(&**layer.inner(), &document(), b"{}");
    assert_eq!(read(&layer, &document()), Some(b"{}".to_vec()));
}

#[test]
fn which_is_the_latest_is_asked_every_time() {
    let layer = over(Fake::new());
    let scope = DocumentScope::Job(job());
    assert!(layer.list(&scope, NEVER).unwrap().is_empty());
    layer
        .inner()
        .add(&job(), Phase::Map, Body::EMPTY, &PutOptions::default(), NEVER)
        .unwrap();
    assert_eq!(layer.list(&scope, NEVER).unwrap().len(), 1);
}

#[test]
fn an_absent_document_is_not_kept() {
    let layer = over(Fake::new());
    assert_eq!(read(&layer, &document()), None);
    assert_eq!(layer.counts().entries, 0);
    put(&**layer.inner(), &document(), b"{}");
    assert_eq!(read(&layer, &document()), Some(b"{}".to_vec()));
}

#[test]
fn a_failed_load_is_not_kept_and_a_failed_check_is_an_error() {
    let faults = Arc::new(AtomicUsize::new(1));
    let left = Arc::clone(&faults);
    let layer = over(Fake::failing(move |call| {
        let fails = matches!(call, "get" | "revision")
            && left
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1))
                .is_ok();
        fails.then_some(ErrorKind::Io)
    }));
    put(&layer, &document(), b"{}");
    assert_eq!(layer.get(&document(), NEVER).unwrap_err().kind(), ErrorKind::Io);
    assert_eq!(read(&layer, &document()), Some(b"{}".to_vec()));
    // A value that can't be checked is not served.
    faults.store(1, Ordering::SeqCst);
    assert_eq!(layer.get(&document(), NEVER).unwrap_err().kind(), ErrorKind::Io);
    assert_eq!(read(&layer, &document()), Some(b"{}".to_vec()));
    assert_eq!(layer.inner().count("get"), 2);
}

#[test]
fn a_write_that_failed_forgets_its_document_too() {
    let unclear = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&unclear);
    let layer = over(Fake::failing(move |call| {
        (call == "put" && told.load(Ordering::SeqCst)).then_some(ErrorKind::OutcomeUnknown)
    }));
    put(&layer, &document(), b"{}");
    read(&layer, &document());
    assert_eq!(layer.counts().entries, 1);
    unclear.store(true, Ordering::SeqCst);
    assert!(
        layer
            .put(&document(), Body::EMPTY, &PutOptions::default(), NEVER)
            .is_err()
    );
    assert_eq!(layer.counts().entries, 0);
}

/// A body of so many bytes.
fn of_bytes(bytes: usize) -> Vec<u8> {
    format!("{{{}}}", " ".repeat(bytes - 2)).into_bytes()
}

#[test]
fn bounded_by_entries_bytes_and_age() {
    let time = FakeClock::default();
    let fake = Arc::new(Fake::new());
    let (kilobyte, many) = (of_bytes(1024), 20);
    for number in 0..many {
        put(&*fake, &numbered(number), &kilobyte);
    }
    let few = Cached::with_clock(Arc::clone(&fake), &settings(3, u64::MAX, TTL), time.clock());
    let small = Cached::with_clock(Arc::clone(&fake), &settings(1_000, 8 * 1024, TTL), time.clock());
    for number in 0..many {
        read(&few, &numbered(number));
        read(&small, &numbered(number));
        assert!(few.counts().entries <= 3 && small.counts().bytes <= 8 * 1024);
    }
    assert!((3..8).contains(&small.counts().entries), "{:?}", small.counts());
    assert_eq!(few.counts().evicted, 17);

    put(&*fake, &numbered(0), &of_bytes(9 * 1024));
    let before = small.counts().entries;
    assert_eq!(read(&small, &numbered(0)).unwrap().len(), 9 * 1024);
    assert_eq!(
        small.counts().entries,
        before,
        "a document heavier than the cache drives nothing out"
    );

    let loads = fake.count("get");
    read(&few, &numbered(many - 1));
    assert_eq!(fake.count("get"), loads);
    time.advance(TTL + Duration::from_secs(1));
    read(&few, &numbered(many - 1));
    assert_eq!(fake.count("get"), loads + 1);
    assert_eq!(few.counts().expired, 1);
}

/// A layer whose loads wait for `go_on`.
fn held_up(go_on: &Arc<AtomicBool>) -> Cached<Fake> {
    let told = Arc::clone(go_on);
    let hook = move |call: &str| until(|| call != "get" || told.load(Ordering::SeqCst));
    let layer = over(Fake::with_hook(|_| None, hook));
    put(&layer, &document(), b"{}");
    layer
}

#[test]
fn concurrent_misses_load_once() {
    let go_on = Arc::new(AtomicBool::new(false));
    let layer = held_up(&go_on);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert_eq!(read(&layer, &document()), Some(b"{}".to_vec())));
        }
        until(|| layer.counts().waiting == 7);
        go_on.store(true, Ordering::SeqCst);
    });
    assert_eq!(layer.inner().count("get"), 1);
    assert_eq!(layer.counts().shared, 7);
}

#[test]
fn who_waits_for_a_load_is_told_so_at_its_deadline() {
    let go_on = Arc::new(AtomicBool::new(false));
    let layer = held_up(&go_on);
    let error = thread::scope(|scope| {
        scope.spawn(|| read(&layer, &document()));
        until(|| layer.inner().count("get") == 1);
        let got = layer.get(&document(), Deadline::after(Duration::from_millis(20)));
        go_on.store(true, Ordering::SeqCst);
        got.unwrap_err()
    });
    assert_eq!(error.kind(), ErrorKind::Timeout);
    let text = error.to_string();
    assert!(text.contains("orphaned_worktrees/shop/job.json"), "{text}");
    assert!(
        text.contains("another thread that loads the same document"),
        "{text}"
    );
}

fn round_of(round: usize) -> Vec<u8> {
    format!("{{\"round\":{round}}}").into_bytes()
}

#[test]
fn no_read_is_older_than_the_last_write_before_it() {
    const ROUNDS: usize = 1_000;
    let layer = over(Fake::new());
    let written = AtomicUsize::new(0);
    put(&layer, &document(), &round_of(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            for round in 1..=ROUNDS {
                // By turns through this layer and past it.
                let backend: &dyn Backend = if round % 2 == 0 { &layer } else { &**layer.inner() };
                put(backend, &document(), &round_of(round));
                written.store(round, Ordering::SeqCst);
            }
        });
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let before = written.load(Ordering::SeqCst);
                    let body = read(&layer, &document()).unwrap();
                    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
                    let got = usize::try_from(body["round"].as_u64().unwrap()).unwrap();
                    assert!(got >= before, "read {got} after {before} was written");
                    if got == ROUNDS {
                        break;
                    }
                }
            });
        }
    });
}

#[test]
fn wraps_a_backend_known_only_at_run_time() {
    let backend: Arc<dyn Backend> = Arc::new(Fake::new());
    let layer: Arc<dyn Backend> = Arc::new(Cached::new(backend, &CacheSettings::default()));
    call_all(&*layer, NEVER);
}
