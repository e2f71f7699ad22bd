//! `dlq push`.

use std::io::Write;

use prodigy_storage::{Dlq, ErrorKind, PutReport};
use serde_json::json;
use serde_json::value::RawValue;

use crate::app::{Access, App};
use crate::errors::{Failure, Result};
use crate::exit::Exit;
use crate::input::{InputArgs, Lines, Next};
use crate::job::JobArgs;
use crate::output::counted;

/// Items of one write, at most.
const BATCH: usize = 512;
/// The largest number of bytes in one write, except for an item that is larger by itself.
const BATCH_BYTES: usize = 4 << 20;
/// The largest number of bytes of a line beyond the stored item.
const BESIDE: usize = 512;

#[derive(Debug, clap::Args)]
pub(crate) struct PushArgs {
    #[command(flatten)]
    job: JobArgs,
    #[command(flatten)]
    input: InputArgs,
}

/// Items on their way into the queue, each with its place in the input.
struct Sink {
    dlq: Dlq,
    items: Vec<(String, Box<RawValue>)>,
    bytes: usize,
    report: PutReport,
}

pub(crate) fn run(app: &mut App<'_>, arguments: &PushArgs) -> Result<Exit> {
    let opened = arguments.job.open(app, Access::Write)?;
    let limit = usize::try_from(opened.storage.config().file.max_record_size).unwrap_or(usize::MAX);
    let mut lines = arguments.input.lines(app, limit.saturating_add(BESIDE))?;
    let mut sink = Sink {
        dlq: opened.job.dlq(),
        items: Vec::new(),
        bytes: 0,
        report: PutReport::default(),
    };
    let fed = sink.feed(&mut lines);
    // The items before a refused line are stored.
    let rest = sink.store();
    let exit = lines.ended(app);
    drop(lines);
    let PutReport { added, merged } = sink.report;
    let count = if app.json() {
        json!({"added": added, "merged": merged}).to_string()
    } else {
        format!("{} added, {merged} merged", counted(added, "item"))
    };
    // A count that can't be printed changes nothing.
    let _ = writeln!(app.err, "{count}");
    fed.and(rest).map(|()| exit)
}

impl Sink {
    fn feed(&mut self, lines: &mut Lines<'_>) -> Result<()> {
        loop {
            let line = match lines.next()? {
                Next::Line(line) => line,
                Next::Pause => {
                    self.store()?;
                    continue;
                }
                Next::End => return Ok(()),
            };
            let item: Box<RawValue> = line.parse("JSON")?;
            self.bytes += item.get().len();
            self.items.push((line.place(), item));
            if self.items.len() >= BATCH || self.bytes >= BATCH_BYTES {
                self.store()?;
            }
        }
    }

    fn store(&mut self) -> Result<()> {
        let items = std::mem::take(&mut self.items);
        self.bytes = 0;
        match self.dlq.push_batch(items.iter().map(|(_, item)| item)) {
            Ok(report) => {
                self.count(report);
                Ok(())
            }
            // None was stored. One by one, so that those before the one that is refused are, and the message names it.
            Err(error) if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::TooLarge) => {
                for (place, item) in &items {
                    let pushed = self.dlq.push_raw(item);
                    self.count(pushed.map_err(|error| Failure::at(place, &error))?);
                }
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    fn count(&mut self, report: PutReport) {
        self.report.added += report.added;
        self.report.merged += report.merged;
    }
}
