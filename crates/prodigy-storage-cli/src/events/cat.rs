//! `events cat`.

use prodigy_storage::{EventFilter, EventLines, ReadOptions, ScanItem, Timestamp, escape};

use super::filter::FilterArgs;
use super::shown::{self, Form, FormArgs};
use crate::app::{Access, App};
use crate::errors::Result;
use crate::exit::Exit;
use crate::job::JobArgs;
use crate::output::counted;
use crate::time::time;

#[derive(Debug, clap::Args)]
pub(crate) struct CatArgs {
    #[command(flatten)]
    job: JobArgs,
    #[command(flatten)]
    form: FormArgs,
    #[command(flatten)]
    range: RangeArgs,
    /// Only the last N events of what is stored. The rest is not read.
    #[arg(long, value_name = "N", conflicts_with_all = ["since", "until", "filter", "worktree", "has", "correlation_id", "agent"])]
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
    /// True if neither a time nor a filter is given.
    pub(super) fn is_all(&self) -> bool {
        self.since.is_none() && self.until.is_none() && self.filters.all().next().is_none()
    }

    pub(super) fn filters(&self) -> Vec<EventFilter> {
        self.filters.all().collect()
    }

    pub(super) fn options(&self) -> ReadOptions {
        ReadOptions::new()
            .since(self.since)
            .until(self.until)
            .filters(self.filters.all())
    }
}

pub(crate) fn run(app: &mut App<'_>, arguments: &CatArgs) -> Result<Exit> {
    let form = arguments.form.form(app);
    let opened = arguments.job.open(app, Access::Read)?;
    let events = opened.job.events();
    let mut lines = match arguments.last {
        Some(count) => events.tail_lines(count)?,
        None => events.read_lines(arguments.range.options())?,
    };
    if !each(app, &mut lines, form, |app, line| shown::print(app, &line, form))? {
        opened.must_be_known()?;
    }
    Ok(Exit::Done)
}

/// Gives each event in its form, and reports damage.
pub(super) fn each(
    app: &mut App<'_>,
    lines: &mut EventLines,
    form: Form,
    mut give: impl FnMut(&mut App<'_>, String) -> Result<()>,
) -> Result<bool> {
    let (mut any, mut unverified) = (false, 0);
    while let Some(item) = lines.next()? {
        any = true;
        match item {
            ScanItem::Record(record) => {
                unverified += usize::from(!record.verified);
                give(app, shown::line(&record, None, form)?)?;
            }
            ScanItem::Damage(damage) => app.damaged(&escape(&damage.to_string())),
            ScanItem::TooLarge(record) => app.too_large(&record),
        }
    }
    note_unverified(app, unverified);
    Ok(any)
}

/// Notes the events that no checksum verifies.
pub(super) fn note_unverified(app: &mut App<'_>, count: usize) {
    if count > 0 {
        let events = counted(count, "event");
        app.note(&format!("{events} without a checksum, not verified"));
    }
}
