//! The command `events tail`.

use std::collections::BTreeSet;

use prodigy_storage::{EventId, Events, FollowOptions, JobAddress, ScanItem};

use super::cat::RangeArgs;
use super::follow;
use super::jobs::{Jobs, JobsArgs};
use super::shown::{self, Form, FormArgs};
use crate::app::App;
use crate::errors::Result;
use crate::exit::Exit;
use crate::top::Top;

pub(super) const HELP: &str = "Examples: the last events; of all jobs; the last failures, and those to come
  prodigy-storage events tail --job J -n 20
  prodigy-storage events tail --all-jobs
  prodigy-storage events tail --job J --filter 'status~fail' -f --for 1s";

#[derive(Debug, clap::Args)]
pub(crate) struct TailArgs {
    #[command(flatten)]
    jobs: JobsArgs,
    /// Print the last N events; of several jobs, the N newest of all.
    #[arg(long, short = 'n', value_name = "N", default_value_t = 10)]
    lines: usize,
    /// Then print new events as they are appended, until an interrupt or a closed output.
    #[arg(long, short)]
    follow: bool,
    /// With `--follow`: end after this duration.
    #[arg(long = "for", value_name = "D", value_parser = crate::time::duration, requires = "follow")]
    time: Option<std::time::Duration>,
    #[command(flatten)]
    range: RangeArgs,
    #[command(flatten)]
    form: FormArgs,
}

pub(crate) fn run(app: &mut App<'_>, arguments: &TailArgs) -> Result<Exit> {
    arguments.range.check()?;
    let form = arguments.form.form(app);
    let jobs = arguments.jobs.open(app)?;
    let (count, range) = (arguments.lines, &arguments.range);
    if !arguments.follow {
        return newest(app, &jobs, count, range, form, |_, _| ());
    }
    let jobs = jobs.may_be_missing(app)?;
    // The follow begins before the newest events are read, so no event is missed. An event that both of them return
    // is printed once.
    let mut options = FollowOptions::new().from_now().wait(std::time::Duration::ZERO);
    options.filters = range.filters();
    let lines = jobs.follow(options)?;
    let mut printed = BTreeSet::new();
    newest(app, &jobs, count, range, form, |job, id| {
        printed.insert((job.cloned(), id));
    })?;
    app.flush()?;
    follow::follow_behind(app, lines, printed, arguments.time, form)
}

/// Prints the newest events, oldest first, and passes each to `each`. Events of one log are in log order; events of
/// several logs are ordered by time.
pub(super) fn newest(
    app: &mut App<'_>,
    jobs: &Jobs,
    count: usize,
    range: &RangeArgs,
    form: Form,
    mut report: impl FnMut(Option<&JobAddress>, EventId),
) -> Result<Exit> {
    let begin = |events: &Events| match range.is_all() {
        true => events.tail_lines(count),
        false => events.read_lines(range.options()),
    };
    // Beside damage, the end of a log has more events than were asked for.
    let mut top = Top::new(count);
    let mut number = 0_u64;
    let read = jobs.read(app, begin, |_, job, item| {
        let ScanItem::Record(record) = item else {
            return Ok(());
        };
        let job = jobs.shown(job);
        let line = shown::line(record, job, form)?;
        number += 1;
        let time = job.map(|_| record.time());
        top.offer((time, number), (job.cloned(), record.id, line));
        Ok(())
    })?;
    let mut newest: Vec<_> = top.into_sorted().collect();
    newest.reverse();
    for (job, id, line) in newest {
        report(job.as_ref(), id);
        shown::print(app, &line)?;
    }
    read.note_unverified(app);
    read.end(app, jobs, range.filter_args())
}
