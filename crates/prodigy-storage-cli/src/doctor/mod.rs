//! The command `doctor`.

mod advice;
mod groups;
mod outside;

use std::time::Duration;

use prodigy_storage::doctor::{
    Doctor, DoctorScope, DoctorSummary, Finding, FindingKind, FindingOutcome, FindingSeverity,
};
use prodigy_storage::{Check, JobId, Result as Stored, Severity, Storage, escape};

use self::advice::Advice;
use self::groups::{Groups, matters, place, print_advice, title, word};
use self::outside::{print_problem, print_remedy};
use crate::app::{Access, App};
use crate::copy::must_be_there;
use crate::errors::Result;
use crate::exit::Exit;
use crate::job::{PartArgs, repositories};
use crate::output::counted;
use crate::problems::{self, Newest, REGISTRY, later};
use crate::shell::tool;
use crate::time::duration;

#[derive(Debug, clap::Args)]
pub(crate) struct DoctorArgs {
    /// Repair damage: damaged data is copied to `quarantine/` with a report, and readable data stays readable.
    #[arg(long)]
    repair: bool,
    #[command(flatten)]
    part: PartArgs,
    /// The doctor always reads all data.
    #[arg(long, hide = true)]
    deep: bool,
    /// With `--repair`: how long to wait for each lock that a writer holds.
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "5s")]
    wait: Duration,
}

pub(crate) fn run(app: &mut App<'_>, arguments: &DoctorArgs) -> Result<Exit> {
    let mut scope = DoctorScope::all().each(app.global.verbose);
    let (repo, job) = arguments.part.names(app)?;
    if let Some(repo) = &repo {
        scope = scope.repo(repo.clone());
    }
    if let Some(job) = &job {
        scope = scope.job(job.clone());
    }
    let access = if arguments.repair {
        Access::Write
    } else {
        Access::Read
    };
    let doctor = app.doctor(access)?;
    let advice = Advice::new(app, repo.as_ref(), job.as_ref());
    let (mut printed, mut groups, mut is_store) = (Ok(()), Groups::default(), true);
    let (mut is_of_scope, mut is_ahead) = (false, false);
    let looked = look(&doctor, arguments, &scope, &mut |finding| {
        is_of_scope |= job.as_ref().is_none_or(|job| is_about(&finding, job));
        is_store &= finding.kind != FindingKind::NoStore;
        is_ahead |= finding.kind == FindingKind::AheadOfClock && finding.severity > FindingSeverity::Note;
        let is_left = matches!(finding.outcome, FindingOutcome::Left { .. });
        let command = advice.command(&finding);
        let command = command.filter(|command| !(is_left && advice.is_repair(command)));
        if app.json() || app.global.verbose {
            if printed.is_ok() {
                printed = print(app, &finding, command.as_deref());
            }
        } else {
            groups.add(finding, command);
        }
    });
    printed?;
    let summary = looked?;
    let is_scoped = repo.is_some() || job.is_some();
    if is_scoped
        && !is_of_scope
        && is_nothing(&summary)
        && let Ok(storage) = app.open_quietly(Access::Read)
    {
        must_be_there(&storage, repo.as_ref(), job.as_ref())?;
    }
    groups.print(app)?;
    let mut problems = match is_scoped {
        true => Vec::new(),
        false => problems_outside(app, is_ahead),
    };
    // The finding above says the same.
    let lost = problems
        .extract_if(.., |problem| problem.name == REGISTRY)
        .count();
    let failures = problems
        .iter()
        .filter(|problem| problem.severity == Severity::Failure)
        .count();
    if app.json() {
        app.json_line(&serde_json::json!({"summary": summary, "checks": problems}))?;
    } else {
        for problem in &problems {
            print_problem(app, problem)?;
        }
        let warnings = summary.warnings + (problems.len() - failures) as u64;
        app.line(closing(&summary, warnings, failures))?;
    }
    Ok(match &summary {
        summary if !summary.is_clean() => Exit::Damaged,
        summary if summary.unrepaired > 0 => Exit::Failed,
        summary if summary.unread > 0 => Exit::Skipped,
        _ if failures + lost > 0 || !is_store => Exit::Failed,
        _ => Exit::Done,
    })
}

fn look(
    doctor: &Doctor,
    arguments: &DoctorArgs,
    scope: &DoctorScope,
    found: &mut dyn FnMut(Finding),
) -> Stored<DoctorSummary> {
    if arguments.repair {
        doctor.repair(scope, arguments.wait, found)
    } else {
        doctor.examine(scope, found)
    }
}

/// Prints one finding.
fn print(app: &mut App<'_>, finding: &Finding, command: Option<&str>) -> Result<()> {
    if app.json() {
        let mut json = serde_json::to_value(finding).unwrap_or_default();
        if let Some(json) = json.as_object_mut() {
            json.insert("command".to_owned(), command.into());
        }
        return app.json_line(&json);
    }
    let word = word(finding.severity);
    let what = format!(
        "{}: {}: {}",
        title(finding.kind),
        place(finding),
        escape(&finding.why)
    );
    app.finding(word, &what)?;
    app.detail("why it matters", matters(finding.kind))?;
    app.detail("lost", &escape(&finding.lost))?;
    match &finding.outcome {
        FindingOutcome::Repaired { kept: Some(kept) } => app.line(format!(
            "         repaired; the bytes are kept in {}",
            escape(kept)
        )),
        FindingOutcome::Repaired { kept: None } => app.line("         repaired"),
        FindingOutcome::Left { why } => {
            app.detail("left", &escape(why))?;
            command.map_or(Ok(()), |command| print_remedy(app, Some(command), None))
        }
        _ => print_advice(app, finding, command),
    }
}

/// The problems outside of the stored data, and a newest write that is ahead of the clock, unless a finding is about that. Empty if
/// storage can't be opened: the doctor's findings give the reason.
fn problems_outside(app: &mut App<'_>, is_ahead: bool) -> Vec<problems::Problem> {
    let Ok(storage) = app.open_quietly(Access::Read) else {
        return Vec::new();
    };
    let checks = problems::checks(app, &storage).unwrap_or_default();
    let checks: Vec<_> = checks.into_iter().filter(|check| !is_a_finding(check)).collect();
    let mut problems = problems::of(app, &storage, &checks);
    problems.extend(problems::of_registry(app, &storage));
    if !is_ahead {
        problems.extend(problems::of_newest(&storage, &newest(&storage)));
    }
    // The findings above say more.
    let this = format!("{} doctor", tool(&app.global));
    for problem in problems
        .iter_mut()
        .filter(|problem| problem.command.as_ref() == Some(&this))
    {
        problem.command = None;
        problem.hint = Some("solve the findings above, which are about the same".to_owned());
    }
    problems
}

/// The newest write of those jobs that can be read.
fn newest(storage: &Storage) -> Newest {
    let mut newest = None;
    for name in repositories(storage).flatten() {
        let Ok(repo) = storage.repo(name) else { continue };
        for row in repo.survey().flatten().flatten() {
            newest = later(newest, &row.address, row.status.last_activity);
        }
    }
    newest
}

/// True for a check whose problem is a finding of the doctor, too.
fn is_a_finding(check: &Check) -> bool {
    check.name == Check::DELETIONS
        || check.name == "modes"
        || (check.name == "root" && check.severity == Severity::Warning)
}

/// True if nothing of the part that was to be examined was read.
fn is_nothing(summary: &DoctorSummary) -> bool {
    summary.events + summary.items == 0
}

/// True if a finding is about a job, and not about its repository alone: the job's id is a name in its path, with or without an ending.
fn is_about(finding: &Finding, job: &JobId) -> bool {
    let is_of_job = |name: &std::ffi::OsStr| {
        let name = name.to_string_lossy();
        name == job.as_str()
            || name
                .rsplit_once('.')
                .is_some_and(|(stem, _)| stem == job.as_str())
    };
    finding.paths().iter().any(|path| path.iter().any(is_of_job))
}

fn closing(summary: &DoctorSummary, warnings: u64, failures: usize) -> String {
    let mut text = format!(
        "{}: {} and {} read, {} whole; damage: {} found, {} left; {}, {}",
        counted(summary.files, "file"),
        counted(summary.events, "event"),
        counted(summary.items, "item"),
        counted(summary.documents, "document"),
        summary.damage,
        summary.left,
        counted(warnings, "warning"),
        counted(summary.notes, "note"),
    );
    if failures > 0 {
        text.push_str(&format!("; {}", counted(failures, "failure")));
    }
    if summary.unread > 0 {
        text.push_str(&format!(
            "; {} could not be read by this user or process: what is in there was not examined",
            summary.unread
        ));
    }
    if summary.repaired > 0 {
        text.push_str(&format!("; {} repaired", summary.repaired));
    }
    if summary.unrepaired > 0 {
        text.push_str(&format!("; {} not repaired", summary.unrepaired));
    }
    text
}
