//! Problems outside of the store's files: results of `health`, and notices of the configuration.

use std::path::Path;

use prodigy_storage::config::{Notice, Origin};
use prodigy_storage::{Check, Severity, StorageNotice, escape};
use serde::Serialize;

use super::print_remedy;
use crate::app::{Access, App};
use crate::errors::Result;
use crate::shell::{as_word, tool};

/// The folders with data in a project's own `.prodigy`.
const AREAS: [&str; 4] = ["events", "dlq", "state", "orphaned_worktrees"];

#[derive(Serialize)]
pub(super) struct Problem {
    name: &'static str,
    severity: Severity,
    found: String,
    matters: &'static str,
    hint: Option<String>,
    command: Option<String>,
}

impl Problem {
    pub(super) fn is_failure(&self) -> bool {
        self.severity == Severity::Failure
    }
}

/// All problems. Empty if storage can't be opened: the doctor's findings give the reason.
pub(super) fn all(app: &mut App<'_>) -> Vec<Problem> {
    let Ok(storage) = app.open_quietly(Access::Read) else {
        return Vec::new();
    };
    let tool = tool(&app.global);
    let checks = storage.health().map(|health| health.checks).unwrap_or_default();
    let is_problem = |check: &Check| check.severity > Severity::Ok && check.name != "configuration";
    let checks = checks
        .into_iter()
        .filter(is_problem)
        .map(|check| of_check(check, &tool));
    checks
        .chain(storage.notices().iter().map(|notice| of_notice(notice, &tool)))
        .collect()
}

fn of_check(check: Check, tool: &str) -> Problem {
    let matters = match check.name {
        "inodes" => "each new file needs an inode, however much space is free",
        "space" => "a write that finds no space fails; what was acknowledged stays",
        "clock" => "no write is accepted, since its time and its id would be wrong",
        "mode" | "way to the root" => "other users of this machine may change or replace the store",
        "file system" => "an acknowledged write may be lost",
        _ if check.severity == Severity::Failure => "writes fail",
        _ => "a later read or write may fail",
    };
    let command = match check.name {
        "inodes" | "space" => Some(format!("{tool} clean --finished-jobs 30d --quarantine 30d --yes")),
        "clock" => Some(SET_CLOCK.to_owned()),
        _ => (check.hint.as_deref())
            .and_then(|hint| hint.strip_prefix("run `")?.strip_suffix('`'))
            .map(str::to_owned),
    };
    Problem {
        name: check.name,
        severity: check.severity,
        found: check.found,
        matters,
        hint: check.hint,
        command,
    }
}

/// The command that sets the clock over the network.
pub(super) const SET_CLOCK: &str = "sudo timedatectl set-ntp true";

fn of_notice(notice: &StorageNotice, tool: &str) -> Problem {
    let (name, matters, command) = match notice {
        StorageNotice::Config(notice) => of_config(notice, tool),
        _ => ("configuration", "the store works with weaker guarantees", None),
    };
    Problem {
        name,
        severity: Severity::Warning,
        found: notice.to_string(),
        matters,
        hint: None,
        command,
    }
}

fn of_config(notice: &Notice, tool: &str) -> (&'static str, &'static str, Option<String>) {
    let deprecated = "a later version will not support it";
    match notice {
        Notice::DeprecatedVariable { name, instead } => {
            let command = format!("export {instead}=\"${name}\"; unset {name}");
            ("deprecated setting", deprecated, Some(command))
        }
        Notice::LocalStorage { origin, .. } => {
            let command = match origin {
                Origin::File { path, line, .. } if *line > 0 => Some(format!(
                    r"sed -i '{line}s/\(use_global[^:=]*[:=] *\)false/\1true/' {}",
                    as_word(&path.to_string_lossy())
                )),
                origin => at(origin),
            };
            let matters = "worktrees of the project share nothing, and a later version will not support it";
            ("deprecated setting", matters, command)
        }
        Notice::UnusedLocalStorage { path } => {
            let matters = "it takes space, and nothing reads it";
            ("unused local storage", matters, Some(migrate(path, tool)))
        }
        Notice::ShadowedVariable { name, .. } => {
            let command = format!("unset {}", as_word(name));
            ("ignored setting", "it has no effect", Some(command))
        }
        Notice::OtherBackend { origin, .. }
        | Notice::Overruled { origin, .. }
        | Notice::AtTopLevel { origin, .. }
        | Notice::OtherProgram { origin, .. }
        | Notice::LooksLikeStorage { origin, .. } => ("ignored setting", "it has no effect", at(origin)),
        Notice::WeakenedByProject { origin, .. } => {
            let matters = "a file of the project weakens the guarantees of the storage";
            ("configuration", matters, at(origin))
        }
        _ => ("configuration", "a setting may be missing", None),
    }
}

/// The command that opens the configuration file at a setting, or unsets the environment variable.
fn at(origin: &Origin) -> Option<String> {
    match origin {
        Origin::File { path, line, .. } => Some(format!(
            "${{EDITOR:-vi}} +{line} {}",
            as_word(&path.to_string_lossy())
        )),
        Origin::Variable(name) => Some(format!("unset {}", as_word(name))),
        _ => None,
    }
}

/// The commands that import a project's own folder (`migrate` also checks the copy), and then rename the original.
fn migrate(folder: &Path, tool: &str) -> String {
    let areas = AREAS.iter().map(|area| folder.join(area));
    let areas = areas.filter(|area| area.is_dir());
    let areas: String = areas
        .map(|area| format!("{} ", as_word(&area.to_string_lossy())))
        .collect();
    let (folder, away) = (folder.to_string_lossy(), folder.join("migrated"));
    let (folder, away) = (as_word(&folder), away.to_string_lossy());
    let away = as_word(&away);
    format!("{tool} migrate {folder} && mkdir {away} && mv {areas}{away}")
}

/// Prints a problem in the form of a finding.
pub(super) fn print(app: &mut App<'_>, problem: &Problem) -> Result<()> {
    let word = match problem.severity {
        Severity::Failure => "failure",
        _ => "warning",
    };
    app.finding(word, &format!("{}: {}", problem.name, escape(&problem.found)))?;
    app.line(format!("         why it matters: {}", problem.matters))?;
    match (&problem.command, &problem.hint) {
        (None, None) => Ok(()),
        (command, hint) => print_remedy(app, command.as_deref(), hint.as_deref().unwrap_or_default()),
    }
}
