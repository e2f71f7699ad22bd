//! `dlq`.

mod list;
mod push;
mod settle;
mod take;

use clap::Subcommand;
use prodigy_storage::{Lease, SystemClock};
use serde_json::value::RawValue;

use crate::app::App;
use crate::errors::Result;
use crate::exit::Exit;
use crate::job::JobArgs;

#[derive(Debug, Subcommand)]
pub(crate) enum DlqCommand {
    /// Push items: JSON lines, each an object with at least `item_id` and `item_data`.
    Push(push::PushArgs),
    /// List the items; with `--json`, an item a line.
    List(JobArgs),
    /// Print an item as JSON.
    Show(list::ShowArgs),
    /// Take pending items under a lease and print them as JSON lines with `lease_token` and `lease_until`.
    Take(take::TakeArgs),
    /// Remove taken items: they are done.
    Ack(settle::TokenArgs),
    /// Give taken items back: they are pending at once.
    Nack(settle::TokenArgs),
    /// Remove items, taken or not.
    Remove(settle::IdArgs),
}

pub(crate) fn run(app: &mut App<'_>, command: DlqCommand) -> Result<Exit> {
    match command {
        DlqCommand::Push(arguments) => push::run(app, &arguments),
        DlqCommand::List(arguments) => list::run(app, &arguments),
        DlqCommand::Show(arguments) => list::show(app, &arguments),
        DlqCommand::Take(arguments) => take::run(app, &arguments),
        DlqCommand::Ack(arguments) => settle::ack(app, &arguments),
        DlqCommand::Nack(arguments) => settle::nack(app, &arguments),
        DlqCommand::Remove(arguments) => settle::remove(app, &arguments),
    }
}

/// An item's object with its lease at the end. The token is for who took it alone.
fn with_lease(body: &RawValue, lease: Option<&Lease>, token: bool) -> String {
    let body = body.get().trim_end();
    let (Some(lease), Some(open)) = (lease, body.strip_suffix('}')) else {
        return body.to_owned();
    };
    let token = if token {
        format!(r#","lease_token":"{}""#, lease.token)
    } else {
        String::new()
    };
    format!(r#"{open}{token},"lease_until":"{}"}}"#, lease.until.to_rfc3339())
}

/// The claim on an item, while it lasts.
fn running(lease: Option<&Lease>) -> Option<&Lease> {
    lease.filter(|lease| !lease.has_ended(&SystemClock))
}

#[cfg(test)]
mod tests {
    use super::*;
    use prodigy_storage::{LeaseToken, Timestamp};

    #[test]
    fn the_lease_stands_at_the_end() {
        let body = RawValue::from_string(r#"{"item_id":"i","item_data":{}}"#.to_owned()).unwrap();
        let lease = Lease {
            token: LeaseToken::from("t-1".to_owned()),
            until: Timestamp::MIN,
            end: None,
        };
        assert_eq!(
            with_lease(&body, Some(&lease), true),
            r#"{"item_id":"i","item_data":{},"lease_token":"t-1","lease_until":"1970-01-01T00:00:00.000000Z"}"#
        );
        assert_eq!(with_lease(&body, None, true), body.get());
        assert!(!with_lease(&body, Some(&lease), false).contains("t-1"));
        assert_eq!(running(Some(&lease)), None);
    }
}
