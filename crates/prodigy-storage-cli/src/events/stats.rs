//! `events stats`.

use prodigy_storage::{EventCounts, LogSummary, ScanItem, Timestamp, escape};
use serde_json::{Value, json};

use super::ahead;
use super::cat::RangeArgs;
use super::rates::Rates;
use crate::app::{Access, App};
use crate::errors::Result;
use crate::exit::Exit;
use crate::job::JobArgs;
use crate::output::bytes;

#[derive(Debug, clap::Args)]
pub(crate) struct StatsArgs {
    #[command(flatten)]
    job: JobArgs,
    #[command(flatten)]
    range: RangeArgs,
}

pub(crate) fn run(app: &mut App<'_>, arguments: &StatsArgs) -> Result<Exit> {
    let opened = arguments.job.open(app, Access::Read)?;
    let events = opened.job.events();
    let (mut any, mut counts, mut rates) = (false, EventCounts::default(), Rates::default());
    let mut lines = events.read_lines(arguments.range.options())?;
    while let Some(item) = lines.next()? {
        any = true;
        counts.add(&item);
        match item {
            ScanItem::Record(record) => rates.add(&record),
            ScanItem::Damage(damage) => app.damaged(&escape(&damage.to_string())),
            ScanItem::TooLarge(record) => app.too_large(&record),
        }
    }
    if !any {
        opened.must_be_known()?;
    }
    ahead::warn(app, counts.newest);
    print(&counts, &rates, app, &events.summary()?)?;
    Ok(Exit::Done)
}

fn print(counts: &EventCounts, rates: &Rates, app: &mut App<'_>, log: &LogSummary) -> Result<()> {
    let time = |time: Option<Timestamp>| time.map(Timestamp::to_rfc3339);
    if app.json() {
        let mut json = json!({
            "events": counts.events,
            "unverified": counts.unverified,
            "damaged": counts.damaged,
            "too_large": counts.too_large,
            "first": time(counts.first),
            "last": time(counts.last),
            "newest_id_ahead": counts.newest.is_some_and(|newest| newest.is_ahead_of(Timestamp::now())),
            "segments": log.segments,
            "sealed": log.sealed,
            "compressed": log.compressed,
            "bytes": log.bytes,
            "uncompressed_bytes": counts.line_bytes,
        });
        if let (Value::Object(json), Value::Object(rates)) = (&mut json, rates.json()) {
            json.extend(rates);
        }
        return app.json_line(&json);
    }
    let none = || "-".to_owned();
    app.line(format!("events      {}", counts.events))?;
    app.line(format!("unverified  {}", counts.unverified))?;
    app.line(format!("damaged     {}", counts.damaged))?;
    app.line(format!("too large   {}", counts.too_large))?;
    app.line(format!("first       {}", time(counts.first).unwrap_or_else(none)))?;
    app.line(format!("last        {}", time(counts.last).unwrap_or_else(none)))?;
    app.line(format!(
        "segments    {} ({} sealed, {} compressed)",
        log.segments, log.sealed, log.compressed
    ))?;
    app.line(format!("stored      {}", bytes(log.bytes)))?;
    app.line(format!("as lines    {}", bytes(counts.line_bytes)))?;
    rates.print(app)
}
