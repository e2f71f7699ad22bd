//! The command `job delete`.

use prodigy_storage::RemovalKind;
use serde_json::json;

use super::open_all;
use super::parts::Parts;
use crate::app::{Access, App};
use crate::audit::Audited;
use crate::errors::Result;
use crate::exit::Exit;
use crate::job::RepoArgs;
use crate::output::counted;

#[derive(Debug, clap::Args)]
pub(crate) struct DeleteArgs {
    /// The ids of the jobs.
    #[arg(value_name = "JOB", required = true)]
    jobs: Vec<String>,
    #[command(flatten)]
    repo: RepoArgs,
    /// Delete without asking.
    #[arg(long, short)]
    yes: bool,
}

pub(crate) fn run(app: &mut App<'_>, arguments: &DeleteArgs) -> Result<Exit> {
    let asks = !arguments.yes && app.may_ask();
    let access = if arguments.yes || asks {
        Access::Write
    } else {
        Access::Read
    };
    let jobs = open_all(app, &arguments.repo, &arguments.jobs, access)?;
    // Completes deletions that another process started and could not end: for readers these jobs do not exist.
    let mut ended = Vec::new();
    let mut sizes = Vec::new();
    for opened in &jobs {
        let parts = Parts::of(&opened.job)?;
        sizes.push(parts.bytes());
        if !arguments.yes {
            parts.print_damage(app);
        }
        if parts.is_nothing() {
            match arguments.yes && opened.job.delete()? {
                true => ended.push(opened.job.address().clone()),
                false => opened.must_be_known()?,
            }
        }
        if app.json() {
            if !arguments.yes {
                app.json_line(&parts.json())?;
            }
            continue;
        }
        for line in parts.lines(app) {
            app.line(line)?;
        }
    }
    app.flush()?;
    let all = counted(jobs.len(), "job");
    if !arguments.yes {
        if !asks {
            app.error(&format!(
                "nothing was deleted, since nobody can be asked; `--yes` deletes {all}"
            ));
            return Ok(Exit::Failed);
        }
        if !app.agreed(&format!("delete {all}? [y/N] "))? {
            app.note("nothing was deleted");
            return Ok(Exit::Failed);
        }
    }
    let mut exit = Exit::Done;
    for (opened, bytes) in jobs.iter().zip(sizes) {
        let address = opened.job.address();
        let removal = Audited::new(&opened.storage, RemovalKind::Job, address, "job delete").size(1, bytes);
        let (deleted, recorded) = removal.make(app, |_| Ok(opened.job.delete()?))?;
        let deleted = deleted || ended.contains(address);
        if recorded != Exit::Done {
            exit = recorded;
        }
        if app.json() {
            app.json_line(&json!({"repo": address.repo, "job": address.job, "deleted": deleted}))?;
        } else {
            app.line(format!("deleted {address}"))?;
        }
        if !Parts::of(&opened.job)?.is_nothing() {
            app.note(&format!(
                "{address} is still listed: what another program stored in it was left untouched"
            ));
        }
        // A later job may be refused, so the user has to see which jobs were deleted.
        app.flush()?;
    }
    Ok(exit)
}
