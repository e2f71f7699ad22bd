//! Rows that read events.

use std::rc::Rc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use prodigy_storage::{ReadOptions, StorageConfig};

use super::log::{Log, Read, million};
use crate::bar::Bar;
use crate::clock::per_operation;
use crate::lab::Lab;
use crate::raw;
use crate::row::{ALL_ROUNDS, Contestant, Plan, Role, Row, Sample};

/// The number of segments that are merged.
const SEGMENTS: usize = 8;
/// The size at which a segment is sealed and compressed, in bytes.
const SEALED: u64 = 32 << 20;

pub(crate) fn rows() -> Vec<Row> {
    let row = |key, work, against, bar, plan| Row {
        key,
        group: "scan",
        work,
        against,
        unit: "µs",
        bar: Bar::AtMost(bar),
        rounds: ALL_ROUNDS,
        plan,
    };
    vec![
        row(
            "scan",
            "scan of a million events, typed, crc verified, one segment",
            "chunked read + crc + serde_json typed of the same file",
            1.1,
            one_segment,
        ),
        row(
            "scan-8-segments",
            "the same over 8 interleaved segments",
            "one segment",
            1.3,
            eight_segments,
        ),
        row(
            "scan-last-minute",
            "events of the last minute out of a million over a day (a call)",
            "full scan (a call)",
            0.02,
            last_minute,
        ),
        row(
            "scan-resume",
            "resume from a cursor at the end of a million (a call)",
            "full scan (a call)",
            0.002,
            resume,
        ),
        row(
            "scan-compressed",
            "scan of compressed segments",
            "uncompressed",
            1.3,
            compressed,
        ),
    ]
}

/// A work that reads the whole log, with microseconds per event as its value.
fn full(log: Rc<Log>) -> impl FnMut(crate::row::Turn) -> Result<f64> {
    move |_| Ok(log.full_scan()? / log.events as f64)
}

fn one_segment(lab: &Lab) -> Result<Plan> {
    let log = lab.log()?;
    let segments = log.segments(".jsonl")?;
    ensure!(segments.len() == 1, "{} segments instead of one", segments.len());
    let path = segments.into_iter().next().context("a log without a segment")?;
    let events = log.events;
    let mut works = vec![
        Contestant::ours(full(log)),
        Contestant::new(Role::Against, "read + crc + serde_json", move |_| {
            let mut read = Read::default();
            let began = Instant::now();
            raw::scan(&path, |event| read.add(event))?;
            let took = per_operation(began, events);
            read.must_be(events)?;
            Ok(took)
        }),
    ];
    works.extend(crate::peers::scan::works(lab, events)?);
    Ok(Plan::Measure(works))
}

fn eight_segments(lab: &Lab) -> Result<Plan> {
    let one = lab.log()?;
    let many = Rc::new(Log::interleaved(&lab.bench(), SEGMENTS, million(lab))?);
    let segments = many.segments(".jsonl")?.len();
    ensure!(segments == SEGMENTS, "{segments} segments instead of {SEGMENTS}");
    Ok(Plan::Measure(vec![
        Contestant::ours(full(many)),
        Contestant::new(Role::Against, "one segment", full(one)),
    ]))
}

fn last_minute(lab: &Lab) -> Result<Plan> {
    let log = lab.log()?;
    let all = Rc::clone(&log);
    let ours = Contestant::ours(move |_| {
        let options = ReadOptions::new().since(log.last_minute);
        let (took, events) = log.part(&options, 20)?;
        ensure!(
            events == log.in_last_minute && events > 0,
            "{events} events in a minute that has {}",
            log.in_last_minute
        );
        Ok(Sample::from(took).with("events", events as f64))
    });
    let full = Contestant::new(Role::Against, "full scan", move |_| all.full_scan());
    Ok(Plan::Measure(vec![ours, full]))
}

fn resume(lab: &Lab) -> Result<Plan> {
    let log = lab.log()?;
    let all = Rc::clone(&log);
    let job = log.job()?;
    let mut lines = job.events().read_lines(ReadOptions::default())?;
    while lines.next()?.is_some() {}
    let cursor = lines.cursor();
    let ours = Contestant::ours(move |_| {
        let (took, events) = log.part(&ReadOptions::after(cursor.clone()), 100)?;
        ensure!(events == 0, "{events} events behind the end");
        Ok(took)
    });
    let full = Contestant::new(Role::Against, "full scan", move |_| all.full_scan());
    Ok(Plan::Measure(vec![ours, full]))
}

fn compressed(lab: &Lab) -> Result<Plan> {
    let make = |compression: bool| {
        let mut config = StorageConfig::default();
        config.file.max_file_size = SEALED / lab.scale.divisor as u64;
        config.file.enable_compression = compression;
        Log::filled(&lab.bench(), config, million(lab)).map(Rc::new)
    };
    let (packed, plain) = (make(true)?, make(false)?);
    let sealed = packed.segments(".jsonl.zst")?.len();
    let open = packed.segments(".jsonl")?.len();
    ensure!(
        sealed >= 5 && open <= 1,
        "{sealed} segments are compressed, {open} are not"
    );
    Ok(Plan::Measure(vec![
        Contestant::ours(full(packed)),
        Contestant::new(Role::Against, "uncompressed", full(plain)),
    ]))
}
