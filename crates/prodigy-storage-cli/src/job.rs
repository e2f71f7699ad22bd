//! The job that a command is about.

use prodigy_storage::{Job, JobId, Repo, RepoName, Storage};

use crate::app::{Access, App};
use crate::errors::{Failure, Result};
use crate::exit::Exit;

/// Where a command works.
#[derive(Debug, clap::Args)]
pub(crate) struct JobArgs {
    #[command(flatten)]
    pub(crate) repo: RepoArgs,
    /// The job's id.
    #[arg(long, value_name = "JOB")]
    pub(crate) job: String,
}

/// Whose data a command works on.
#[derive(Debug, clap::Args)]
pub(crate) struct RepoArgs {
    /// The repository's name; without it, that of the git repository here, or of this folder outside of any.
    #[arg(long, value_name = "REPO")]
    pub(crate) repo: Option<String>,
}

impl RepoArgs {
    /// The name, checked before anything is opened.
    pub(crate) fn name(&self) -> Result<Option<RepoName>> {
        Ok(self.repo.as_ref().map(RepoName::new).transpose()?)
    }

    /// Opens storage and finds the repository.
    pub(crate) fn open(&self, app: &mut App<'_>, access: Access) -> Result<Repo> {
        let name = self.name()?;
        let storage = app.open(access)?;
        app.repo(&storage, name.as_ref())
    }
}

/// A job, and the storage that holds it.
pub(crate) struct Opened {
    pub(crate) storage: Storage,
    pub(crate) repo: Repo,
    pub(crate) job: Job,
}

impl JobArgs {
    /// Checks both names, then opens storage.
    pub(crate) fn open(&self, app: &mut App<'_>, access: Access) -> Result<Opened> {
        let name = self.repo.name()?;
        let id = JobId::new(&self.job)?;
        let storage = app.open(access)?;
        let repo = app.repo(&storage, name.as_ref())?;
        let job = repo.job(id.as_str())?;
        Ok(Opened { storage, repo, job })
    }
}

impl Opened {
    /// Ends with [`Exit::Missing`] where nothing was ever stored under the job.
    pub(crate) fn must_be_known(&self) -> Result<()> {
        let id = &self.job.address().job;
        for job in self.repo.jobs() {
            if job? == *id {
                return Ok(());
            }
        }
        let what = format!("no job `{id}` in the repository `{}`", self.repo.name());
        Err(Failure::new(Exit::Missing, what).hint(
            "check `--repo` and `--base-dir`; `prodigy-storage config show` prints the folder of the data",
        ))
    }
}
