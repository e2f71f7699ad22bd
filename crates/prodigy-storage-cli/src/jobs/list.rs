//! The command `job list`.

use clap::ValueEnum;
use prodigy_storage::{JobOverview, JobState, Repo, Storage};
use serde_json::json;

use super::marks::Marks;
use super::row::{each_row, row_json, state_word};
use crate::app::{Access, App};
use crate::errors::Result;
use crate::exit::Exit;
use crate::job::{RepoArgs, no_repo, repositories};
use crate::output::bytes;
use crate::table::{Column, Table};
use crate::time::age_of;

#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    repo: RepoArgs,
    /// List the jobs of all repositories.
    #[arg(long, conflicts_with = "repo")]
    all_repos: bool,
    /// Only jobs in this state.
    #[arg(long, value_name = "STATE")]
    state: Option<StateArg>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum StateArg {
    /// A process is working on it.
    Active,
    /// No process is working on it, and it is not finished.
    Open,
    /// It is finished, and nothing was written to it since.
    Finished,
    /// It was moved to another store, and takes no writes here.
    Moved,
}

impl StateArg {
    fn is(self, state: JobState, moved: bool) -> bool {
        match self {
            Self::Active => state == JobState::Active && !moved,
            Self::Open => state == JobState::Open && !moved,
            Self::Finished => state == JobState::Finished && !moved,
            Self::Moved => moved,
        }
    }
}

pub(crate) fn run(app: &mut App<'_>, arguments: &ListArgs) -> Result<Exit> {
    if arguments.all_repos {
        let storage = app.open(Access::Read)?;
        let marks = Marks::of(app, &storage)?;
        let mut table = table(true);
        for name in repositories(&storage) {
            let repo = storage.repo(name?)?;
            list(app, arguments, &repo, &marks, &mut table)?;
        }
        table.print(app)?;
        return Ok(Exit::Done);
    }
    let name = arguments.repo.name()?;
    let storage: Storage = app.open(Access::Read)?;
    let repo = app.repo(&storage, name.as_ref())?;
    let mut table = table(false);
    let marks = Marks::of(app, &storage)?;
    let any = list(app, arguments, &repo, &marks, &mut table)?;
    table.print(app)?;
    if !any {
        app.flush()?;
        if let Some(missing) = no_repo(
            &storage,
            repo.name(),
            &format!("no job in the repository `{}`", repo.name()),
        )? {
            return Err(missing);
        }
    }
    Ok(Exit::Done)
}

fn table(all_repos: bool) -> Table {
    let repository = all_repos.then(|| Column::name("REPOSITORY"));
    Table::new(repository.into_iter().chain([
        Column::name("JOB"),
        Column::word("STATE"),
        Column::number("ACTIVE"),
        Column::number("DEAD LETTERS"),
        Column::number("SIZE"),
    ]))
}

/// Adds the jobs of a repository. Returns true if it has any.
fn list(
    app: &mut App<'_>,
    arguments: &ListArgs,
    repo: &Repo,
    marks: &Marks,
    table: &mut Table,
) -> Result<bool> {
    let mut any = false;
    each_row(app, repo, |app, row| {
        any = true;
        let moved = marks.place_of(&row.address);
        let is_wanted = |state: StateArg| state.is(row.status.state, moved.is_some());
        if !arguments.state.is_none_or(is_wanted) {
            return Ok(());
        }
        if app.json() {
            let mut line = row_json(&row);
            if let Some(fields) = line.as_object_mut() {
                fields.insert("moved_to".into(), json!(moved));
            }
            return app.json_line(&line);
        }
        let repo = arguments.all_repos.then(|| row.address.repo.to_string());
        let state = match moved {
            Some(_) => "moved",
            None => state_word(row.status.state),
        };
        table.row(app, repo.into_iter().chain(cells(&row, state)))
    })?;
    Ok(any)
}

/// The cells of a job's row, its id first.
fn cells(row: &JobOverview, state: &str) -> [String; 5] {
    [
        row.address.job.to_string(),
        state.to_owned(),
        age_of(row.status.last_activity),
        row.letters.items.to_string(),
        bytes(row.bytes()),
    ]
}
