//! The command `events stats`.

use prodigy_storage::{EventCounts, Events, LogSummary, ScanItem, Timestamp};
use serde_json::{Value, json};

use super::ahead;
use super::cat::RangeArgs;
use super::jobs::JobsArgs;
use super::rates::Rates;
use crate::app::App;
use crate::errors::Result;
use crate::exit::Exit;
use crate::output::bytes;
use crate::time::shown;

#[derive(Debug, clap::Args)]
pub(crate) struct StatsArgs {
    #[command(flatten)]
    jobs: JobsArgs,
    #[command(flatten)]
    range: RangeArgs,
}

pub(crate) fn run(app: &mut App<'_>, arguments: &StatsArgs) -> Result<Exit> {
    arguments.range.check()?;
    let jobs = arguments.jobs.open(app)?;
    let (mut counts, mut rates, mut log) = (EventCounts::default(), Rates::default(), LogSummary::default());
    let begin = |events: &Events| {
        let of = events.summary()?;
        log.segments += of.segments;
        log.sealed += of.sealed;
        log.compressed += of.compressed;
        log.bytes += of.bytes;
        events.read_lines(arguments.range.options())
    };
    let read = jobs.read(app, begin, |_, _, item| {
        counts.add(item);
        if let ScanItem::Record(record) = item {
            rates.add(record);
        }
        Ok(())
    })?;
    if !read.is_nothing() {
        ahead::warn(app, counts.newest);
        print(&counts, &rates, app, &log, read.jobs)?;
    }
    read.end(app, &jobs, arguments.range.filter_args())
}

fn print(
    counts: &EventCounts,
    rates: &Rates,
    app: &mut App<'_>,
    log: &LogSummary,
    jobs: usize,
) -> Result<()> {
    let time = |time: Option<Timestamp>| time.map(Timestamp::to_rfc3339);
    if app.json() {
        let mut json = json!({
            "jobs": jobs,
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
    let terminal = app.width.is_some();
    let time = |time: Option<Timestamp>| time.map(|time| shown(time, terminal));
    if jobs != 1 {
        app.line(format!("jobs        {jobs}"))?;
    }
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
