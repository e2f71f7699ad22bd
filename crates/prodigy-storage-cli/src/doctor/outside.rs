//! Problems outside of the stored data, as `doctor` prints them.

use prodigy_storage::{Severity, Storage, escape};

use crate::app::{App, RUN};
use crate::errors::Result;
use crate::job::repositories;
use crate::problems::{Problem, TO_DO};
use crate::repo::{gone_paths, is_gone};
use crate::shell::in_this_store;

/// The repositories whose recorded paths are gone, as one problem.
pub(super) fn of_gone(app: &App<'_>, storage: &Storage) -> Option<Problem> {
    let mut gone = Vec::new();
    for name in repositories(storage).flatten() {
        let entry = storage.repo(name.as_str()).and_then(|repo| repo.registration());
        // An entry that can't be read is a finding of the doctor.
        let path = entry.ok().flatten().and_then(|entry| entry.path);
        if path.is_some_and(|path| is_gone(&path)) {
            gone.push(name);
        }
    }
    let (found, hint) = gone_paths(&app.global, gone.first()?, gone.len());
    Some(Problem {
        name: "repository",
        severity: Severity::Warning,
        found,
        matters: "nothing continues its jobs, unless the repository comes back under this path",
        hint: Some(hint),
        command: None,
    })
}

/// Prints a problem in the form of a finding.
pub(super) fn print_problem(app: &mut App<'_>, problem: &Problem) -> Result<()> {
    let what = format!("{}: {}", problem.name, escape(&problem.found));
    app.finding(problem.word(), &what)?;
    app.detail("why it matters", problem.matters)?;
    print_remedy(app, problem.command.as_deref(), problem.hint.as_deref())
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
