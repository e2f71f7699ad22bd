//! The command `job finish`.

use serde_json::json;

use super::open_all;
use crate::app::{Access, App};
use crate::errors::Result;
use crate::exit::Exit;
use crate::job::RepoArgs;

#[derive(Debug, clap::Args)]
pub(crate) struct FinishArgs {
    /// The ids of the jobs.
    #[arg(value_name = "JOB", required = true)]
    jobs: Vec<String>,
    #[command(flatten)]
    repo: RepoArgs,
}

pub(crate) fn run(app: &mut App<'_>, arguments: &FinishArgs) -> Result<Exit> {
    let jobs = open_all(app, &arguments.repo, &arguments.jobs, Access::Write)?;
    let mut exit = Exit::Done;
    for opened in &jobs {
        let finished = opened.must_be_known().and_then(|()| Ok(opened.job.finish()?));
        if let Err(failure) = finished {
            exit = exit.and(app.one_failed(failure)?);
            continue;
        }
        let address = opened.job.address();
        match app.json() {
            true => {
                let finished_at = opened.job.finished_at()?;
                app.json_line(
                    &json!({"repo": address.repo, "job": address.job, "finished_at": finished_at}),
                )?;
            }
            false => app.line(format!("finished {address}"))?,
        }
        // A later job may fail, so the user has to see which jobs were finished.
        app.flush()?;
    }
    Ok(exit)
}
