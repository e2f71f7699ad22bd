//! The command `report`.

mod gather;
mod kept;
mod page;
mod timeline;

use std::io::Write;
use std::path::PathBuf;

use prodigy_storage::{JobId, JobOverview, Repo};
use serde_json::json;

use self::gather::Report;
use crate::app::{Access, App};
use crate::errors::{Failure, Result};
use crate::exit::Exit;
use crate::job::{JobArgs, RepoArgs, no_repo};
use crate::jobs::each_row;
use crate::new_file;
use crate::output::{bytes, counted};
use crate::progress::Progress;

#[derive(Debug, clap::Args)]
pub(crate) struct ReportArgs {
    #[command(flatten)]
    repo: RepoArgs,
    /// Only this job; by default all jobs of the repository.
    #[arg(long, value_name = "JOB")]
    job: Option<String>,
    /// The file to create; `-` for standard output.
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
}

impl ReportArgs {
    /// True if the page goes to standard output.
    pub(crate) fn prints(&self) -> bool {
        new_file::is_standard(&self.output)
    }
}

pub(crate) fn run(app: &mut App<'_>, arguments: &ReportArgs) -> Result<Exit> {
    if !arguments.prints() {
        new_file::must_be_free(&arguments.output)?;
    }
    let report = match &arguments.job {
        Some(job) => of_job(app, &arguments.repo, job)?,
        None => of_repo(app, &arguments.repo)?,
    };
    let jobs = report.jobs();
    let page = page::of(&report.into_shown()?)?;
    if arguments.prints() {
        app.out.write_all(page.as_bytes()).map_err(Failure::output)?;
        app.flush()?;
        return Ok(Exit::Done);
    }
    new_file::write(&arguments.output, |out| {
        let written = out.write_all(page.as_bytes());
        written.map_err(|error| {
            let what = format!("write {}: {error}", arguments.output.display());
            Failure::new(Exit::Failed, what)
        })
    })?;
    let file = arguments.output.display();
    if app.json() {
        app.json_line(&json!({"file": file.to_string(), "jobs": jobs, "bytes": page.len()}))?;
    } else {
        let jobs = counted(usize::try_from(jobs).unwrap_or(usize::MAX), "job");
        app.line(format!("written to {file}: {jobs}, {}", bytes(page.len() as u64)))?;
    }
    Ok(Exit::Done)
}

fn of_job(app: &mut App<'_>, repo: &RepoArgs, job: &str) -> Result<Report> {
    let of = JobArgs {
        repo: repo.clone(),
        job: Some(job.to_owned()),
    };
    let opened = of.open(app, Access::Read)?;
    opened.must_be_known()?;
    let id: &JobId = &opened.job.address().job;
    let row = opened.job.overview()?;
    let progress = Progress::over(read_of(&row), app.terminal);
    let mut report = Report::new(&opened.storage, opened.repo.name(), Some(id), progress);
    report.add(app, &opened.repo, &row)?;
    Ok(report)
}

/// The number of bytes that a report on a job reads: its log and its dead letters.
fn read_of(row: &JobOverview) -> u64 {
    row.log.bytes + row.letters.bytes
}

fn of_repo(app: &mut App<'_>, repo: &RepoArgs) -> Result<Report> {
    let name = repo.name()?;
    let storage = app.open(Access::Read)?;
    let repo: Repo = app.repo(&storage, name.as_ref())?;
    let mut bytes = 0;
    if app.terminal {
        // Errors are ignored in this sum: the report itself names the damaged parts.
        bytes = repo.survey().flatten().flatten().map(|row| read_of(&row)).sum();
    }
    let progress = Progress::over(bytes, app.terminal);
    let mut report = Report::new(&storage, repo.name(), None, progress);
    each_row(app, &repo, |app, row| report.add(app, &repo, &row))?;
    let what = format!("no job in the repository `{}`", repo.name());
    match report.jobs() {
        0 => match no_repo(&storage, repo.name(), &what)? {
            Some(missing) => Err(missing),
            None => Ok(report),
        },
        _ => Ok(report),
    }
}
