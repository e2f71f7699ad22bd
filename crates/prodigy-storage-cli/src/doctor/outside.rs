//! Problems outside of the stored data, as `doctor` prints them.

use prodigy_storage::escape;

use crate::app::{App, RUN};
use crate::errors::Result;
use crate::problems::{ALSO, Problem, TO_DO};
use crate::shell::in_this_store;

/// Prints a problem in the form of a finding.
pub(super) fn print_problem(app: &mut App<'_>, problem: &Problem) -> Result<()> {
    let what = format!("{}: {}", problem.name, escape(&problem.found));
    app.finding(problem.word(), &what)?;
    app.detail("why it matters", problem.matters)?;
    print_remedy(app, problem.command.as_deref(), problem.hint.as_deref())?;
    match (&problem.command, &problem.hint) {
        (Some(_), Some(hint)) => app.detail(ALSO, &escape(hint)),
        _ => Ok(()),
    }
}

/// Prints the command that fixes a problem; if there is no such command, prints advice.
pub(super) fn print_remedy(app: &mut App<'_>, command: Option<&str>, advice: Option<&str>) -> Result<()> {
    match (command, advice) {
        (Some(command), _) => app.detail(RUN, &escape(command)),
        (None, Some(advice)) => {
            let advice = in_this_store(advice, &app.global).into_owned();
            app.detail(TO_DO, &escape(&advice))
        }
        (None, None) => Ok(()),
    }
}
