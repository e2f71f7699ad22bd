//! The command `dlq analyze`.

use prodigy_storage::{Eligible, ItemId, SignatureCount, SignatureGroups};
use serde_json::json;

use super::select::{StateArgs, none_found, print_missing};
use super::view::{self, State};
use crate::app::{Access, App};
use crate::errors::Result;
use crate::exit::Exit;
use crate::job::JobArgs;
use crate::table::{Column, Table, shortened_in_the_middle};
use crate::time::age_of;

/// The largest number of characters of a sample in the table.
const SAMPLE: usize = 24;

#[derive(Debug, clap::Args)]
pub(crate) struct AnalyzeArgs {
    #[command(flatten)]
    job: JobArgs,
    #[command(flatten)]
    which: StateArgs,
}

pub(crate) fn run(app: &mut App<'_>, arguments: &AnalyzeArgs) -> Result<Exit> {
    let opened = arguments.job.open(app, Access::Read)?;
    let dlq = opened.job.dlq();
    let which = &arguments.which;
    let mut groups = SignatureGroups::default();
    let any = view::each(
        app,
        dlq.scan(&which.select.select(Eligible::Any))?,
        |app, item| {
            match item.summary() {
                Ok(summary) if which.holds(State::of(&summary)) => groups.add(summary),
                Ok(_) => {}
                Err(error) => view::left_out(app, &error),
            }
            Ok(())
        },
    )?;
    if !any {
        opened.must_be_known()?;
    }
    let groups = groups.into_vec();
    let is_empty = groups.is_empty();
    // A filter by signature needs the whole signature.
    let mut table = Table::new([
        Column::number("COUNT"),
        Column::number("FIRST"),
        Column::number("LAST"),
        Column::name("SAMPLE").optional(1),
        Column::text("SIGNATURE"),
    ])
    .whole();
    for group in groups {
        if app.json() {
            app.json_line(&object(&group))?;
        } else {
            table.row(app, row(group))?;
        }
    }
    table.print(app)?;
    app.flush()?;
    if is_empty {
        none_found(app, &opened, &which.select.filters)?;
    }
    print_missing(app, &opened, &which.select.ids)
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
    let sample = group.samples.first().map_or("-", ItemId::as_str);
    [
        group.items.to_string(),
        age_of(group.first),
        age_of(group.last),
        shortened_in_the_middle(sample, SAMPLE),
        group.signature.unwrap_or_else(|| "-".to_owned()),
    ]
}
