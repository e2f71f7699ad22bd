//! The command `events follow`.

use std::collections::BTreeSet;
use std::io::Write;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use prodigy_storage::{
    Cursor, ErrorKind, EventId, FollowAllLines, FollowHandle, FollowLines, FollowOptions, JobAddress, JobId,
    Repo, ScanItem, Storage, escape,
};
use serde_json::json;

use super::filter::FilterArgs;
use super::jobs::ids;
use super::shown::{self, Form, FormArgs};
use crate::app::{Access, App};
use crate::errors::{Failure, Result, say};
use crate::exit::Exit;
use crate::job::{Opened, RepoArgs, no_job_named, no_repo, repositories};
use crate::signals::Stop;
use crate::time::duration;

/// The interval at which signals and a closed output are checked.
const PAUSE: Duration = Duration::from_millis(50);
/// The largest number of lines that are printed before the output is flushed.
const LINES: usize = 1024;

#[derive(Debug, clap::Args)]
pub(crate) struct FollowArgs {
    #[command(flatten)]
    repo: RepoArgs,
    /// The id of a job; several are followed at once. The command needs it, or `--all-jobs`, or `--all-repos`.
    #[arg(long = "job", value_name = "JOB")]
    jobs: Vec<String>,
    /// Follow all jobs of the repository, also those that come later. Then, and with several jobs, a line is an object with `repo`,
    /// `job` and `record`, the event's line as it is stored.
    #[arg(long, conflicts_with_all = ["jobs", "cursor", "until_finished"])]
    all_jobs: bool,
    /// Follow all jobs of all repositories, also those that come later.
    #[arg(long, conflicts_with_all = ["jobs", "all_jobs", "repo", "cursor", "until_finished"])]
    all_repos: bool,
    /// Print only events after this position: a cursor that an earlier run printed at its end.
    #[arg(long, value_name = "C")]
    cursor: Option<String>,
    /// Print only events that are appended from now on. Stored events are not read.
    #[arg(long, conflicts_with = "cursor")]
    from_now: bool,
    /// End when the job is finished and all of its events are printed.
    #[arg(long)]
    until_finished: bool,
    #[command(flatten)]
    filters: FilterArgs,
    /// End after this duration.
    #[arg(long = "for", value_name = "D", value_parser = duration)]
    time: Option<Duration>,
    #[command(flatten)]
    form: FormArgs,
}

impl FollowArgs {
    fn options(&self) -> Result<FollowOptions> {
        let cursor = self.cursor.as_ref().map(Cursor::new).transpose();
        let from = cursor.map_err(|error| refused_cursor(error.into()))?;
        // Reads only stored events: the loop waits itself, after it has flushed the output.
        let mut options = FollowOptions::new().from(from).wait(Duration::ZERO);
        options.from_now = self.from_now;
        options.until_finished = self.until_finished;
        options.filters = self.filters.all().collect();
        Ok(options)
    }
}

pub(crate) fn run(app: &mut App<'_>, arguments: &FollowArgs) -> Result<Exit> {
    let options = arguments.options()?;
    let named = ids(&arguments.jobs)?;
    if named.is_empty() && !arguments.all_jobs && !arguments.all_repos {
        let name = arguments.repo.name()?;
        return Err(no_job_named(
            app,
            name.as_ref(),
            "add `--job JOB`, `--all-jobs` or `--all-repos`",
        ));
    }
    if named.len() > 1 && (arguments.cursor.is_some() || arguments.until_finished) {
        return Err(Failure::usage(
            "follow several jobs: `--cursor` and `--until-finished` belong to one job",
        )
        .hint("follow each of them by a command of its own"));
    }
    let stop = Stop::on_request().ends_waits();
    let lines = match arguments.all_repos {
        true => Lines::All(app.open(Access::Read)?.follow_lines(options)?),
        false => {
            let name = arguments.repo.name()?;
            let storage = app.open(Access::Read)?;
            let repo = app.repo(&storage, name.as_ref())?;
            for id in &named {
                app.note_moved(&repo.job(id.as_str())?)?;
            }
            note_missing(app, &storage, &repo, &named, name.is_some())?;
            Lines::of_jobs(&repo, &named, options).map_err(refused_cursor)?
        }
    };
    app.columns.of_repos = arguments.all_repos;
    let form = arguments.form.form(app);
    follow_all(app, lines, Printed::new(), &stop, arguments.time, form)
}

/// Says for which jobs a follow waits, because nothing was ever stored for them. A repository that the command line names and that
/// holds nothing is an error, unless the store is empty.
pub(super) fn note_missing(
    app: &mut App<'_>,
    storage: &Storage,
    repo: &Repo,
    named: &[JobId],
    is_named: bool,
) -> Result<()> {
    let name = repo.name();
    if is_named
        && repositories(storage).next().is_some()
        && let Some(missing) = no_repo(storage, name, &format!("no job in the repository `{name}`"))?
    {
        return Err(missing);
    }
    if named.is_empty() && repo.jobs().next().is_none() {
        app.note(&format!("no job in the repository `{name}` yet: waiting"));
    }
    for id in named {
        let (storage, repo, job) = (storage.clone(), repo.clone(), repo.job(id.as_str())?);
        if let Some(near) = (Opened { storage, repo, job }).unless_known()? {
            let hint = near.hint(
                "jobs",
                "`prodigy-storage job list --all-repos` lists the jobs of all repositories",
            );
            app.note(&format!(
                "no job `{id}` in the repository `{name}` yet: waiting; {hint}"
            ));
        }
    }
    Ok(())
}

/// A cursor that the backend can't read is a refused command line.
fn refused_cursor(failure: Failure) -> Failure {
    match failure {
        Failure::Storage(error) if error.kind() == ErrorKind::InvalidInput => {
            let hint = error.hint().unwrap_or_default().to_owned();
            Failure::usage(format!("{error:#}")).hint(hint)
        }
        other => other,
    }
}

/// Prints the followed events in the form `form`, except those in `printed`.
pub(super) fn follow_behind(
    app: &mut App<'_>,
    lines: Lines,
    printed: Printed,
    time: Option<Duration>,
    form: Form,
) -> Result<Exit> {
    let stop = Stop::on_request().ends_waits();
    follow_all(app, lines, printed, &stop, time, form)
}

/// Prints the followed lines until the end, then the cursor.
fn follow_all(
    app: &mut App<'_>,
    mut lines: Lines,
    mut printed: Printed,
    stop: &Stop,
    time: Option<Duration>,
    form: Form,
) -> Result<Exit> {
    let until = time.and_then(|time| Instant::now().checked_add(time));
    let mut given = lines.cursor();
    let followed = interruptible(stop, app.closed, lines.handle(), || {
        follow(app, &mut lines, &mut printed, &mut given, stop, until, form)
    });
    // If another store has replaced this one, the cursor may be after events that were never printed. In a deleted
    // log, or before removed events, no follow can begin at the cursor.
    let is_valid = !matches!(&followed, Err(Failure::Storage(error))
        if matches!(error.kind(), ErrorKind::Replaced | ErrorKind::Deleted | ErrorKind::CursorGap));
    if let Some(given) = given.filter(|_| is_valid) {
        if app.json() {
            let _ = writeln!(app.err, "{}", json!({"cursor": given}));
        } else {
            say(&mut app.err, "cursor", given.as_str());
        }
    }
    followed
}

/// The ids of events that were printed already, each with its job if several jobs are followed.
pub(super) type Printed = BTreeSet<(Option<JobAddress>, EventId)>;

/// The followed lines of one job, or of several.
pub(super) enum Lines {
    Of(FollowLines),
    All(FollowAllLines),
}

impl Lines {
    /// The lines of these jobs; of all jobs of the repository if `jobs` is empty.
    pub(super) fn of_jobs(repo: &Repo, jobs: &[JobId], options: FollowOptions) -> Result<Self> {
        Ok(match jobs {
            [job] => Self::Of(repo.job(job.as_str())?.events().follow_lines(options)?),
            [] => Self::All(repo.follow_lines(options)?),
            jobs => Self::All(repo.follow_lines(options.jobs(jobs.iter().cloned()))?),
        })
    }

    fn next(&mut self) -> prodigy_storage::Result<Option<(Option<JobAddress>, ScanItem<'_>)>> {
        Ok(match self {
            Self::Of(lines) => lines.next()?.map(|item| (None, item)),
            Self::All(lines) => lines.next()?.map(|(job, item)| (Some(job), item)),
        })
    }

    fn wait(&mut self, timeout: Option<Duration>) -> prodigy_storage::Result<bool> {
        match self {
            Self::Of(lines) => lines.wait(timeout),
            Self::All(lines) => lines.wait(timeout),
        }
    }

    fn handle(&self) -> FollowHandle {
        match self {
            Self::Of(lines) => lines.handle(),
            Self::All(lines) => lines.handle(),
        }
    }

    /// The cursor after the last returned line; `None` for several jobs, since each has its own.
    fn cursor(&self) -> Option<Cursor> {
        match self {
            Self::Of(lines) => Some(lines.cursor()),
            Self::All(_) => None,
        }
    }

    fn is_finished(&self) -> bool {
        matches!(self, Self::Of(lines) if lines.is_finished())
    }
}

/// Prints lines until the time is over, the job is finished, or a signal asks to stop.
fn follow(
    app: &mut App<'_>,
    lines: &mut Lines,
    printed: &mut Printed,
    given: &mut Option<Cursor>,
    stop: &Stop,
    until: Option<Instant>,
    form: Form,
) -> Result<Exit> {
    loop {
        let read = step(app, lines, printed, form)?;
        // Also where the read failed: what was printed before that counts as given.
        *given = lines.cursor();
        let idle = read?;
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        // All events that are stored when the time ends are printed.
        let is_over = idle && (lines.is_finished() || left.is_some_and(|left| left.is_zero()));
        if is_over || stop.asked() || (app.closed)() {
            return Ok(Exit::Done);
        }
        if idle {
            lines.wait(left)?;
        }
    }
}

/// Runs `work`. Wakes the follow in it when a signal asks to stop or the reader of the output is gone.
fn interruptible<T>(stop: &Stop, closed: fn() -> bool, follow: FollowHandle, work: impl FnOnce() -> T) -> T {
    thread::scope(|scope| {
        let (ends, ended) = channel::<()>();
        scope.spawn(move || {
            while ended.recv_timeout(PAUSE) == Err(RecvTimeoutError::Timeout) {
                if stop.asked() || closed() {
                    follow.wake();
                }
            }
        });
        let done = work();
        drop(ends);
        done
    })
}

/// Prints the available lines, up to [`LINES`]. Returns true if no more are available for now, or the error of the read
/// that failed after the lines that were printed. An outer error is one of the output.
fn step(
    app: &mut App<'_>,
    lines: &mut Lines,
    printed: &mut Printed,
    form: Form,
) -> Result<prodigy_storage::Result<bool>> {
    let mut idle = Ok(false);
    let is_of_many = matches!(lines, Lines::All(_));
    for _ in 0..LINES {
        let item = match lines.next() {
            Ok(item) => item,
            // The follow of several jobs continues, and with this one at its oldest event.
            Err(error) if error.kind() == ErrorKind::CursorGap && is_of_many => {
                app.error(&format!("{error:#}"));
                app.fails_at_end();
                continue;
            }
            Err(error) => {
                idle = Err(error);
                break;
            }
        };
        match item {
            Some((job, ScanItem::Record(record))) => {
                if !printed.is_empty() && printed.remove(&(job.clone(), record.id)) {
                    continue;
                }
                shown::print(app, &shown::line(&record, job.as_ref(), form)?)?;
            }
            Some((_, ScanItem::Damage(damage))) => app.damaged(&escape(&damage.to_string())),
            Some((_, ScanItem::TooLarge(record))) => app.too_large(&record),
            None => {
                app.print_foreign();
                idle = Ok(true);
                break;
            }
        }
    }
    app.flush()?;
    Ok(idle)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Global;
    use crate::console::Console;

    #[test]
    fn a_gap_of_one_job_ends_no_follow_of_many() {
        let (mut output, mut errors) = (Vec::new(), Vec::new());
        let console = Console::of_pipes(&mut output, &mut errors);
        let mut app = App::new(Global::default(), console);
        let storage = Storage::in_memory().unwrap();
        let repo = storage.repo("shop").unwrap();
        let job = |id: &str| repo.job(id).unwrap();
        for id in ["a", "b"] {
            job(id).events().append(&1).unwrap();
        }
        let options = FollowOptions::new().wait(Duration::ZERO);
        let mut lines = Lines::of_jobs(&repo, &[], options).unwrap();
        let mut read = |app: &mut App<'_>| step(app, &mut lines, &mut Printed::new(), Form::Payload).unwrap();
        assert!(read(&mut app).unwrap());
        job("a").finish().unwrap();
        job("a").delete().unwrap();
        for id in ["a", "b"] {
            job(id).events().append(&2).unwrap();
        }
        assert!(read(&mut app).unwrap());
        drop(app);
        assert_eq!(String::from_utf8(output).unwrap(), "1\n1\n2\n2\n");
        let errors = String::from_utf8(errors).unwrap();
        assert!(errors.starts_with("error: cursor gap"), "{errors}");
    }
}
