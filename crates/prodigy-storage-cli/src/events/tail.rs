//! `events tail`.

use std::collections::VecDeque;

use prodigy_storage::{Cursor, Events};

use super::cat::{RangeArgs, each};
use super::follow;
use super::shown::{self, Form, FormArgs};
use crate::app::{Access, App};
use crate::errors::Result;
use crate::exit::Exit;
use crate::job::JobArgs;

pub(super) const HELP: &str = "Examples: the last events; the last failures, and those to come
  prodigy-storage events tail --job J -n 20
  prodigy-storage events tail --job J --filter 'status~fail' -f --for 1s";

#[derive(Debug, clap::Args)]
pub(crate) struct TailArgs {
    #[command(flatten)]
    job: JobArgs,
    /// Print the last N events.
    #[arg(long, short = 'n', value_name = "N", default_value_t = 10)]
    lines: usize,
    /// Then print what is appended, until an interrupt or a closed output.
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
    let form = arguments.form.form(app);
    let opened = arguments.job.open(app, Access::Read)?;
    let events = opened.job.events();
    let (any, cursor) = match arguments.range.is_all() {
        true => last(app, &events, arguments.lines, form)?,
        false => last_held(app, &events, arguments, form)?,
    };
    if !arguments.follow {
        if !any {
            opened.must_be_known()?;
        }
        return Ok(Exit::Done);
    }
    app.flush()?;
    let filters = arguments.range.filters();
    follow::follow_after(app, &events, cursor, filters, arguments.time, form)
}

/// Prints the newest events without reading the rest. True if there are any; and the position behind them.
fn last(app: &mut App<'_>, events: &Events, count: usize, form: Form) -> Result<(bool, Cursor)> {
    let mut lines = events.tail_lines(count)?;
    let any = each(app, &mut lines, form, |app, line| shown::print(app, &line, form))?;
    Ok((any, lines.cursor()))
}

/// Prints the newest events for which the filters hold: reads all of the range, and holds as many as are printed.
fn last_held(app: &mut App<'_>, events: &Events, arguments: &TailArgs, form: Form) -> Result<(bool, Cursor)> {
    let mut lines = events.read_lines(arguments.range.options())?;
    let mut newest = VecDeque::new();
    each(app, &mut lines, form, |_, line| {
        newest.push_back(line);
        if newest.len() > arguments.lines {
            newest.pop_front();
        }
        Ok(())
    })?;
    for line in &newest {
        shown::print(app, line, form)?;
    }
    Ok((!newest.is_empty(), lines.cursor()))
}
