//! `dlq list` and `dlq show`.

use prodigy_storage::{DlqItem, ErrorKind, ItemId, Timestamp};

use super::{running, with_lease};
use crate::app::{Access, App};
use crate::errors::{Failure, Result};
use crate::exit::Exit;
use crate::job::JobArgs;
use crate::output::Table;

#[derive(Debug, clap::Args)]
pub(crate) struct ShowArgs {
    #[command(flatten)]
    job: JobArgs,
    /// The item's `item_id`.
    #[arg(value_name = "ID")]
    id: ItemId,
}

pub(crate) fn run(app: &mut App<'_>, arguments: &JobArgs) -> Result<Exit> {
    let opened = arguments.open(app, Access::Read)?;
    let mut table = Table::new(&["ITEM", "FAILED", "LAST ATTEMPT", "STATE", "SIGNATURE"]);
    let mut any = false;
    for item in opened.job.dlq().scan()? {
        any = true;
        match item {
            Ok(item) if app.json() => {
                app.line(with_lease(&item.body, running(item.lease.as_ref()), false))?;
            }
            Ok(item) => row(app, &mut table, item)?,
            Err(error) if error.kind() == ErrorKind::Damaged => app.damaged_by(&error),
            Err(error) if error.kind() == ErrorKind::TooLarge => app.skipped_by(&error),
            Err(error) => return Err(error.into()),
        }
    }
    if !any {
        opened.must_be_known()?;
    }
    table.print(app)?;
    Ok(Exit::Done)
}

fn row(app: &mut App<'_>, table: &mut Table, item: DlqItem) -> Result<()> {
    let id = item.id.clone();
    let summary = match item.summary() {
        Ok(summary) => summary,
        Err(error) => {
            app.warn(&format!("the item {id} is of another shape: {error:#}"));
            return Ok(());
        }
    };
    let state = match running(summary.lease.as_ref()) {
        Some(lease) => format!("taken until {}", lease.until.to_rfc3339()),
        None if summary.review => "needs review".to_owned(),
        None if summary.eligible => "pending".to_owned(),
        None => "not eligible".to_owned(),
    };
    table.row(
        app,
        [
            summary.id.to_string(),
            summary.failure_count.to_string(),
            summary
                .last_attempt
                .map_or_else(|| "-".to_owned(), Timestamp::to_rfc3339),
            state,
            summary.signature.unwrap_or_else(|| "-".to_owned()),
        ],
    )
}

pub(crate) fn show(app: &mut App<'_>, arguments: &ShowArgs) -> Result<Exit> {
    let opened = arguments.job.open(app, Access::Read)?;
    let Some(item) = opened.job.dlq().get(&arguments.id)? else {
        opened.must_be_known()?;
        let what = format!(
            "no item `{}` in the queue of job `{}`",
            arguments.id,
            opened.job.address().job
        );
        return Err(Failure::new(Exit::Missing, what));
    };
    app.line(with_lease(&item.body, running(item.lease.as_ref()), false))?;
    Ok(Exit::Done)
}
