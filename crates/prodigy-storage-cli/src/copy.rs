//! `copy`: a store, a repository or a job into another store.

use std::path::PathBuf;

use prodigy_storage::config::{BackendKind, StorageConfig};
use prodigy_storage::{CopiedJob, CopyOptions, JobId, RepoName, Storage};
use serde_json::json;

use crate::app::{Access, App};
use crate::errors::{Failure, Result};
use crate::exit::Exit;
use crate::output::{Table, counted};

#[derive(Debug, clap::Args)]
pub(crate) struct CopyArgs {
    /// The target: the connection string of a PostgreSQL database, or a folder.
    #[arg(long, value_name = "URL|DIR")]
    to: String,
    /// The schema of the target database; by default as configured.
    #[arg(long, value_name = "NAME")]
    schema: Option<String>,
    /// Only this repository's data.
    #[arg(long, value_name = "REPO")]
    repo: Option<String>,
    /// Only the data of jobs with this id.
    #[arg(long, value_name = "JOB")]
    job: Option<String>,
}

impl CopyArgs {
    /// The configuration of the target: that of the source, with the target's place.
    fn target(&self, source: &StorageConfig) -> Result<StorageConfig> {
        let mut config = source.clone();
        if self.to.starts_with("postgres://") || self.to.starts_with("postgresql://") {
            config.backend = BackendKind::Postgres;
            config.postgres.url = Some(self.to.clone());
            (config.postgres.password, config.postgres.password_file) = (None, None);
            if let Some(schema) = &self.schema {
                config.postgres.schema.clone_from(schema);
            }
        } else if self.schema.is_some() {
            return Err(Failure::usage(
                "`--schema` needs the connection string of a database after `--to`",
            ));
        } else {
            config.backend = BackendKind::File;
            config.file.base_dir = std::path::absolute(PathBuf::from(&self.to)).map_err(|error| {
                Failure::new(Exit::Failed, format!("find the folder {}: {error}", self.to))
            })?;
        }
        Ok(config)
    }
}

pub(crate) fn run(app: &mut App<'_>, arguments: &CopyArgs) -> Result<Exit> {
    let repo = arguments.repo.as_ref().map(RepoName::new).transpose()?;
    let job = arguments.job.as_ref().map(JobId::new).transpose()?;
    let storage = app.open(Access::Write)?;
    let target = Storage::builder()
        .config(arguments.target(storage.config())?)
        .interrupt(crate::signals::ends_waits());
    let report = storage.copy_to(target, CopyOptions::new().repo(repo).job(job))?;
    let mut table = Table::new(&["JOB", "EVENTS", "NEW", "DOCUMENTS", "LETTERS", "CHECKSUM"]);
    for job in &report.jobs {
        match app.json() {
            true => app.json_line(&line(job))?,
            false => table.row(app, row(job))?,
        }
    }
    table.print(app)?;
    app.flush()?;
    for (job, error) in &report.refused {
        app.error(&format!("not copied: {job}: {error:#}"));
    }
    let jobs = counted(report.jobs.len() as u64, "job");
    let documents = counted(report.documents, "document");
    app.note(&format!(
        "copied and compared: {jobs}, and {documents} of repositories"
    ));
    Ok(match report.refused.is_empty() {
        true => Exit::Done,
        false => Exit::Failed,
    })
}

fn line(job: &CopiedJob) -> serde_json::Value {
    json!({
        "repo": job.address.repo,
        "job": job.address.job,
        "events": job.events,
        "stored": job.stored,
        "documents": job.documents,
        "letters": job.letters,
        "checksum": format!("{:08x}", job.checksum),
    })
}

fn row(job: &CopiedJob) -> [String; 6] {
    [
        job.address.to_string(),
        job.events.to_string(),
        job.stored.to_string(),
        job.documents.to_string(),
        job.letters.to_string(),
        format!("{:08x}", job.checksum),
    ]
}
