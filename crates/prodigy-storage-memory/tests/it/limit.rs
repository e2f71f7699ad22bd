//! Tests of the memory limit, and of threads that use many jobs.

use std::sync::Arc;

use prodigy_storage_backend::{
    AppendOptions, Batch, Body, Catalog, Deadline, DocumentStore, ErrorKind, LogStore, PutOptions, ScanItem,
    ScanOptions, Severity,
};
use prodigy_storage_layout::{Document, JobAddress, JobId, RepoName};
use prodigy_storage_memory::{MemoryBackend, MemoryOptions};

pub fn job(name: &str) -> JobAddress {
    JobAddress::new(RepoName::new("shop").unwrap(), JobId::new(name).unwrap())
}

pub fn append(backend: &MemoryBackend, job: &JobAddress, text: &str) -> prodigy_storage_backend::Result<()> {
    let mut batch = Batch::new();
    batch.push(text)?;
    backend
        .append(job, &mut batch, &AppendOptions::default(), Deadline::never())
        .map(|_| ())
}

pub fn count(backend: &MemoryBackend, job: &JobAddress) -> usize {
    let mut scan = backend.scan(job, &ScanOptions::all(), Deadline::never()).unwrap();
    let mut count = 0;
    while let Some(item) = scan.next().unwrap() {
        assert!(matches!(item, ScanItem::Record(record) if record.verified));
        count += 1;
    }
    count
}

#[test]
fn the_limit_says_what_it_is_and_usage_agrees() {
    let backend = MemoryBackend::new(MemoryOptions::new().max_memory(64 << 10)).unwrap();
    let job = job("a");
    let mut stored = 0;
    let error = loop {
        match append(&backend, &job, &"x".repeat(1000)) {
            Ok(()) => stored += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::DiskFull);
    assert!(error.to_string().contains("of at most 65536 bytes"), "{error}");
    assert!(error.hint().unwrap().contains("max_memory"));
    assert!(!error.is_transient());
    assert_eq!(count(&backend, &job), stored);
    let usage = backend.usage(Deadline::never()).unwrap();
    assert!(
        usage.free.unwrap() < 1500 && usage.capacity == Some(64 << 10),
        "{usage:?}"
    );
    assert!(usage.bytes() <= 64 << 10);
    let checks = backend.health(Deadline::never()).unwrap().checks;
    let memory = checks.iter().find(|check| check.name == "memory").unwrap();
    assert!(memory.severity >= Severity::Warning);
    let raise = "export PRODIGY__STORAGE__BACKEND_CONFIG__MAX_MEMORY=";
    assert!(memory.command.as_ref().unwrap().starts_with(raise), "{memory:?}");
}

#[test]
fn what_is_removed_is_given_back_to_the_byte() {
    let backend = MemoryBackend::new(MemoryOptions::new()).unwrap();
    let document = Document::Orphans(job("a"));
    let free = || backend.usage(Deadline::never()).unwrap().free.unwrap();
    append(&backend, &job("a"), "x").unwrap();
    let before = free();
    for size in [10, 5000, 3] {
        let body = format!("{{\"a\":\"{}\"}}", "x".repeat(size));
        let body = Body::parse(body.as_bytes()).unwrap();
        backend
            .put(&document, body, &PutOptions::default(), Deadline::never())
            .unwrap();
        assert!(before - free() >= size as u64);
    }
    let any = prodigy_storage_backend::Expected::Any;
    let durability = prodigy_storage_backend::Durability::Strict;
    assert!(
        backend
            .delete(&document, any, durability, None, Deadline::never())
            .unwrap()
    );
    assert_eq!(free(), before);
}

#[test]
fn sixteen_threads_on_sixteen_jobs_lose_nothing() {
    let backend = Arc::new(MemoryBackend::new(MemoryOptions::new()).unwrap());
    std::thread::scope(|scope| {
        for thread in 0..16 {
            let backend = backend.clone();
            scope.spawn(move || {
                let job = job(&format!("job-{thread}"));
                for n in 0..200 {
                    append(&backend, &job, &n.to_string()).unwrap();
                }
            });
        }
    });
    for thread in 0..16 {
        assert_eq!(count(&backend, &job(&format!("job-{thread}"))), 200);
    }
}

#[test]
fn a_job_is_written_while_a_scan_of_another_holds() {
    let backend = MemoryBackend::new(MemoryOptions::new()).unwrap();
    append(&backend, &job("a"), "x").unwrap();
    let mut scan = backend
        .scan(&job("a"), &ScanOptions::all(), Deadline::never())
        .unwrap();
    assert!(scan.next().unwrap().is_some());
    append(&backend, &job("a"), "y").unwrap();
    assert!(scan.next().unwrap().is_none());
}

#[test]
fn a_queue_near_its_cap_is_a_warning_and_a_full_one_a_failure() {
    use prodigy_storage_backend::dead_letter::DeadLetter;
    use prodigy_storage_backend::{Durability, ItemId, QueueStore};

    let backend = MemoryBackend::new(MemoryOptions::new().max_queue_size(Some(10_000))).unwrap();
    let push = |name: &str, bytes: usize| {
        let letter = DeadLetter::new(ItemId::new(name).unwrap(), "x".repeat(bytes));
        let item = letter.to_item().unwrap();
        backend.queue_put(&job("a"), &[item], Durability::Strict, None, Deadline::never())
    };
    let check = || {
        let health = backend.health(Deadline::never()).unwrap();
        health
            .checks
            .into_iter()
            .find(|check| check.name == "queues")
            .unwrap()
    };
    assert_eq!(check().severity, Severity::Ok);
    push("1", 7000).unwrap();
    assert_eq!(check().severity, Severity::Ok);
    push("2", 1000).unwrap();
    let warned = check();
    assert_eq!(warned.severity, Severity::Warning);
    assert_eq!(
        warned.command.as_deref(),
        Some("prodigy-storage dlq analyze --repo shop --job a")
    );
    assert!(
        warned.found.contains("shop/a") && warned.found.contains("of 10000 bytes"),
        "{}",
        warned.found
    );
    assert!(warned.hint.unwrap().contains("max_queue_size"));
    let error = push("3", 2000).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::QueueFull);
    assert!(backend.usage(Deadline::never()).unwrap().bytes() < 10_000);
    // Without a maximum size, health does not check the sizes of queues.
    let free = MemoryBackend::new(MemoryOptions::new()).unwrap();
    assert!(
        free.health(Deadline::never())
            .unwrap()
            .checks
            .iter()
            .all(|check| check.name != "queues")
    );
}
