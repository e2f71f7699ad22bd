//! `repo`.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use prodigy_storage::{IdentityKind, Repo, RepoName, escape};
use serde_json::json;

use crate::app::{Access, App};
use crate::errors::{Failure, Result};
use crate::exit::Exit;
use crate::jobs::{RepoCounts, each_row};
use crate::near::Near;
use crate::output::Table;

const LIST: &str = "Example:
  prodigy-storage repo list";

#[derive(Debug, Subcommand)]
pub(crate) enum RepoCommand {
    /// List the repositories that hold anything: jobs by state, dead letters, age of the last write. Reads no event.
    #[command(after_help = LIST)]
    List,
    /// Print the repository that a folder belongs to, and the name of its data. Registers nothing.
    Identify(IdentifyArgs),
    /// Make a name, with its data, stand for the repository that a folder belongs to: for one that was moved, copied or
    /// cloned again.
    Relink(RelinkArgs),
    /// Register the repository of a folder under a name of its own: for a repository whose folder has the name of
    /// another one.
    Register(RegisterArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct IdentifyArgs {
    /// A folder in the repository.
    #[arg(value_name = "PATH", default_value = ".")]
    path: PathBuf,
}

#[derive(Debug, clap::Args)]
pub(crate) struct RelinkArgs {
    /// The name.
    #[arg(value_name = "NAME")]
    name: String,
    /// The name is a new one, without data.
    #[arg(long)]
    new: bool,
    /// A folder in the repository.
    #[arg(value_name = "PATH", default_value = ".")]
    path: PathBuf,
}

#[derive(Debug, clap::Args)]
pub(crate) struct RegisterArgs {
    /// The name, which no repository has yet.
    #[arg(long = "as", value_name = "NAME")]
    name: String,
    /// A folder in the repository.
    #[arg(value_name = "PATH", default_value = ".")]
    path: PathBuf,
}

pub(crate) fn run(app: &mut App<'_>, command: RepoCommand) -> Result<Exit> {
    let repo = match command {
        RepoCommand::List => return list(app),
        RepoCommand::Identify(arguments) => {
            let repo = app.open(Access::Read)?.repo_at(&arguments.path)?;
            app.repo_notices(&repo);
            repo
        }
        RepoCommand::Relink(arguments) => relink(app, &arguments)?,
        RepoCommand::Register(arguments) => {
            let name = RepoName::new(&arguments.name)?;
            app.open(Access::Write)?
                .register(&arguments.path, name.as_str())?
        }
    };
    print(app, &repo)?;
    Ok(Exit::Done)
}

fn list(app: &mut App<'_>) -> Result<Exit> {
    let storage = app.open(Access::Read)?;
    let mut table = Table::new(&[&["REPOSITORY"], &RepoCounts::HEADINGS[..]].concat());
    for name in storage.repositories() {
        let repo = storage.repo(name?)?;
        let mut counts = RepoCounts::default();
        each_row(app, &repo, |_, row| {
            counts.add(&row);
            Ok(())
        })?;
        if app.json() {
            app.json_line(&counts.json(repo.name()))?;
        } else {
            let name = repo.name().to_string();
            table.row(app, std::iter::once(name).chain(counts.cells()))?;
        }
    }
    table.print(app)?;
    Ok(Exit::Done)
}

fn relink(app: &mut App<'_>, arguments: &RelinkArgs) -> Result<Repo> {
    let name = RepoName::new(&arguments.name).map_err(|error| {
        let swapped = Path::new(&arguments.name).is_dir();
        match swapped {
            true => Failure::usage(error.to_string()).hint("the name comes first, then the path"),
            false => error.into(),
        }
    })?;
    let storage = app.open(Access::Write)?;
    if !arguments.new {
        let mut near = Near::to(name.as_str());
        let mut is_known = false;
        for known in storage.repositories() {
            let known = known?;
            is_known |= known == name;
            near.offer(known.as_str());
        }
        if !is_known {
            let what = format!("relink repository {name}: no repository has this name");
            let otherwise = "`--new` gives the repository a name without data";
            return Err(Failure::new(Exit::Failed, what).hint(near.hint("names", otherwise)));
        }
    }
    Ok(storage.relink(&arguments.path, name.as_str())?)
}

fn print(app: &mut App<'_>, repo: &Repo) -> Result<()> {
    let Some(identity) = repo.identity() else {
        return app.line(repo.name().as_str());
    };
    let kind = match identity.kind {
        IdentityKind::Repository => "repository",
        IdentityKind::BareRepository => "bare repository",
        IdentityKind::Submodule => "submodule",
        IdentityKind::Folder => "folder",
    };
    let common = identity.common_dir.to_string_lossy();
    let worktree = identity.worktree.as_ref().map(|path| path.to_string_lossy());
    if app.json() {
        return app.json_line(&json!({
            "name": repo.name(),
            "kind": kind,
            "common_dir": common,
            "worktree": worktree,
        }));
    }
    app.line(format!("name      {}", repo.name()))?;
    app.line(format!("kind      {kind}"))?;
    app.line(format!("identity  {}", escape(&common)))?;
    if let Some(worktree) = worktree {
        app.line(format!("worktree  {}", escape(&worktree)))?;
    }
    Ok(())
}
