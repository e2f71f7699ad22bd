//! `doctor`.

use std::time::Duration;

use prodigy_storage::doctor::{Doctor, DoctorScope, DoctorSummary, Finding, FindingOutcome, FindingSeverity};
use prodigy_storage::{JobId, Result as Stored, escape};

use crate::app::{Access, App};
use crate::errors::Result;
use crate::exit::Exit;
use crate::job::RepoArgs;
use crate::output::counted;
use crate::time::duration;

#[derive(Debug, clap::Args)]
pub(crate) struct DoctorArgs {
    /// Take damage from its place: copies and a report go to `quarantine/`, what is whole stays readable.
    #[arg(long)]
    repair: bool,
    /// Only this job's data.
    #[arg(long, value_name = "JOB")]
    job: Option<String>,
    /// Only the data of the repository of this name; without it, of all.
    #[arg(long, value_name = "REPO")]
    repo: Option<String>,
    /// With `--repair`: how long to wait for each lock that a writer holds.
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "5s")]
    wait: Duration,
}

pub(crate) fn run(app: &mut App<'_>, arguments: &DoctorArgs) -> Result<Exit> {
    let mut scope = DoctorScope::all();
    let repo = RepoArgs {
        repo: arguments.repo.clone(),
    };
    if let Some(repo) = repo.name()? {
        scope = scope.repo(repo);
    }
    if let Some(job) = &arguments.job {
        scope = scope.job(JobId::new(job)?);
    }
    let access = if arguments.repair {
        Access::Write
    } else {
        Access::Read
    };
    let doctor = app.doctor(access)?;
    let mut told = Ok(());
    let looked = look(&doctor, arguments, &scope, &mut |finding| {
        if told.is_ok() {
            told = tell(app, &finding);
        }
    });
    told?;
    let summary = looked?;
    if app.json() {
        app.json_line(&serde_json::json!({"summary": summary}))?;
    } else {
        app.line(closing(&summary))?;
    }
    Ok(match &summary {
        summary if !summary.is_clean() => Exit::Damaged,
        summary if summary.unrepaired > 0 => Exit::Failed,
        summary if summary.unread > 0 => Exit::Skipped,
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

fn tell(app: &mut App<'_>, finding: &Finding) -> Result<()> {
    if app.json() {
        return app.json_line(finding);
    }
    let word = match finding.severity {
        FindingSeverity::Damage => "damage",
        FindingSeverity::Warning => "warning",
        _ => "note",
    };
    let place = escape(&finding.place);
    let at = match finding.len {
        0 => String::new(),
        len => format!(" at offset {}, {len} bytes", finding.offset),
    };
    app.line(format!("{word:<8} {place}{at}: {}", escape(&finding.why)))?;
    app.line(format!("         lost: {}", escape(&finding.lost)))?;
    match &finding.outcome {
        FindingOutcome::Repaired { kept: Some(kept) } => app.line(format!(
            "         repaired; the bytes are kept in {}",
            escape(kept)
        )),
        FindingOutcome::Repaired { kept: None } => app.line("         repaired"),
        FindingOutcome::Left { why } => app.line(format!("         left: {}", escape(why))),
        _ => app.line(format!("         to do: {}", escape(&finding.advice))),
    }
}

fn closing(summary: &DoctorSummary) -> String {
    let count = |number: u64, of: &str| counted(usize::try_from(number).unwrap_or(usize::MAX), of);
    let mut text = format!(
        "{}: {} and {} read, {} whole; damage: {} found, {} left; {}, {}",
        count(summary.files, "file"),
        count(summary.events, "event"),
        count(summary.items, "item"),
        count(summary.documents, "document"),
        summary.damage,
        summary.left,
        count(summary.warnings, "warning"),
        count(summary.notes, "note"),
    );
    if summary.unread > 0 {
        text.push_str(&format!(
            "; {} could not be read by this user: what is in there was not examined",
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
