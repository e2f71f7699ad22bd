//! The command `worktree`.

use std::path::Path;

use clap::Subcommand;
use prodigy_storage::{ErrorKind, JobId, JobOrphans, SessionId};
use serde_json::json;

use crate::app::{Access, App};
use crate::copy::must_be_there;
use crate::errors::Result;
use crate::exit::Exit;
use crate::job::RepoArgs;
use crate::table::{Column, Table, shortened_in_the_middle};
use crate::time::Times;

#[derive(Debug, Subcommand)]
pub(crate) enum WorktreeCommand {
    /// Print the path for the worktree of a session; `git worktree add` creates it.
    Path(PathArgs),
    /// List the sessions whose worktree exists.
    List(RepoArgs),
    /// List the worktrees that could not be cleaned up.
    Orphans(OrphansArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct PathArgs {
    #[command(flatten)]
    repo: RepoArgs,
    /// The session's id, with or without `session-` before it.
    #[arg(value_name = "SESSION")]
    session: String,
}

#[derive(Debug, clap::Args)]
pub(crate) struct OrphansArgs {
    #[command(flatten)]
    repo: RepoArgs,
    /// Only this job; by default all jobs of the repository.
    #[arg(long, value_name = "JOB")]
    job: Option<String>,
}

pub(crate) fn run(app: &mut App<'_>, command: WorktreeCommand) -> Result<Exit> {
    match command {
        WorktreeCommand::Path(arguments) => path(app, &arguments),
        WorktreeCommand::List(arguments) => list(app, &arguments),
        WorktreeCommand::Orphans(arguments) => orphans(app, &arguments),
    }
}

fn path(app: &mut App<'_>, arguments: &PathArgs) -> Result<Exit> {
    let session = SessionId::new(&arguments.session)?;
    let repo = arguments.repo.open(app, Access::Read)?;
    let path = repo.worktrees().path(&session)?;
    print_path(app, &session, &path)?;
    Ok(Exit::Done)
}

fn list(app: &mut App<'_>, arguments: &RepoArgs) -> Result<Exit> {
    let name = arguments.name()?;
    let storage = app.open(Access::Read)?;
    let repo = app.repo(&storage, name.as_ref())?;
    let worktrees = repo.worktrees();
    let sessions = worktrees.list()?;
    if sessions.is_empty() {
        must_be_there(&storage, name.as_ref(), None)?;
    }
    for session in sessions {
        if app.json() {
            print_path(app, &session, &worktrees.path(&session)?)?;
        } else {
            let name = session.as_str();
            app.line(
                app.width
                    .map_or_else(|| name.to_owned(), |width| shortened_in_the_middle(name, width)),
            )?;
        }
    }
    Ok(Exit::Done)
}

fn print_path(app: &mut App<'_>, session: &SessionId, path: &Path) -> Result<()> {
    if app.json() {
        return app.json_line(&json!({
            "session": session,
            "path": path.to_string_lossy(),
            "exists": path.is_dir(),
        }));
    }
    app.line(path.as_os_str().as_encoded_bytes())
}

fn orphans(app: &mut App<'_>, arguments: &OrphansArgs) -> Result<Exit> {
    let job = arguments.job.as_ref().map(JobId::new).transpose()?;
    let name = arguments.repo.name()?;
    let storage = app.open(Access::Read)?;
    let repo = app.repo(&storage, name.as_ref())?;
    let mut any = false;
    let times = Times::new(app.width.is_some());
    let mut table = Table::new([
        Column::name("JOB"),
        Column::name("AGENT").optional(1),
        Column::name("ITEM").optional(2),
        Column::word(times.heading("LEFT")).optional(3),
        Column::name("PATH"),
        Column::text("ERROR"),
    ]);
    match &job {
        Some(id) => {
            match repo.job(id.as_str())?.orphans().list() {
                Ok(orphans) => {
                    any = !orphans.is_empty();
                    print_job(app, &mut table, &times, &JobOrphans::new(id.clone(), orphans))?;
                }
                // Skipped data is reported at the end.
                Err(error) if error.kind() == ErrorKind::Foreign => {}
                Err(error) => return Err(error.into()),
            }
        }
        None => {
            for of_job in repo.orphans() {
                any = true;
                match of_job {
                    Ok(of_job) => print_job(app, &mut table, &times, &of_job)?,
                    // Skipped data is reported at the end.
                    Err(error) if error.kind() == ErrorKind::Foreign => {}
                    Err(error) => app.pass_over(error)?,
                }
            }
        }
    }
    table.print(app)?;
    match &job {
        _ if any => {}
        Some(_) => must_be_there(&storage, Some(repo.name()), job.as_ref())?,
        None => must_be_there(&storage, name.as_ref(), None)?,
    }
    Ok(Exit::Done)
}

fn print_job(app: &mut App<'_>, table: &mut Table, times: &Times, of_job: &JobOrphans) -> Result<()> {
    for orphan in &of_job.orphans {
        if app.json() {
            app.json_line(&json!({
                "job_id": of_job.job,
                "agent_id": orphan.agent_id,
                "item_id": orphan.item_id,
                "worktree_path": orphan.worktree_path.to_string_lossy(),
                "timestamp": orphan.timestamp,
                "error": orphan.error,
            }))?;
        } else {
            table.row(
                app,
                [
                    of_job.job.to_string(),
                    orphan.agent_id.clone(),
                    orphan.item_id.clone(),
                    times.cell(orphan.timestamp),
                    orphan.worktree_path.display().to_string(),
                    orphan.error.clone(),
                ],
            )?;
        }
    }
    Ok(())
}
