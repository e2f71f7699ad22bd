//! `dlq take`.

use std::collections::HashSet;
use std::time::Duration;

use prodigy_storage::{Dlq, ItemId, Select};

use super::with_lease;
use crate::app::{Access, App};
use crate::errors::{Failure, Result};
use crate::exit::Exit;
use crate::job::JobArgs;
use crate::time::duration;

#[derive(Debug, clap::Args)]
pub(crate) struct TakeArgs {
    #[command(flatten)]
    job: JobArgs,
    /// These items, also those that are not eligible.
    #[arg(value_name = "ID", conflicts_with = "all")]
    ids: Vec<ItemId>,
    /// Every pending item that is eligible.
    #[arg(long)]
    all: bool,
    /// Only items with this `error_signature`.
    #[arg(long, value_name = "S")]
    signature: Option<String>,
    /// The largest number of items, oldest first.
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// For how long: what is not acknowledged by then is pending again.
    #[arg(long, value_name = "D", default_value = "5m", value_parser = duration)]
    lease: Duration,
}

pub(crate) fn run(app: &mut App<'_>, arguments: &TakeArgs) -> Result<Exit> {
    let unbounded = arguments.signature.is_none() && arguments.limit.is_none();
    if arguments.ids.is_empty() && !arguments.all && unbounded {
        return Err(Failure::usage("take items: nothing says which")
            .hint("name their ids, or say `--all`, `--signature S` or `--limit N`"));
    }
    if arguments.lease.is_zero() {
        return Err(Failure::usage("take items: a lease of no time would end at once"));
    }
    let mut select = match arguments.ids.as_slice() {
        [] => Select::all(),
        ids => Select::ids(ids.iter().cloned()),
    };
    if let Some(signature) = &arguments.signature {
        select = select.signature(signature);
    }
    let opened = arguments.job.open(app, Access::Write)?;
    let dlq = opened.job.dlq();
    let limit = arguments.limit.unwrap_or(usize::MAX);
    let taken = dlq.take(&select, limit, arguments.lease)?;
    for taken in &taken {
        app.line(with_lease(&taken.item.body, Some(&taken.lease), true))?;
    }
    app.flush()?;
    let got: HashSet<&ItemId> = taken.iter().map(|taken| taken.id()).collect();
    let missed = arguments.ids.iter().filter(|id| !got.contains(id));
    tell_missed(app, &dlq, missed)
}

/// Reports why items are not returned although they were named.
fn tell_missed<'i>(app: &mut App<'_>, dlq: &Dlq, ids: impl Iterator<Item = &'i ItemId>) -> Result<Exit> {
    let mut exit = Exit::Done;
    for id in ids {
        match dlq.get(id)? {
            None => {
                app.error(&format!("no item `{id}`"));
                exit = Exit::Missing;
            }
            Some(item) => match super::running(item.lease.as_ref()) {
                Some(lease) => app.note(&format!("`{id}` is taken until {}", lease.until.to_rfc3339())),
                None => app.note(&format!("`{id}` is pending, and not among those selected")),
            },
        }
    }
    Ok(exit)
}
