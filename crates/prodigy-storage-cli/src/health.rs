//! The command `health`.

use prodigy_storage::{Check, Severity, Storage, escape};
use serde_json::json;

use crate::app::{Access, App, RUN};
use crate::errors::{Failure, Result};
use crate::exit::Exit;
use crate::job::repositories;
use crate::jobs::{Marks, each_row};
use crate::output::counted;
use crate::problems::{self, ALSO, Newest, TO_DO, later};
use crate::shell::doctor;
use crate::status::{read_checkpoints, read_newest_events};
use crate::top::Top;

/// The largest number of jobs whose counts are read.
const JOBS: u64 = 10_000;
/// The number of jobs, those with the newest writes, whose events are read, or the end of a large log.
const NEWEST: usize = 10;

pub(crate) fn run(app: &mut App<'_>) -> Result<Exit> {
    // The notices of the configuration are part of the result.
    let storage = app.open_quietly(Access::Read)?;
    let mut checks = problems::checks(app, &storage)?;
    let mut newest = None;
    checks.push(data(app, &storage, &mut newest)?);
    let passed: Vec<_> = checks
        .iter()
        .filter(|check| check.severity == Severity::Ok)
        .collect();
    let mut problems = problems::of(app, &storage, &checks);
    problems.extend(problems::of_registry(app, &storage));
    problems.extend(problems::of_newest(&storage, &newest));
    let severities = problems.iter().map(|problem| problem.severity);
    let severity = severities.max().unwrap_or(Severity::Ok);
    if app.json() {
        let passed = passed.iter().map(|check| json!(check));
        let failed = problems.iter().map(problems::Problem::as_check);
        let checks: Vec<_> = passed.chain(failed).collect();
        app.json_line(&json!({"severity": severity, "checks": checks}))?;
    } else {
        for check in passed {
            app.finding("ok", &format!("{}: {}", check.name, escape(&check.found)))?;
        }
        for problem in &problems {
            let what = format!("{}: {}", problem.name, escape(&problem.found));
            app.finding(problem.word(), &what)?;
            if let Some(command) = &problem.command {
                app.detail(RUN, &escape(command))?;
            }
            if let Some(hint) = &problem.hint {
                let label = if problem.command.is_some() { ALSO } else { TO_DO };
                app.detail(label, &escape(hint))?;
            }
        }
    }
    Ok(match severity {
        Severity::Failure => Exit::Failed,
        _ => Exit::Done,
    })
}

/// The check of the data that `status` reads, too: the counts of the jobs, and the newest checkpoints and events. Older ones are
/// read by `doctor` alone. Sets the time of the newest write.
fn data(app: &mut App<'_>, storage: &Storage, newest: &mut Newest) -> Result<Check> {
    app.collect_reports();
    let mut jobs = 0;
    let read = read_newest(app, storage, &mut jobs, newest);
    let mut met = app.collected_reports().into_iter().map(|met| met.what);
    let failed = match read {
        Err(Failure::Closed) => return Err(Failure::Closed),
        Err(failure) => Some(failure.what()),
        Ok(()) => None,
    };
    let first = met.next();
    let more = met.len() + usize::from(first.is_some() && failed.is_some());
    let doctor = doctor(&app.global, storage);
    let Some(found) = first.or(failed) else {
        let jobs = counted(jobs, "job");
        return Ok(Check::new(
            "data",
            Severity::Ok,
            format!(
                "{jobs} examined: what was read is whole, with the newest checkpoints and events of the last {NEWEST}{}",
                doctor.map_or_else(String::new, |doctor| format!("; `{doctor}` reads all data"))
            ),
        ));
    };
    let found = match more {
        0 => found,
        more => format!("{found}; and {more} more"),
    };
    let failed = Check::new("data", Severity::Failure, found);
    Ok(match doctor {
        Some(doctor) => failed.with_command(doctor),
        None => failed,
    })
}

/// Reads the counts of the jobs, and the newest checkpoints and the events of those with the newest writes. What can't be read is reported.
fn read_newest(app: &mut App<'_>, storage: &Storage, jobs: &mut u64, last: &mut Newest) -> Result<()> {
    // A mark of a move that can't be read stops each write that it may cover.
    Marks::of(app, storage)?;
    let mut newest = Top::new(NEWEST);
    for name in repositories(storage) {
        let repo = storage.repo(name?)?;
        let read = each_row(app, &repo, |_, row| {
            *jobs += 1;
            *last = later(last.take(), &row.address, row.status.last_activity);
            newest.offer(row.status.last_activity, row);
            match *jobs {
                JOBS.. => Err(Failure::Closed),
                _ => Ok(()),
            }
        });
        match read {
            Err(Failure::Closed) if *jobs >= JOBS => break,
            read => read?,
        }
    }
    for row in newest.into_sorted() {
        read_checkpoints(app, storage, &row)?;
        read_newest_events(app, storage, &row)?;
    }
    Ok(())
}
