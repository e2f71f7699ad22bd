//! The commands `dlq list`, `dlq show` and `dlq export`.

use prodigy_storage::{Dlq, DlqItem, Eligible, ErrorKind, ItemId, Select};

use super::line_of;
use super::select::{StateArgs, none_found, print_missing};
use super::view::{self, ItemTable, View};
use crate::app::{Access, App};
use crate::errors::{Failure, Result};
use crate::exit::Exit;
use crate::job::{JobArgs, Opened};
use crate::json::pretty;
use crate::near::Near;
use crate::shell::flags_of;

#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    job: JobArgs,
    #[command(flatten)]
    which: StateArgs,
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
    which: StateArgs,
}

pub(crate) fn list(app: &mut App<'_>, arguments: &ListArgs) -> Result<Exit> {
    let opened = arguments.job.open(app, Access::Read)?;
    let dlq = opened.job.dlq();
    let which = &arguments.which;
    let mut table = ItemTable::new();
    let mut shown = false;
    let any = view::each(
        app,
        dlq.scan(&which.select.select(Eligible::Any))?,
        |app, item| {
            let json = app.json().then(|| item.clone());
            let view = View::of(item);
            view.print_unreadable(app);
            if !which.holds(view.state) {
                return Ok(());
            }
            shown = true;
            match json {
                Some(item) => app.line(line_of(&item, view.state)),
                None => table.row(app, &view),
            }
        },
    )?;
    if !any {
        opened.must_be_known()?;
    }
    table.print(app)?;
    app.flush()?;
    if !shown {
        none_found(app, &opened, &which.select.filters)?;
    }
    print_missing(app, &opened, &which.select.ids)
}

pub(crate) fn show(app: &mut App<'_>, arguments: &ShowArgs) -> Result<Exit> {
    let opened = arguments.job.open(app, Access::Read)?;
    let item = get(&opened, &opened.job.dlq(), &arguments.id)?;
    let view = View::of(item.clone());
    let json = line_of(&item, view.state);
    if app.width.is_some() && !app.json() {
        app.line(pretty(&json))?;
        app.flush()?;
        app.note(&format!("`{}` is {}", arguments.id, view.state()));
    } else {
        app.line(json)?;
    }
    Ok(Exit::Done)
}

pub(crate) fn export(app: &mut App<'_>, arguments: &ExportArgs) -> Result<Exit> {
    let opened = arguments.job.open(app, Access::Read)?;
    let dlq = opened.job.dlq();
    let which = &arguments.which;
    let mut shown = false;
    let any = view::each(
        app,
        dlq.scan(&which.select.select(Eligible::Any))?,
        |app, item| {
            // Without a filter no item has to be read.
            if which.filters() {
                View::of(item.clone()).print_unreadable(app);
            }
            if !which.takes(&item) {
                return Ok(());
            }
            shown = true;
            app.line(item.body.get())
        },
    )?;
    if !any {
        opened.must_be_known()?;
    }
    app.flush()?;
    if !shown {
        none_found(app, &opened, &which.select.filters)?;
    }
    print_missing(app, &opened, &which.select.ids)
}

/// Reads one item.
///
/// # Errors
/// [`Exit::Missing`] if it is not in the queue.
pub(super) fn get(opened: &Opened, dlq: &Dlq, id: &ItemId) -> Result<DlqItem> {
    match dlq.get(id)? {
        Some(item) => Ok(item),
        None => {
            opened.must_be_known()?;
            Err(Failure::new(Exit::Missing, no_item(opened, id)).hint(hint(opened, id.as_str())?))
        }
    }
}

/// True if the queue has an item, even one that can't be read.
pub(super) fn holds(dlq: &Dlq, id: &ItemId) -> Result<bool> {
    match dlq.get(id) {
        Ok(item) => Ok(item.is_some()),
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::Damaged | ErrorKind::TooLarge | ErrorKind::Foreign
            ) =>
        {
            Ok(true)
        }
        Err(error) => Err(error.into()),
    }
}

/// The hint for an unknown id: the most similar id, and some existing ones.
pub(super) fn hint(opened: &Opened, id: &str) -> Result<String> {
    let mut near = Near::to(id);
    // The id of an unreadable item is not offered.
    for item in opened.job.dlq().list(&Select::any())?.flatten() {
        near.offer(item.id.as_str());
    }
    let list = format!(
        "`prodigy-storage dlq list {}` lists them",
        flags_of(opened.job.address())
    );
    Ok(near.hint("items", &list))
}

pub(super) fn no_item(opened: &Opened, id: &ItemId) -> String {
    format!(
        "no item `{id}` in the queue of job `{}`",
        opened.job.address().job
    )
}
