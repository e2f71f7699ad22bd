//! `migrate` imports a project's own folder, and finds the folder and the name of its repository.

use std::path::{Path, PathBuf};

use prodigy_storage::{IdentityKind, Storage};

use super::find::{LOCAL, folder};
use super::originals::Originals;
use super::{ImportArgs, import};
use crate::app::{Access, App};
use crate::errors::{Failure, Result};
use crate::exit::Exit;
use crate::output::shown;

#[derive(Debug, clap::Args)]
pub(crate) struct MigrateArgs {
    /// The folder, or the project that it is in; by default, the nearest `.prodigy` here or above that is not the store itself.
    #[arg(value_name = "PATH")]
    path: Option<PathBuf>,
    /// The repository's name; by default, the name of the repository that the folder is in.
    #[arg(long, value_name = "REPO")]
    repo: Option<String>,
    /// Print what would be stored, and store nothing.
    #[arg(long)]
    dry_run: bool,
}

impl MigrateArgs {
    fn access(&self) -> Access {
        match self.dry_run {
            true => Access::Read,
            false => Access::Write,
        }
    }
}

pub(crate) fn run(app: &mut App<'_>, arguments: &MigrateArgs) -> Result<Exit> {
    // Only the import registers the repository, once it has found something to store.
    let storage = app.open_quietly(arguments.access())?;
    let path = match &arguments.path {
        Some(path) => folder(path)?,
        None => nearest(&storage)?,
    };
    let (repo, project) = match &arguments.repo {
        Some(repo) => (repo.clone(), None),
        None => {
            let project = project(&path);
            (name(&storage, &path, &project)?, Some(project))
        }
    };
    let of_folder = ImportArgs {
        path,
        repo: Some(repo),
        job: None,
        dry_run: arguments.dry_run,
    };
    import(app, &of_folder, project.as_deref())
}

/// The nearest `.prodigy` folder of a project, in the current folder or above it.
fn nearest(storage: &Storage) -> Result<PathBuf> {
    let root = Originals::of(storage);
    let here = std::env::current_dir().map_err(Failure::output)?;
    let found = here.ancestors().map(|folder| folder.join(LOCAL));
    let mut found =
        found.filter(|folder| folder.is_dir() && !root.as_ref().is_some_and(|root| root.is_root(folder)));
    found.next().ok_or_else(|| {
        let what = format!(
            "migrate: there is no folder `{LOCAL}` in {} or above",
            shown(&here)
        );
        Failure::usage(what).hint("go to the project, or name the folder")
    })
}

/// The folder of the project that a folder of data belongs to. A link to the data belongs to the project that has the
/// link, wherever the data is.
fn project(folder: &Path) -> PathBuf {
    let given = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    let real = folder.canonicalize().unwrap_or_else(|_| given.clone());
    let in_project = match is_local(&given) || (!is_local(&real) && given.file_name().is_some()) {
        true => &given,
        false => &real,
    };
    in_project.parent().unwrap_or(in_project).to_owned()
}

fn is_local(folder: &Path) -> bool {
    folder.file_name().is_some_and(|name| name == LOCAL)
}

/// The name of the repository of a project. Registers nothing. Fails if a folder that is not named `.prodigy` is outside of every
/// git repository: what contains it need not be a project, and may contain the data of several.
fn name(storage: &Storage, folder: &Path, project: &Path) -> Result<String> {
    let repo = storage.find_repo_at(project)?;
    let is_plain = repo
        .identity()
        .is_none_or(|found| found.kind == IdentityKind::Folder);
    let is_own = is_local(folder) || folder.canonicalize().is_ok_and(|real| is_local(&real));
    if is_plain && !is_own {
        let what = format!(
            "migrate {}: nothing says which repository it belongs to",
            shown(folder)
        );
        return Err(
            Failure::usage(what).hint("name it with `--repo`, or name the project instead of the folder")
        );
    }
    Ok(repo.name().as_str().to_owned())
}
