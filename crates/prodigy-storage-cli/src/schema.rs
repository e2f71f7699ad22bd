//! `schema`.

use clap::Subcommand;
use prodigy_storage::SchemaState;
use serde_json::json;

use crate::app::App;
use crate::errors::Result;
use crate::exit::Exit;

#[derive(Debug, Subcommand)]
pub(crate) enum SchemaCommand {
    /// Print the version of the tables and the version that this program needs; end with 1 if they differ.
    Show,
    /// Create the tables, or migrate them to the version of this program, in one transaction.
    Migrate,
}

pub(crate) fn run(app: &mut App<'_>, command: &SchemaCommand) -> Result<Exit> {
    let schema = app.schema()?;
    let state = match command {
        SchemaCommand::Show => schema.state()?,
        SchemaCommand::Migrate => schema.migrate()?,
    };
    let SchemaState { found, wanted, .. } = state;
    if app.json() {
        app.json_line(&json!({"found": found, "wanted": wanted}))?;
    } else {
        app.line(format!("version {found}, and this program needs {wanted}"))?;
    }
    Ok(if found == wanted { Exit::Done } else { Exit::Failed })
}
