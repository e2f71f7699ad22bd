//! The output forms of an event.

use clap::ValueEnum;
use jiff::tz::{Offset, TimeZone};
use prodigy_storage::{JobAddress, Record, Timestamp, escape};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::view::View;
use crate::app::App;
use crate::errors::{Failure, Result};
use crate::exit::Exit;

/// The output form of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Form {
    /// A line that fits the terminal: time, job, kind, worktree, and the message or the other fields. In a pipe, time and payload, with control characters escaped.
    Short,
    /// The line as it is stored.
    Json,
    /// Only the payload, byte for byte.
    Payload,
    /// `short` on a terminal: the time is local, as that of `--since`.
    #[value(skip)]
    Local,
}

/// An event in one of the forms.
pub(super) enum Line {
    Text(String),
    Columns(Box<View>),
}

#[derive(Debug, clap::Args)]
pub(super) struct FormArgs {
    /// The form of each event; by default `short` on a terminal, and `json` elsewhere and with `--json`.
    #[arg(long, short, value_name = "FORM")]
    output: Option<Form>,
    /// Print only payloads, byte for byte as stored: the same as `--output payload`.
    #[arg(long, conflicts_with = "output")]
    payload: bool,
}

impl FormArgs {
    pub(super) fn form(&self, app: &App<'_>) -> Form {
        match self.output {
            _ if self.payload => Form::Payload,
            Some(Form::Short) if app.width.is_some() => Form::Local,
            Some(form) => form,
            None if app.width.is_some() && !app.json() => Form::Local,
            None => Form::Json,
        }
    }
}

#[derive(Deserialize)]
struct Payload<'a> {
    #[serde(borrow)]
    event: &'a RawValue,
}

/// An event in this form. With `job`, which is set if there are several jobs, JSON is an object with `repo`, `job` and
/// `record`, as in `events follow --all-jobs`.
pub(super) fn line(record: &Record<'_>, job: Option<&JobAddress>, form: Form) -> Result<Line> {
    if form == Form::Json {
        return Ok(Line::Text(match job {
            None => record.line.to_owned(),
            Some(JobAddress { repo, job, .. }) => {
                let (repo, job, record) = (json!(repo), json!(job), record.line);
                format!("{{\"repo\":{repo},\"job\":{job},\"record\":{record}}}")
            }
        }));
    }
    let found: Payload<'_> = record.parse().map_err(|error| {
        let what = format!("read event {}: {error}", record.id);
        Failure::new(Exit::Failed, what)
    })?;
    let payload = found.event.get();
    Ok(match form {
        Form::Local => Line::Columns(Box::new(View::new(record, job, payload))),
        Form::Short => {
            let of = job.map(|job| format!("  {}", job.job)).unwrap_or_default();
            let (time, _) = time_in(record.time(), &TimeZone::UTC, "%Y-%m-%d %H:%M:%S");
            Line::Text(format!("{time}{of}  {}", escape(payload)))
        }
        Form::Json | Form::Payload => Line::Text(payload.to_owned()),
    })
}

/// A time in this form, and its offset: `2026-11-24 21:01:58`, with a `Z` in UTC. An event of another program may lack one.
pub(super) fn time_in(time: Timestamp, zone: &TimeZone, form: &str) -> (String, Option<Offset>) {
    let known = (time != Timestamp::MIN)
        .then(|| jiff::Timestamp::from_nanosecond(time.as_nanos().into()).ok())
        .flatten();
    let Some(known) = known else {
        let width = zone.to_datetime(jiff::Timestamp::UNIX_EPOCH).strftime(form);
        return (format!("{:1$}", "-", width.to_string().len() + 1), None);
    };
    let (local, offset) = (zone.to_datetime(known), zone.to_offset(known));
    let mark = if offset == Offset::UTC { 'Z' } else { ' ' };
    (format!("{}{mark}", local.strftime(form)), Some(offset))
}

/// Prints a line.
pub(super) fn print(app: &mut App<'_>, line: &Line) -> Result<()> {
    match line {
        Line::Text(text) => app.line(text),
        Line::Columns(view) => view.print(app),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_shown_to_the_second_in_its_zone() {
        let time = Timestamp::parse("2026-11-24T21:01:58.123456Z").unwrap();
        let text = |time, zone: TimeZone| time_in(time, &zone, "%Y-%m-%d %H:%M:%S").0;
        assert_eq!(text(time, TimeZone::UTC), "2026-11-24 21:01:58Z");
        let kabul = TimeZone::posix("XYZ-4:30").unwrap();
        assert_eq!(text(time, kabul), "2026-11-25 01:31:58 ");
        assert_eq!(text(Timestamp::MIN, TimeZone::UTC).len(), 20);
    }
}
