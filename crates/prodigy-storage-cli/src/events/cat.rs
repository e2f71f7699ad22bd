//! The command `events cat`.

use prodigy_storage::{EventFilter, Events, ReadOptions, ScanItem, Timestamp};

use super::filter::FilterArgs;
use super::jobs::{Jobs, JobsArgs};
use super::shown::{self, Form, FormArgs};
use super::tail;
use crate::app::App;
use crate::errors::{Failure, Result};
use crate::exit::Exit;
use crate::time::time;

#[derive(Debug, clap::Args)]
pub(crate) struct CatArgs {
    #[command(flatten)]
    jobs: JobsArgs,
    #[command(flatten)]
    form: FormArgs,
    #[command(flatten)]
    range: RangeArgs,
    /// Only the last N events of those that the other flags select; of several jobs, the N newest of all. Without a time or a filter,
    /// the rest is not read.
    #[arg(long, value_name = "N")]
    last: Option<usize>,
}

/// A range of events.
#[derive(Debug, clap::Args)]
pub(crate) struct RangeArgs {
    /// Only events at or after this time: a local date (`2026-11-24`) or time (`2026-11-24 21:01`), a time with a zone
    /// (`2026-11-24T21:01:58Z`), or a time ago (`10m` or `-10m`). An imported event counts with the time of its import.
    #[arg(long, value_name = "T", value_parser = time, allow_hyphen_values = true)]
    since: Option<Timestamp>,
    /// Only events before this time.
    #[arg(long, value_name = "T", value_parser = time, allow_hyphen_values = true)]
    until: Option<Timestamp>,
    /// With `--since` and `--until`: an imported event counts with the time that it had where it comes from.
    #[arg(long)]
    original_time: bool,
    #[command(flatten)]
    filters: FilterArgs,
}

impl RangeArgs {
    /// Fails if the range ends before it begins, or if it has no end whose time is to be the original one.
    pub(super) fn check(&self) -> Result<()> {
        match (self.since, self.until) {
            (Some(since), Some(until)) if since > until => {
                let what = format!(
                    "`--since` is after `--until`: {} and {}",
                    since.to_rfc3339(),
                    until.to_rfc3339()
                );
                Err(Failure::usage(what).hint("no event is in such a range: exchange the two"))
            }
            (None, None) if self.original_time => Err(Failure::usage(
                "`--original-time` alone selects nothing: it says which time `--since` and `--until` mean",
            )
            .hint("add `--since` or `--until`")),
            _ => Ok(()),
        }
    }

    /// True if neither a time nor a filter is given.
    pub(super) fn is_all(&self) -> bool {
        self.since.is_none() && self.until.is_none() && self.filters.all().next().is_none()
    }

    pub(super) fn filter_args(&self) -> &FilterArgs {
        &self.filters
    }

    pub(super) fn filters(&self) -> Vec<EventFilter> {
        let time = self
            .original_time
            .then(|| EventFilter::original_time(self.since, self.until));
        self.filters.all().chain(time).collect()
    }

    pub(super) fn options(&self) -> ReadOptions {
        let options = ReadOptions::new().filters(self.filters());
        match self.original_time {
            true => options,
            false => options.since(self.since).until(self.until),
        }
    }
}

pub(crate) fn run(app: &mut App<'_>, arguments: &CatArgs) -> Result<Exit> {
    arguments.range.check()?;
    let form = arguments.form.form(app);
    let jobs = arguments.jobs.open(app)?;
    if let Some(count) = arguments.last {
        return tail::newest(app, &jobs, count, &arguments.range, form, |_, _| ());
    }
    print(app, &jobs, &arguments.range, &arguments.range.options(), form)
}

/// Prints the selected events, job after job.
pub(super) fn print(
    app: &mut App<'_>,
    jobs: &Jobs,
    range: &RangeArgs,
    options: &ReadOptions,
    form: Form,
) -> Result<Exit> {
    let begin = |events: &Events| events.read_lines(options.clone());
    let read = jobs.read(app, begin, |app, job, item| match item {
        ScanItem::Record(record) => shown::print(app, &shown::line(record, jobs.shown(job), form)?),
        _ => Ok(()),
    })?;
    read.note_unverified(app);
    read.end(app, jobs, range.filter_args())
}
