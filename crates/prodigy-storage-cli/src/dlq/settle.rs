//! `dlq ack`, `dlq nack` and `dlq remove`.

use std::fmt::Display;

use prodigy_storage::{ItemId, LeaseToken, Settled};
use serde::Serialize;
use serde_json::json;

use crate::app::{Access, App};
use crate::errors::Result;
use crate::exit::Exit;
use crate::job::JobArgs;
use crate::output::counted;

#[derive(Debug, clap::Args)]
pub(crate) struct TokenArgs {
    #[command(flatten)]
    job: JobArgs,
    /// The `lease_token` of each item.
    #[arg(value_name = "TOKEN", required = true)]
    tokens: Vec<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct IdArgs {
    #[command(flatten)]
    job: JobArgs,
    /// The `item_id` of each item.
    #[arg(value_name = "ID", required = true)]
    ids: Vec<ItemId>,
}

impl TokenArgs {
    fn tokens(&self) -> Vec<LeaseToken> {
        self.tokens.iter().cloned().map(LeaseToken::from).collect()
    }
}

pub(crate) fn ack(app: &mut App<'_>, arguments: &TokenArgs) -> Result<Exit> {
    let opened = arguments.job.open(app, Access::Write)?;
    let settled = opened.job.dlq().ack(&arguments.tokens())?;
    tell(app, &settled, "acknowledged", "no item is taken under the token")
}

pub(crate) fn nack(app: &mut App<'_>, arguments: &TokenArgs) -> Result<Exit> {
    let opened = arguments.job.open(app, Access::Write)?;
    let settled = opened.job.dlq().nack(&arguments.tokens())?;
    tell(app, &settled, "given back", "no item is taken under the token")
}

pub(crate) fn remove(app: &mut App<'_>, arguments: &IdArgs) -> Result<Exit> {
    let opened = arguments.job.open(app, Access::Write)?;
    let settled = opened.job.dlq().remove(&arguments.ids)?;
    tell(app, &settled, "removed", "no item")
}

/// Prints the settled items, and the keys that match no item.
fn tell<K: Display + Serialize>(
    app: &mut App<'_>,
    settled: &Settled<K>,
    done: &str,
    unknown: &str,
) -> Result<Exit> {
    for key in &settled.unknown {
        app.error(&format!("{unknown} `{key}`"));
    }
    if app.json() {
        app.json_line(&json!({"settled": settled.settled, "unknown": settled.unknown}))?;
    } else {
        app.line(format!("{} {done}", counted(settled.settled.len(), "item")))?;
    }
    Ok(if settled.unknown.is_empty() {
        Exit::Done
    } else {
        Exit::Missing
    })
}
