//! `events cat`.

use prodigy_storage::{ReadOptions, Record, ScanItem, Timestamp, escape};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::filter::FilterArgs;
use crate::app::{Access, App};
use crate::errors::{Failure, Result};
use crate::exit::Exit;
use crate::job::JobArgs;
use crate::output::counted;
use crate::time::time;

#[derive(Debug, clap::Args)]
pub(crate) struct CatArgs {
    #[command(flatten)]
    job: JobArgs,
    /// Print payloads alone, byte for byte as they are stored.
    #[arg(long)]
    payload: bool,
    #[command(flatten)]
    range: RangeArgs,
    /// Only the last N events of what is stored. The rest is not read.
    #[arg(long, value_name = "N", conflicts_with_all = ["since", "until", "filter", "has", "correlation_id", "agent"])]
    last: Option<usize>,
}

/// Which events of a log.
#[derive(Debug, clap::Args)]
pub(crate) struct RangeArgs {
    /// Only events not before this: RFC 3339, a date, or how long ago (`10m`).
    #[arg(long, value_name = "T", value_parser = time)]
    since: Option<Timestamp>,
    /// Only events before this.
    #[arg(long, value_name = "T", value_parser = time)]
    until: Option<Timestamp>,
    #[command(flatten)]
    filters: FilterArgs,
}

impl RangeArgs {
    pub(super) fn options(&self) -> ReadOptions {
        ReadOptions::new()
            .since(self.since)
            .until(self.until)
            .filters(self.filters.all())
    }
}

#[derive(Deserialize)]
struct Payload<'a> {
    #[serde(borrow)]
    event: &'a RawValue,
}

pub(crate) fn run(app: &mut App<'_>, arguments: &CatArgs) -> Result<Exit> {
    let opened = arguments.job.open(app, Access::Read)?;
    let events = opened.job.events();
    let mut lines = match arguments.last {
        Some(count) => events.tail_lines(count)?,
        None => events.read_lines(arguments.range.options())?,
    };
    let (mut any, mut unverified) = (false, 0);
    while let Some(item) = lines.next()? {
        any = true;
        match item {
            ScanItem::Record(record) => {
                unverified += usize::from(!record.verified);
                print(app, &record, arguments.payload)?;
            }
            ScanItem::Damage(damage) => app.damaged(&escape(&damage.to_string())),
            ScanItem::TooLarge(record) => app.too_large(&record),
        }
    }
    if !any {
        opened.must_be_known()?;
    }
    if unverified > 0 {
        app.note(&format!(
            "{} without a checksum, not verified",
            counted(unverified, "event")
        ));
    }
    Ok(Exit::Done)
}

/// Prints a record as it is stored, or its payload alone.
fn print(app: &mut App<'_>, record: &Record<'_>, payload: bool) -> Result<()> {
    if !payload {
        return app.line(record.line);
    }
    let found: Payload<'_> = record.parse().map_err(|error| unparsed(record, &error))?;
    app.line(found.event.get())
}

fn unparsed(record: &Record<'_>, error: &serde_json::Error) -> Failure {
    Failure::new(Exit::Failed, format!("read event {}: {error}", record.id))
}
