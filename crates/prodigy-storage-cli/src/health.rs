//! The command `health`.

use prodigy_storage::{Severity, escape};
use serde_json::json;

use crate::app::{Access, App, RUN};
use crate::errors::Result;
use crate::exit::Exit;
use crate::problems::{self, TO_DO};

pub(crate) fn run(app: &mut App<'_>) -> Result<Exit> {
    // The notices of the configuration are part of the result.
    let storage = app.open_quietly(Access::Read)?;
    let checks = problems::checks(app, &storage)?;
    let passed: Vec<_> = checks
        .iter()
        .filter(|check| check.severity == Severity::Ok)
        .collect();
    let problems = problems::of(app, &storage, &checks);
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
                let label = if problem.command.is_some() { "also" } else { TO_DO };
                app.detail(label, &escape(hint))?;
            }
        }
    }
    Ok(match severity {
        Severity::Failure => Exit::Failed,
        _ => Exit::Done,
    })
}
