//! The flags that select items.

use std::ops::RangeInclusive;
use std::time::Duration;

use std::collections::{BTreeSet, HashSet};

use prodigy_storage::{DlqItem, Eligible, ItemId, Select, Timestamp};

use super::list;
use super::view::{State, View};
use crate::app::App;
use crate::errors::{Failure, Result};
use crate::exit::Exit;
use crate::job::Opened;
use crate::near::Near;
use crate::shell::flags_of;
use crate::time::duration;

/// The heading of the filters in the help.
pub(super) const FILTERS: &str = "Filters";

/// Selects items by their ids and by filters. All conditions have to hold.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct SelectArgs {
    /// Only these items, by their `item_id`.
    #[arg(value_name = "ID")]
    pub(crate) ids: Vec<ItemId>,
    #[command(flatten)]
    pub(crate) filters: Filters,
}

/// The filters of a command.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Filters {
    /// Only items with this error signature: `dlq analyze` prints the signatures.
    #[arg(long, value_name = "S", help_heading = FILTERS)]
    pub(crate) signature: Option<String>,
    /// Only items whose last failure has this `error_type`; a failed command of `dlq redrive` gives `exit 1`, `signal 9`.
    #[arg(long, value_name = "T", help_heading = FILTERS)]
    pub(crate) error_type: Option<String>,
    /// Only items whose last attempt is at least this long ago (`1h 30m`).
    #[arg(long, value_name = "D", value_parser = duration, help_heading = FILTERS)]
    pub(crate) older_than: Option<Duration>,
    /// Only items whose last attempt is at most this long ago.
    #[arg(long, value_name = "D", value_parser = duration, help_heading = FILTERS)]
    pub(crate) newer_than: Option<Duration>,
    /// Only items that failed this number of times: `3`, `3..` (3 or more), `..5` (5 or less), `2..4` (2 to 4).
    #[arg(long, value_name = "RANGE", help_heading = FILTERS)]
    pub(crate) attempts: Option<Attempts>,
    /// Only parked items.
    #[arg(long, conflicts_with = "any", help_heading = FILTERS)]
    pub(crate) parked: bool,
    /// Parked and other items.
    #[arg(long, help_heading = FILTERS)]
    pub(crate) any: bool,
}

/// Selects items by [`SelectArgs`] and by their state.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct StateArgs {
    #[command(flatten)]
    pub(crate) select: SelectArgs,
    /// Only items in this state.
    #[arg(long, value_name = "STATE", help_heading = FILTERS)]
    state: Option<State>,
}

impl StateArgs {
    /// True if an item in this state is selected.
    pub(super) fn holds(&self, state: State) -> bool {
        self.state.is_none_or(|wanted| wanted == state)
    }

    /// True if a filter is given.
    pub(super) fn filters(&self) -> bool {
        self.select.filters.says() || self.state.is_some()
    }

    /// True if an item of the selection is in the wanted state.
    pub(super) fn takes(&self, item: &DlqItem) -> bool {
        self.state.is_none() || self.holds(View::of(item.clone()).state)
    }

    /// True if the command line selects items in any way.
    pub(crate) fn says(&self) -> bool {
        self.select.says() || self.state.is_some()
    }
}

/// Reports the named items that are not in the queue.
pub(super) fn print_missing(app: &mut App<'_>, opened: &Opened, ids: &[ItemId]) -> Result<Exit> {
    let dlq = opened.job.dlq();
    let mut exit = Exit::Done;
    for id in once(ids) {
        if !list::holds(&dlq, id)? {
            app.error(&list::no_item(opened, id));
            // One hint is enough for several wrong ids.
            if exit == Exit::Done {
                app.hint(&list::hint(opened, id.as_str())?);
            }
            exit = Exit::Missing;
        }
    }
    Ok(exit)
}

/// Each of these ids once, in their order.
pub(super) fn once(ids: &[ItemId]) -> impl Iterator<Item = &ItemId> {
    let mut seen = HashSet::new();
    ids.iter().filter(move |id| seen.insert(*id))
}

/// Says that a filter names a signature or an error type that no item of the queue has, and which there are. `None` if the
/// filters name neither, or the queue is empty.
fn unknown(opened: &Opened, filters: &Filters) -> Result<Option<(String, String)>> {
    let dlq = opened.job.dlq();
    let (mut type_near, mut signature_near) = (
        Near::to(filters.error_type.as_deref().unwrap_or_default()),
        Near::to(filters.signature.as_deref().unwrap_or_default()),
    );
    let (mut types, mut signatures, mut items) = (BTreeSet::new(), BTreeSet::new(), 0_u64);
    if filters.error_type.is_some() || filters.signature.is_some() {
        for summary in dlq.list(&Select::any())? {
            // Unreadable items were reported already.
            let Ok(summary) = summary else { continue };
            items += 1;
            for (found, names) in [
                (summary.error_type, &mut types),
                (summary.signature, &mut signatures),
            ] {
                // A wanted name is kept, whatever the number of others.
                let is_wanted = found == filters.error_type || found == filters.signature;
                names.extend(found.filter(|_| is_wanted || names.len() < NAMES));
            }
        }
    }
    if items == 0 {
        return Ok(None);
    }
    types.iter().for_each(|name: &String| type_near.offer(name));
    signatures
        .iter()
        .for_each(|name: &String| signature_near.offer(name));
    let analyze = format!(
        "`prodigy-storage dlq analyze {}` counts the items of each",
        flags_of(opened.job.address())
    );
    Ok(match (&filters.error_type, &filters.signature) {
        (Some(name), _) if !types.contains(name) => Some((
            format!("no last failure has the `error_type` `{name}`"),
            type_near.hint("error types", &analyze),
        )),
        (_, Some(name)) if !signatures.contains(name) => Some((
            format!("no item has the signature `{name}`"),
            signature_near.hint("signatures", &analyze),
        )),
        _ => None,
    })
}

/// The largest number of error types, and of signatures, that are compared with the wanted one.
const NAMES: usize = 10_000;

/// Explains why the filters select no item: a filter may be mistyped. For a command that changes items: that none is left
/// is no failure of it.
pub(super) fn print_none(app: &mut App<'_>, opened: &Opened, filters: &Filters) -> Result<()> {
    if let Some((what, hint)) = unknown(opened, filters)? {
        app.note(&format!("{what}; {hint}"));
    } else if app.terminal {
        let items = opened.job.dlq().summary()?.items;
        app.note(match items {
            0 => "the queue is empty",
            _ => "no item is selected",
        });
    }
    Ok(())
}

/// The same for a command that only reads.
///
/// # Errors
/// [`Exit::Missing`] for an unknown signature or error type.
pub(super) fn none_found(app: &mut App<'_>, opened: &Opened, filters: &Filters) -> Result<()> {
    match unknown(opened, filters)? {
        Some((what, hint)) => Err(Failure::new(Exit::Missing, what).hint(hint)),
        None => print_none(app, opened, filters),
    }
}

impl SelectArgs {
    /// The selection. If no ids and flags are given, `default` decides about parked items.
    pub(crate) fn select(&self, default: Eligible) -> Select {
        let mut select = self.filters.select(if self.ids.is_empty() {
            default
        } else {
            Eligible::Any
        });
        if !self.ids.is_empty() {
            select.ids = Some(self.ids.clone());
        }
        select
    }

    /// True if the command line selects items in any way.
    pub(crate) fn says(&self) -> bool {
        !self.ids.is_empty() || self.filters.says()
    }
}

impl Filters {
    /// The selection.
    pub(crate) fn select(&self, default: Eligible) -> Select {
        let mut select = Select::any().with(match (self.parked, self.any) {
            (true, _) => Eligible::No,
            (_, true) => Eligible::Any,
            _ => default,
        });
        select.signature.clone_from(&self.signature);
        select.error_type.clone_from(&self.error_type);
        let now = Timestamp::now();
        if let Some(age) = self.older_than {
            select = select.older_than(age, now);
        }
        if let Some(age) = self.newer_than {
            let nanos = i64::try_from(age.as_nanos()).unwrap_or(i64::MAX);
            select = select.not_before(Timestamp::from_nanos(now.as_nanos().saturating_sub(nanos)));
        }
        if let Some(Attempts(range)) = &self.attempts {
            select = select.attempts(range.clone());
        }
        select
    }

    /// True if a flag is given.
    pub(crate) fn says(&self) -> bool {
        self.signature.is_some()
            || self.error_type.is_some()
            || self.older_than.is_some()
            || self.newer_than.is_some()
            || self.attempts.is_some()
            || self.parked
            || self.any
    }
}

/// A number of failures, or a range of numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Attempts(RangeInclusive<u64>);

impl std::str::FromStr for Attempts {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            "write a number of attempts as `3`, `3..` (3 or more), `..5` (5 or less) or `2..4` (2 to 4)"
                .to_owned()
        };
        let number = |text: &str, open: u64| match text {
            "" => Ok(open),
            text => text.parse::<u64>().map_err(|_| wrong()),
        };
        let range = match text.split_once("..") {
            Some(("", "")) => return Err(wrong()),
            Some((least, most)) => number(least, 0)?..=number(most, u64::MAX)?,
            None => {
                let exact = text.parse::<u64>().map_err(|_| wrong())?;
                exact..=exact
            }
        };
        if range.is_empty() {
            return Err(wrong());
        }
        Ok(Self(range))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_number_of_attempts() {
        let cases = [
            ("3", 3..=3),
            ("3..", 3..=u64::MAX),
            ("..5", 0..=5),
            ("2..4", 2..=4),
        ];
        for (text, wanted) in cases {
            assert_eq!(text.parse(), Ok(Attempts(wanted)), "{text}");
        }
        for text in [
            "",
            "..",
            "4..2",
            "-1",
            "a",
            "1...3",
            "1..b",
            "99999999999999999999",
        ] {
            assert!(text.parse::<Attempts>().is_err(), "{text}");
        }
    }

    #[test]
    fn named_items_are_meant_whether_parked_or_not() {
        let mut arguments = SelectArgs::default();
        assert_eq!(arguments.select(Eligible::Yes).eligible, Eligible::Yes);
        arguments.ids = vec![ItemId::new("a").unwrap()];
        assert_eq!(arguments.select(Eligible::Yes).eligible, Eligible::Any);
        arguments.filters.parked = true;
        assert_eq!(arguments.select(Eligible::Yes).eligible, Eligible::No);
    }
}
