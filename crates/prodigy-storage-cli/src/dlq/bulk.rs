//! Changes all items that filters select, for `dlq purge` and other commands.

use prodigy_storage::{Change, Claim, Eligible, ItemId, ItemState, RemovalKind, Select, Settled, Settlement};
use serde_json::json;

use super::select::{StateArgs, print_missing, print_none};
use super::view;
use crate::app::{Access, App};
use crate::audit::Audited;
use crate::errors::{Failure, Result};
use crate::exit::Exit;
use crate::job::{JobArgs, Opened};
use crate::output::counted;

/// The largest number of items that are changed in one write.
const BATCH: usize = 512;

#[derive(Debug, clap::Args)]
pub(crate) struct PurgeArgs {
    #[command(flatten)]
    job: JobArgs,
    #[command(flatten)]
    which: StateArgs,
    /// Remove the items. Without it, the command only counts them.
    #[arg(long)]
    yes: bool,
}

pub(crate) fn purge(app: &mut App<'_>, arguments: &PurgeArgs) -> Result<Exit> {
    let which = &arguments.which;
    if !which.says() {
        return Err(Failure::usage("purge items: nothing says which").hint(
            "name their ids, give a filter such as `--signature S`, or say `--parked` for the parked items or `--any` for all",
        ));
    }
    let access = if arguments.yes {
        Access::Write
    } else {
        Access::Read
    };
    let opened = arguments.job.open(app, access)?;
    let missing = print_missing(app, &opened, &which.select.ids)?;
    let select = which.select.select(Eligible::Any);
    let change = arguments.yes.then_some(Change::Remove);
    let mut found = Bulk {
        is_recorded: true,
        ..Bulk::default()
    };
    found.run(app, &opened, &select, Some(which), change.as_ref())?;
    if found.is_nothing() {
        print_none(app, &opened, &which.select.filters)?;
    }
    if arguments.yes {
        return Ok(match found.print(app, "removed")? {
            Exit::Done => missing,
            failed => failed,
        });
    }
    if app.json() {
        app.json_line(&json!({"would_remove": found.matched, "taken": found.taken}))?;
    } else {
        app.line(format!("{} would be removed", counted(found.matched, "item")))?;
        app.flush()?;
        found.print_taken(app);
        app.note("nothing was removed: add `--yes` to remove them");
    }
    Ok(missing)
}

/// The counts of a change of all selected items.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bulk {
    /// The number of selected items that nobody has taken.
    matched: usize,
    done: usize,
    /// The number of items that were changed or settled while the command ran.
    changed: usize,
    /// The number of items that another process has taken.
    taken: usize,
    /// True if removals are recorded in the audit log.
    is_recorded: bool,
    /// True if a removal could not be recorded.
    is_unrecorded: bool,
}

impl Bulk {
    /// Changes the selected items that nobody has taken, unless their contents changed since they were read; without
    /// `change`, only counts them.
    pub(super) fn run(
        &mut self,
        app: &mut App<'_>,
        opened: &Opened,
        select: &Select,
        which: Option<&StateArgs>,
        change: Option<&Change>,
    ) -> Result<()> {
        let dlq = opened.job.dlq();
        let named = is_ids_alone(select) || which.is_some_and(|which| !which.select.filters.says());
        let mut pending: Vec<Settlement> = Vec::new();
        let any = view::each(app, dlq.scan(select)?, |app, item| {
            if which.is_some_and(|which| !which.takes(&item)) {
                return Ok(());
            }
            if item.state == ItemState::Leased {
                self.taken += 1;
                return Ok(());
            }
            let claim = Claim::Revision(item.id.clone(), item.revision);
            if !named {
                let id = item.id.clone();
                if let Err(error) = item.summary() {
                    app.skipped(&format!(
                        "the item `{id}` cannot be read, so no filter selects it; name its id: {}",
                        error.why()
                    ));
                    return Ok(());
                }
            }
            self.matched += 1;
            if let Some(change) = change {
                pending.push(Settlement::new(claim, change.clone()));
                if pending.len() >= BATCH {
                    self.settle(app, opened, &mut pending)?;
                }
            }
            Ok(())
        })?;
        if !any {
            opened.must_be_known()?;
        }
        self.settle(app, opened, &mut pending)
    }

    fn settle(&mut self, app: &mut App<'_>, opened: &Opened, pending: &mut Vec<Settlement>) -> Result<()> {
        if pending.is_empty() {
            return Ok(());
        }
        let pending = std::mem::take(pending);
        let settle = || opened.job.dlq().settle(&pending);
        let settled = if self.is_recorded {
            let address = opened.job.address();
            let removal = Audited::new(&opened.storage, RemovalKind::DeadLetters, address, "dlq purge");
            let (settled, recorded) = removal.size(pending.len(), 0).make(app, |_| match settle() {
                Ok(settled) => {
                    let removed = settled.iter().filter(|settled| settled.is_done()).count();
                    (removed as u64, Ok(settled))
                }
                Err(error) => (0, Err(error.into())),
            })?;
            self.is_unrecorded |= recorded != Exit::Done;
            settled
        } else {
            settle()?
        };
        for settled in settled {
            match settled {
                Settled::Done => self.done += 1,
                _ => self.changed += 1,
            }
        }
        Ok(())
    }

    /// Whether no item is selected.
    pub(super) fn is_nothing(&self) -> bool {
        self.matched + self.taken == 0
    }

    /// Prints the counts.
    pub(super) fn print(&self, app: &mut App<'_>, done: &str) -> Result<Exit> {
        if app.json() {
            app.json_line(&json!({done: self.done, "changed": self.changed, "taken": self.taken}))?;
        } else {
            app.line(format!("{} {done}", counted(self.done, "item")))?;
            app.flush()?;
            self.print_taken(app);
            if self.changed > 0 {
                let items = counted(self.changed, "item");
                app.note(&format!("{items} changed meanwhile, and stayed as they are"));
            }
        }
        Ok(match self.is_unrecorded {
            true => Exit::Failed,
            false => Exit::Done,
        })
    }

    fn print_taken(&self, app: &mut App<'_>) {
        if self.taken > 0 {
            app.note(&format!(
                "{} taken by others left alone: `dlq release ID` ends a lease",
                counted(self.taken, "item")
            ));
        }
    }
}

/// True if items are selected by their ids only. Then an item is selected even if its contents can't be read.
fn is_ids_alone(select: &Select) -> bool {
    select.ids.is_some()
        && select.eligible == Eligible::Any
        && select.signature.is_none()
        && select.error_type.is_none()
        && select.not_after.is_none()
        && select.not_before.is_none()
        && select.min_attempts.is_none()
        && select.max_attempts.is_none()
}

pub(super) fn texts(ids: &[ItemId]) -> Vec<String> {
    ids.iter().map(|id| id.as_str().to_owned()).collect()
}
