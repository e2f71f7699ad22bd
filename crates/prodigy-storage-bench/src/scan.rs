//! Reading events.

use std::sync::OnceLock;
use std::time::Instant;

use prodigy_storage::{ReadOptions, Storage};

use crate::append::store;
use crate::event::Event;
use crate::raw;
use crate::row::{Row, Scale, per_operation};

pub(crate) fn rows() -> Vec<Row> {
    vec![
        Row {
            name: "scan, typed, one segment",
            against: "chunked read + crc + serde_json typed",
            bar: 1.1,
            ours: full,
            theirs: bare,
        },
        Row {
            name: "scan from a cursor at the end",
            against: "full scan (the whole call, not an event)",
            bar: 0.002,
            ours: resume,
            theirs: |scale| Ok(full(scale)? * log(scale)?.events as f64),
        },
    ]
}

struct Log {
    _folder: tempfile::TempDir,
    storage: Storage,
    raw: std::path::PathBuf,
    events: usize,
}

/// Written once a run.
fn log(scale: &Scale) -> anyhow::Result<&'static Log> {
    static LOG: OnceLock<Log> = OnceLock::new();
    if let Some(log) = LOG.get() {
        return Ok(log);
    }
    let events = scale.of(1_000_000) / 100 * 100;
    let folder = tempfile::tempdir()?;
    let mut config = store(&folder, false)?.0.config().clone();
    config.file.max_file_size = 1 << 40;
    let storage = Storage::with_config(config)?;
    let job = storage.repo("bench")?.job("job")?;
    for batch in 0..events / 100 {
        job.events()
            .append_batch((0..100).map(|n| Event::new(batch * 100 + n)))?;
    }
    let raw = folder.path().join("log");
    raw::append(&raw, 0, events, false)?;
    Ok(LOG.get_or_init(|| Log {
        _folder: folder,
        storage,
        raw,
        events,
    }))
}

fn full(scale: &Scale) -> anyhow::Result<f64> {
    let log = log(scale)?;
    let job = log.storage.repo("bench")?.job("job")?;
    let began = Instant::now();
    let mut count = 0;
    for event in job.events().read::<Event>()? {
        anyhow::ensure!(!event?.event.item.is_empty(), "event {count} is empty");
        count += 1;
    }
    anyhow::ensure!(count == log.events, "{count} of {} events are there", log.events);
    Ok(per_operation(began, log.events))
}

fn bare(scale: &Scale) -> anyhow::Result<f64> {
    let log = log(scale)?;
    let began = Instant::now();
    anyhow::ensure!(raw::scan(&log.raw)? == log.events, "events are missing");
    Ok(per_operation(began, log.events))
}

fn resume(scale: &Scale) -> anyhow::Result<f64> {
    let log = log(scale)?;
    let job = log.storage.repo("bench")?.job("job")?;
    let mut lines = job.events().read_lines(ReadOptions::default())?;
    while lines.next()?.is_some() {}
    let cursor = lines.cursor();
    let began = Instant::now();
    let mut count = 0;
    for _ in 0..100 {
        for event in job
            .events()
            .read_with::<Event>(ReadOptions::after(cursor.clone()))?
        {
            event?;
            count += 1;
        }
    }
    anyhow::ensure!(count == 0, "{count} events behind the end");
    Ok(per_operation(began, 100))
}
