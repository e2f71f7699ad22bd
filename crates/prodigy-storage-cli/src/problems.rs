//! Problems outside of the stored data: failed checks, and notices of the configuration. `status`, `health` and `doctor` print them.

mod room;

use std::path::Path;

use prodigy_storage::config::{Notice, Origin};
use prodigy_storage::{
    Check, JobAddress, Misplaced, RepoName, Result as Stored, Severity, Storage, StorageNotice, Timestamp,
};
use serde::Serialize;
use serde_json::{Value, json};

use crate::app::App;
use crate::cli::Global;
use crate::import::MIGRATED;
use crate::job::repositories;
use crate::repo::{gone_paths, is_gone};
use crate::shell::{as_word, in_this_store, operands, sudo, tool};

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
    let mut checks: Vec<_> = checks.map(|check| with_flags(check, &app.global)).collect();
    if checks.iter().any(needs_room) {
        let (command, hint) = room::make(storage, &tool(&app.global));
        for check in checks.iter_mut().filter(|check| needs_room(check)) {
            (check.command, check.hint) = (Some(command.clone()), Some(hint.clone()));
        }
    }
    Ok(checks)
}

/// True for a check that fails because the disk is full.
fn needs_room(check: &Check) -> bool {
    (check.command.as_deref()).is_some_and(|command| command.contains(" clean --finished-jobs "))
}

/// The command of a check, and its hint, name the tool without the flags that select this store.
fn with_flags(mut check: Check, global: &Global) -> Check {
    check.hint = check.hint.map(|hint| in_this_store(&hint, global).into_owned());
    if let Some(arguments) = check
        .command
        .as_deref()
        .and_then(|command| command.strip_prefix("prodigy-storage "))
        // A command with flags of its own is about another store.
        .filter(|arguments| !arguments.starts_with("--"))
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
        "copy" => "the copy is not whole, and looks like a whole store",
        "clock" => "no write is accepted, since its time and its id would be wrong",
        "mode" | "modes" | "way to the root" => "other users of this machine may change or replace the store",
        "file system" => "an acknowledged write may be lost",
        "lock" => "every process that needs it waits, and its calls fail when their time is over",
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
const RIGHT_CLOCK: &str = "if this clock is right, that of the machine that wrote was wrong";
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
            Some(format!("{}chown -hR {owner} {}", sudo(), as_word(root))),
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
                    as_word(path)
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
        Notice::ClientVariable { name, .. } => {
            let matters = "other programs connect to the database in another way";
            ("ignored setting", matters, Some(format!("unset {name}")))
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
            let command = format!("{}chmod o+x {}", sudo(), as_word(path));
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
        Origin::File { path, line, .. } => Some(format!("${{EDITOR:-vi}} +{line} {}", as_word(path))),
        Origin::Variable(name) => Some(format!("unset {}", as_word(name))),
        _ => None,
    }
}

/// The commands that import a project's own folder (`migrate` also checks the copy), and then rename the original.
fn migrate(folder: &Path, tool: &str) -> String {
    let areas = AREAS.iter().map(|area| folder.join(area));
    let areas = areas.filter(|area| area.is_dir());
    let areas: String = areas.map(|area| format!("{} ", as_word(&area))).collect();
    let later = (2..).map(|number| folder.join(format!("{MIGRATED}-{number}")));
    let mut places = std::iter::once(folder.join(MIGRATED)).chain(later);
    let away = places.find(|place| !place.exists()).unwrap_or_default();
    let (folder, away) = (as_word(folder), as_word(&away));
    format!("{tool} migrate {folder} && mkdir {away} && mv {areas}{away}")
}

/// The repositories whose registry entries were damaged, as one problem, those whose entries are under a wrong name, and those whose
/// recorded paths are gone. An entry that is damaged now is a failed check.
pub(crate) fn of_registry(app: &App<'_>, storage: &Storage) -> Vec<Problem> {
    let (mut gone, mut lost, mut misplaced) = (Vec::new(), Vec::new(), Vec::new());
    for name in repositories(storage).flatten() {
        let entry = storage.repo(name.as_str()).and_then(|repo| repo.registration());
        let Some(entry) = entry.ok().flatten() else {
            continue;
        };
        match (entry.path, entry.misplaced) {
            (_, Some(entry)) => misplaced.push((name, entry)),
            (Some(path), None) if is_gone(&path) => gone.push((name, path)),
            // A doctor has put an entry without a path in place of a damaged one.
            (None, None) => lost.push(name),
            _ => {}
        }
    }
    let misplaced = misplaced
        .first()
        .map(|(first, entry)| of_misplaced(app, first, entry, misplaced.len()));
    let lost = lost.first().map(|first| of_lost(app, first, lost.len()));
    let gone = gone.first().map(|(first, path)| {
        let (found, hint) = gone_paths(&app.global, first, &path.to_string_lossy(), gone.len());
        Problem {
            name: "repository",
            severity: Severity::Warning,
            found,
            matters: "nothing continues its jobs, unless the repository comes back under this path",
            hint: Some(hint),
            command: None,
        }
    });
    lost.into_iter().chain(misplaced).chain(gone).collect()
}

/// The problem of a number of names whose registry entries were damaged; `first` is one of them.
fn of_lost(app: &App<'_>, first: &RepoName, count: usize) -> Problem {
    let tool = tool(&app.global);
    let more = match count {
        1 => String::new(),
        count => format!("; so are {} more", count - 1),
    };
    Problem {
        name: REGISTRY,
        severity: Severity::Failure,
        found: format!("the registry entry of `{first}` was damaged, and its path is lost{more}"),
        matters: "the commands in its folder fail, since nothing says whose data it is",
        hint: Some(format!(
            "with the folder of the repository: `{tool} repo relink {}`",
            operands([first.as_str(), "PATH"])
        )),
        command: None,
    }
}

/// The problem of a number of entries that are under another name than the one that they were registered under; `first` is one of them.
fn of_misplaced(app: &App<'_>, first: &RepoName, entry: &Misplaced, count: usize) -> Problem {
    let more = match count {
        1 => String::new(),
        count => format!("; {} more are under a wrong name, too", count - 1),
    };
    Problem {
        name: REGISTRY,
        severity: Severity::Failure,
        found: format!(
            "the registry entry of `{first}` was registered as `{}`: its file was moved or copied by hand{more}",
            entry.name
        ),
        matters: "the commands in the folder of the repository fail, since nothing says which data is its own",
        hint: None,
        command: Some(with_tool(&entry.remedy, &tool(&app.global))),
    }
}

/// A command of the tool with the flags that select this store.
pub(crate) fn with_tool(command: &str, tool: &str) -> String {
    let arguments = command.strip_prefix("prodigy-storage ");
    arguments.map_or_else(|| command.to_owned(), |arguments| format!("{tool} {arguments}"))
}

/// The name of the problem of a registry entry that was damaged, or is under a wrong name, which is also a finding of the doctor.
pub(crate) const REGISTRY: &str = "registry";

/// The newest write of a job.
pub(crate) type Newest = Option<(Timestamp, JobAddress)>;

/// The later one of the newest write so far and the last one of a job.
pub(crate) fn later(newest: Newest, job: &JobAddress, written: Option<Timestamp>) -> Newest {
    match (newest, written) {
        (Some(newest), Some(written)) if newest.0 >= written => Some(newest),
        (_, Some(written)) => Some((written, job.clone())),
        (newest, None) => newest,
    }
}

/// The audit log, which is in no list of jobs, and the time of the last write to it.
fn audit_log(storage: &Storage) -> Option<(JobAddress, Timestamp)> {
    let log = storage.repo(RepoName::AUDIT).ok()?.job("clean").ok()?;
    let written = log.status().ok()?.last_activity?;
    Some((log.address().clone(), written))
}

/// Advice about a date that is ahead of a clock which is right.
pub(crate) fn right_clock(root: Option<&Path>) -> String {
    let mut hint = RIGHT_CLOCK.to_owned();
    if let Some(root) = root {
        let root = as_word(root);
        hint.push_str(&format!(
            ", or a program set the date of a file: `find {root} -type f -newermt '1 hour' -exec touch {{}} +` sets such dates to now"
        ));
    }
    hint
}

/// A newest write whose time is more than an hour ahead of the clock, as a problem.
pub(crate) fn of_newest(storage: &Storage, newest: &Newest) -> Option<Problem> {
    const HOUR: i64 = 3_600_000_000_000;
    let allowed = Timestamp::now().as_nanos().saturating_add(HOUR);
    let newest = match audit_log(storage) {
        Some((log, written)) => later(newest.clone(), &log, Some(written)),
        None => newest.clone(),
    };
    let (written, job) = newest.as_ref()?;
    if written.as_nanos() <= allowed {
        return None;
    }
    let root = storage.capabilities().root;
    let hint = right_clock(root.as_deref());
    Some(Problem {
        name: "clock",
        severity: Severity::Warning,
        found: format!(
            "the newest write, of {job}, is dated {}, more than an hour ahead of the clock of this machine",
            written.to_rfc3339()
        ),
        matters: "new events get later ids than the clock gives, until it has caught up, and ages are wrong",
        hint: Some(hint),
        command: Some(SET_CLOCK.to_owned()),
    })
}

/// The label of advice beside a command.
pub(crate) const ALSO: &str = "also";

/// The label of advice.
pub(crate) const TO_DO: &str = "to do";
