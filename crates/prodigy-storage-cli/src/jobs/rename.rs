//! `job rename`: an export, an import under the new name, and a deletion of the old one.

use prodigy_storage::{Job, JobId, JobState, RemovalKind, Storage};
use serde_json::json;

use super::open_all;
use super::parts::Parts;
use crate::app::{Access, App};
use crate::audit::Audited;
use crate::errors::{Failure, Result};
use crate::exit::Exit;
use crate::job::RepoArgs;
use crate::{export, import, new_file};

#[derive(Debug, clap::Args)]
pub(crate) struct RenameArgs {
    /// The job's id.
    #[arg(value_name = "JOB")]
    job: String,
    /// The new id, under which nothing is stored.
    #[arg(value_name = "NEW")]
    new: String,
    #[command(flatten)]
    repo: RepoArgs,
}

pub(crate) fn run(app: &mut App<'_>, arguments: &RenameArgs) -> Result<Exit> {
    let new = JobId::new(&arguments.new)?;
    let jobs = open_all(
        app,
        &arguments.repo,
        std::slice::from_ref(&arguments.job),
        Access::Write,
    )?;
    let mut exit = Exit::Done;
    for opened in &jobs {
        opened.must_be_known()?;
        let to = opened.repo.job(new.as_str())?;
        exit = rename(app, &opened.storage, &opened.job, &to, "job rename")?;
        let address = opened.job.address();
        match app.json() {
            true => app.json_line(&json!({"repo": address.repo, "job": address.job, "to": new}))?,
            false => app.line(format!("renamed {address} to {}", to.address()))?,
        }
    }
    Ok(exit)
}

/// Gives the data of a job another repository or id. The old data is deleted last: a rename that is cut short leaves it whole.
pub(crate) fn rename(
    app: &mut App<'_>,
    storage: &Storage,
    from: &Job,
    to: &Job,
    command: &str,
) -> Result<Exit> {
    let what = format!("rename job {} to {}", from.address(), to.address());
    let before = from.overview()?;
    if before.status.state == JobState::Active || before.letters.leased > 0 {
        return Err(
            Failure::new(Exit::Locked, format!("{what}: a process works on it"))
                .hint("end the process, or let it finish the job; then rename the job again"),
        );
    }
    if !Parts::of(to)?.is_nothing() {
        let hint = format!(
            "choose another name; what a rename left that was cut short is deleted by `prodigy-storage job delete {} --repo {}`",
            to.address().job,
            to.address().repo
        );
        return Err(
            Failure::new(Exit::Failed, format!("{what}: there is data under the new name")).hint(hint),
        );
    }
    let failed = |why: String| Failure::new(Exit::Failed, format!("{what}: {why}"));
    let folder = tempfile::tempdir().map_err(|error| failed(format!("make a temporary folder: {error}")))?;
    let file = folder.path().join("job.jsonl");
    let mut damaged = Vec::new();
    new_file::write(&file, |out| export::write(from, out, &mut damaged))?;
    if let Some(error) = damaged.first() {
        return Err(Failure::new(
            Exit::Damaged,
            format!("{what}: a part of it is damaged: {error:#}"),
        )
        .hint("repair it first: `prodigy-storage doctor --repair`"));
    }
    import::under(app, storage, &file, to.address())?;
    if from.status()?.last_activity != before.status.last_activity {
        return Err(failed("it was written to meanwhile".to_owned()).hint(
            "end the process that writes to it, delete what is under the new name, and rename the job again",
        ));
    }
    let removal = Audited::new(storage, RemovalKind::Job, from.address(), command).size(1, before.bytes());
    let (_, exit) = removal.make(app, |_| Ok(from.delete()?))?;
    Ok(exit)
}
