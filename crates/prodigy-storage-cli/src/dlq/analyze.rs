//! `dlq analyze`.

use prodigy_storage::{Eligible, ItemId, SignatureCount, Timestamp};
use serde_json::json;

use super::{select::SelectArgs, view};
use crate::app::{Access, App};
use crate::errors::Result;
use crate::exit::Exit;
use crate::job::JobArgs;
use crate::output::Table;

/// The samples in a row of the table.
const SAMPLES: usize = 3;

#[derive(Debug, clap::Args)]
pub(crate) struct AnalyzeArgs {
    #[command(flatten)]
    job: JobArgs,
    #[command(flatten)]
    select: SelectArgs,
}

pub(crate) fn run(app: &mut App<'_>, arguments: &AnalyzeArgs) -> Result<Exit> {
    let opened = arguments.job.open(app, Access::Read)?;
    let select = arguments.select.select(Eligible::Any);
    let counts = opened.job.dlq().by_signature(&select)?;
    for error in &counts.left_out {
        view::left_out(app, error);
    }
    let more = counts.left_out_count - counts.left_out.len() as u64;
    if more > 0 {
        app.skipped(&format!("{more} more items"));
    }
    if counts.groups.is_empty() && counts.left_out.is_empty() {
        opened.must_be_known()?;
    }
    let mut table = Table::new(&["COUNT", "FIRST", "LAST", "SAMPLES", "SIGNATURE"]).cut();
    for group in counts.groups {
        if app.json() {
            app.json_line(&object(&group))?;
        } else {
            table.row(app, row(group))?;
        }
    }
    table.print(app)?;
    Ok(Exit::Done)
}

fn object(group: &SignatureCount) -> serde_json::Value {
    json!({
        "items": group.items,
        "eligible": group.eligible,
        "review": group.review,
        "first": group.first,
        "last": group.last,
        "samples": group.samples,
        "signature": group.signature,
    })
}

fn row(group: SignatureCount) -> [String; 5] {
    let time = |time: Option<Timestamp>| time.map_or_else(|| "-".to_owned(), short);
    let mut samples: Vec<&str> = group.samples.iter().take(SAMPLES).map(ItemId::as_str).collect();
    if group.items > samples.len() as u64 {
        samples.push("..");
    }
    [
        group.items.to_string(),
        time(group.first),
        time(group.last),
        samples.join(" "),
        group.signature.unwrap_or_else(|| "-".to_owned()),
    ]
}

/// A time to the second.
fn short(time: Timestamp) -> String {
    let text = time.to_rfc3339();
    match text.split_once('.') {
        Some((seconds, _)) => format!("{seconds}Z"),
        None => text,
    }
}
