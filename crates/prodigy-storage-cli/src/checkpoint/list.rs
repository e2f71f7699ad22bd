//! `checkpoint list` and `checkpoint verify`, which is the same command: a list has to show whether each checkpoint can be read.

use prodigy_storage::ErrorKind;

use super::{ListArgs, as_json, no_phase};
use crate::app::{Access, App};
use crate::errors::Result;
use crate::exit::Exit;
use crate::output::bytes;
use crate::table::{Column, Table};
use crate::time::{age, passed};

/// Reads each checkpoint and prints whether its checksum is valid.
pub(super) fn run(app: &mut App<'_>, arguments: &ListArgs) -> Result<Exit> {
    let opened = arguments.job.open(app, Access::Read)?;
    let checkpoints = opened.job.checkpoints();
    let entries = match arguments.phase {
        Some(phase) => checkpoints.list_phase(phase),
        None => checkpoints.list(),
    };
    let mut table = Table::new([
        Column::name("PHASE").optional(1),
        Column::number("AGE"),
        Column::number("SIZE"),
        Column::word("CHECKSUM"),
        Column::name("DOCUMENT"),
    ]);
    let mut any = false;
    for entry in entries {
        let entry = entry?;
        any = true;
        let checksum = match checkpoints.stored(&entry.id) {
            Ok(Some(stored)) if stored.is_verified() => "valid",
            Ok(Some(_)) => "none",
            // The checkpoint was removed after it was listed.
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
        if app.json() {
            let mut line = as_json(&entry);
            line.insert("checksum".to_owned(), checksum.into());
            app.json_line(&line)?;
            continue;
        }
        let (phase, document) = (entry.id.phase().to_string(), entry.id.to_string());
        let (age, size) = (age(passed(entry.modified)), bytes(entry.bytes));
        table.row(app, [phase, age, size, checksum.to_owned(), document])?;
    }
    if !any {
        match arguments.phase {
            Some(phase) => return Err(no_phase(&opened, phase)?),
            None => opened.must_be_known()?,
        }
    }
    table.print(app)?;
    Ok(Exit::Done)
}
