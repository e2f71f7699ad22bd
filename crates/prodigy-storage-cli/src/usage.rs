//! `usage`.

use crate::app::{Access, App};
use crate::errors::Result;
use crate::exit::Exit;
use crate::output::{Table, bytes};

pub(crate) fn run(app: &mut App<'_>) -> Result<Exit> {
    let usage = app.open(Access::Read)?.usage()?;
    for what in &usage.unreadable {
        app.error(&format!("not counted: {what}"));
    }
    let named = usage.unreadable.len() as u64;
    if usage.unreadable_count > named {
        let more = usage.unreadable_count - named;
        app.error(&format!("not counted: {more} more files and folders"));
    }
    let exit = match usage.unreadable_count {
        0 => Exit::Done,
        _ => Exit::Failed,
    };
    if app.json() {
        app.json_line(&usage)?;
        return Ok(exit);
    }
    let mut table = Table::new(&["AREA", "REPOSITORY", "FILES", "SIZE"]);
    for area in &usage.areas {
        table.row(
            app,
            [
                area.area.clone(),
                area.repo
                    .as_ref()
                    .map_or_else(|| "-".to_owned(), ToString::to_string),
                area.files.to_string(),
                bytes(area.bytes),
            ],
        )?;
    }
    table.print(app)?;
    let mut total = format!("{} in all", bytes(usage.bytes()));
    if let Some(free) = usage.free {
        total.push_str(&format!(", {} free", bytes(free)));
    }
    if let Some(capacity) = usage.capacity {
        total.push_str(&format!(" of {}", bytes(capacity)));
    }
    app.line(total)?;
    Ok(exit)
}
