//! The command `health`.

use prodigy_storage::{Severity, escape};
use serde_json::json;

use crate::app::{Access, App};
use crate::errors::Result;
use crate::exit::Exit;

pub(crate) fn run(app: &mut App<'_>) -> Result<Exit> {
    let health = app.open(Access::Read)?.health()?;
    let severity = health.severity();
    if app.json() {
        app.json_line(&json!({"severity": severity, "checks": health.checks}))?;
    } else {
        for check in &health.checks {
            let word = match check.severity {
                Severity::Ok => "ok",
                Severity::Warning => "warning",
                Severity::Failure => "failure",
            };
            app.finding(word, &format!("{}: {}", check.name, escape(&check.found)))?;
            if let Some(hint) = &check.hint {
                app.line(format!("         hint: {}", escape(hint)))?;
            }
        }
    }
    Ok(if severity == Severity::Failure {
        Exit::Failed
    } else {
        Exit::Done
    })
}
