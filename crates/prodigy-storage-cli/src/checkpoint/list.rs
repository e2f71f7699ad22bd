//! `checkpoint list`, which is `checkpoint verify` too: a checkpoint that can't be read is worth nothing to its job.

use prodigy_storage::ErrorKind;
use serde_json::json;

use super::ListArgs;
use crate::app::{Access, App};
use crate::errors::Result;
use crate::exit::Exit;
use crate::output::{Table, bytes};
use crate::time::{age, passed};

/// Reads each checkpoint and prints whether its checksum holds.
pub(super) fn run(app: &mut App<'_>, arguments: &ListArgs) -> Result<Exit> {
    let opened = arguments.job.open(app, Access::Read)?;
    let checkpoints = opened.job.checkpoints();
    let entries = match arguments.phase {
        Some(phase) => checkpoints.list_phase(phase),
        None => checkpoints.list(),
    };
    let mut table = Table::new(&["PHASE", "AGE", "SIZE", "CHECKSUM", "DOCUMENT"]);
    let mut any = false;
    for entry in entries {
        let entry = entry?;
        any = true;
        let checksum = match checkpoints.stored(&entry.id) {
            Ok(Some(stored)) if stored.is_verified() => "valid",
            Ok(Some(_)) => "none",
            // It was removed after it was listed.
            Ok(None) => continue,
            Err(error) if error.kind() == ErrorKind::Damaged => {
                app.damaged_by(&error);
                "mismatch"
            }
            Err(error) if matches!(error.kind(), ErrorKind::Foreign | ErrorKind::TooLarge) => {
                app.skipped_by(&error);
                "unread"
            }
            Err(error) => return Err(error.into()),
        };
        let (document, phase) = (entry.id.to_string(), entry.id.phase());
        if app.json() {
            app.json_line(&json!({
                "phase": phase,
                "document": document,
                "modified": entry.modified.to_rfc3339(),
                "bytes": entry.bytes,
                "checksum": checksum,
            }))?;
            continue;
        }
        let age = age(passed(entry.modified));
        let cells = [
            phase.to_string(),
            age,
            bytes(entry.bytes),
            checksum.to_owned(),
            document,
        ];
        table.row(app, cells)?;
    }
    if !any {
        opened.must_be_known()?;
    }
    table.print(app)?;
    Ok(Exit::Done)
}
