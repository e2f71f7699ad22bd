//! `dlq take`.

use std::collections::HashSet;
use std::time::Duration;

use prodigy_storage::{Dlq, Eligible, ItemId, ItemState, Taken};

use super::select::SelectArgs;
use super::view::View;
use super::with_lease;
use crate::app::{Access, App};
use crate::errors::{Failure, Result};
use crate::exit::Exit;
use crate::job::JobArgs;
use crate::output::counted;
use crate::time::duration;

/// Items that are taken before the first of them is written.
const BATCH: usize = 64;

#[derive(Debug, clap::Args)]
pub(crate) struct TakeArgs {
    #[command(flatten)]
    job: JobArgs,
    #[command(flatten)]
    select: SelectArgs,
    /// Every pending item that is eligible.
    #[arg(long, conflicts_with = "ids")]
    all: bool,
    /// The largest number of items, oldest first.
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// For how long: what is neither acknowledged nor renewed by then is pending again.
    #[arg(long, value_name = "D", default_value = "5m", value_parser = duration)]
    lease: Duration,
}

pub(crate) fn run(app: &mut App<'_>, arguments: &TakeArgs) -> Result<Exit> {
    if !arguments.all && arguments.limit.is_none() && !arguments.select.says() {
        return Err(Failure::usage("take items: nothing says which")
            .hint("name their ids, or say `--all`, `--limit N` or a filter such as `--signature S`"));
    }
    must_last(arguments.lease)?;
    let opened = arguments.job.open(app, Access::Write)?;
    let dlq = opened.job.dlq();
    let mut select = arguments.select.select(Eligible::Yes);
    let mut left = arguments.limit.unwrap_or(usize::MAX);
    if left > BATCH {
        // An item whose lease ends meanwhile is behind the mark: it does not come twice.
        select = select.until(dlq.summary()?.mark);
    }
    let mut has_all = false;
    let mut missed: HashSet<&ItemId> = arguments.select.ids.iter().collect();
    while left > 0 {
        let batch = dlq.take(&select, left.min(BATCH), arguments.lease)?;
        if batch.is_empty() {
            has_all = true;
            break;
        }
        left -= batch.len();
        for taken in &batch {
            missed.remove(taken.id());
        }
        give(app, &dlq, &batch)?;
    }
    let unreadable = match has_all && arguments.select.ids.is_empty() {
        true => dlq.summary()?.unreadable,
        false => 0,
    };
    if unreadable > 0 {
        app.skipped(&format!(
            "{} that cannot be read: `dlq list` prints them, and they are taken only by their ids",
            counted(usize::try_from(unreadable).unwrap_or(usize::MAX), "item")
        ));
    }
    let missed = arguments.select.ids.iter().filter(|id| missed.contains(id));
    tell_missed(app, &dlq, missed)
}

/// A lease of no time would end at once.
pub(super) fn must_last(lease: Duration) -> Result<()> {
    if lease.is_zero() {
        return Err(Failure::usage("a lease of no time would end at once").hint("write `--lease 5m`"));
    }
    Ok(())
}

/// Writes what was taken, item by item. The items that can't be written are released.
fn give(app: &mut App<'_>, dlq: &Dlq, batch: &[Taken]) -> Result<()> {
    for (at, taken) in batch.iter().enumerate() {
        let line = with_lease(&taken.item.body, Some(&taken.lease), None, true);
        let written = app.line(line).and_then(|()| app.flush());
        let Err(failure) = written else { continue };
        app.discard();
        let unwritten = batch.get(at..).unwrap_or_default();
        let tokens = unwritten.iter().map(Taken::token);
        let items = counted(unwritten.len(), "item");
        let hint = match dlq.release(tokens, Duration::ZERO) {
            Ok(_) => format!("{items} could not be written, and can be taken again at once"),
            Err(error) => {
                app.error(&format!("{error:#}"));
                format!("{items} could not be written, and can be taken again when the lease ends")
            }
        };
        return Err(Failure::new(Exit::Failed, failure.what()).hint(hint));
    }
    Ok(())
}

/// Reports why items are not given although they were named.
fn tell_missed<'i>(app: &mut App<'_>, dlq: &Dlq, ids: impl Iterator<Item = &'i ItemId>) -> Result<Exit> {
    let mut exit = Exit::Done;
    for id in ids {
        match dlq.get(id)? {
            None => {
                app.error(&format!("no item `{id}`"));
                exit = Exit::Missing;
            }
            Some(item) => match (item.state, &item.lease) {
                (ItemState::Leased, Some(lease)) => {
                    app.note(&format!("`{id}` is taken until {}", lease.until.to_rfc3339()));
                }
                _ => app.note(&format!(
                    "`{id}` is {}, and not among the selected items",
                    View::of(item).state()
                )),
            },
        }
    }
    Ok(exit)
}
