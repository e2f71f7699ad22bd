//! `migrate` imports a project's own folder, and finds the folder and the name of its repository.

use std::path::{Path, PathBuf};

use prodigy_storage::Storage;

use super::find::{LOCAL, folder};
use super::originals::Originals;
use super::{ImportArgs, run as import};
use crate::app::{Access, App};
use crate::errors::{Failure, Result};
use crate::exit::Exit;

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

pub(crate) fn run(app: &mut App<'_>, arguments: &MigrateArgs) -> Result<Exit> {
    let access = match arguments.dry_run {
        true => Access::Read,
        false => Access::Write,
    };
    let storage = app.open_quietly(access)?;
    let path = match &arguments.path {
        Some(path) => folder(path)?,
        None => nearest(&storage)?,
    };
    let repo = match &arguments.repo {
        Some(repo) => repo.clone(),
        None => name(app, &storage, &path)?,
    };
    import(
        app,
        &ImportArgs {
            path,
            repo: Some(repo),
            job: None,
            dry_run: arguments.dry_run,
        },
    )
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
            here.display()
        );
        Failure::usage(what).hint("go to the project, or name the folder")
    })
}

/// The name of the repository that the folder is in.
fn name(app: &mut App<'_>, storage: &Storage, folder: &Path) -> Result<String> {
    let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let project = folder.parent().unwrap_or(&folder);
    let repo = storage.repo_at(project)?;
    app.repo_notices(&repo);
    Ok(repo.name().as_str().to_owned())
}
