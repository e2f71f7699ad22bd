//! The command `clean`.

use std::num::NonZeroUsize;
use std::time::Duration;

use prodigy_storage::config::RetentionSettings;
use prodigy_storage::{
    CleanOptions, JobId, JobState, Removal, RemovalHistory, RemovalKind, RemovalOutcome, RepoName, Storage,
    Timestamp,
};
use serde_json::json;

use crate::app::{Access, App};
use crate::copy::must_be_there;
use crate::errors::Result;
use crate::exit::Exit;
use crate::job::{PartArgs, repositories};
use crate::jobs::{Left, left_of};
use crate::output::{at_least_one, bytes, counted};
use crate::table::{Column, Table};
use crate::time::{Times, age, duration, left, passed};

#[derive(Debug, clap::Args)]
pub(crate) struct CleanArgs {
    /// Remove the data. Without this flag the plan is printed.
    #[arg(long, short)]
    yes: bool,
    /// Remove the data, and print only what was removed or could not be removed: for a timer.
    #[arg(long, conflicts_with = "yes")]
    auto: bool,
    /// Print earlier removals, oldest first.
    #[arg(long, conflicts_with_all = ["yes", "auto", "repo", "job", "all_repos"])]
    log: bool,
    #[command(flatten)]
    part: PartArgs,
    #[command(flatten, next_help_heading = "Rules, in place of `retention.*`")]
    rules: Rules,
}

/// Each flag overrides one key of the configuration.
#[derive(Debug, clap::Args)]
struct Rules {
    /// Delete jobs that were finished longer ago than this.
    #[arg(long, value_name = "D", value_parser = duration)]
    finished_jobs: Option<Duration>,
    /// Delete unfinished jobs that were not written to for this long.
    #[arg(long, value_name = "D", value_parser = duration)]
    idle_jobs: Option<Duration>,
    /// Remove sealed segments whose events are all older than this.
    #[arg(long, value_name = "D", value_parser = duration)]
    events: Option<Duration>,
    /// Delete checkpoints that are older than this.
    #[arg(long, value_name = "D", value_parser = duration)]
    checkpoints: Option<Duration>,
    /// The number of newest checkpoints to keep of each phase.
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    keep_checkpoints: Option<NonZeroUsize>,
    /// Remove parked dead letters whose last attempt is older than this.
    #[arg(long, value_name = "D", value_parser = duration)]
    dead_letters: Option<Duration>,
    /// Remove records of orphaned worktrees that are older than this.
    #[arg(long, value_name = "D", value_parser = duration)]
    orphans: Option<Duration>,
    /// Remove files from the quarantine that are older than this.
    #[arg(long, value_name = "D", value_parser = duration)]
    quarantine: Option<Duration>,
}

impl Rules {
    fn over(&self, configured: &RetentionSettings) -> RetentionSettings {
        configured
            .clone()
            .finished_jobs(self.finished_jobs.or(configured.finished_jobs))
            .idle_jobs(self.idle_jobs.or(configured.idle_jobs))
            .events(self.events.or(configured.events))
            .checkpoints(self.checkpoints.or(configured.checkpoints))
            .checkpoints_keep(
                self.keep_checkpoints
                    .map(NonZeroUsize::get)
                    .or(configured.checkpoints_keep),
            )
            .dead_letters(self.dead_letters.or(configured.dead_letters))
            .orphans(self.orphans.or(configured.orphans))
            .quarantine(self.quarantine.or(configured.quarantine))
    }
}

impl CleanArgs {
    /// True if the command removes nothing: what it prints is then its whole result.
    pub(crate) fn prints(&self) -> bool {
        !self.removes()
    }

    fn removes(&self) -> bool {
        self.yes || self.auto
    }
}

pub(crate) fn run(app: &mut App<'_>, arguments: &CleanArgs) -> Result<Exit> {
    let (repo, job) = arguments.part.names(app)?;
    let access = match arguments.removes() {
        true => Access::Write,
        false => Access::Read,
    };
    let storage = app.open(access)?;
    if arguments.log {
        return log(app, &storage);
    }
    // A timer runs again after everything was removed.
    if !arguments.auto && !is_any_unfinished(&storage, repo.as_ref(), job.as_ref())? {
        must_be_there(&storage, repo.as_ref(), job.as_ref())?;
    }
    let rules = arguments.rules.over(&storage.config().retention);
    let is_without_rule = rules == RetentionSettings::default();
    let (limits, set) = (limits(&rules), rules.clone());
    let options = CleanOptions::new()
        .rules(rules)
        .repo(repo.clone())
        .job(job.clone())
        .dry_run(!arguments.removes())
        .unattended(arguments.auto);
    let report = storage.clean(options)?;
    let mut table = Table::new([
        Column::word("DATA"),
        Column::number("COUNT"),
        Column::number("SIZE"),
        Column::number("OLDER THAN"),
        Column::name("JOB"),
    ]);
    let (mut exit, mut made, mut foreign_left) = (Exit::Done, 0_usize, Vec::new());
    for removal in &report.removals {
        let kept = match &removal.outcome {
            RemovalOutcome::Kept { why } => Some(why),
            _ => None,
        };
        let is_gone = removal.outcome == RemovalOutcome::Gone;
        if app.json() {
            app.json_line(removal)?;
        } else if kept.is_none() && !is_gone {
            table.row(app, row(removal))?;
        }
        if is_gone {
            app.note(&format!(
                "{} is gone: another process has removed it",
                name(removal)
            ));
            continue;
        }
        match kept {
            Some(why) => {
                let size = match removal.count {
                    0 => String::new(),
                    count => format!(", {count} with {}", bytes(removal.bytes)),
                };
                app.error(&format!("not removed: {}{size}: {why}", name(removal)));
                exit = Exit::Failed;
            }
            None => made += 1,
        }
        if let (RemovalKind::Job, RemovalOutcome::Removed, Some(job)) =
            (removal.kind, &removal.outcome, &removal.job)
            && let Left {
                foreign,
                begun_again: false,
                ..
            } = left_of(app, &storage, job)?
            && !foreign.is_empty()
        {
            let files = counted(foreign.len(), "file");
            foreign_left.push(format!(
                "of {job} was removed what the store wrote; its folder stays, with {files} of another program"
            ));
        }
    }
    table.print(app)?;
    for left in foreign_left {
        app.note(&left);
    }
    app.flush()?;
    if let Some(why) = &report.unrecorded_why {
        let count = counted(report.unrecorded, "removal");
        app.error(&format!("the audit log lacks {count}: {why}"));
        exit = Exit::Failed;
    }
    if report.held_back > 0
        && let Some((from, to)) = report.silence
    {
        app.warn(&format!(
            "{} by the clock, and held back: nothing was written from {} to {}, which may be a step of the clock; `--auto` counts \
             such a silence as {} days at most, and as half of the age that a rule sets; if the clock was right, look at the plan of \
             `clean`, and remove with `clean --yes`",
            counted(report.held_back, "removal") + " due",
            app.message_time(from),
            app.message_time(to),
            CleanOptions::RECENT.as_secs() / (24 * 60 * 60),
        ));
    }
    let size = bytes(report.bytes());
    let text = match made {
        0 if arguments.auto => return Ok(exit),
        0 if !report.removals.is_empty() => "nothing was removed".to_owned(),
        0 if is_without_rule => "nothing is removed without a rule: set keys below `retention`, or give one \
                                 such as `--finished-jobs 30d`"
            .to_owned(),
        0 if report.foreign > 0 => format!(
            "nothing was removed: old enough {}, with nothing but files of other programs, which stay",
            match report.foreign {
                1 => "is 1 job".to_owned(),
                jobs => format!("are {jobs} jobs"),
            }
        ),
        0 => {
            let why = not_due(&storage, &set, repo.as_ref(), job.as_ref())?;
            match job {
                Some(_) if why.all_active => format!("nothing is removed: {}", why.text),
                _ => format!("nothing is old enough: {limits}; {}", why.text),
            }
        }
        _ if arguments.removes() => format!("removed {size}"),
        count => format!(
            "nothing was removed; `--yes` makes {}: {size}",
            counted(count, "removal")
        ),
    };
    app.note(&text);
    Ok(exit)
}

/// True if the deletion of a job with these names was cut short: no listing has the job.
fn is_any_unfinished(storage: &Storage, repo: Option<&RepoName>, job: Option<&JobId>) -> Result<bool> {
    for left in storage.unfinished_deletions() {
        let left = left?.job;
        if repo.is_none_or(|repo| left.repo == *repo) && job.is_none_or(|job| left.job == *job) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The rules that are set, in words.
fn limits(rules: &RetentionSettings) -> String {
    let ages = [
        ("finished jobs", rules.finished_jobs),
        ("idle jobs", rules.idle_jobs),
        ("events", rules.events),
        ("checkpoints", rules.checkpoints),
        ("dead letters", rules.dead_letters),
        ("orphans", rules.orphans),
        ("quarantine", rules.quarantine),
    ];
    let ages = ages
        .into_iter()
        .filter_map(|(what, limit)| Some(format!("{what} stay for {}", left(limit?))));
    let keep = rules
        .checkpoints_keep
        .map(|keep| format!("the newest {keep} checkpoints of a phase stay"));
    ages.chain(keep).collect::<Vec<_>>().join(", ")
}

/// Why no job is removed.
struct NotDue {
    text: String,
    /// True if processes work on all of the jobs.
    all_active: bool,
}

/// Why no job of this part is removed: the age of the oldest one, the jobs that no rule is about, and those on which processes work.
fn not_due(
    storage: &Storage,
    rules: &RetentionSettings,
    of_repo: Option<&RepoName>,
    of_job: Option<&JobId>,
) -> Result<NotDue> {
    let (mut oldest, mut finished, mut unfinished) = (None::<Timestamp>, 0_u64, 0_u64);
    let (mut active, mut by) = (0_u64, None);
    for name in repositories(storage) {
        let name = name?;
        if of_repo.is_some_and(|repo| name != *repo) {
            continue;
        }
        let repo = storage.repo(name)?;
        // A job that can't be read was reported as one that is not removed.
        for row in repo.survey().flatten().flatten() {
            let job = &row.address.job;
            if of_job.is_some_and(|wanted| job != wanted) {
                continue;
            }
            let last = row.status.last_activity;
            oldest = [oldest, last].into_iter().flatten().min();
            match row.status.state {
                JobState::Finished => finished += 1,
                JobState::Active => {
                    active += 1;
                    if active == 1 {
                        let who = repo.job(job.as_str())?.active_by()?;
                        let who = who.map_or_else(String::new, |who| format!(": {who}"));
                        by = Some(format!("{} is active{who}", row.address));
                    }
                }
                _ => unfinished += 1,
            }
        }
    }
    let all_active = active > 0 && finished + unfinished == 0;
    let mut text = match oldest {
        _ if all_active => String::new(),
        None => "no job has been written to".to_owned(),
        Some(last) => format!("the oldest last write of a job is {} ago", age(passed(last))),
    };
    if let Some(by) = by {
        let more = match active {
            1 => String::new(),
            more => format!("; so are {} more", more - 1),
        };
        let before = if text.is_empty() { "" } else { "; " };
        text.push_str(&format!("{before}{by}{more}"));
    }
    for (jobs, what, rule, missing) in [
        (
            finished,
            "finished job",
            rules.finished_jobs,
            "`--finished-jobs 30d`",
        ),
        (
            unfinished,
            "unfinished job",
            rules.idle_jobs,
            "`--idle-jobs 90d`, or `job finish` and `--finished-jobs 30d`",
        ),
    ] {
        if jobs > 0 && rule.is_none() {
            text.push_str(&format!(
                "; no rule is set for {}: {missing}",
                counted(jobs, what)
            ));
        }
    }
    Ok(NotDue { text, all_active })
}

fn name(removal: &Removal) -> String {
    match owner(removal) {
        Some(owner) if removal.kind == RemovalKind::Job && removal.job.is_none() => {
            format!("jobs of {owner}")
        }
        Some(owner) => format!("{} of {owner}", removal.kind.as_str()),
        None => removal.kind.as_str().to_owned(),
    }
}

/// The job or the repository that the removed data belonged to.
fn owner(removal: &Removal) -> Option<String> {
    let repo = removal.repo.as_ref();
    let job = removal.job.as_ref();
    job.map(ToString::to_string)
        .or_else(|| repo.map(ToString::to_string))
}

fn row(removal: &Removal) -> [String; 5] {
    [
        removal.kind.as_str().to_owned(),
        match removal.kind {
            RemovalKind::Events => counted(removal.count, "segment"),
            _ => removal.count.to_string(),
        },
        bytes(removal.bytes),
        match removal.kind {
            // It goes at any age.
            RemovalKind::UnfinishedDeletion => "-".to_owned(),
            _ => age(passed(removal.before)),
        },
        owner(removal).unwrap_or_else(|| "-".to_owned()),
    ]
}

/// Prints the removals of the audit log.
fn log(app: &mut App<'_>, storage: &Storage) -> Result<Exit> {
    let times = Times::new(app.width.is_some());
    let mut table = Table::new([
        Column::word(times.heading("TIME")),
        Column::text("OUTCOME"),
        Column::word("DATA"),
        Column::number("COUNT"),
        Column::number("SIZE"),
        Column::text("RULE").optional(1),
        Column::name("JOB"),
        // The last column: a long reason widens no row but its own.
        Column::text("WHY"),
    ]);
    for entry in RemovalHistory::new(&storage.audit_log()?)? {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                app.damaged_by(&error);
                continue;
            }
        };
        let (time, removal) = (entry.timestamp, entry.event);
        if app.json() {
            app.json_line(&json!({"time": time, "removal": removal}))?;
            continue;
        }
        let (outcome, why) = match &removal.outcome {
            RemovalOutcome::Kept { why } => ("kept", why.clone()),
            RemovalOutcome::Begun => ("begun, not known to have ended", String::new()),
            _ => ("removed", String::new()),
        };
        let [data, count, size, _, job] = row(&removal);
        table.row(
            app,
            [
                times.cell(time),
                outcome.to_owned(),
                data,
                count,
                size,
                removal.rule,
                job,
                why,
            ],
        )?;
    }
    table.print(app)?;
    Ok(Exit::Done)
}
