//! Problems outside of the stored data: failed checks, and notices of the configuration. `status`, `health` and `doctor` print them.

use std::path::Path;

use prodigy_storage::config::{Notice, Origin};
use prodigy_storage::{Check, Result as Stored, Severity, Storage, StorageNotice};
use serde::Serialize;
use serde_json::{Value, json};

use crate::app::App;
use crate::cli::Global;
use crate::shell::{as_word, in_this_store, tool};

/// The folders with data in a project's own `.prodigy`.
const AREAS: [&str; 4] = ["events", "dlq", "state", "orphaned_worktrees"];

/// A problem, and the command that fixes it.
#[derive(Serialize)]
pub(crate) struct Problem {
    pub(crate) name: &'static str,
    pub(crate) severity: Severity,
    pub(crate) found: String,
    pub(crate) matters: &'static str,
    pub(crate) hint: Option<String>,
    pub(crate) command: Option<String>,
}

impl Problem {
    /// The problem as the JSON of a check.
    pub(crate) fn as_check(&self) -> Value {
        json!({
            "name": self.name,
            "severity": self.severity,
            "found": self.found,
            "hint": self.hint,
            "command": self.command,
        })
    }

    /// The word for the severity.
    pub(crate) fn word(&self) -> &'static str {
        match self.severity {
            Severity::Failure => "failure",
            _ => "warning",
        }
    }
}

/// The results of the checks, each with the command for this store that fixes it. The notices of the configuration are no part of
/// them.
pub(crate) fn checks(app: &App<'_>, storage: &Storage) -> Stored<Vec<Check>> {
    let checks = storage.health()?.checks.into_iter();
    let checks = checks.filter(|check| check.name != "configuration");
    Ok(checks.map(|check| with_flags(check, &app.global)).collect())
}

/// The command of a check, and its hint, name the tool without the flags that select this store.
fn with_flags(mut check: Check, global: &Global) -> Check {
    check.hint = check.hint.map(|hint| in_this_store(&hint, global).into_owned());
    if let Some(arguments) = check
        .command
        .as_deref()
        .and_then(|command| command.strip_prefix("prodigy-storage "))
    {
        check.command = Some(format!("{} {arguments}", tool(global)));
    }
    check
}

/// The problems among the results of the checks, and the notices of the configuration.
pub(crate) fn of(app: &App<'_>, storage: &Storage, checks: &[Check]) -> Vec<Problem> {
    let tool = tool(&app.global);
    let found = checks.iter().filter(|check| check.severity > Severity::Ok);
    let found = found.cloned().map(of_check);
    let notices = storage.notices().iter().map(|notice| of_notice(notice, &tool));
    found.chain(notices).collect()
}

fn of_check(check: Check) -> Problem {
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
        "clock" => Some(SET_CLOCK.to_owned()),
        _ => check.command,
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
pub(crate) const SET_CLOCK: &str = "sudo timedatectl set-ntp true";

fn of_notice(notice: &StorageNotice, tool: &str) -> Problem {
    let (name, matters, command) = match notice {
        StorageNotice::Config(notice) => of_config(notice, tool),
        StorageNotice::LockingDisabled => (
            "configuration",
            "named locks keep no two processes apart",
            Some("export PRODIGY__STORAGE__ENABLE_LOCKING=true".to_owned()),
        ),
        StorageNotice::NothingKept => (
            "configuration",
            "a process that ends loses what it stored",
            Some("export PRODIGY_STORAGE_TYPE=file".to_owned()),
        ),
        StorageNotice::ForeignOwner { root, owner } => (
            "owner",
            "the owner of the root can't read new files",
            Some(format!(
                "sudo chown -hR {owner} {}",
                as_word(&root.to_string_lossy())
            )),
        ),
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
        Notice::ProjectNotEntered { path } => {
            let command = format!("sudo chmod o+x {}", as_word(&path.to_string_lossy()));
            (
                "configuration",
                "a setting of the project may be missing",
                Some(command),
            )
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

/// The label of advice.
pub(crate) const TO_DO: &str = "to do";
