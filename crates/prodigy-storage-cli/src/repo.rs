//! The command `repo`.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use prodigy_storage::{ErrorKind, IdentityKind, RemovalKind, Repo, RepoName, Storage, escape};
use serde_json::json;

use crate::app::{Access, App};
use crate::audit::Audited;
use crate::cli::Global;
use crate::errors::{Failure, Result};
use crate::exit::Exit;
use crate::job::repositories;
use crate::jobs::{Marks, RepoCounts, each_row};
use crate::near::Near;
use crate::shell::{flags, operands, tool};
use crate::table::{Column, Table};

const LIST: &str = "Example:
  prodigy-storage repo list";
const UNREGISTER: &str = "Examples: show whose name it is; free it for another repository
  prodigy-storage repo list
  prodigy-storage repo unregister --yes here";

#[derive(Debug, Subcommand)]
pub(crate) enum RepoCommand {
    /// List the repositories that hold anything: jobs by state, dead letters, age of the last write, and the path that the
    /// name is registered for. Reads no event.
    #[command(after_help = LIST)]
    List,
    /// Print the repository that a folder belongs to, and the name of its data. Registers nothing.
    Identify(IdentifyArgs),
    /// Assign a name, with its data, to the repository that a folder belongs to. For a repository that was moved,
    /// copied or cloned again.
    Relink(RelinkArgs),
    /// Register the repository of a folder under another name. For a repository whose folder has the same name as
    /// another repository's.
    Register(RegisterArgs),
    /// Free a name: remove its registry entry, and keep its data. Asks on a terminal; elsewhere it needs `--yes`.
    ///
    /// A name with an active job is refused. Then `repo relink` gives the name and its data to any repository, and `repo register`
    /// gives the repository that had it another name.
    #[command(after_help = UNREGISTER)]
    Unregister(UnregisterArgs),
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
    /// The name is new and has no data.
    #[arg(long)]
    new: bool,
    /// A folder in the repository.
    #[arg(value_name = "PATH", default_value = ".")]
    path: PathBuf,
}

#[derive(Debug, clap::Args)]
pub(crate) struct RegisterArgs {
    /// The name, which no other repository may have.
    #[arg(long = "as", value_name = "NAME")]
    name: String,
    /// A folder in the repository.
    #[arg(value_name = "PATH", default_value = ".")]
    path: PathBuf,
}

#[derive(Debug, clap::Args)]
pub(crate) struct UnregisterArgs {
    /// The name.
    #[arg(value_name = "NAME")]
    name: String,
    /// Remove the entry without a question.
    #[arg(long, short)]
    yes: bool,
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
            let storage = app.open(Access::Write)?;
            let repo = storage.register(&arguments.path, name.as_str())?;
            app.repo_notices(&repo);
            repo
        }
        RepoCommand::Unregister(arguments) => return unregister(app, &arguments),
    };
    print(app, &repo)?;
    Ok(Exit::Done)
}

fn list(app: &mut App<'_>) -> Result<Exit> {
    let storage = app.open(Access::Read)?;
    let marks = Marks::of(app, &storage)?;
    let mut gone = Vec::new();
    let name = std::iter::once(Column::name("REPOSITORY"));
    let path = Column::name("REGISTERED FOR").optional(1);
    let mut table = Table::new(name.chain(RepoCounts::columns()).chain([path]));
    for name in repositories(&storage) {
        let repo = storage.repo(name?)?;
        let mut counts = RepoCounts::default();
        each_row(app, &repo, |_, row| {
            counts.add(&row, marks.place_of(&row.address).is_some());
            Ok(())
        })?;
        let entry = Registered::of(app, &repo)?;
        if entry.is_gone() {
            gone.push((repo.name().clone(), entry.path().unwrap_or_default().to_owned()));
        }
        if app.json() {
            let mut row = counts.json(repo.name());
            if let Some(row) = row.as_object_mut() {
                row.insert("registered".to_owned(), json!(entry != Registered::No));
                row.insert("path".to_owned(), json!(entry.path()));
                row.insert("gone".to_owned(), json!(entry.is_gone()));
            }
            app.json_line(&row)?;
        } else {
            let name = repo.name().to_string();
            let whose = match &entry {
                Registered::No => "(not registered)",
                Registered::For(None) => "(unknown)",
                Registered::For(Some(path)) if entry.is_gone() => &format!("{path} (gone)"),
                Registered::For(Some(path)) => path,
            };
            let cells = std::iter::once(name).chain(counts.cells());
            table.row(app, cells.chain([whose.to_owned()]))?;
        }
    }
    table.print(app)?;
    app.flush()?;
    if let Some((first, path)) = gone.first() {
        let (what, hint) = gone_paths(&app.global, first, path, gone.len());
        app.warn(&what);
        app.hint(&hint);
    }
    Ok(Exit::Done)
}

/// Says that the paths of registered repositories are gone, and what to do. `first` is one of them, and `path` its path.
pub(crate) fn gone_paths(global: &Global, first: &RepoName, path: &str, count: usize) -> (String, String) {
    let (tool, name) = (tool(global), operands([first.as_str()]));
    let (relinked, of_repo) = (
        operands([first.as_str(), "PATH"]),
        flags([("--repo", first.as_str())]),
    );
    let what = match count {
        1 => format!("the path that `{first}` is registered for is gone: {path}"),
        more => {
            format!(
                "the paths that {more} repositories are registered for are gone; the first is {path} of `{first}`"
            )
        }
    };
    let hint = format!(
        "if it was moved: `{tool} repo relink {relinked}`, with its new path; if it is gone for good: `{tool} repo unregister --yes \
         {name}` frees the name and keeps its jobs, which `{tool} job list {of_repo}` lists; nothing if it is on a disk that is not mounted"
    );
    (what, hint)
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
        for known in repositories(&storage) {
            let known = known?;
            is_known |= known == name;
            near.offer(known.as_str());
        }
        if !is_known {
            let what = format!("relink repository {name}: no repository has this name");
            let otherwise = "`--new` gives the repository a name without data";
            return Err(Failure::new(Exit::Missing, what).hint(near.hint("names", otherwise)));
        }
    }
    Ok(storage.relink(&arguments.path, name.as_str())?)
}

/// True if nothing is at this path. A path that this user can't examine is not gone.
pub(crate) fn is_gone(path: &Path) -> bool {
    path.try_exists().is_ok_and(|exists| !exists)
}

/// The registry entry of a name.
#[derive(PartialEq)]
enum Registered {
    No,
    /// Registered for this path; `None` if the path is unknown.
    For(Option<String>),
}

impl Registered {
    /// Reads the registry entry of a repository. An entry that can't be read is reported, and its path is unknown.
    fn of(app: &mut App<'_>, repo: &Repo) -> Result<Self> {
        Ok(match repo.registration() {
            Ok(None) => Self::No,
            Ok(Some(found)) => Self::For(found.path.map(|path| path.to_string_lossy().into_owned())),
            Err(error) if error.kind() == ErrorKind::InvalidInput => {
                app.damaged_by(&error);
                Self::For(None)
            }
            Err(error) => {
                app.pass_over(error)?;
                Self::For(None)
            }
        })
    }

    fn path(&self) -> Option<&str> {
        match self {
            Self::For(path) => path.as_deref(),
            Self::No => None,
        }
    }

    /// True if nothing is at the path.
    fn is_gone(&self) -> bool {
        self.path().is_some_and(|path| is_gone(Path::new(path)))
    }
}

fn unregister(app: &mut App<'_>, arguments: &UnregisterArgs) -> Result<Exit> {
    let name = RepoName::new(&arguments.name)?;
    let asks = !arguments.yes && app.may_ask();
    let access = match arguments.yes || asks {
        true => Access::Write,
        false => Access::Read,
    };
    let storage = app.open(access)?;
    let repo = storage.repo(name.as_str())?;
    let entry = Registered::of(app, &repo)?;
    if entry == Registered::No {
        return Err(not_registered(&storage, &name)?);
    }
    let path = entry.path().unwrap_or("an unknown repository").to_owned();
    let line = |unregistered: bool| json!({"name": name, "path": entry.path(), "unregistered": unregistered});
    if !app.json() {
        app.line(format!("name      {name}"))?;
        app.line(format!("identity  {}", escape(&path)))?;
        app.flush()?;
    }
    if !arguments.yes {
        if !asks {
            if app.json() {
                app.json_line(&line(false))?;
            }
            app.error("nothing was removed, since nobody can be asked; `--yes` removes the entry, and keeps the data");
            return Ok(Exit::Failed);
        }
        if !app.agreed(&format!("free the name `{name}`? Its data stays. [y/N] "))? {
            app.note("nothing was removed");
            return Ok(Exit::Failed);
        }
    }
    let removal = Audited::of_repo(&storage, RemovalKind::RegistryEntry, &name, "repo unregister").size(1, 0);
    let (unregistered, exit) = removal.make_one(app, || storage.unregister(name.as_str()))?;
    if app.json() {
        app.json_line(&line(unregistered))?;
    }
    if !unregistered {
        return Err(not_registered(&storage, &name)?);
    }
    if !app.json() {
        app.line(format!("freed the name {name}: its data stays"))?;
    }
    Ok(exit)
}

fn not_registered(storage: &Storage, name: &RepoName) -> Result<Failure> {
    let mut near = Near::to(name.as_str());
    let what = format!("unregister repository {name}: no repository is registered under this name");
    for known in repositories(storage) {
        let known = known?;
        if known == *name {
            let hint = "it has data and no entry: the first repository whose folder has this name gets it";
            return Ok(Failure::new(Exit::Missing, what).hint(hint));
        }
        near.offer(known.as_str());
    }
    let hint = near.hint(
        "names",
        "`prodigy-storage repo list` shows which names are registered",
    );
    Ok(Failure::new(Exit::Missing, what).hint(hint))
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
