//! The jobs whose events a command reads: one, several, or all of a repository.

use prodigy_storage::{
    EventLines, Events, FollowOptions, Job, JobAddress, JobId, ReadOptions, Record, Repo, ScanItem, Storage,
    escape,
};

use super::filter::FilterArgs;
use super::follow::{Lines, note_missing};
use super::names;
use crate::app::{Access, App};
use crate::errors::{Failure, Result};
use crate::exit::Exit;
use crate::job::{Opened, RepoArgs, no_job_named, no_repo};
use crate::output::counted;
use crate::shell::flags;

#[derive(Debug, clap::Args)]
pub(super) struct JobsArgs {
    #[command(flatten)]
    repo: RepoArgs,
    /// The id of a job. Several jobs are read one after the other. The command needs it, or `--all-jobs`.
    #[arg(long = "job", value_name = "JOB")]
    jobs: Vec<String>,
    /// Read all jobs of the repository. With several jobs, each line of JSON is an object with `repo`, `job` and
    /// `record`.
    #[arg(long, conflicts_with = "jobs")]
    all_jobs: bool,
}

impl JobsArgs {
    /// Checks the names, then opens storage.
    pub(super) fn open(&self, app: &mut App<'_>) -> Result<Jobs> {
        let name = self.repo.name()?;
        let named = ids(&self.jobs)?;
        if named.is_empty() && !self.all_jobs {
            return Err(no_job_named(
                app,
                name.as_ref(),
                "add `--job JOB`, or `--all-jobs`",
            ));
        }
        let storage = app.open(Access::Read)?;
        let repo = app.repo(&storage, name.as_ref())?;
        for id in &named {
            app.note_moved(&repo.job(id.as_str())?)?;
        }
        Ok(Jobs {
            storage,
            repo,
            is_named: name.is_some(),
            named,
            may_be_missing: false,
        })
    }
}

/// Parses job ids. An id that is given twice is returned once.
pub(crate) fn ids(texts: &[String]) -> Result<Vec<JobId>> {
    let mut ids: Vec<JobId> = Vec::new();
    for text in texts {
        let id = JobId::new(text)?;
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    Ok(ids)
}

/// The jobs whose events a command reads, and the storage that holds them.
pub(super) struct Jobs {
    storage: Storage,
    repo: Repo,
    /// True if the command line names the repository.
    is_named: bool,
    /// The jobs that the command line names. If it is empty, all jobs of the repository are read.
    named: Vec<JobId>,
    may_be_missing: bool,
}

impl Jobs {
    /// Allows jobs that do not exist, since they may be created later, and says which these are.
    pub(super) fn may_be_missing(self, app: &mut App<'_>) -> Result<Self> {
        note_missing(app, &self.storage, &self.repo, &self.named, self.is_named)?;
        Ok(Self {
            may_be_missing: true,
            ..self
        })
    }

    /// The flags that name the jobs.
    pub(super) fn flags(&self) -> String {
        let jobs = self.named.iter().map(|job| ("--job", job.as_str()));
        let named = flags([("--repo", self.repo.name().as_str())].into_iter().chain(jobs));
        match self.named.is_empty() {
            true => format!("{named} --all-jobs"),
            false => named,
        }
    }

    /// True for one job. Events of several jobs are printed with their jobs.
    pub(super) fn is_one(&self) -> bool {
        self.named.len() == 1
    }

    /// The address to print with an event of this job, if there are several jobs.
    pub(super) fn shown<'a>(&self, job: &'a Job) -> Option<&'a JobAddress> {
        (!self.is_one()).then(|| job.address())
    }

    fn ids(&self) -> Box<dyn Iterator<Item = prodigy_storage::Result<JobId>> + '_> {
        match self.named.is_empty() {
            true => Box::new(self.repo.jobs()),
            false => Box::new(self.named.iter().cloned().map(Ok)),
        }
    }

    /// Calls a function with each event that the options select, as far as they can be read.
    pub(super) fn each_event(&self, options: &ReadOptions, mut event: impl FnMut(&Record<'_>)) {
        for id in self.ids().flatten() {
            let Ok(job) = self.repo.job(id.as_str()) else {
                continue;
            };
            let Ok(mut lines) = job.events().read_lines(options.clone()) else {
                continue;
            };
            while let Ok(Some(item)) = lines.next() {
                if let ScanItem::Record(record) = item {
                    event(&record);
                }
            }
        }
    }

    /// Follows the jobs.
    pub(super) fn follow(&self, options: FollowOptions) -> Result<Lines> {
        Lines::of_jobs(&self.repo, &self.named, options)
    }

    /// Reads each job with `begin`, passes its events on, and reports damage. If a job does not exist, the others are
    /// read, and its failure is part of the result. Of several jobs, those that can't be read are reported and skipped.
    pub(super) fn read(
        &self,
        app: &mut App<'_>,
        mut begin: impl FnMut(&Events) -> prodigy_storage::Result<EventLines>,
        mut give: impl FnMut(&mut App<'_>, &Job, &ScanItem<'_>) -> Result<()>,
    ) -> Result<Read> {
        let mut read = Read::default();
        for id in self.ids() {
            let id = match id {
                Ok(id) => id,
                Err(error) => {
                    app.pass_over(error)?;
                    continue;
                }
            };
            let job = self.repo.job(id.as_str())?;
            let mut lines = match begin(&job.events()) {
                Ok(lines) => lines,
                Err(error) if !self.is_one() => {
                    app.pass_over(error)?;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            let mut any = false;
            loop {
                let item = match lines.next() {
                    Ok(Some(item)) => item,
                    Ok(None) => break,
                    Err(error) if !self.is_one() => {
                        app.pass_over(error)?;
                        any = true;
                        break;
                    }
                    Err(error) => return Err(error.into()),
                };
                any = true;
                give(app, &job, &item)?;
                match item {
                    ScanItem::Record(record) => {
                        read.records += 1;
                        read.unverified += usize::from(!record.verified);
                    }
                    ScanItem::Damage(damage) => app.damaged(&escape(&damage.to_string())),
                    ScanItem::TooLarge(record) => app.too_large(&record),
                }
            }
            let (storage, repo) = (self.storage.clone(), self.repo.clone());
            let known = match any || self.named.is_empty() || self.may_be_missing {
                true => Ok(()),
                false => Opened { storage, repo, job }.must_be_known(),
            };
            match known {
                Ok(()) => read.jobs += 1,
                Err(failure) if failure.exit() == Exit::Missing => read.missing.push(failure),
                Err(failure) => return Err(failure),
            }
        }
        if read.jobs == 0 && self.named.is_empty() && !self.may_be_missing {
            let name = self.repo.name();
            let missing = no_repo(&self.storage, name, &format!("no job in the repository `{name}`"))?;
            read.missing.extend(missing);
        }
        Ok(read)
    }
}

/// The result of reading jobs.
#[derive(Default)]
#[must_use]
pub(super) struct Read {
    /// The number of jobs.
    pub(super) jobs: usize,
    records: usize,
    unverified: usize,
    missing: Vec<Failure>,
}

impl Read {
    /// True if none of the jobs exists.
    pub(super) fn is_nothing(&self) -> bool {
        self.jobs == 0 && !self.missing.is_empty()
    }

    /// Prints a note about events without a valid checksum.
    pub(super) fn note_unverified(&self, app: &mut App<'_>) {
        if self.unverified > 0 {
            let events = counted(self.unverified, "event");
            app.note(&format!("{events} without a checksum, not verified"));
        }
    }

    /// Ends the command, with the failures for jobs that do not exist, or for a filter that names what no event has.
    pub(super) fn end(mut self, app: &mut App<'_>, jobs: &Jobs, filters: &FilterArgs) -> Result<Exit> {
        let last = self.missing.pop();
        for missing in &self.missing {
            missing.print(&mut app.err);
        }
        if let Some(last) = last {
            return Err(last);
        }
        if self.records == 0 && !jobs.may_be_missing {
            app.flush()?;
            names::must_exist(jobs, filters)?;
        }
        Ok(Exit::Done)
    }
}
