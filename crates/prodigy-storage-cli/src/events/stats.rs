//! `events stats`.

use prodigy_storage::{EventId, LogSummary, ReadOptions, Record, ScanItem, Timestamp, escape};
use serde_json::json;

use super::ahead;
use crate::app::{Access, App};
use crate::errors::Result;
use crate::exit::Exit;
use crate::job::JobArgs;
use crate::output::bytes;

/// The counts of a log.
#[derive(Debug, Default)]
struct Counts {
    events: u64,
    unverified: u64,
    damaged: u64,
    too_large: u64,
    line_bytes: u64,
    first: Option<Timestamp>,
    last: Option<Timestamp>,
    newest: Option<EventId>,
}

pub(crate) fn run(app: &mut App<'_>, arguments: &JobArgs) -> Result<Exit> {
    let opened = arguments.open(app, Access::Read)?;
    let events = opened.job.events();
    let mut counts = Counts::default();
    let mut lines = events.read_lines(ReadOptions::default())?;
    while let Some(item) = lines.next()? {
        match item {
            ScanItem::Record(record) => counts.add(&record),
            ScanItem::Damage(damage) => {
                counts.damaged += 1;
                app.damaged(&escape(&damage.to_string()));
            }
            ScanItem::TooLarge(record) => {
                counts.too_large += 1;
                app.too_large(&record);
            }
        }
    }
    if counts.events + counts.damaged + counts.too_large == 0 {
        opened.must_be_known()?;
    }
    ahead::warn(app, counts.newest);
    counts.print(app, &events.summary()?)?;
    Ok(Exit::Done)
}

impl Counts {
    fn add(&mut self, record: &Record<'_>) {
        self.events += 1;
        self.unverified += u64::from(!record.verified);
        self.line_bytes += record.line.len() as u64 + 1;
        if record.id.is_v7() {
            self.newest = self.newest.max(Some(record.id));
        }
        let time = record.time();
        // A line of another program may state no time.
        if time > Timestamp::MIN {
            self.first = Some(self.first.map_or(time, |first| first.min(time)));
            self.last = Some(self.last.map_or(time, |last| last.max(time)));
        }
    }

    fn print(&self, app: &mut App<'_>, log: &LogSummary) -> Result<()> {
        let time = |time: Option<Timestamp>| time.map(Timestamp::to_rfc3339);
        if app.json() {
            return app.json_line(&json!({
                "events": self.events,
                "unverified": self.unverified,
                "damaged": self.damaged,
                "too_large": self.too_large,
                "first": time(self.first),
                "last": time(self.last),
                "newest_id_ahead": self.newest.is_some_and(|newest| newest.is_ahead_of(Timestamp::now())),
                "segments": log.segments,
                "sealed": log.sealed,
                "compressed": log.compressed,
                "bytes": log.bytes,
                "uncompressed_bytes": self.line_bytes,
            }));
        }
        let none = || "-".to_owned();
        app.line(format!("events      {}", self.events))?;
        app.line(format!("unverified  {}", self.unverified))?;
        app.line(format!("damaged     {}", self.damaged))?;
        app.line(format!("too large   {}", self.too_large))?;
        app.line(format!("first       {}", time(self.first).unwrap_or_else(none)))?;
        app.line(format!("last        {}", time(self.last).unwrap_or_else(none)))?;
        app.line(format!(
            "segments    {} ({} sealed, {} compressed)",
            log.segments, log.sealed, log.compressed
        ))?;
        app.line(format!("stored      {}", bytes(log.bytes)))?;
        app.line(format!("as lines    {}", bytes(self.line_bytes)))
    }
}
