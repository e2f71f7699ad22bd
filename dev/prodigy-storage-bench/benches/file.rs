//! Benchmarks of parts of the file backend: the merge of interleaved segments.

use std::fs;

use divan::{Bencher, counter::ItemsCount};
use prodigy_storage_backend::{
    AppendOptions, Batch, Deadline, Durability, LogStore, Result, ScanItem, ScanOptions,
};
use prodigy_storage_file::{FileBackend, FileOptions};
use prodigy_storage_layout::{JobAddress, JobId, RepoName, events_folder};

fn main() {
    divan::main();
}

const EVENTS: usize = 8_192;

/// A log in `segments` segments that interleave event by event: several stores are written to in turn, then their
/// segments are moved into one folder.
fn interleaved(folder: &std::path::Path, segments: usize, job: &JobAddress) -> Result<FileBackend> {
    let root = |n: usize| folder.join(format!("root-{n}"));
    let backends = (0..segments)
        .map(|n| FileBackend::open(FileOptions::new(root(n))))
        .collect::<Result<Vec<_>>>()?;
    let options = AppendOptions::new(Durability::Relaxed);
    let mut batch = Batch::new();
    for n in 0..EVENTS {
        let Some(backend) = backends.get(n % segments) else {
            continue;
        };
        batch.clear();
        batch.push(&serde_json::json!({"agent": n % 16, "output": "x".repeat(200)}))?;
        backend.append(job, &mut batch, &options, Deadline::never())?;
    }
    drop(backends);
    let log = events_folder(job);
    for n in 1..segments {
        for entry in fs::read_dir(root(n).join(&log)).into_iter().flatten().flatten() {
            // A failed rename is ignored: a missing segment is noticed when the events are counted.
            let _ = fs::rename(entry.path(), root(0).join(&log).join(entry.file_name()));
        }
    }
    FileBackend::open(FileOptions::new(root(0)).read_only(true))
}

fn count(backend: &FileBackend, job: &JobAddress) -> Result<usize> {
    let mut scan = backend.scan(job, &ScanOptions::all(), Deadline::never())?;
    let mut count = 0;
    while let Some(item) = scan.next()? {
        count += usize::from(matches!(item, ScanItem::Record(_)));
    }
    Ok(count)
}

#[divan::bench(args = [1, 2, 8, 32])]
fn merge_of_segments(bencher: Bencher<'_, '_>, segments: usize) {
    let made = tempfile::tempdir().ok().and_then(|folder| {
        let job = JobAddress::new(RepoName::new("bench").ok()?, JobId::new("job").ok()?);
        let backend = interleaved(folder.path(), segments, &job).ok()?;
        Some((folder, backend, job))
    });
    let whole = made
        .as_ref()
        .and_then(|(_, backend, job)| count(backend, job).ok());
    assert_eq!(whole, Some(EVENTS), "the log was not made");
    bencher.counter(ItemsCount::new(EVENTS)).bench_local(|| {
        let (_, backend, job) = made.as_ref()?;
        count(backend, job).ok()
    });
}
