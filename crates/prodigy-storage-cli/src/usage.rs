//! The command `usage`.

use std::cmp::Reverse;

use prodigy_storage::{AreaUsage, RepoName, Storage};

use crate::app::{Access, App};
use crate::copy::must_be_there;
use crate::errors::Result;
use crate::exit::Exit;
use crate::job::repositories;
use crate::jobs::{each_row, row_json};
use crate::output::{bytes, counted};
use crate::shell::tool;
use crate::table::{Column, Table};
use crate::top::Top;

/// The number of jobs that are printed by default.
const JOBS: usize = 20;

#[derive(Debug, clap::Args)]
pub(crate) struct UsageArgs {
    /// Print the largest jobs, with the size of each kind of data, instead of areas and repositories.
    #[arg(long)]
    jobs: bool,
    /// Only this repository's data.
    #[arg(long, value_name = "REPO")]
    repo: Option<String>,
    /// Print only the N largest, largest first; the default for jobs is 20.
    #[arg(long, value_name = "N")]
    top: Option<usize>,
}

pub(crate) fn run(app: &mut App<'_>, arguments: &UsageArgs) -> Result<Exit> {
    let repo = arguments.repo.as_ref().map(RepoName::new).transpose()?;
    let storage = app.open(Access::Read)?;
    must_be_there(&storage, repo.as_ref(), None)?;
    let exit = match arguments.jobs {
        true => largest_jobs(app, &storage, repo.as_ref(), arguments.top.unwrap_or(JOBS))?,
        false => areas(app, &storage, repo.as_ref(), arguments.top)?,
    };
    app.flush()?;
    note_unfinished(app, &storage, repo.as_ref())?;
    Ok(exit)
}

/// Prints the size of each area and repository.
fn areas(app: &mut App<'_>, storage: &Storage, repo: Option<&RepoName>, top: Option<usize>) -> Result<Exit> {
    let mut usage = storage.usage()?;
    usage.areas = of_the_store_itself(usage.areas);
    if let Some(repo) = repo {
        usage.areas.retain(|area| area.repo.as_ref() == Some(repo));
    }
    let in_all = usage.bytes();
    if let Some(top) = top {
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

/// Counts the data that the store keeps for itself, such as the audit log, with the data that belongs to no repository.
fn of_the_store_itself(areas: Vec<AreaUsage>) -> Vec<AreaUsage> {
    let mut counted: Vec<AreaUsage> = Vec::with_capacity(areas.len());
    for mut area in areas {
        area.repo = area.repo.filter(|repo| !repo.is_reserved());
        let same = |other: &&mut AreaUsage| other.area == area.area && other.repo == area.repo;
        match counted.iter_mut().find(same) {
            Some(other) => {
                other.files += area.files;
                other.bytes += area.bytes;
            }
            None => counted.push(area),
        }
    }
    counted
}

/// Prints the largest jobs of all repositories, or of one, largest first. Memory is bounded by their number.
fn largest_jobs(app: &mut App<'_>, storage: &Storage, only: Option<&RepoName>, count: usize) -> Result<Exit> {
    let mut largest = Top::new(count);
    for name in repositories(storage) {
        let name = name?;
        if only.is_some_and(|only| *only != name) {
            continue;
        }
        each_row(app, &storage.repo(name)?, |_, row| {
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

/// Warns of jobs whose deletion was cut short: they take space, and no listing has them.
fn note_unfinished(app: &mut App<'_>, storage: &Storage, only: Option<&RepoName>) -> Result<()> {
    let (mut jobs, mut size) = (0_u64, 0);
    for left in storage.unfinished_deletions() {
        let left = match left {
            Ok(left) => left,
            Err(error) => {
                app.pass_over(error)?;
                break;
            }
        };
        if only.is_none_or(|only| left.job.repo == *only) {
            jobs += 1;
            size += left.bytes;
        }
    }
    if jobs > 0 {
        let (of, size, tool) = (counted(jobs, "job"), bytes(size), tool(&app.global));
        app.warn(&format!(
            "{size} belong to {of} whose deletion was cut short: `{tool} doctor` names the command that removes each"
        ));
    }
    Ok(())
}
