//! The flag `--dry-run` of `dlq redrive`: lists the items that a run would take.

use std::collections::BTreeMap;

use prodigy_storage::{Dlq, Eligible, Select};

use super::RedriveArgs;
use crate::app::{Access, App};
use crate::dlq::view::{self, ItemTable, State, View};
use crate::dlq::{line_of, take};
use crate::errors::Result;
use crate::exit::Exit;
use crate::output::counted;

pub(super) fn run(app: &mut App<'_>, arguments: &RedriveArgs) -> Result<Exit> {
    let opened = arguments.job.open(app, Access::Read)?;
    let select = arguments.select.select(Eligible::Yes);
    let mut table = ItemTable::new();
    // Without a limit the order does not matter.
    let mut first: BTreeMap<_, Row> = BTreeMap::new();
    let mut count = 0;
    let any = view::each(app, opened.job.dlq().scan(&select)?, |app, item| {
        let place = item.place;
        let json = app.json().then(|| item.clone());
        let view = View::of(item);
        let row = Row {
            line: json.map(|item| line_of(&item, view.state)),
            view,
        };
        if !would_be_taken(&select, &row.view) {
            row.view.print_unreadable(app);
            return Ok(());
        }
        let Some(limit) = arguments.limit else {
            count += 1;
            return row.print(app, &mut table);
        };
        first.insert(place, row);
        if first.len() > limit {
            first.pop_last();
        }
        Ok(())
    })?;
    for row in first.values() {
        count += 1;
        row.print(app, &mut table)?;
    }
    if !any {
        opened.must_be_known()?;
    }
    table.print(app)?;
    app.flush()?;
    app.note(&format!("{} would be taken", counted(count, "item")));
    let dlq = opened.job.dlq();
    if count == 0 {
        take::print_none(app, &opened, &select, &arguments.select)?;
    }
    take::print_named(app, &opened, &dlq, &arguments.select.ids)
}

/// The number of items that a run would take.
pub(super) fn count(dlq: &Dlq, select: &Select, arguments: &RedriveArgs) -> Result<u64> {
    let limit = arguments.limit.map_or(u64::MAX, |limit| limit as u64);
    if !arguments.select.says() {
        return Ok(dlq.summary()?.pending.min(limit));
    }
    let mut count = 0;
    for item in dlq.scan(select)? {
        count += u64::from(item.is_ok_and(|item| would_be_taken(select, &View::of(item))));
    }
    Ok(count.min(limit))
}

/// True if a run would take the item. An item whose facts can't be read is taken only if its id is given.
fn would_be_taken(select: &Select, view: &View) -> bool {
    view.is_free() && (view.state != State::Unreadable || select.ids.is_some())
}

/// A listed item.
struct Row {
    line: Option<String>,
    view: View,
}

impl Row {
    fn print(&self, app: &mut App<'_>, table: &mut ItemTable) -> Result<()> {
        match &self.line {
            Some(line) => app.line(line),
            None => table.row(app, &self.view),
        }
    }
}
