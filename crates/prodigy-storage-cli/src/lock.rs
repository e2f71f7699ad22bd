//! The command `lock`.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use clap::Subcommand;
use prodigy_storage::config::FENCE_VARIABLE;
use prodigy_storage::{ErrorKind, Holder, LockName, LockOptions, Storage, StorageLock};

use crate::app::{Access, App};
use crate::errors::{Failure, Result};
use crate::exit::Exit;
use crate::signals::{PassOn, Watch};
use crate::table::{Column, Table};
use crate::time::{Times, duration};

/// The environment variable with the fencing token, for the command under the lock; `NAME` is the variable with the
/// lock's name.
const FENCING: &str = "PRODIGY_LOCK_FENCING";
const NAME: &str = "PRODIGY_LOCK_NAME";
/// After this time, the tool reports that it waits for a lock.
const SILENT: Duration = Duration::from_secs(1);
/// The longest purpose that is stored with a lock, in characters.
const PURPOSE: usize = 120;

#[derive(Debug, Subcommand)]
pub(crate) enum LockCommand {
    /// Run a command under a lock, and end with its code.
    ///
    /// The command inherits the lock, which is held until both processes have ended. The variable
    /// `PRODIGY_STORAGE_FENCE` holds the lock's name and its fencing token (`NAME=5@0123456789abcdef`): every write to
    /// a job that this tool or the library makes in the command carries the token, and fails once a newer holder has
    /// written to the job. `PRODIGY_LOCK_FENCING` holds the token alone, and `PRODIGY_LOCK_NAME` the name. Signals are
    /// passed on to the command, and the tool ends when the command ends: with its exit code, or with 128 plus the
    /// number of the signal that ended it. A signal during the wait for the lock ends the wait, and the command is not
    /// run.
    ///
    /// The tool checks every second that it still has the lock. If the lock is lost, because the storage was moved or
    /// replaced or the lock file was removed, it reports that at once, sends SIGTERM to the command, waits for its end,
    /// and ends with 7. In a database, the lock is lost if its lease could not be renewed in time or was removed, which
    /// is noticed at the next renewal: every 10 seconds.
    Run(RunArgs),
    /// List all locks that were ever taken.
    List,
}

#[derive(Debug, clap::Args)]
pub(crate) struct RunArgs {
    /// The lock: 1 to 4 names joined by `/`.
    #[arg(value_name = "NAME")]
    name: String,
    /// How long to wait for the lock; by default the configured `timeout`; `0s` tries once.
    #[arg(long, value_name = "D", value_parser = duration)]
    wait: Option<Duration>,
    /// The command and its arguments.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

pub(crate) fn run(app: &mut App<'_>, command: LockCommand) -> Result<Exit> {
    match command {
        LockCommand::Run(arguments) => run_under(app, &arguments),
        LockCommand::List => list(app),
    }
}

fn run_under(app: &mut App<'_>, arguments: &RunArgs) -> Result<Exit> {
    let name = LockName::new(&arguments.name)?;
    let storage = app.open(Access::Write)?;
    let words: Vec<_> = arguments
        .command
        .iter()
        .map(|word| word.to_string_lossy())
        .collect();
    let options = LockOptions::new(words.join(" ").chars().take(PURPOSE).collect::<String>());
    let lock = take(app, &storage, &name, options, arguments.wait)?;
    if lock.is_inert() {
        app.warn("`enable_locking` is false: the command runs without a lock");
    }
    let mut lost = false;
    let status = start(&arguments.command, &lock, || match lock.check() {
        Err(error) if error.kind() == ErrorKind::Replaced => {
            lost = true;
            app.error(&format!(
                "the lock is lost, so the command gets SIGTERM: {error:#}"
            ));
            Watch::End
        }
        // Another error does not prove that the lock is lost.
        _ => Watch::GoOn,
    })?;
    match lock.release() {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::Replaced => {
            if !lost {
                app.error(&format!("the lock was lost before the command ended: {error:#}"));
            }
            lost = true;
        }
        Err(error) => app.warn(&format!("{error:#}")),
    }
    if lost {
        let code = code_of(status);
        app.note(&format!("the command ended with code {code}"));
        return Ok(Exit::LockLost);
    }
    Ok(Exit::Command(code_of(status)))
}

/// Takes the lock. Reports what it waits for if the wait is long.
pub(crate) fn take(
    app: &mut App<'_>,
    storage: &Storage,
    name: &LockName,
    mut options: LockOptions,
    wait: Option<Duration>,
) -> Result<StorageLock> {
    if wait.unwrap_or(storage.config().timeout) > SILENT {
        options.wait = Some(Duration::ZERO);
        match storage.lock_with(name.as_str(), options.clone()) {
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::LockUnavailable | ErrorKind::OutcomeUnknown
                ) =>
            {
                let why = error.why().split("; waited").next().unwrap_or_default();
                app.note(&format!("waiting for the lock `{name}`: {why}"));
            }
            taken => return Ok(taken?),
        }
    }
    options.wait = wait;
    Ok(storage.lock_with(name.as_str(), options)?)
}

/// Runs the command to its end.
fn start(words: &[OsString], lock: &StorageLock, look: impl FnMut() -> Watch) -> Result<ExitStatus> {
    let Some((program, arguments)) = words.split_first() else {
        return Err(Failure::usage("run a command: none is given"));
    };
    let failed = |error: std::io::Error| {
        // A shell returns 127 for a command that does not exist, and 126 for one that can't be run.
        let code = if error.kind() == std::io::ErrorKind::NotFound {
            127
        } else {
            126
        };
        let what = format!("run `{}`: {error}", program.to_string_lossy());
        Failure::new(Exit::Command(code), what)
    };
    let mut command = Command::new(program);
    command.args(arguments);
    for variable in [FENCING, NAME, FENCE_VARIABLE] {
        command.env_remove(variable);
    }
    if !lock.is_inert() {
        let fence = lock.fencing()?;
        command.env(FENCING, fence.token_text());
        command.env(NAME, lock.name().as_str());
        command.env(FENCE_VARIABLE, fence.to_string());
    }
    let pass_on = PassOn::from_now_on().map_err(failed)?;
    // The command inherits this duplicate of the descriptor, so it holds the lock, too.
    let _inherited = match lock.descriptor() {
        Some(descriptor) => Some(rustix::io::dup(descriptor).map_err(|error| failed(error.into()))?),
        None => None,
    };
    pass_on.run(&mut command, look).map_err(failed)
}

/// The exit code of a command; 128 plus the signal's number if a signal ended it.
fn code_of(status: ExitStatus) -> u8 {
    let code = status.code().or(status.signal().map(|signal| 128 + signal));
    u8::try_from(code.unwrap_or(1)).unwrap_or(1)
}

fn list(app: &mut App<'_>) -> Result<Exit> {
    let storage = app.open(Access::Read)?;
    let times = Times::new(app.width.is_some());
    let mut table = Table::new([
        Column::name("LOCK"),
        Column::word("STATE"),
        Column::name("FENCING").optional(3),
        Column::name("HOLDER"),
        Column::word(times.heading("SINCE")).optional(1),
        Column::text("PURPOSE").optional(2),
    ]);
    for lock in storage.locks() {
        let lock = lock?;
        if lock.suspect {
            app.damaged(&format!(
                "a part of the file of lock {} fails verification: it may have named a newer holder",
                lock.name
            ));
        }
        if app.json() {
            app.json_line(&lock)?;
            continue;
        }
        let none = || "-".to_owned();
        let process = |holder: &Holder| format!("process {} on {}", holder.pid, holder.host);
        // A free lock has no holder.
        let holder = lock.holder.as_ref();
        let unsigned = || match lock.pid {
            Some(pid) => format!("process {pid}, which did not sign"),
            None => "unknown".to_owned(),
        };
        let who = match (&lock.holder, &lock.last_holder) {
            (Some(holder), _) => process(holder),
            (None, Some(last)) if lock.held => format!("{}; last known: {}", unsigned(), process(last)),
            (None, None) if lock.held => unsigned(),
            (None, _) => none(),
        };
        table.row(
            app,
            [
                lock.name.to_string(),
                if lock.held { "held" } else { "free" }.to_owned(),
                match lock.origin {
                    Some(origin) => format!("{}@{origin}", lock.fencing),
                    None => lock.fencing.to_string(),
                },
                who,
                holder.map_or_else(none, |holder| times.cell(holder.since)),
                holder.map_or_else(none, |holder| holder.purpose.clone()),
            ],
        )?;
    }
    table.print(app)?;
    Ok(Exit::Done)
}
