//! The command `job`.

mod counts;
mod delete;
mod finish;
mod list;
mod marks;
mod parts;
mod row;
mod show;

use clap::Subcommand;
use prodigy_storage::RepoName;

pub(crate) use self::counts::RepoCounts;
pub(crate) use self::delete::{Left, left_of};
pub(crate) use self::marks::Marks;
pub(crate) use self::row::{count_in, each_row, row_json, state_word};
use crate::app::{Access, App};
use crate::errors::Result;
use crate::exit::Exit;
use crate::job::{Opened, RepoArgs};

const LIST: &str = "Examples: all jobs of the repository here; the jobs of the store that are open
  prodigy-storage job list
  prodigy-storage job list --all-repos --state open";
const SHOW: &str = "Example:
  prodigy-storage job show J";
const FINISH: &str = "Example: what `clean --finished-jobs 30d` removes a month later
  prodigy-storage job finish J";
const DELETE: &str = "Examples: show what it holds; delete it
  prodigy-storage job show J
  prodigy-storage job delete J --yes";

#[derive(Debug, Subcommand)]
pub(crate) enum JobCommand {
    /// List jobs: state, age of the last write, dead letters, size. Reads no events.
    #[command(after_help = LIST)]
    List(list::ListArgs),
    /// Print the counts and sizes of everything that a job has stored.
    #[command(after_help = SHOW)]
    Show(OneJob),
    /// Mark jobs as finished, as a program does at their end: `clean --finished-jobs` counts their age from then on, and a follower
    /// with `--until-finished` ends.
    ///
    /// An event that is appended later makes the job open again.
    #[command(after_help = FINISH)]
    Finish(finish::FinishArgs),
    /// Print what jobs have stored, and delete it. Asks on a terminal; elsewhere it needs `--yes`.
    ///
    /// An active job is refused. Worktrees remain on the disk.
    #[command(after_help = DELETE)]
    Delete(delete::DeleteArgs),
}

/// A job, as an argument.
#[derive(Debug, clap::Args)]
pub(crate) struct OneJob {
    /// The job's id.
    #[arg(value_name = "JOB")]
    job: String,
    #[command(flatten)]
    repo: RepoArgs,
}

pub(crate) fn run(app: &mut App<'_>, command: JobCommand) -> Result<Exit> {
    match command {
        JobCommand::List(arguments) => list::run(app, &arguments),
        JobCommand::Show(arguments) => show::run(app, &arguments),
        JobCommand::Finish(arguments) => finish::run(app, &arguments),
        JobCommand::Delete(arguments) => delete::run(app, &arguments),
    }
}

/// Checks the names, then opens storage, and each job in it.
fn open_all(app: &mut App<'_>, repo: &RepoArgs, jobs: &[String], access: Access) -> Result<Vec<Opened>> {
    let name: Option<RepoName> = repo.name()?;
    let ids = crate::events::ids(jobs)?;
    let storage = app.open(access)?;
    let repo = app.repo(&storage, name.as_ref())?;
    let mut opened = Vec::with_capacity(ids.len());
    for id in ids {
        let job = repo.job(id.as_str())?;
        if access == Access::Read {
            app.note_moved(&job)?;
        }
        opened.push(Opened {
            storage: storage.clone(),
            repo: repo.clone(),
            job,
        });
    }
    Ok(opened)
}
