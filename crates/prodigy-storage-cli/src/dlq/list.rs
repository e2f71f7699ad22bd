//! `dlq list`, `dlq show` and `dlq export`.

use prodigy_storage::{Dlq, DlqItem, Eligible, ItemId};

use super::line_of;
use super::select::{FILTERS, SelectArgs};
use super::view::{self, ItemTable, State, View};
use crate::app::{Access, App};
use crate::errors::{Failure, Result};
use crate::exit::Exit;
use crate::job::{JobArgs, Opened};
use crate::json::pretty;

#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    job: JobArgs,
    #[command(flatten)]
    select: SelectArgs,
    /// Only items in this state.
    #[arg(long, value_name = "STATE", help_heading = FILTERS)]
    state: Option<State>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ShowArgs {
    #[command(flatten)]
    job: JobArgs,
    /// The item's `item_id`.
    #[arg(value_name = "ID")]
    id: ItemId,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ExportArgs {
    #[command(flatten)]
    job: JobArgs,
    #[command(flatten)]
    select: SelectArgs,
}

pub(crate) fn list(app: &mut App<'_>, arguments: &ListArgs) -> Result<Exit> {
    let opened = arguments.job.open(app, Access::Read)?;
    let mut table = ItemTable::new();
    let scan = opened.job.dlq().scan(&arguments.select.select(Eligible::Any))?;
    let any = view::each(app, scan, |app, item| {
        let line = app.json().then(|| line_of(&item));
        let view = View::of(item);
        view.tell_unreadable(app);
        if arguments.state.is_some_and(|wanted| view.state != Some(wanted)) {
            return Ok(());
        }
        match line {
            Some(line) => app.line(line),
            None => table.row(app, &view),
        }
    })?;
    if !any {
        opened.must_be_known()?;
    }
    table.print(app)?;
    Ok(Exit::Done)
}

pub(crate) fn show(app: &mut App<'_>, arguments: &ShowArgs) -> Result<Exit> {
    let opened = arguments.job.open(app, Access::Read)?;
    let item = get(&opened, &opened.job.dlq(), &arguments.id)?;
    let json = line_of(&item);
    if app.width.is_some() && !app.json() {
        app.line(pretty(&json))?;
        app.flush()?;
        app.note(&format!("`{}` is {}", arguments.id, View::of(item).state()));
    } else {
        app.line(json)?;
    }
    Ok(Exit::Done)
}

pub(crate) fn export(app: &mut App<'_>, arguments: &ExportArgs) -> Result<Exit> {
    let opened = arguments.job.open(app, Access::Read)?;
    let scan = opened.job.dlq().scan(&arguments.select.select(Eligible::Any))?;
    let filters = arguments.select.filters.says();
    let any = view::each(app, scan, |app, item| {
        app.line(item.body.get())?;
        // Without filters nothing had to be read.
        if filters {
            View::of(item).tell_unreadable(app);
        }
        Ok(())
    })?;
    if !any {
        opened.must_be_known()?;
    }
    Ok(Exit::Done)
}

/// One item.
///
/// # Errors
/// [`Exit::Missing`] if the queue does not hold it.
pub(super) fn get(opened: &Opened, dlq: &Dlq, id: &ItemId) -> Result<DlqItem> {
    match dlq.get(id)? {
        Some(item) => Ok(item),
        None => {
            opened.must_be_known()?;
            Err(Failure::new(Exit::Missing, no_item(opened, id)).hint("`dlq list` prints the items"))
        }
    }
}

pub(super) fn no_item(opened: &Opened, id: &ItemId) -> String {
    format!(
        "no item `{id}` in the queue of job `{}`",
        opened.job.address().job
    )
}
