//! `usage`.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use prodigy_storage::ErrorKind;

use crate::app::{Access, App};
use crate::errors::Result;
use crate::exit::Exit;
use crate::jobs::Parts;
use crate::output::{Table, bytes};

/// The jobs that are printed if no number is given.
const JOBS: usize = 20;

#[derive(Debug, clap::Args)]
pub(crate) struct UsageArgs {
    /// Print the largest jobs, with the size of each kind of data, instead of areas and repositories.
    #[arg(long)]
    jobs: bool,
    /// Print the N largest alone, the largest first; of jobs, 20 without the flag.
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

/// A job, ordered by its size: the smallest one is the greatest.
struct BySize(Parts);

impl PartialEq for BySize {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for BySize {}

impl PartialOrd for BySize {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for BySize {
    fn cmp(&self, other: &Self) -> Ordering {
        other.0.bytes().cmp(&self.0.bytes())
    }
}

/// Prints the largest jobs of all repositories, the largest first. No more of them than are printed is in memory.
fn largest_jobs(app: &mut App<'_>, top: usize) -> Result<Exit> {
    let storage = app.open(Access::Read)?;
    let mut largest = BinaryHeap::new();
    for name in storage.repositories() {
        let repo = storage.repo(name?)?;
        for id in repo.jobs() {
            match Parts::of(&repo.job(id?)?) {
                Ok(parts) => largest.push(BySize(parts)),
                Err(error) if error.kind() == ErrorKind::Damaged => app.damaged_by(&error),
                Err(error) => return Err(error.into()),
            }
            if largest.len() > top {
                largest.pop();
            }
        }
    }
    let mut table = Table::new(&[
        "EVENTS",
        "CHECKPOINTS",
        "DOCUMENTS",
        "DEAD LETTERS",
        "SIZE",
        "JOB",
    ]);
    for BySize(parts) in largest.into_sorted_vec() {
        if app.json() {
            app.json_line(&parts.json())?;
        } else {
            table.row(app, parts.sizes())?;
        }
    }
    table.print(app)?;
    Ok(Exit::Done)
}
