//! The command `dlq take`.

use std::collections::HashSet;
use std::time::Duration;

use prodigy_storage::{Dlq, Eligible, ItemId, ItemState, Select, Taken, Timestamp};

use super::list;
use super::select::{self, SelectArgs, once};
use super::view::{State, View};
use super::with_lease;
use crate::app::{Access, App};
use crate::errors::{Failure, Result};
use crate::exit::Exit;
use crate::job::{JobArgs, Opened};
use crate::output::counted;
use crate::time::duration;

/// The number of items that are taken before the first of them is printed.
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
    /// The largest number of items; the items that have waited longest are taken first.
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// The length of the lease; an item that is not acknowledged or renewed by then is pending again.
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
        // Takes only items that were in the queue when the command began. An item whose lease ends meanwhile gets a
        // later place, so it is not taken twice.
        select = select.until(dlq.summary()?.mark);
    }
    let mut has_all = false;
    let mut any = false;
    let mut missed: HashSet<&ItemId> = arguments.select.ids.iter().collect();
    while left > 0 {
        let batch = dlq.take(&select, left.min(BATCH), arguments.lease)?;
        if batch.is_empty() {
            has_all = true;
            break;
        }
        left -= batch.len();
        any = true;
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
            counted(unreadable, "item")
        ));
    }
    if !any {
        opened.must_be_known()?;
        print_none(app, &opened, &select, &arguments.select)?;
    }
    let missed: Vec<ItemId> = once(&arguments.select.ids)
        .filter(|id| missed.contains(id))
        .cloned()
        .collect();
    let exit = print_named(app, &opened, &dlq, &missed)?;
    for id in &missed {
        if let Some(item) = dlq.get(id)?
            && item.state == ItemState::Pending
        {
            let state = View::of(item).state();
            app.note(&format!("`{id}` is {state}, and not among the selected items"));
        }
    }
    Ok(exit)
}

/// Refuses a lease without length, which would end at once.
pub(super) fn must_last(lease: Duration) -> Result<()> {
    if lease.is_zero() {
        return Err(Failure::usage("a lease of no time would end at once").hint("write `--lease 5m`"));
    }
    Ok(())
}

/// Prints the taken items. Items that can't be printed are released.
fn give(app: &mut App<'_>, dlq: &Dlq, batch: &[Taken]) -> Result<()> {
    batch.iter().for_each(Taken::keep);
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

/// Reports the named items that can't be taken now: those that do not exist, and those that are leased or delayed.
pub(super) fn print_named(app: &mut App<'_>, opened: &Opened, dlq: &Dlq, ids: &[ItemId]) -> Result<Exit> {
    let mut exit = Exit::Done;
    for id in once(ids) {
        if !list::holds(dlq, id)? {
            app.error(&list::no_item(opened, id));
            if exit == Exit::Done {
                app.hint(&list::hint(opened, id.as_str())?);
            }
            exit = Exit::Missing;
            continue;
        }
        let Some(item) = dlq.get(id)? else { continue };
        if let (ItemState::Leased, Some(lease)) = (item.state, &item.lease) {
            app.note(&format!(
                "`{id}` is leased until {}",
                app.message_time(lease.until)
            ));
        } else if let (ItemState::Delayed, Some(delay)) = (item.state, &item.delay) {
            app.note(&format!(
                "`{id}` is delayed until {}",
                app.message_time(delay.until)
            ));
        }
    }
    Ok(exit)
}

/// Explains why no item could be taken: how many of the selected items are leased or delayed, and until when.
pub(super) fn print_none(
    app: &mut App<'_>,
    opened: &Opened,
    select: &Select,
    arguments: &SelectArgs,
) -> Result<()> {
    // Named items are reported one by one.
    if select.ids.is_some() {
        return Ok(());
    }
    let wanted = select.eligible;
    let mut select = select.clone().with(Eligible::Any);
    select.until = None;
    let (mut leased, mut delayed, mut parked) = (Held::default(), Held::default(), 0);
    for summary in opened.job.dlq().list(&select)? {
        // Unreadable items were reported already.
        let Ok(summary) = summary else { continue };
        match State::of(&summary) {
            State::Leased => leased.add(summary.lease.map(|lease| lease.until)),
            State::Delayed => delayed.add(summary.delay.map(|delay| delay.until)),
            State::Parked => parked += usize::from(wanted == Eligible::Yes),
            State::Pending | State::Unreadable => {}
        }
    }
    let parked = (parked > 0).then(|| format!("{} parked", are(parked)));
    let held: Vec<String> = [leased.shown(app, "leased"), delayed.shown(app, "delayed"), parked]
        .into_iter()
        .flatten()
        .collect();
    if held.is_empty() {
        return select::print_none(app, opened, &arguments.filters);
    }
    app.note(&format!("nothing can be taken now: {}", held.join(", ")));
    Ok(())
}

/// Items that can't be taken before a time.
#[derive(Default)]
struct Held {
    count: usize,
    first: Option<Timestamp>,
}

impl Held {
    fn add(&mut self, until: Option<Timestamp>) {
        self.count += 1;
        self.first = [self.first, until].into_iter().flatten().min();
    }

    fn shown(&self, app: &App<'_>, how: &str) -> Option<String> {
        let until = match (self.count, self.first) {
            (0, _) => return None,
            (_, None) => String::new(),
            (1, Some(until)) => format!(" until {}", app.message_time(until)),
            (_, Some(first)) => format!(", the first of them until {}", app.message_time(first)),
        };
        Some(format!("{} {how}{until}", are(self.count)))
    }
}

fn are(count: usize) -> String {
    let are = if count == 1 { "is" } else { "are" };
    format!("{} {are}", counted(count, "item"))
}
