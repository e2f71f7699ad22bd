//! The command `events search`.

use prodigy_storage::EventFilter;

use super::cat::{self, RangeArgs};
use super::filter::pattern;
use super::jobs::JobsArgs;
use super::shown::FormArgs;
use crate::app::App;
use crate::errors::Result;
use crate::exit::Exit;

pub(super) const HELP: &str = "Examples: in one job; in all jobs of the repository, of the last hour
  prodigy-storage events search --job J 'agent-[0-9]+ failed'
  prodigy-storage events search --all-jobs --since 1h '(?i)timeout'";

#[derive(Debug, clap::Args)]
pub(crate) struct SearchArgs {
    /// A regular expression, which is matched against the JSON of each payload as stored.
    #[arg(value_name = "REGEX", value_parser = pattern)]
    pattern: EventFilter,
    #[command(flatten)]
    jobs: JobsArgs,
    #[command(flatten)]
    range: RangeArgs,
    #[command(flatten)]
    form: FormArgs,
}

pub(crate) fn run(app: &mut App<'_>, arguments: &SearchArgs) -> Result<Exit> {
    arguments.range.check()?;
    let form = arguments.form.form(app);
    let jobs = arguments.jobs.open(app)?;
    let options = arguments.range.options().filter(arguments.pattern.clone());
    cat::print(app, &jobs, &arguments.range, &options, form)
}
