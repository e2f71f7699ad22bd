//! The command `dlq compact`.

use serde_json::json;

use crate::app::{Access, App};
use crate::errors::Result;
use crate::exit::Exit;
use crate::job::JobArgs;
use crate::output::bytes;

#[derive(Debug, clap::Args)]
pub(crate) struct CompactArgs {
    #[command(flatten)]
    job: JobArgs,
}

pub(crate) fn run(app: &mut App<'_>, arguments: &CompactArgs) -> Result<Exit> {
    let opened = arguments.job.open(app, Access::Write)?;
    let compaction = opened.job.dlq().compact()?;
    if compaction.before == 0 {
        opened.must_be_known()?;
    }
    if app.json() {
        app.json_line(&json!({"before": compaction.before, "after": compaction.after}))?;
    } else {
        app.line(format!(
            "{} before, {} now",
            bytes(compaction.before),
            bytes(compaction.after)
        ))?;
    }
    Ok(Exit::Done)
}
