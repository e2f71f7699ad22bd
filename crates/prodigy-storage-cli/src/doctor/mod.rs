//! The command `doctor`.

mod advice;
mod groups;
mod outside;

use std::time::Duration;

use prodigy_storage::doctor::{Doctor, DoctorScope, DoctorSummary, Finding, FindingKind, FindingOutcome};
use prodigy_storage::{Check, JobId, RepoName, Result as Stored, Severity, escape};

use self::advice::Advice;
use self::groups::{Groups, place, word};
use self::outside::{of_gone, print_problem, print_remedy};
use crate::app::{Access, App};
use crate::copy::must_be_there;
use crate::errors::Result;
use crate::exit::Exit;
use crate::output::counted;
use crate::problems;
use crate::shell::tool;
use crate::time::duration;

#[derive(Debug, clap::Args)]
pub(crate) struct DoctorArgs {
    /// Repair damage: damaged data is copied to `quarantine/` with a report, and readable data stays readable.
    #[arg(long)]
    repair: bool,
    /// Only this job's data.
    #[arg(long, value_name = "JOB")]
    job: Option<String>,
    /// Only this repository's data; by default all repositories.
    #[arg(long, value_name = "REPO")]
    repo: Option<String>,
    /// With `--repair`: how long to wait for each lock that a writer holds.
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "5s")]
    wait: Duration,
}

pub(crate) fn run(app: &mut App<'_>, arguments: &DoctorArgs) -> Result<Exit> {
    let mut scope = DoctorScope::all().each(app.global.verbose);
    let repo = arguments.repo.as_ref().map(RepoName::new).transpose()?;
    let job = arguments.job.as_ref().map(JobId::new).transpose()?;
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
    let advice = Advice::new(app, arguments);
    let (mut printed, mut groups, mut is_store) = (Ok(()), Groups::default(), true);
    let looked = look(&doctor, arguments, &scope, &mut |finding| {
        is_store &= finding.kind != FindingKind::NoStore;
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
        && is_nothing(&summary)
        && let Ok(storage) = app.open_quietly(Access::Read)
    {
        must_be_there(&storage, repo.as_ref(), job.as_ref())?;
    }
    groups.print(app)?;
    let problems = match arguments.repo.is_none() && arguments.job.is_none() {
        true => problems_outside(app),
        false => Vec::new(),
    };
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
        _ if failures > 0 || !is_store => Exit::Failed,
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
    app.finding(word, &format!("{}: {}", place(finding), escape(&finding.why)))?;
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
        _ => print_remedy(app, command, Some(&finding.advice)),
    }
}

/// The problems outside of the stored data. Empty if storage can't be opened: the doctor's findings give the reason.
fn problems_outside(app: &mut App<'_>) -> Vec<problems::Problem> {
    let Ok(storage) = app.open_quietly(Access::Read) else {
        return Vec::new();
    };
    let checks = problems::checks(app, &storage).unwrap_or_default();
    let checks: Vec<_> = checks.into_iter().filter(|check| !is_a_finding(check)).collect();
    let mut problems = problems::of(app, &storage, &checks);
    problems.extend(of_gone(app, &storage));
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

/// True for a check whose problem is a finding of the doctor, too.
fn is_a_finding(check: &Check) -> bool {
    check.name == Check::DELETIONS || (check.name == "root" && check.severity == Severity::Warning)
}

/// True if the doctor read no data of a job and found no problem.
fn is_nothing(summary: &DoctorSummary) -> bool {
    let found = summary.damage + summary.warnings + summary.notes;
    summary.events + summary.items + found + summary.unread == 0
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
