//! `repo rename`.

use prodigy_storage::{DocumentOptions, ErrorKind, Expected, RemovalKind, Repo, RepoName, Storage};
use serde_json::json;

use crate::app::{Access, App};
use crate::audit::Audited;
use crate::errors::{Failure, Result};
use crate::exit::Exit;
use crate::job::{no_repo, not_reserved};
use crate::jobs::rename;
use crate::output::counted;

#[derive(Debug, clap::Args)]
pub(crate) struct RenameArgs {
    /// The name.
    #[arg(value_name = "NAME")]
    name: String,
    /// The new name, which no other repository may have.
    #[arg(value_name = "NEW")]
    new: String,
}

pub(super) fn run(app: &mut App<'_>, arguments: &RenameArgs) -> Result<Exit> {
    let (name, new) = (RepoName::new(&arguments.name)?, RepoName::new(&arguments.new)?);
    not_reserved(&name)?;
    not_reserved(&new)?;
    let what = format!("rename repository {name} to {new}");
    if name == new {
        return Err(Failure::usage(format!("{what}: both names are the same")));
    }
    let storage = app.open(Access::Write)?;
    if let Some(missing) = no_repo(&storage, &name, &what)? {
        return Err(missing);
    }
    let (from, to) = (storage.repo(name.as_str())?, storage.repo(new.as_str())?);
    if to.registration()?.is_some() {
        let what = format!("{what}: another repository has the new name");
        return Err(Failure::new(Exit::Failed, what)
            .hint("choose another name: `prodigy-storage repo list` shows those in use"));
    }
    if let Some(session) = from.worktrees().list()?.first() {
        let path = from.worktrees().path(session)?;
        let what = format!(
            "{what}: it has worktrees, whose paths hold its name: {}",
            path.display()
        );
        return Err(Failure::new(Exit::Failed, what)
            .hint("remove them first with `git worktree remove`, then rename the repository"));
    }
    let mut exit = Exit::Done;
    let jobs = from.jobs().all()?;
    for id in &jobs {
        let (old, new) = (from.job(id.as_str())?, to.job(id.as_str())?);
        let recorded = rename(app, &storage, &old, &new, "repo rename")?;
        if recorded != Exit::Done {
            exit = recorded;
        }
    }
    let documents = move_documents(&from, &to)?;
    move_entry(app, &storage, &from, &new)?;
    let jobs = jobs.len();
    if app.json() {
        app.json_line(&json!({"name": name, "to": new, "jobs": jobs, "documents": documents}))?;
    } else {
        let (jobs, documents) = (counted(jobs, "job"), counted(documents, "document"));
        app.line(format!("renamed {name} to {new}: {jobs}, {documents} of its own"))?;
    }
    Ok(exit)
}

/// Moves the documents that belong to no job; returns their number.
fn move_documents(from: &Repo, to: &Repo) -> Result<u64> {
    let mut moved = 0;
    for info in from.all_documents().all()? {
        let (name, source) = (info.name.as_str(), from.documents(info.kind.as_str())?);
        let Some(stored) = source.get_raw(name)? else {
            continue;
        };
        let target = to.documents(info.kind.as_str())?;
        let absent = DocumentOptions::new().expected_revision(Expected::Absent);
        match target.put(name, &stored.data, absent) {
            // A rename that was cut short put it there.
            Err(error)
                if error.kind() == ErrorKind::Conflict
                    && target
                        .get_raw(name)?
                        .is_some_and(|there| there.data.get() == stored.data.get()) => {}
            put => drop(put?),
        }
        let unchanged = DocumentOptions::new().expected_revision(Expected::Revision(stored.revision));
        source.delete(name, unchanged)?;
        moved += 1;
    }
    Ok(moved)
}

/// Gives the new name to the repository that the old one is registered for.
fn move_entry(app: &mut App<'_>, storage: &Storage, from: &Repo, new: &RepoName) -> Result<()> {
    let Some(found) = from.registration()? else {
        return Ok(());
    };
    match found.path.filter(|path| path.exists()) {
        // This takes the old entry away.
        Some(path) => drop(storage.relink(path, new.as_str())?),
        None => {
            let removal =
                Audited::of_repo(storage, RemovalKind::RegistryEntry, from.name(), "repo rename").size(1, 0);
            removal.make(app, |_| Ok(storage.unregister(from.name().as_str())?))?;
            app.note(&format!(
                "its folder is gone: `prodigy-storage repo relink {new} PATH` gives the name to the repository where it is now"
            ));
        }
    }
    Ok(())
}
