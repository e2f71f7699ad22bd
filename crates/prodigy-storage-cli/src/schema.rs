//! The command `schema`.

use clap::Subcommand;
use prodigy_storage::{Schema, SchemaState};
use serde_json::json;

use crate::app::App;
use crate::errors::Result;
use crate::exit::Exit;
use crate::output::counted;

#[derive(Debug, Subcommand)]
pub(crate) enum SchemaCommand {
    /// Print the version of the tables and the version that this program needs; end with 1 if they differ.
    Show,
    /// Create the tables, or migrate them to the version of this program, in one transaction.
    Migrate,
    /// Give the store a new identity, after its database was restored to an earlier moment.
    ///
    /// Needed only if readers have cursors of a program before version 6 of the schema: these would pass over events that got the numbers of lost ones.
    /// Afterwards each cursor that a reader still has is refused as a gap. Checkpoints keep their positions. Refused while a process appends or holds a lock.
    Renew,
}

pub(crate) fn run(app: &mut App<'_>, command: &SchemaCommand) -> Result<Exit> {
    let schema = app.schema()?;
    let state = match command {
        SchemaCommand::Show => schema.state()?,
        SchemaCommand::Migrate => schema.migrate()?,
        SchemaCommand::Renew => return renew(app, &schema),
    };
    let SchemaState { found, wanted, .. } = state;
    if app.json() {
        app.json_line(&json!({"found": found, "wanted": wanted}))?;
    } else {
        app.line(format!("version {found}, and this program needs {wanted}"))?;
    }
    Ok(if found == wanted { Exit::Done } else { Exit::Failed })
}

fn renew(app: &mut App<'_>, schema: &Schema) -> Result<Exit> {
    let checkpoints = schema.renew()?;
    if app.json() {
        app.json_line(&json!({"checkpoints": checkpoints}))?;
    } else {
        let of = counted(checkpoints, "checkpoint");
        app.line(format!(
            "the store has a new identity; {of} with a position kept it"
        ))?;
    }
    Ok(Exit::Done)
}
