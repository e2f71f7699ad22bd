//! The command `events end`.

use serde_json::json;

use crate::app::{Access, App};
use crate::errors::Result;
use crate::exit::Exit;
use crate::job::JobArgs;

pub(crate) fn run(app: &mut App<'_>, arguments: &JobArgs) -> Result<Exit> {
    let opened = arguments.open(app, Access::Read)?;
    opened.must_be_known()?;
    let end = opened.job.events().end()?;
    if app.json() {
        app.json_line(&json!({"cursor": end}))?;
    } else {
        app.line(end.as_str())?;
    }
    Ok(Exit::Done)
}
