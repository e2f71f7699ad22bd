//! The command `usage`.

use std::cmp::Reverse;

use crate::app::{Access, App};
use crate::errors::Result;
use crate::exit::Exit;
use crate::jobs::{each_row, row_json};
use crate::output::bytes;
use crate::table::{Column, Table};
use crate::top::Top;

/// The number of jobs that are printed by default.
const JOBS: usize = 20;

#[derive(Debug, clap::Args)]
pub(crate) struct UsageArgs {
    /// Print the largest jobs, with the size of each kind of data, instead of areas and repositories.
    #[arg(long)]
    jobs: bool,
    /// Print only the N largest, largest first; the default for jobs is 20.
    #[arg(long, value_name = "N")]
    top: Option<usize>,
}

pub(crate) fn run(app: &mut App<'_>, arguments: &UsageArgs) -> Result<Exit> {
    if arguments.jobs {
        return largest_jobs(app, arguments.top.unwrap_or(JOBS));
    }
    let mut usage = app.open(Access::Read)?.usage()?;
    let in_all = usage.bytes();
    if let Some(top) = arguments.top {
        usage.areas.sort_by_key(|area| Reverse(area.bytes));
        usage.areas.truncate(top);
    }
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
    let mut table = Table::new([
        Column::word("AREA"),
        Column::name("REPOSITORY"),
        Column::number("FILES"),
        Column::number("SIZE"),
    ]);
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
    let mut total = format!("{} in all", bytes(in_all));
    if let Some(free) = usage.free {
        total.push_str(&format!(", {} free", bytes(free)));
    }
    if let Some(capacity) = usage.capacity {
        total.push_str(&format!(" of {}", bytes(capacity)));
    }
    app.line(total)?;
    Ok(exit)
}

/// Prints the largest jobs of all repositories, largest first. Memory is bounded by their number.
fn largest_jobs(app: &mut App<'_>, count: usize) -> Result<Exit> {
    let storage = app.open(Access::Read)?;
    let mut largest = Top::new(count);
    for name in storage.repositories() {
        let repo = storage.repo(name?)?;
        each_row(app, &repo, |_, row| {
            largest.offer(row.bytes(), row);
            Ok(())
        })?;
    }
    let mut table = Table::new([
        Column::number("EVENTS").optional(1),
        Column::number("CHECKPOINTS").optional(2),
        Column::number("DOCUMENTS").optional(4),
        Column::number("DEAD LETTERS").optional(3),
        Column::number("SIZE"),
        Column::name("JOB"),
    ]);
    for row in largest.into_sorted() {
        if app.json() {
            app.json_line(&row_json(&row))?;
            continue;
        }
        let sizes = [
            row.log.bytes,
            row.checkpoints.bytes,
            row.documents.bytes,
            row.letters.bytes,
            row.bytes(),
        ];
        table.row(app, sizes.map(bytes).into_iter().chain([row.address.to_string()]))?;
    }
    table.print(app)?;
    Ok(Exit::Done)
}
