//! Rows of the memory and the descriptors that a scan needs, in a separate process.

use std::rc::Rc;

use anyhow::{Context, Result, ensure};
use prodigy_storage::Storage;
use tempfile::TempDir;

use crate::bar::Bar;
use crate::child::{self, Said, Task};
use crate::event::Source;
use crate::lab::Bench;
use crate::row::{Contestant, Plan, Row};
use crate::rows::append::BATCH;
use crate::store;

/// The size of a segment in the log of many segments.
const SMALL_SEGMENT: u64 = 64 << 10;
/// The size of an event as a record, in bytes.
const RECORD: usize = 360;
/// Few rounds, because a round takes long and the value varies little.
const ROUNDS: usize = 2;

pub(crate) fn rows() -> Vec<Row> {
    let row = |key, work, unit, bar, plan| Row {
        key,
        group: "resources",
        work,
        against: "",
        unit,
        bar: Bar::Below(bar),
        rounds: ROUNDS,
        plan,
    };
    vec![
        row(
            "memory-1-segment",
            "resident memory of a scan over 1 GB in one segment",
            "MiB",
            32.0,
            |lab| memory(lab.big(1 << 40)?),
        ),
        row(
            "descriptors-1-segment",
            "descriptors of it",
            "open",
            256.0,
            |lab| descriptors(lab.big(1 << 40)?),
        ),
        row(
            "memory-16000-segments",
            "resident memory of a scan over 1 GB in 16,000 segments",
            "MiB",
            32.0,
            |lab| memory(lab.big(SMALL_SEGMENT)?),
        ),
        row(
            "descriptors-16000-segments",
            "descriptors of it",
            "open",
            256.0,
            |lab| descriptors(lab.big(SMALL_SEGMENT)?),
        ),
    ]
}

/// A log of 1 GB.
#[derive(Debug)]
pub(crate) struct Big {
    folder: TempDir,
    events: usize,
}

impl Big {
    /// A log in segments of about this size.
    pub(crate) fn make(bench: &Bench, segment: u64, bytes: usize) -> Result<Self> {
        let folder = bench.folder()?;
        let mut config = store::config(&folder.path().join("root"), false);
        config.file.max_file_size = segment;
        let storage = Storage::with_config(config)?;
        let log = store::job(&storage)?.events();
        let mut source = Source::new(3);
        let mut batch = prodigy_storage::Batch::new();
        let events = (bytes / RECORD).next_multiple_of(BATCH);
        for start in (0..events).step_by(BATCH) {
            batch.clear();
            for n in start..start + BATCH {
                batch.push(source.event(n))?;
            }
            log.append_prepared(&mut batch, None)?;
        }
        Ok(Self { folder, events })
    }

    /// Scans the log in a separate process.
    fn scan(&self) -> Result<Said> {
        let task = Task::Scan {
            folder: self.folder.path().to_owned(),
        };
        let (_, said) = child::together(&[task], 1)?;
        let said = said.into_iter().next().context("no child")?;
        ensure!(
            said.events == self.events,
            "{} of {} events",
            said.events,
            self.events
        );
        Ok(said)
    }
}

fn memory(big: Rc<Big>) -> Result<Plan> {
    Ok(Plan::Measure(vec![Contestant::ours(move |_| {
        Ok(big.scan()?.resident_mib)
    })]))
}

fn descriptors(big: Rc<Big>) -> Result<Plan> {
    Ok(Plan::Measure(vec![Contestant::ours(move |_| {
        Ok(big.scan()?.descriptors as f64)
    })]))
}
