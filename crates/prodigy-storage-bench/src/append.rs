//! Appending events.

use std::io::{BufWriter, Write};
use std::time::Instant;

use prodigy_storage::{Job, Storage, StorageConfig};

use crate::event::Event;
use crate::raw;
use crate::row::{Row, Scale, per_operation};

pub(crate) fn rows() -> Vec<Row> {
    vec![
        Row {
            name: "append, relaxed, 1 thread",
            against: "full line + write",
            bar: 1.2,
            ours: |scale| one_thread(scale, false, 100_000),
            theirs: |scale| bare_one_thread(scale, false, 100_000),
        },
        Row {
            name: "append, relaxed, batches of 100",
            against: "full line into a 64 KiB BufWriter",
            bar: 1.25,
            ours: batches,
            theirs: bare_buffered,
        },
        Row {
            name: "append, strict, 1 thread",
            against: "full line + write + fdatasync",
            bar: 1.08,
            ours: |scale| one_thread(scale, true, 2_000),
            theirs: |scale| bare_one_thread(scale, true, 2_000),
        },
        Row {
            name: "append, strict, 16 threads",
            against: "write + fdatasync, a file each",
            bar: 0.8,
            ours: many_threads,
            theirs: bare_many_threads,
        },
    ]
}

/// A store in a folder of its own, and a job in it.
pub(crate) fn store(folder: &tempfile::TempDir, strict: bool) -> anyhow::Result<(Storage, Job)> {
    let mut config = StorageConfig::default();
    config.file.base_dir = folder.path().join("root");
    config.durability = if strict {
        prodigy_storage::config::Durability::Strict
    } else {
        prodigy_storage::config::Durability::Relaxed
    };
    let storage = Storage::with_config(config)?;
    let job = storage.repo("bench")?.job("job")?;
    Ok((storage, job))
}

/// All events are there, in order of their ids.
fn check(job: &Job, events: usize) -> anyhow::Result<()> {
    let mut count = 0;
    for event in job.events().read::<Event>()? {
        anyhow::ensure!(!event?.event.item.is_empty(), "event {count} is empty");
        count += 1;
    }
    anyhow::ensure!(count == events, "{count} of {events} events are there");
    Ok(())
}

fn one_thread(scale: &Scale, strict: bool, events: usize) -> anyhow::Result<f64> {
    let events = scale.of(events);
    let folder = tempfile::tempdir()?;
    let (_storage, job) = store(&folder, strict)?;
    let log = job.events();
    log.append(&Event::new(0))?;
    let began = Instant::now();
    for n in 1..events {
        log.append(&Event::new(n))?;
    }
    let took = per_operation(began, events - 1);
    check(&job, events)?;
    Ok(took)
}

fn bare_one_thread(scale: &Scale, strict: bool, events: usize) -> anyhow::Result<f64> {
    let events = scale.of(events);
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("log");
    raw::append(&path, 0, 1, strict)?;
    let began = Instant::now();
    raw::append(&path, 1, events - 1, strict)?;
    let took = per_operation(began, events - 1);
    anyhow::ensure!(raw::scan(&path)? == events, "events are missing");
    Ok(took)
}

fn batches(scale: &Scale) -> anyhow::Result<f64> {
    let batches = scale.of(4_000);
    let folder = tempfile::tempdir()?;
    let (_storage, job) = store(&folder, false)?;
    let log = job.events();
    log.append(&Event::new(0))?;
    let began = Instant::now();
    for batch in 0..batches {
        log.append_batch((0..100).map(|n| Event::new(batch * 100 + n)))?;
    }
    let took = per_operation(began, batches * 100);
    check(&job, batches * 100 + 1)?;
    Ok(took)
}

fn bare_buffered(scale: &Scale) -> anyhow::Result<f64> {
    let events = scale.of(4_000) * 100;
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("log");
    let began = Instant::now();
    let mut out = BufWriter::with_capacity(64 << 10, std::fs::File::create(&path)?);
    let mut buffer = Vec::new();
    for n in 0..events {
        buffer.clear();
        raw::line(&mut buffer, n, &Event::new(n))?;
        out.write_all(&buffer)?;
    }
    out.flush()?;
    let took = per_operation(began, events);
    anyhow::ensure!(raw::scan(&path)? == events, "events are missing");
    Ok(took)
}

const THREADS: usize = 16;

fn many_threads(scale: &Scale) -> anyhow::Result<f64> {
    let each = scale.of(3_200) / THREADS;
    let folder = tempfile::tempdir()?;
    let (_storage, job) = store(&folder, true)?;
    job.events().append(&Event::new(0))?;
    let began = Instant::now();
    std::thread::scope(|scope| -> anyhow::Result<()> {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let log = job.events();
                scope.spawn(move || -> anyhow::Result<()> {
                    for n in 0..each {
                        log.append(&Event::new(thread * each + n))?;
                    }
                    Ok(())
                })
            })
            .collect();
        join(threads)
    })?;
    let took = per_operation(began, each * THREADS);
    check(&job, each * THREADS + 1)?;
    Ok(took)
}

fn bare_many_threads(scale: &Scale) -> anyhow::Result<f64> {
    let each = scale.of(3_200) / THREADS;
    let folder = tempfile::tempdir()?;
    let began = Instant::now();
    std::thread::scope(|scope| -> anyhow::Result<()> {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let path = folder.path().join(format!("log-{thread}"));
                scope.spawn(move || raw::append(&path, thread * each, each, true))
            })
            .collect();
        join(threads)
    })?;
    let took = per_operation(began, each * THREADS);
    for thread in 0..THREADS {
        let path = folder.path().join(format!("log-{thread}"));
        anyhow::ensure!(raw::scan(&path)? == each, "events are missing");
    }
    Ok(took)
}

fn join(threads: Vec<std::thread::ScopedJoinHandle<'_, anyhow::Result<()>>>) -> anyhow::Result<()> {
    for thread in threads {
        thread
            .join()
            .map_err(|_| anyhow::anyhow!("a thread panicked"))??;
    }
    Ok(())
}
