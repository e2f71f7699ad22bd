//! `usage`.

use crate::app::{Access, App};
use crate::errors::Result;
use crate::exit::Exit;
use crate::output::{Table, bytes};

pub(crate) fn run(app: &mut App<'_>) -> Result<Exit> {
    let usage = app.open(Access::Read)?.usage()?;
    if app.json() {
        app.json_line(&usage)?;
        return Ok(Exit::Done);
    }
    let mut table = Table::new(&["AREA", "REPOSITORY", "FILES", "SIZE"]);
    for area in &usage.areas {
        table.row([
            area.area.clone(),
            area.repo
                .as_ref()
                .map_or_else(|| "-".to_owned(), ToString::to_string),
            area.files.to_string(),
            bytes(area.bytes),
        ]);
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
    Ok(Exit::Done)
}
