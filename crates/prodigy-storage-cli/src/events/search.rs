//! `events search`.

use prodigy_storage::{EventFilter, JobId, ScanItem, escape};

use super::cat::{RangeArgs, note_unverified};
use super::filter::pattern;
use super::shown::{self, FormArgs};
use crate::app::{Access, App};
use crate::errors::Result;
use crate::exit::Exit;
use crate::job::{Opened, RepoArgs};

pub(super) const HELP: &str = "Examples: in one job; in all jobs of the repository, of the last hour
  prodigy-storage events search --job J 'agent-[0-9]+ failed'
  prodigy-storage events search --all-jobs --since 1h '(?i)timeout'";

#[derive(Debug, clap::Args)]
pub(crate) struct SearchArgs {
    /// A regular expression, looked for in the JSON of each payload as it is stored.
    #[arg(value_name = "REGEX", value_parser = pattern)]
    pattern: EventFilter,
    #[command(flatten)]
    repo: RepoArgs,
    /// The id of a job; several are searched one after the other.
    #[arg(long = "job", value_name = "JOB", required_unless_present = "all_jobs")]
    jobs: Vec<String>,
    /// Search all jobs of the repository. Then, and with several jobs, a line of JSON is an object with `repo`, `job` and
    /// `record`.
    #[arg(long, conflicts_with = "jobs")]
    all_jobs: bool,
    #[command(flatten)]
    range: RangeArgs,
    #[command(flatten)]
    form: FormArgs,
}

pub(crate) fn run(app: &mut App<'_>, arguments: &SearchArgs) -> Result<Exit> {
    let form = arguments.form.form(app);
    let name = arguments.repo.name()?;
    let named = arguments
        .jobs
        .iter()
        .map(JobId::new)
        .collect::<Result<Vec<_>, _>>()?;
    let storage = app.open(Access::Read)?;
    let repo = app.repo(&storage, name.as_ref())?;
    let of_many = arguments.all_jobs || named.len() > 1;
    let ids: Box<dyn Iterator<Item = prodigy_storage::Result<JobId>>> = match arguments.all_jobs {
        true => Box::new(repo.jobs()),
        false => Box::new(named.into_iter().map(Ok)),
    };
    let mut unverified = 0;
    for id in ids {
        let job = repo.job(id?)?;
        let options = arguments.range.options().filter(arguments.pattern.clone());
        let mut lines = job.events().read_lines(options)?;
        let mut any = false;
        while let Some(item) = lines.next()? {
            any = true;
            match item {
                ScanItem::Record(record) => {
                    unverified += usize::from(!record.verified);
                    let address = of_many.then(|| job.address());
                    shown::print(app, &shown::line(&record, address, form)?, form)?;
                }
                ScanItem::Damage(damage) => app.damaged(&escape(&damage.to_string())),
                ScanItem::TooLarge(record) => app.too_large(&record),
            }
        }
        if !any && !arguments.all_jobs {
            let (storage, repo) = (storage.clone(), repo.clone());
            Opened { storage, repo, job }.must_be_known()?;
        }
    }
    note_unverified(app, unverified);
    Ok(Exit::Done)
}
