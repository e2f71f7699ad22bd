//! The output forms of an event.

use clap::ValueEnum;
use prodigy_storage::{JobAddress, Record, Timestamp};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use crate::app::App;
use crate::errors::{Failure, Result};
use crate::exit::Exit;

/// The output form of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Form {
    /// Time and payload; each line is cut to the width of the terminal.
    Short,
    /// The line as it is stored.
    Json,
    /// Only the payload, byte for byte.
    Payload,
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
            Some(form) => form,
            None if app.width.is_some() && !app.json() => Form::Short,
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
pub(super) fn line(record: &Record<'_>, job: Option<&JobAddress>, form: Form) -> Result<String> {
    if form == Form::Json {
        return Ok(match job {
            None => record.line.to_owned(),
            Some(JobAddress { repo, job, .. }) => {
                let (repo, job, record) = (json!(repo), json!(job), record.line);
                format!("{{\"repo\":{repo},\"job\":{job},\"record\":{record}}}")
            }
        });
    }
    let found: Payload<'_> = record.parse().map_err(|error| {
        let what = format!("read event {}: {error}", record.id);
        Failure::new(Exit::Failed, what)
    })?;
    let payload = found.event.get();
    if form == Form::Payload {
        return Ok(payload.to_owned());
    }
    let of = job.map(|job| format!("  {}", job.job)).unwrap_or_default();
    Ok(format!("{}{of}  {payload}", seconds(record.time())))
}

/// A time to the second: `2026-11-24 21:01:58Z`. An event of another program may lack one.
fn seconds(time: Timestamp) -> String {
    if time == Timestamp::MIN {
        return "-                   ".to_owned();
    }
    let text = time.to_rfc3339();
    let seconds = text.split('.').next().unwrap_or_default();
    format!("{}Z", seconds.trim_end_matches('Z').replace('T', " "))
}

/// Prints a line in this form.
pub(super) fn print(app: &mut App<'_>, line: &str, form: Form) -> Result<()> {
    match form {
        Form::Short => app.cut_line(line),
        Form::Json | Form::Payload => app.line(line),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_shown_to_the_second() {
        let time = Timestamp::parse("2026-11-24T21:01:58.123456Z").unwrap();
        assert_eq!(seconds(time), "2026-11-24 21:01:58Z");
        assert_eq!(seconds(Timestamp::MIN).len(), seconds(time).len());
    }
}
