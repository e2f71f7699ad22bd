//! The command `dlq`.

mod analyze;
mod bulk;
mod compact;
mod edit;
mod list;
mod push;
mod redrive;
mod select;
mod settle;
mod take;
mod values;
mod view;

use clap::Subcommand;
use prodigy_storage::{Delay, DlqItem, ItemState, Lease};
use serde_json::value::RawValue;

use self::view::State;
pub(crate) use self::view::{each as each_item, words_of};
use crate::app::{App, Reads};
use crate::errors::Result;
use crate::exit::Exit;

/// The steps from a first look at the dead letters to the last parked item, printed below the help of `dlq`.
pub(crate) const GUIDE: &str = "From the first look at the dead letters of a job to the last parked one:

  # what failed, and how often
  prodigy-storage dlq analyze --job J
  # which items that is
  prodigy-storage dlq list --job J --signature S
  # one item with all its failures
  prodigy-storage dlq show --job J ID
  # fix one item by hand
  prodigy-storage dlq edit --job J ID
  # set aside an item that cannot be fixed
  prodigy-storage dlq park --job J ID --reason 'no access'
  # run a command for each of the rest
  prodigy-storage dlq redrive --job J -- ./work.sh

Each command says more with `--help`.";

const PUSH: &str = r#"Example:
  echo '{"item_id":"a","item_data":{"file":"a.rs"},' \
    '"failure_history":[{"error_type":"Timeout",' \
    '"error_message":"no answer in 30 s"}]}' |
    prodigy-storage dlq push --job J"#;
const LIST: &str = "Examples:
  prodigy-storage dlq list --job J --error-type Timeout --older-than 1h
  prodigy-storage dlq list --job J --parked
  prodigy-storage dlq list --job J --state leased --json";
const ANALYZE: &str = "Examples: what fails most; the same without the parked items
  prodigy-storage dlq analyze --job J
  prodigy-storage dlq analyze --job J --state pending";
const SHOW: &str = "Example:
  prodigy-storage dlq show --job J ID | jq .failure_history";
const TAKE: &str = "Example: a worker that takes one item, and acknowledges it
  prodigy-storage dlq take --job J --limit 1 --lease 10m
  prodigy-storage dlq ack --job J TOKEN

`dlq redrive` does the same for many items, renews their leases, and records
their failures.";
const RENEW: &str = "Example:
  prodigy-storage dlq renew --job J TOKEN --lease 10m";
const ACK: &str = "Example:
  prodigy-storage dlq ack --job J TOKEN";
const RELEASE: &str = "Examples: give back a taken item; end the lease of a worker that hangs
  prodigy-storage dlq release --job J TOKEN --after 10m
  prodigy-storage dlq release --job J ID";
const PARK: &str = "Examples:
  prodigy-storage dlq park --job J ID --reason 'the repository is gone'
  prodigy-storage dlq park --job J --attempts 5.. --reason 'failed five times'";
const PARK_USAGE: &str = "prodigy-storage dlq park [OPTIONS] --job <JOB> <ITEM|TOKEN>...
       prodigy-storage dlq park [OPTIONS] --job <JOB> <FILTERS>";
const UNPARK: &str = "Examples:
  prodigy-storage dlq unpark --job J ID
  prodigy-storage dlq unpark --job J --error-type Timeout";
const EDIT: &str = r#"Examples: in an editor, and by a JSON merge patch (`null` removes a field)
  EDITOR=nano prodigy-storage dlq edit --job J ID
  prodigy-storage dlq edit --job J ID --patch '{"item_data":{"file":"b.rs"}}'"#;
const REMOVE: &str = "Example:
  prodigy-storage dlq remove --job J ID

`dlq purge` removes all items that filters select.";
const PURGE: &str = "Example: count the parked items that are older than 30 days, then remove them
  prodigy-storage dlq purge --job J --parked --older-than 30d
  prodigy-storage dlq purge --job J --parked --older-than 30d --yes";
const EXPORT: &str = "Example: to another job
  prodigy-storage dlq export --job J > letters.jsonl
  prodigy-storage dlq import --job K letters.jsonl";
const IMPORT: &str = "Examples:
  prodigy-storage dlq import --job J letters.jsonl
  prodigy-storage dlq import --job J mapreduce/dlq/J/items/item_0.json";
const COMPACT: &str = "Example:
  prodigy-storage dlq compact --job J";
const REDRIVE: &str = r"Examples:
  # one item at a time; four at once
  prodigy-storage dlq redrive --job J -- ./work.sh
  prodigy-storage dlq redrive --job J --concurrency 4 -- ./work.sh
  # what last failed five minutes ago or before; parked after five failures
  prodigy-storage dlq redrive --job J --older-than 5m \
    --max-attempts 5 -- ./work.sh
  # a rehearsal
  prodigy-storage dlq redrive --job J --dry-run
  # a line of the shell
  prodigy-storage dlq redrive --job J -- sh -c 'jq -r .file | xargs ./fix.sh'

A failure of the command replaces the last failure, and so the `error_type` and
the signature of an item: a filter by these selects it in the first run only.";

#[derive(Debug, Subcommand)]
pub(crate) enum DlqCommand {
    /// Print what failed: the items grouped by the signature of their last failure, the most frequent first.
    ///
    /// By default all items count, parked and leased ones too. FIRST and LAST say how long ago the first attempt of an item of
    /// the group and the last one were; with `--json` they are times, and there are up to five samples.
    #[command(after_help = ANALYZE)]
    Analyze(analyze::AnalyzeArgs),
    /// List the items: their state, attempts, age and last error; with `--json`, a whole item a line.
    ///
    /// By default all items are listed, in the order in which they were first pushed. An item is `pending`, `leased` (a worker
    /// has taken it), `delayed` (it was released with a delay), `parked` (a person has to look at it; its reason is shown before
    /// its last error), or `unreadable` (it has another shape than an item of this tool). The age counts from the last attempt.
    ///
    /// Items are taken in another order: an item that was taken, released or failed goes behind all others.
    ///
    /// With `--json` each object has the state as `queue_state`, and `lease_until` or `delay_until` while that lasts.
    #[command(after_help = LIST)]
    List(list::ListArgs),
    /// Print an item as JSON: over several lines on a terminal, on one line elsewhere.
    #[command(after_help = SHOW)]
    Show(list::ShowArgs),
    /// Fix an item by hand: in the editor of `$VISUAL` or `$EDITOR` (`vi` if neither is set), or by a JSON merge patch.
    ///
    /// The edit is stored only if nobody changed the item meanwhile. Otherwise it is refused, and the edited text is kept in a
    /// file. An edit ends a lease on the item.
    #[command(after_help = EDIT)]
    Edit(edit::EditArgs),
    /// Run the items again: a command for each of them.
    ///
    /// By default a run takes every pending item that is not parked. A parked item is run only if its id is given, or with
    /// `--parked` or `--any`.
    ///
    /// The command gets the item's data as one line of JSON on its standard input, and the variables PRODIGY_ITEM_ID,
    /// PRODIGY_ATTEMPT (1 for the first), PRODIGY_JOB and PRODIGY_REPO.
    ///
    /// If it ends with 0, the item is done and leaves the queue. If it ends with 75, the item is released as it is, for
    /// another run. If it ends with anything else or by a signal, the item failed again, and the last lines of the command's
    /// standard error are the message of its failure.
    ///
    /// Each item is settled as it ends, its lease is renewed while its command runs, and no item is taken twice in a run. An
    /// interrupt (Ctrl-C) takes no more items and waits for the commands that run; a second one ends these with SIGTERM and
    /// releases their items; a third one kills them.
    ///
    /// The report counts as `kept` an item that is done and stays, because a failure was pushed to it meanwhile, and as `lost`
    /// one whose lease ended: another worker took it, or an operator changed, parked or removed it.
    ///
    /// The exit code is 0 if every item was done, kept or released, 1 if one failed, was parked or lost, 4 if a named item does
    /// not exist, 6 if items were left that cannot be read, 126 or 127 if the command cannot be started, and 128 and the number
    /// of the signal after a signal.
    #[command(after_help = REDRIVE)]
    Redrive(redrive::RedriveArgs),
    /// Set items aside that cannot be fixed now: `take` and `redrive` leave them out until they are unparked, unless an id or
    /// `--parked` or `--any` asks for them.
    ///
    /// Parking an item by its id or token ends a lease on it. With filters, every eligible item that they select and nobody has
    /// taken is parked.
    #[command(after_help = PARK, override_usage = PARK_USAGE)]
    Park(settle::ParkArgs),
    /// Make parked items eligible again.
    ///
    /// An item that is not parked is left alone, also if a worker has taken it.
    #[command(after_help = UNPARK)]
    Unpark(settle::UnparkArgs),
    /// Take pending items under a lease and print them as JSON lines with `lease_token` and `lease_until`.
    ///
    /// By default pending items that are not parked are taken, those first that have waited longest since their last turn. A
    /// parked item is taken only if its id is given, or with `--parked` or `--any`.
    ///
    /// Nobody else gets an item before its lease ends, or it is released. Items that can't be written to the output are
    /// released, and the command fails.
    #[command(after_help = TAKE)]
    Take(take::TakeArgs),
    /// Extend the leases of taken items.
    #[command(after_help = RENEW)]
    Renew(settle::RenewArgs),
    /// Remove taken items: they are done. An item that failed again while it was taken is kept.
    #[command(after_help = ACK)]
    Ack(settle::AckArgs),
    /// Give items back: they are pending again, behind all others.
    ///
    /// A parked item stays parked. An item that nobody took goes behind all others, too, and an earlier delay of it ends.
    #[command(after_help = RELEASE)]
    Release(settle::ReleaseArgs),
    /// Remove items, taken or not.
    #[command(after_help = REMOVE)]
    Remove(settle::RemoveArgs),
    /// Remove every item that filters select; without `--yes`, only count them.
    ///
    /// Parked items are among them unless `--state` says otherwise. Items that a worker has taken are left alone.
    #[command(after_help = PURGE)]
    Purge(bulk::PurgeArgs),
    /// Push items: JSON lines, each an object with at least `item_id` and `item_data`.
    ///
    /// A failure is an object in the list `failure_history`. Its fields, all optional: `error_type`, `error_message`,
    /// `timestamp`, `attempt_number`, `error_context`, `stack_trace`, `agent_id`, `step_failed`, `duration_ms`,
    /// `json_log_location`.
    ///
    /// A push of a known `item_id` adds its failures to the item. A failure counts once: one with neither `timestamp` nor
    /// `attempt_number` is the same as a stored one that is equal in all other fields. Give each new failure its time or its
    /// number. A push without failures updates the other fields, and is an attempt only with a new `last_attempt`.
    #[command(after_help = PUSH)]
    Push(push::PushArgs),
    /// Print items as JSON lines that `dlq import` reads; by default all items.
    #[command(after_help = EXPORT)]
    Export(list::ExportArgs),
    /// Push items from files: JSON lines, arrays, and pretty-printed objects, also those of Prodigy itself.
    ///
    /// Importing the same items again changes nothing: a failure counts once, as in `dlq push`. A value that is no item, or an
    /// array that does not end, is reported with its line, and the others are imported; the exit code is then 1.
    #[command(after_help = IMPORT)]
    Import(push::ImportArgs),
    /// Free the room of items that are gone.
    #[command(after_help = COMPACT)]
    Compact(compact::CompactArgs),
}

impl DlqCommand {
    /// How much of the stored data the command reads.
    pub(crate) fn reads(&self) -> Reads {
        match self {
            Self::Analyze(_) | Self::List(_) | Self::Show(_) | Self::Export(_) => Reads::All,
            Self::Push(_) | Self::Import(_) => Reads::Nothing,
            _ => Reads::Some,
        }
    }

    /// True if the output is the result of the command.
    pub(crate) fn prints(&self) -> bool {
        match self {
            Self::Analyze(_) | Self::List(_) | Self::Show(_) | Self::Export(_) | Self::Take(_) => true,
            Self::Redrive(arguments) => arguments.prints(),
            _ => false,
        }
    }
}

pub(crate) fn run(app: &mut App<'_>, command: DlqCommand) -> Result<Exit> {
    match command {
        DlqCommand::Analyze(arguments) => analyze::run(app, &arguments),
        DlqCommand::List(arguments) => list::list(app, &arguments),
        DlqCommand::Show(arguments) => list::show(app, &arguments),
        DlqCommand::Edit(arguments) => edit::run(app, &arguments),
        DlqCommand::Redrive(arguments) => redrive::run(app, &arguments),
        DlqCommand::Park(arguments) => settle::park(app, &arguments),
        DlqCommand::Unpark(arguments) => settle::unpark(app, &arguments),
        DlqCommand::Take(arguments) => take::run(app, &arguments),
        DlqCommand::Renew(arguments) => settle::renew(app, &arguments),
        DlqCommand::Ack(arguments) => settle::ack(app, &arguments),
        DlqCommand::Release(arguments) => settle::release(app, &arguments),
        DlqCommand::Remove(arguments) => settle::remove(app, &arguments),
        DlqCommand::Purge(arguments) => bulk::purge(app, &arguments),
        DlqCommand::Push(arguments) => push::push(app, &arguments),
        DlqCommand::Export(arguments) => list::export(app, &arguments),
        DlqCommand::Import(arguments) => push::import(app, &arguments),
        DlqCommand::Compact(arguments) => compact::run(app, &arguments),
    }
}

/// The JSON object of an item, with its state and the end of its lease or delay added.
fn line_of(item: &DlqItem, state: State) -> String {
    let (lease, delay) = match item.state {
        ItemState::Leased => (item.lease.as_ref(), None),
        ItemState::Delayed => (None, item.delay.as_ref()),
        ItemState::Pending => (None, None),
    };
    let line = with_lease(&item.body, lease, delay, false);
    match line.strip_suffix('}') {
        Some(open) => format!(r#"{open},"queue_state":"{}"}}"#, state.name()),
        None => line,
    }
}

/// The JSON object of an item, with its lease or delay added. The token is added only for the process that took the
/// item.
fn with_lease(body: &RawValue, lease: Option<&Lease>, delay: Option<&Delay>, token: bool) -> String {
    let body = body.get().trim_end();
    let Some(open) = body.strip_suffix('}') else {
        return body.to_owned();
    };
    let mut line = open.to_owned();
    if let Some(lease) = lease {
        if token {
            line.push_str(&format!(r#","lease_token":"{}""#, lease.token));
        }
        line.push_str(&format!(r#","lease_until":"{}""#, lease.until.to_rfc3339()));
    } else if let Some(delay) = delay {
        line.push_str(&format!(r#","delay_until":"{}""#, delay.until.to_rfc3339()));
    }
    line.push('}');
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use prodigy_storage::{LeaseToken, Timestamp};

    #[test]
    fn the_lease_is_at_the_end() {
        let body = RawValue::from_string(r#"{"item_id":"i","item_data":{}}"#.to_owned()).unwrap();
        let lease = Lease {
            token: LeaseToken::from("t-1".to_owned()),
            until: Timestamp::MIN,
            end: None,
        };
        assert_eq!(
            with_lease(&body, Some(&lease), None, true),
            r#"{"item_id":"i","item_data":{},"lease_token":"t-1","lease_until":"1970-01-01T00:00:00.000000Z"}"#
        );
        assert_eq!(with_lease(&body, None, None, true), body.get());
        assert!(!with_lease(&body, Some(&lease), None, false).contains("t-1"));
    }
}
