//! The flags that name a job or a repository.

use prodigy_storage::{Job, JobId, Repo, RepoName, Storage};

use crate::app::{Access, App};
use crate::errors::{Failure, Result};
use crate::exit::Exit;
use crate::near::Near;

/// The job that a command works on.
#[derive(Debug, clap::Args)]
pub(crate) struct JobArgs {
    #[command(flatten)]
    pub(crate) repo: RepoArgs,
    /// The job's id. The command needs it.
    #[arg(long, value_name = "JOB")]
    pub(crate) job: Option<String>,
}

/// The repository that a command works on.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct RepoArgs {
    /// The repository's name; by default, the git repository of this folder, or the folder itself outside of any.
    #[arg(long, value_name = "REPO")]
    pub(crate) repo: Option<String>,
}

impl RepoArgs {
    /// The name, which is checked before storage is opened.
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

/// The part of a store that a command works on: all of it, a repository, or a job.
#[derive(Debug, clap::Args)]
pub(crate) struct PartArgs {
    /// Only this repository's data; by default, the data of all repositories, or with `--job` of the repository here.
    #[arg(long, value_name = "REPO")]
    repo: Option<String>,
    /// Only this job's data.
    #[arg(long, value_name = "JOB")]
    job: Option<String>,
    /// With `--job`: the data of the jobs with this id in all repositories.
    #[arg(long, conflicts_with = "repo")]
    all_repos: bool,
}

impl PartArgs {
    /// The repository and the job, as far as they are given. A job without a repository is one of the repository here.
    pub(crate) fn names(&self, app: &mut App<'_>) -> Result<(Option<RepoName>, Option<JobId>)> {
        let repo = self.repo.as_ref().map(RepoName::new).transpose()?;
        let job = self.job.as_ref().map(JobId::new).transpose()?;
        let is_here = job.is_some() && repo.is_none() && !self.all_repos;
        let repo = match is_here {
            true => {
                let storage = app.open_quietly(Access::Read)?;
                Some(app.repo(&storage, None)?.name().clone())
            }
            false => repo,
        };
        Ok((repo, job))
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
        let Some(id) = &self.job else {
            return Err(no_job_named(app, name.as_ref(), "add `--job JOB`"));
        };
        let id = JobId::new(id)?;
        let storage = app.open(access)?;
        let repo = app.repo(&storage, name.as_ref())?;
        let job = repo.job(id.as_str())?;
        if access == Access::Read {
            app.note_moved(&job)?;
        }
        Ok(Opened { storage, repo, job })
    }
}

impl Opened {
    /// Registers the repository if the command found it by the current folder. To be called right before the command stores something.
    pub(crate) fn register(&mut self, app: &mut App<'_>) -> Result<()> {
        if self.repo.identity().is_some() {
            self.repo = app.register_here(&self.storage)?;
            self.job = self.repo.job(self.job.address().job.as_str())?;
        }
        Ok(())
    }

    /// `None` if something was stored for the job; otherwise the existing jobs, compared with it.
    pub(crate) fn unless_known(&self) -> Result<Option<Near<'_>>> {
        let id = &self.job.address().job;
        let mut near = Near::to(id.as_str());
        for job in self.repo.jobs() {
            let job = job?;
            if job == *id {
                return Ok(None);
            }
            near.offer(job.as_str());
        }
        Ok(Some(near))
    }

    /// Fails with [`Exit::Missing`] if nothing was ever stored for the job. The error lists existing jobs.
    pub(crate) fn must_be_known(&self) -> Result<()> {
        let id = &self.job.address().job;
        let Some(near) = self.unless_known()? else {
            return Ok(());
        };
        let what = format!("no job `{id}` in the repository `{}`", self.repo.name());
        if let (0, Some(missing)) = (near.count, no_repo(&self.storage, self.repo.name(), &what)?) {
            return Err(missing);
        }
        Err(Failure::new(Exit::Missing, what).hint(near.hint(
            "jobs",
            "`prodigy-storage job list --all-repos` lists the jobs of all repositories",
        )))
    }
}

/// The failure of a command line that names no job. The hint lists the jobs of the repository.
pub(crate) fn no_job_named(app: &mut App<'_>, name: Option<&RepoName>, remedy: &str) -> Failure {
    let mut near = Near::to("");
    if let Ok(storage) = app.open_quietly(Access::Read)
        && let Ok(repo) = name.map_or_else(|| storage.repo_at("."), |name| storage.repo(name.as_str()))
    {
        repo.jobs().flatten().for_each(|job| near.offer(job.as_str()));
    }
    Failure::usage("no job is named").hint(near.hint("jobs", remedy))
}

/// Refuses a name under which the store keeps data of its own.
pub(crate) fn not_reserved(name: &RepoName) -> Result<()> {
    match name.is_reserved() {
        false => Ok(()),
        true => {
            let what =
                format!("the repository `{name}` holds data of the store itself: no command writes to it");
            Err(Failure::usage(what)
                .hint("choose another name; `prodigy-storage clean --log` prints the audit log"))
        }
    }
}

/// The repositories of a store, without the names under which it keeps data of its own.
pub(crate) fn repositories(storage: &Storage) -> impl Iterator<Item = prodigy_storage::Result<RepoName>> {
    let is_own = |name: &RepoName| name.is_reserved();
    storage
        .repositories()
        .filter(move |name| !name.as_ref().is_ok_and(is_own))
}

/// The failure for a repository that holds nothing; `None` if it holds something. `what` describes the missing thing
/// in the message.
pub(crate) fn no_repo(storage: &Storage, name: &RepoName, what: &str) -> Result<Option<Failure>> {
    let mut near = Near::to(name.as_str());
    for repo in storage.repositories() {
        let repo = repo?;
        if repo == *name {
            return Ok(None);
        }
        if !repo.is_reserved() {
            near.offer(repo.as_str());
        }
    }
    let what = format!("{what}: nothing is stored under that name");
    let remedy = match storage.capabilities().root {
        Some(_) => "check `--base-dir`: `prodigy-storage config show --origin` prints the folder of the data",
        None => "check the store: `prodigy-storage config show --origin` prints the backend and its settings",
    };
    let hint = near.hint("repositories", remedy);
    Ok(Some(Failure::new(Exit::Missing, what).hint(hint)))
}
