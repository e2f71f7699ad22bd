//! The commands that change items by their tokens or ids: `renew`, `ack`, `release`, `park`, `unpark`, `remove`.

use std::collections::HashSet;
use std::time::Duration;

use prodigy_storage::{
    Change, Claim, Dlq, Eligible, ItemId, LeaseToken, RemovalKind, Select, Settled, Settlement,
};
use serde_json::json;

use super::bulk::{self, Bulk};
use super::list;
use super::select::{Filters, SelectArgs, print_missing, print_none};
use super::take::must_last;
use super::view::State;
use crate::app::{Access, App};
use crate::audit::Audited;
use crate::errors::{Failure, Result};
use crate::exit::Exit;
use crate::job::{JobArgs, Opened};
use crate::output::counted;
use crate::time::duration;

const NO_TOKEN: &str = "no item is taken under the token";
const NO_ITEM: &str = "no item";
const NEITHER: &str = "no item, and no token of a taken item:";

#[derive(Debug, clap::Args)]
pub(crate) struct AckArgs {
    #[command(flatten)]
    job: JobArgs,
    /// The `lease_token` of each item.
    #[arg(value_name = "TOKEN", required = true)]
    tokens: Vec<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct RenewArgs {
    #[command(flatten)]
    job: JobArgs,
    /// The `lease_token` of each item.
    #[arg(value_name = "TOKEN", required = true)]
    tokens: Vec<String>,
    /// For how long from now on.
    #[arg(long, value_name = "D", default_value = "5m", value_parser = duration)]
    lease: Duration,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ReleaseArgs {
    #[command(flatten)]
    job: JobArgs,
    /// The `lease_token` of each item; or its `item_id`, which ends a lease on it, whichever process has that.
    #[arg(value_name = "ITEM|TOKEN", required = true)]
    keys: Vec<String>,
    /// Nobody can take the items before this time has passed.
    #[arg(long, value_name = "D", default_value = "0s", value_parser = duration)]
    after: Duration,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ParkArgs {
    #[command(flatten)]
    job: JobArgs,
    /// The `item_id` or `lease_token` of each item.
    #[arg(value_name = "ITEM|TOKEN")]
    keys: Vec<String>,
    /// Why: `dlq list` shows it. Without it, an item that is parked already keeps its reason.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    filters: Filters,
}

#[derive(Debug, clap::Args)]
pub(crate) struct UnparkArgs {
    #[command(flatten)]
    job: JobArgs,
    #[command(flatten)]
    select: SelectArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct RemoveArgs {
    #[command(flatten)]
    job: JobArgs,
    /// The `item_id` of each item.
    #[arg(value_name = "ID", required = true)]
    ids: Vec<ItemId>,
}

pub(crate) fn ack(app: &mut App<'_>, arguments: &AckArgs) -> Result<Exit> {
    let opened = arguments.job.open(app, Access::Write)?;
    let outcome = settle(&opened.job.dlq(), &arguments.tokens, |key| {
        by_token(key, Change::Remove)
    })?;
    outcome.print(app, &opened, "acknowledged", NO_TOKEN)
}

pub(crate) fn renew(app: &mut App<'_>, arguments: &RenewArgs) -> Result<Exit> {
    must_last(arguments.lease)?;
    let opened = arguments.job.open(app, Access::Write)?;
    let outcome = settle(&opened.job.dlq(), &arguments.tokens, |key| {
        by_token(key, Change::Extend(arguments.lease))
    })?;
    outcome.print(app, &opened, "renewed", NO_TOKEN)
}

pub(crate) fn release(app: &mut App<'_>, arguments: &ReleaseArgs) -> Result<Exit> {
    let opened = arguments.job.open(app, Access::Write)?;
    let change = Change::Release {
        delay: arguments.after,
    };
    let dlq = opened.job.dlq();
    let before = Named::of(&dlq, &arguments.keys)?;
    let outcome = settle_either(&dlq, &arguments.keys, &change)?;
    let exit = outcome.print(app, &opened, "released", NEITHER)?;
    app.flush()?;
    for named in before.iter().filter(|named| outcome.settled.contains(&named.key)) {
        if named.state == State::Parked || named.is_parked {
            app.note(&format!(
                "`{0}` is parked, and stays parked: `dlq unpark {0}` makes it eligible",
                named.key
            ));
        } else if named.state != State::Leased {
            app.note(&format!(
                "`{}` was not taken: it is behind all other items now",
                named.key
            ));
        }
    }
    Ok(exit)
}

/// An item that was named by its id, with its state before the change.
struct Named {
    key: String,
    state: State,
    is_parked: bool,
}

impl Named {
    fn of(dlq: &Dlq, keys: &[String]) -> Result<Vec<Self>> {
        let ids = keys.iter().filter_map(|key| ItemId::new(key).ok());
        let mut named = Vec::new();
        for summary in dlq.list(&Select::ids(ids))? {
            // An unreadable item has no state.
            let Ok(summary) = summary else { continue };
            named.push(Self {
                state: State::of(&summary),
                is_parked: !summary.eligible,
                key: summary.id.as_str().to_owned(),
            });
        }
        Ok(named)
    }
}

pub(crate) fn park(app: &mut App<'_>, arguments: &ParkArgs) -> Result<Exit> {
    let (named, filtered) = (!arguments.keys.is_empty(), arguments.filters.says());
    if named == filtered {
        let what = match named {
            true => "park items: they are named, and a filter is given too",
            false => "park items: nothing says which",
        };
        return Err(Failure::usage(what).hint(
            "name them (`dlq park --job J ID`), or give filters alone (`dlq park --job J --signature S`)",
        ));
    }
    let change = Change::Park {
        reason: arguments.reason.clone(),
    };
    let opened = arguments.job.open(app, Access::Write)?;
    let dlq = opened.job.dlq();
    if named {
        return settle_either(&dlq, &arguments.keys, &change)?.print(app, &opened, "parked", NEITHER);
    }
    let select = arguments.filters.select(Eligible::Yes);
    bulk(app, &opened, &select, &arguments.filters, &change, "parked")
}

pub(crate) fn unpark(app: &mut App<'_>, arguments: &UnparkArgs) -> Result<Exit> {
    if !arguments.select.says() {
        return Err(Failure::usage("unpark items: nothing says which")
            .hint("name their ids, or give a filter such as `--signature S`; `--parked` alone means every parked item"));
    }
    let opened = arguments.job.open(app, Access::Write)?;
    if !arguments.select.filters.says() {
        let keys = bulk::texts(&arguments.select.ids);
        let dlq = opened.job.dlq();
        let outcome = settle(&dlq, &keys, |key| by_id(key, Change::Unpark))?;
        return outcome.print(app, &opened, "unparked", NO_ITEM);
    }
    let missing = print_missing(app, &opened, &arguments.select.ids)?;
    let select = arguments.select.select(Eligible::No).with(Eligible::No);
    let filters = &arguments.select.filters;
    bulk(app, &opened, &select, filters, &Change::Unpark, "unparked")?;
    Ok(missing)
}

/// Changes every item that the filters select.
fn bulk(
    app: &mut App<'_>,
    opened: &Opened,
    select: &Select,
    filters: &Filters,
    change: &Change,
    done: &str,
) -> Result<Exit> {
    let mut changed = Bulk::default();
    changed.run(app, opened, select, None, Some(change))?;
    if changed.is_nothing() {
        print_none(app, opened, filters)?;
    }
    changed.print(app, done)
}

pub(crate) fn remove(app: &mut App<'_>, arguments: &RemoveArgs) -> Result<Exit> {
    let opened = arguments.job.open(app, Access::Write)?;
    let keys = bulk::texts(&arguments.ids);
    let dlq = opened.job.dlq();
    // Counts the items to remove, including those whose contents can't be read.
    let found = dlq.scan(&Select::ids(arguments.ids.iter().cloned()))?;
    let (outcome, recorded) = match found.take(keys.len()).count() {
        0 => (settle(&dlq, &keys, |key| by_id(key, Change::Remove))?, Exit::Done),
        count => {
            let address = opened.job.address();
            let removal = Audited::new(&opened.storage, RemovalKind::DeadLetters, address, "dlq remove");
            removal.size(count, 0).make(app, |_| {
                let outcome = settle(&dlq, &keys, |key| by_id(key, Change::Remove));
                let removed = outcome.as_ref().map_or(0, |outcome| outcome.settled.len());
                (removed as u64, outcome)
            })?
        }
    };
    Ok(match outcome.print(app, &opened, "removed", NO_ITEM)? {
        Exit::Done => recorded,
        failed => failed,
    })
}

/// The keys of the command line, grouped by the outcome of the change.
#[derive(Debug, Default)]
struct Outcome {
    settled: Vec<String>,
    kept: Vec<String>,
    unknown: Vec<String>,
    /// Items that were not parked, so they can't be unparked.
    already: Vec<String>,
}

impl Outcome {
    fn add(&mut self, key: &str, settled: Settled) {
        match settled {
            Settled::Done => self.settled.push(key.to_owned()),
            Settled::Kept => self.kept.push(key.to_owned()),
            Settled::Already => self.already.push(key.to_owned()),
            _ => self.unknown.push(key.to_owned()),
        }
    }

    /// Prints the counts, and the keys that match no item. If ids are accepted, also prints existing ids.
    fn print(&self, app: &mut App<'_>, opened: &Opened, done: &str, unknown: &str) -> Result<Exit> {
        if self.settled.is_empty() && self.kept.is_empty() && self.already.is_empty() {
            opened.must_be_known()?;
        }
        for key in &self.unknown {
            app.error(&format!("{unknown} `{key}`"));
        }
        if let Some(key) = self.unknown.first().filter(|_| unknown != NO_TOKEN) {
            app.hint(&list::hint(opened, key)?);
        }
        for key in &self.kept {
            app.note(&format!(
                "the item of `{key}` is kept: it failed again, or was changed, while it was taken"
            ));
        }
        for key in &self.already {
            app.note(&format!("`{key}` is not parked, and stays as it is"));
        }
        if app.json() {
            app.json_line(&json!({
                "settled": self.settled,
                "kept": self.kept,
                "unknown": self.unknown,
                "unchanged": self.already,
            }))?;
        } else {
            let kept = match self.kept.len() {
                0 => String::new(),
                count => format!(", {count} kept"),
            };
            app.line(format!("{} {done}{kept}", counted(self.settled.len(), "item")))?;
        }
        Ok(if self.unknown.is_empty() {
            Exit::Done
        } else {
            Exit::Missing
        })
    }
}

/// Changes the item of each key in one write. A key that is not well-formed is unknown.
fn settle(
    dlq: &Dlq,
    keys: &[String],
    mut settlement: impl FnMut(&str) -> Option<Settlement>,
) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let (mut known, mut settlements) = (Vec::new(), Vec::new());
    let mut seen = HashSet::new();
    for key in keys.iter().filter(|key| seen.insert(*key)) {
        match settlement(key) {
            Some(settlement) => {
                known.push(key);
                settlements.push(settlement);
            }
            None => outcome.unknown.push(key.clone()),
        }
    }
    for (key, settled) in known.into_iter().zip(dlq.settle(&settlements)?) {
        outcome.add(key, settled);
    }
    Ok(outcome)
}

/// Changes the item of each key, as [`settle`] does. A key may be a token or an id: tokens are tried first.
fn settle_either(dlq: &Dlq, keys: &[String], change: &Change) -> Result<Outcome> {
    let mut outcome = settle(dlq, keys, |key| by_token(key, change.clone()))?;
    let ids = std::mem::take(&mut outcome.unknown);
    if !ids.is_empty() {
        let more = settle(dlq, &ids, |key| by_id(key, change.clone()))?;
        outcome.settled.extend(more.settled);
        outcome.kept.extend(more.kept);
        outcome.already.extend(more.already);
        outcome.unknown = more.unknown;
    }
    Ok(outcome)
}

#[expect(clippy::unnecessary_wraps, reason = "the counterpart of `by_id`")]
fn by_token(key: &str, change: Change) -> Option<Settlement> {
    Some(Settlement::new(
        Claim::Lease(LeaseToken::from(key.to_owned())),
        change,
    ))
}

fn by_id(key: &str, change: Change) -> Option<Settlement> {
    let id = ItemId::new(key).ok()?;
    Some(Settlement::new(Claim::Item(id), change))
}
