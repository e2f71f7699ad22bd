//! Documents through the cache. A write directly to the backend simulates one by another process.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use prodigy_storage_backend::{
    Backend, Body, Deadline, Durability, ErrorKind, Expected, PutOptions, Stats, StoredDocument,
};
use prodigy_storage_config::StorageConfig;
use prodigy_storage_layout::{Document, JobAddress, JobId, Phase, RepoName};
use prodigy_storage_memory::{MemoryBackend, MemoryOptions};

use super::through::{Through, everything};
use crate::call::{Caller, operation};

const NEVER: Deadline = Deadline::never();

fn job(number: usize) -> JobAddress {
    JobAddress::new(
        RepoName::new("shop").unwrap(),
        JobId::new(format!("job-{number}")).unwrap(),
    )
}

fn document() -> Document {
    Document::Orphans(job(0))
}

fn over(backend: &Arc<dyn Backend>, adapt: impl FnOnce(&mut StorageConfig)) -> Caller {
    let mut config = everything();
    adapt(&mut config);
    Caller::new(Arc::clone(backend), &config, false)
}

fn memory() -> (Arc<dyn Backend>, Caller) {
    let backend: Arc<dyn Backend> = Arc::new(MemoryBackend::new(MemoryOptions::new()).unwrap());
    let caller = over(&backend, |_| {});
    (backend, caller)
}

fn put(backend: &dyn Backend, document: &Document, body: &[u8]) {
    let body = Body::parse(body).unwrap();
    backend
        .put(document, body, &PutOptions::default(), NEVER)
        .unwrap();
}

fn read(caller: &Caller, document: &Document) -> Option<Vec<u8>> {
    let got: Option<StoredDocument> = caller.get(document, NEVER).unwrap();
    got.map(|stored| stored.body().to_vec())
}

fn counts<const N: usize>(caller: &Caller, names: [&str; N]) -> [u64; N] {
    let stats: Stats = caller.stats();
    names.map(|name| stats.get(name))
}

#[test]
fn a_document_that_is_read_again_comes_from_the_cache() {
    let (backend, caller) = memory();
    put(&*backend, &document(), b"{\"n\":1}");
    for _ in 0..3 {
        let got = caller.get(&document(), NEVER).unwrap().unwrap();
        assert_eq!((got.body(), got.is_verified()), (&b"{\"n\":1}"[..], true));
        assert_eq!(
            Some(got.revision()),
            backend.revision(&document(), NEVER).unwrap()
        );
    }
    assert_eq!(
        counts(&caller, ["cache.hits", "cache.misses", "cache.entries"]),
        [2, 1, 1]
    );
}

#[test]
fn without_enable_cache_nothing_is_cached() {
    let (backend, _) = memory();
    let caller = over(&backend, |config| config.enable_cache = false);
    put(&*backend, &document(), b"{}");
    for _ in 0..3 {
        assert_eq!(read(&caller, &document()), Some(b"{}".to_vec()));
    }
    assert_eq!(counts(&caller, ["cache.hits", "cache.misses"]), [0, 0]);
}

#[test]
fn own_writes_are_read_at_once() {
    let (_, caller) = memory();
    let setup = Document::Setup(job(0));
    for number in 0..3 {
        let text = format!("{{\"n\":{number}}}").into_bytes();
        let body = Body::parse(&text).unwrap();
        caller
            .put(&document(), body, &PutOptions::default(), NEVER)
            .unwrap();
        assert_eq!(read(&caller, &document()), Some(text.clone()));
        caller
            .add(&job(0), Phase::Setup, body, &PutOptions::default(), NEVER)
            .unwrap();
        assert_eq!(read(&caller, &setup), Some(text));
    }
    assert_eq!(
        counts(&caller, ["cache.stale"]),
        [0],
        "a write removes its document from the cache, so no revision is compared"
    );
    assert!(
        caller
            .delete(&document(), Expected::Any, Durability::Strict, None, NEVER)
            .unwrap()
    );
    assert_eq!(read(&caller, &document()), None);
}

#[test]
fn a_failed_write_forgets_its_document_too() {
    let (backend, caller) = memory();
    put(&*backend, &document(), b"{}");
    read(&caller, &document());
    assert_eq!(counts(&caller, ["cache.entries"]), [1]);
    let options = PutOptions::default().expect(Expected::Absent);
    let refused = caller.put(&document(), Body::EMPTY, &options, NEVER).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    assert_eq!(counts(&caller, ["cache.entries"]), [0]);
}

#[test]
fn another_processs_write_is_never_hidden() {
    let (backend, caller) = memory();
    for number in 0..1_000 {
        let text = format!("{{\"n\":{number}}}").into_bytes();
        put(&*backend, &document(), &text);
        assert_eq!(read(&caller, &document()), Some(text.clone()));
        assert_eq!(read(&caller, &document()), Some(text));
    }
    assert_eq!(counts(&caller, ["cache.hits", "cache.stale"]), [1_000, 999]);
    backend
        .delete(&document(), Expected::Any, Durability::Strict, None, NEVER)
        .unwrap();
    assert_eq!(read(&caller, &document()), None);
    put(&*backend, &document(), b"{}");
    assert_eq!(read(&caller, &document()), Some(b"{}".to_vec()));
}

#[test]
fn an_absent_document_is_not_cached() {
    let (backend, caller) = memory();
    assert_eq!(read(&caller, &document()), None);
    assert_eq!(counts(&caller, ["cache.entries"]), [0]);
    put(&*backend, &document(), b"{}");
    assert_eq!(read(&caller, &document()), Some(b"{}".to_vec()));
}

#[test]
fn a_failed_load_is_not_cached_and_a_failed_check_is_an_error() {
    let (backend, _) = memory();
    put(&*backend, &document(), b"{}");
    let faulty: Arc<dyn Backend> = Arc::new(Through::faulty(backend, 11, false));
    // Retries are off, so that the cache sees each failed call.
    let caller = over(&faulty, |config| config.retry_policy.max_retries = 0);
    let (mut read, mut failed) = (0, 0);
    for _ in 0..200 {
        match caller.get(&document(), NEVER) {
            Ok(Some(stored)) => {
                assert_eq!(stored.body(), b"{}");
                read += 1;
            }
            Ok(None) => panic!("a failed call was reported as an absent document"),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Io);
                failed += 1;
            }
        }
    }
    assert!(read > 100 && failed > 30, "{read} {failed}");
}

/// A JSON object whose text has `bytes` bytes.
fn of_bytes(bytes: usize) -> Vec<u8> {
    format!("{{{}}}", " ".repeat(bytes - 2)).into_bytes()
}

#[test]
fn the_cache_is_bounded_by_entries_and_by_bytes() {
    let (backend, _) = memory();
    let (kilobyte, many) = (of_bytes(1024), 20);
    for number in 0..many {
        put(&*backend, &Document::Orphans(job(number)), &kilobyte);
    }
    let few = over(&backend, |config| config.cache_config.max_entries = 3);
    let small = over(&backend, |config| config.cache_config.max_bytes = 8 * 1024);
    for number in 0..many {
        read(&few, &Document::Orphans(job(number)));
        read(&small, &Document::Orphans(job(number)));
        assert!(counts(&few, ["cache.entries"])[0] <= 3);
        assert!(counts(&small, ["cache.bytes"])[0] <= 8 * 1024);
    }
    assert_eq!(counts(&few, ["cache.evicted"]), [17]);
    let before = counts(&small, ["cache.entries"]);
    assert!((3..8).contains(&before[0]));
    put(&*backend, &document(), &of_bytes(9 * 1024));
    assert_eq!(read(&small, &document()).unwrap().len(), 9 * 1024);
    assert_eq!(
        counts(&small, ["cache.entries"]),
        before,
        "a document larger than the cache evicts nothing"
    );
}

#[test]
fn a_reader_waits_for_the_load_of_another_until_its_deadline() {
    let (backend, _) = memory();
    put(&*backend, &document(), b"{}");
    let caller = over(&backend, |config| config.connection_pool_size = 1);
    let until = |condition: &dyn Fn() -> bool| {
        while !condition() {
            thread::yield_now();
        }
    };
    let (held, go_on) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let error = thread::scope(|scope| {
        // The only permit is in use, so the first reader's load waits.
        scope.spawn(|| {
            caller.call(operation::LIST, &"", NEVER, |_| {
                held.store(1, Ordering::SeqCst);
                until(&|| go_on.load(Ordering::SeqCst) == 1);
                Ok(())
            })
        });
        until(&|| held.load(Ordering::SeqCst) == 1);
        scope.spawn(|| assert_eq!(read(&caller, &document()), Some(b"{}".to_vec())));
        until(&|| counts(&caller, ["limit.waits"]) == [1]);
        let got = caller.get(&document(), Deadline::after(Duration::from_millis(20)));
        go_on.store(1, Ordering::SeqCst);
        got.unwrap_err()
    });
    assert_eq!(error.kind(), ErrorKind::Timeout);
    let text = error.to_string();
    assert!(text.contains("orphaned_worktrees/shop/job-0.json"), "{text}");
    assert!(
        text.contains("another thread that loads the same document"),
        "{text}"
    );
}

#[test]
fn no_read_is_older_than_the_last_write_before_it() {
    const ROUNDS: usize = 1_000;
    let (backend, caller) = memory();
    let round_of = |round: usize| format!("{{\"round\":{round}}}").into_bytes();
    let written = AtomicUsize::new(0);
    put(&*backend, &document(), &round_of(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            for round in 1..=ROUNDS {
                // Odd rounds write directly to the backend, even ones through the caller.
                if round % 2 == 0 {
                    let text = round_of(round);
                    let body = Body::parse(&text).unwrap();
                    caller
                        .put(&document(), body, &PutOptions::default(), NEVER)
                        .unwrap();
                } else {
                    put(&*backend, &document(), &round_of(round));
                }
                written.store(round, Ordering::SeqCst);
            }
        });
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let before = written.load(Ordering::SeqCst);
                    let body = read(&caller, &document()).unwrap();
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
