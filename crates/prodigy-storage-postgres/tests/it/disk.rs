//! The disk of the server is full.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use prodigy_storage_backend::{
    AppendOptions, Batch, Body, Deadline, DocumentStore, ErrorKind, EventId, LogStore, PutOptions,
    StorageError,
};
use prodigy_storage_layout::Document;
use prodigy_storage_postgres::{PostgresBackend, PostgresOptions};

use crate::late::{job, read};
use crate::server::{Server, SmallDisk};

const THREADS: usize = 4;
/// The size of an event in bytes.
const SIZE: usize = 60_000;

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(30))
}

/// A batch with one large event that can't be compressed well.
fn big(random: &mut fastrand::Rng) -> Batch {
    let mut batch = Batch::new();
    let text: String = (0..SIZE).map(|_| random.alphanumeric()).collect();
    batch.push(&text).unwrap();
    batch
}

fn append(backend: &PostgresBackend, batch: &mut Batch) -> Result<(), StorageError> {
    backend
        .append(&job("a"), batch, &AppendOptions::default(), soon())
        .map(drop)
}

/// Appends from several threads until each append is refused. Returns the ids of the acknowledged events, and the
/// refused batches with their errors.
fn fill(backend: &PostgresBackend) -> (Vec<EventId>, Vec<(Batch, StorageError)>) {
    let is_full = AtomicBool::new(false);
    let one = |thread: usize| {
        let (mut random, mut acknowledged) = (fastrand::Rng::with_seed(thread as u64), Vec::new());
        loop {
            let mut batch = big(&mut random);
            match append(backend, &mut batch) {
                Ok(()) => acknowledged.extend_from_slice(batch.ids()),
                Err(error) => {
                    is_full.store(true, Ordering::SeqCst);
                    return (acknowledged, (batch, error));
                }
            }
            assert!(acknowledged.len() < 10_000, "the disk is never full");
        }
    };
    let all: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let one = &one;
                scope.spawn(move || one(thread))
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let (acknowledged, refused): (Vec<_>, Vec<_>) = all.into_iter().unzip();
    (acknowledged.concat(), refused)
}

fn sorted(mut ids: Vec<EventId>) -> Vec<EventId> {
    ids.sort();
    ids
}

#[test]
fn a_full_disk_refuses_writes_and_keeps_what_it_has() {
    let Some(disk) = SmallDisk::mount("24m") else {
        return;
    };
    let Some(server) = Server::start() else { return };
    server.psql(&format!(
        "create tablespace small location '{}'",
        disk.path().display()
    ));
    server.psql("create database jobs tablespace small");
    let url = server.url().replace("/postgres", "/jobs");
    let backend = PostgresBackend::open(PostgresOptions::new(url), soon()).unwrap();
    let document = Document::Orphans(job("a"));
    let put = |n: usize| {
        let text = format!("{{\"text\":\"{}\"}}", "x".repeat(n));
        let body = Body::parse(text.as_bytes()).unwrap();
        backend.put(&document, body, &PutOptions::default(), soon())
    };
    put(1).unwrap();
    let (mut acknowledged, refused) = fill(&backend);
    for (batch, error) in &refused {
        assert_eq!(error.kind(), ErrorKind::DiskFull, "{error:#}");
        assert!(!error.is_transient() && error.ids().is_empty(), "{error:#}");
        assert!(batch.ids().is_empty());
    }
    assert_eq!(
        sorted(read(&backend, &job("a"), None).0),
        sorted(acknowledged.clone())
    );
    assert_eq!(
        backend.get(&document, soon()).unwrap().unwrap().body(),
        b"{\"text\":\"x\"}"
    );
    disk.resize("200m");
    for (mut batch, _) in refused {
        append(&backend, &mut batch).unwrap();
        acknowledged.extend_from_slice(batch.ids());
    }
    put(2).unwrap();
    assert_eq!(sorted(read(&backend, &job("a"), None).0), sorted(acknowledged));
}

#[test]
fn a_full_disk_under_the_log_of_the_server_loses_nothing_acknowledged() {
    let Some(disk) = SmallDisk::mount("12m") else {
        return;
    };
    let log = disk.path().join("log");
    let Some(mut server) = Server::start_with(&["--wal-segsize=1", "--waldir", log.to_str().unwrap()]) else {
        return;
    };
    let backend = PostgresBackend::open(PostgresOptions::new(server.url()), soon()).unwrap();
    // The server stops when its disk is full, so every thread gets an error.
    let (mut acknowledged, refused) = fill(&backend);
    disk.resize("400m");
    server.kill_and_restart();
    for (mut batch, error) in refused {
        assert_ne!(error.kind(), ErrorKind::Timeout, "{error:#}");
        while let Err(error) = append(&backend, &mut batch) {
            assert!(
                error.is_transient() || error.kind() == ErrorKind::OutcomeUnknown,
                "{error:#}"
            );
        }
        acknowledged.extend_from_slice(batch.ids());
    }
    assert_eq!(sorted(read(&backend, &job("a"), None).0), sorted(acknowledged));
}
