//! The table of commands and flags.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::app::Reads;
#[cfg(feature = "file")]
use crate::backup::{BackupArgs, RestoreArgs};
use crate::checkpoint::CheckpointCommand;
use crate::clean::CleanArgs;
use crate::config::ConfigCommand;
use crate::copy::CopyArgs;
use crate::dlq::{self, DlqCommand};
#[cfg(feature = "file")]
use crate::doctor::DoctorArgs;
use crate::document::DocumentCommand;
use crate::events::EventsCommand;
use crate::export::ExportArgs;
use crate::import::{ImportArgs, MigrateArgs};
use crate::jobs::JobCommand;
use crate::lock::LockCommand;
use crate::repo::RepoCommand;
use crate::report::ReportArgs;
#[cfg(feature = "postgres")]
use crate::schema::SchemaCommand;
use crate::status::{self, StatusArgs};
use crate::suggest;
use crate::usage::UsageArgs;
use crate::worktree::WorktreeCommand;

const EXITS: &str = "Begin with `prodigy-storage status`. `prodigy-storage help COMMAND` explains a command, with examples.\n\n\
                     Exit codes: 0 done; 1 failed; 2 command line or configuration refused; 3 lock not acquired; \
                     4 no such job or item; 5 damaged data found, the rest was printed; \
                     6 data skipped that is another program's, over a limit or not readable for this user, the rest was printed.";

/// The heading of the flags that every command takes, so that the command's own flags come first.
const EVERYWHERE: &str = "Options of every command";

/// The storage of Prodigy's jobs: events, checkpoints, dead letters, worktrees and locks.
#[derive(Debug, Parser)]
#[command(name = "prodigy-storage", version, after_help = EXITS)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    command: Option<Command>,
}

/// Parses a command line. If `status` is true, an empty command line means `status`; otherwise it is refused.
pub(crate) fn parse<A>(
    arguments: impl IntoIterator<Item = A>,
    status: bool,
) -> Result<(Global, Command), clap::Error>
where
    A: Into<OsString> + Clone,
{
    let mut table = command();
    if !status {
        table = table.subcommand_required(true).arg_required_else_help(true);
    }
    let arguments: Vec<OsString> = arguments.into_iter().map(Into::into).collect();
    let matches = table.try_get_matches_from_mut(&arguments).map_err(|mut error| {
        suggest::improve(&mut error, &table, &arguments);
        error
    })?;
    let cli = Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut table))?;
    let command = cli
        .command
        .unwrap_or_else(|| Command::Status(StatusArgs::default()));
    Ok((cli.global, command))
}

/// Flags of every command.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Global {
    /// Print JSON: one object, or one object per line for lists.
    #[arg(long, global = true, help_heading = EVERYWHERE)]
    pub(crate) json: bool,
    /// A configuration file; it has precedence over all others.
    #[arg(long, global = true, value_name = "FILE", help_heading = EVERYWHERE)]
    pub(crate) config: Option<PathBuf>,
    /// The root of all data; it has precedence over the configuration.
    #[arg(long, global = true, value_name = "DIR", help_heading = EVERYWHERE)]
    pub(crate) base_dir: Option<PathBuf>,
    /// Log the opened storage and the operation counts to standard error. `doctor` prints each finding, instead of those of one kind
    /// together.
    #[arg(long, short, global = true, help_heading = EVERYWHERE)]
    pub(crate) verbose: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Print where the store is, its jobs, held locks, free space, and the problems with the command for each.
    ///
    /// Without a command on a terminal, the tool prints the status, too.
    #[command(after_help = status::HELP)]
    Status(StatusArgs),
    /// List, show, finish and delete jobs.
    #[command(subcommand)]
    Job(JobCommand),
    /// The log of a job: append to it, print it, follow it, search in it.
    #[command(subcommand)]
    Events(EventsCommand),
    /// The saved states from which a job resumes.
    #[command(subcommand)]
    Checkpoint(CheckpointCommand),
    /// Documents of your own kinds, of a job or of a repository: JSON values that are stored and read whole.
    #[command(subcommand)]
    Document(DocumentCommand),
    /// The items that failed: find out why, fix them, run them again, park the rest.
    #[command(subcommand, after_help = dlq::GUIDE)]
    Dlq(DlqCommand),
    /// The worktrees of a repository's sessions.
    #[command(subcommand)]
    Worktree(WorktreeCommand),
    /// Named locks between processes.
    #[command(subcommand)]
    Lock(LockCommand),
    /// Show the settings and where each comes from; check a configuration file.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Check whether the next write would succeed, without changing anything: owner, modes, space, clock, settings.
    Health,
    /// Check all stored data for damage, and report the loss and the remedy; with `--repair`, repair it.
    ///
    /// The exit code is 5 if damage remains, and 1 if another repair was not made.
    #[cfg(feature = "file")]
    Doctor(DoctorArgs),
    /// Write the whole store, or one job, to one archive, while others write to it.
    #[cfg(feature = "file")]
    Backup(BackupArgs),
    /// Check an archive, and restore it into an empty root; or restore one job of it beside others.
    #[cfg(feature = "file")]
    Restore(RestoreArgs),
    /// Show and migrate the tables of the PostgreSQL backend.
    #[cfg(feature = "postgres")]
    #[command(subcommand)]
    Schema(SchemaCommand),
    /// Write a job as JSON lines: events, checkpoints, documents, dead letters, orphans. `import` reads them into any store.
    Export(ExportArgs),
    /// Import a file of `export`, or the data of other programs in a folder: events, states, dead letters, orphans,
    /// sessions. A second run stores nothing twice.
    Import(ImportArgs),
    /// Import the folder `.prodigy` of a project into the store that all worktrees share.
    ///
    /// The folder is read and never changed, and the stored data is read back and compared. Run the command again after
    /// an interruption: it stores nothing twice.
    Migrate(MigrateArgs),
    /// Move or copy everything, a repository or a job to a database or a folder, and compare. After an interruption, run it
    /// again.
    ///
    /// Each job that was copied and compared gets a mark here: writes to it are refused with the name of the new place, and
    /// reads still work. `--keep-source` makes no marks, and `--reopen` takes them away.
    Copy(CopyArgs),
    /// Print the disk usage, by area and repository, or by job.
    Usage(UsageArgs),
    /// Write a page of a job, or of all jobs of a repository, for a browser: events over time, dead letters, checkpoints, space, and a search.
    ///
    /// The page is one file that loads nothing. It contains events: protect it as you would the log.
    Report(ReportArgs),
    /// List data that is older than the retention rules allow, and remove it with `--yes`.
    ///
    /// Active jobs, the newest valid checkpoint of each phase, and the newest events of a log are never removed.
    Clean(CleanArgs),
    /// List the repositories; show and change which name a repository has.
    #[command(subcommand)]
    Repo(RepoCommand),
}

impl Command {
    /// How much of the stored data the command reads.
    pub(crate) fn reads(&self) -> Reads {
        match self {
            Self::Events(EventsCommand::Append(_))
            | Self::Checkpoint(CheckpointCommand::Save(_) | CheckpointCommand::Delete(_)) => Reads::Nothing,
            Self::Events(_) | Self::Checkpoint(_) | Self::Worktree(_) | Self::Usage(_) => Reads::All,
            Self::Document(DocumentCommand::List(_) | DocumentCommand::Show(_)) => Reads::All,
            Self::Dlq(command) => command.reads(),
            Self::Job(JobCommand::List(_) | JobCommand::Show(_)) => Reads::Some,
            Self::Job(JobCommand::Finish(_) | JobCommand::Delete(_)) => Reads::Nothing,
            Self::Status(_) | Self::Clean(_) | Self::Repo(RepoCommand::List) => Reads::Some,
            Self::Import(_) | Self::Migrate(_) | Self::Copy(_) => Reads::Nothing,
            Self::Export(_) | Self::Report(_) => Reads::All,
            Self::Lock(LockCommand::List) => Reads::Some,
            Self::Document(_) | Self::Lock(_) | Self::Config(_) | Self::Health | Self::Repo(_) => {
                Reads::Nothing
            }
            #[cfg(feature = "file")]
            Self::Doctor(_) | Self::Backup(_) | Self::Restore(_) => Reads::Nothing,
            #[cfg(feature = "postgres")]
            Self::Schema(_) => Reads::Nothing,
        }
    }

    /// True if the output is the result of the command. The result of other commands is the data that they store, or
    /// their exit code.
    pub(crate) fn prints(&self) -> bool {
        match self {
            Self::Events(EventsCommand::Append(arguments)) => arguments.prints(),
            Self::Checkpoint(command) => {
                matches!(
                    command,
                    CheckpointCommand::Show(_)
                        | CheckpointCommand::List(_)
                        | CheckpointCommand::Verify(_)
                        | CheckpointCommand::Diff(_)
                )
            }
            Self::Document(command) => {
                matches!(command, DocumentCommand::List(_) | DocumentCommand::Show(_))
            }
            Self::Dlq(command) => command.prints(),
            Self::Lock(command) => matches!(command, LockCommand::List),
            Self::Config(command) => matches!(command, ConfigCommand::Show(_)),
            Self::Job(command) => matches!(command, JobCommand::List(_) | JobCommand::Show(_)),
            Self::Repo(command) => matches!(command, RepoCommand::Identify(_) | RepoCommand::List),
            Self::Events(_) | Self::Worktree(_) | Self::Usage(_) | Self::Status(_) => true,
            Self::Clean(arguments) => arguments.prints(),
            Self::Health | Self::Import(_) | Self::Migrate(_) => false,
            Self::Copy(arguments) => arguments.prints(),
            Self::Report(arguments) => arguments.prints(),
            Self::Export(arguments) => arguments.prints(),
            #[cfg(feature = "file")]
            Self::Backup(arguments) => arguments.prints(),
            #[cfg(feature = "file")]
            Self::Doctor(_) | Self::Restore(_) => false,
            #[cfg(feature = "postgres")]
            Self::Schema(command) => matches!(command, SchemaCommand::Show),
        }
    }
}

/// The table of commands and flags, for completions and manual pages.
#[must_use]
pub fn command() -> clap::Command {
    crate::examples::add(Cli::command())
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use proptest::prelude::*;

    #[test]
    fn the_table_is_sound() {
        super::command().debug_assert();
    }

    /// Collects a command line per command and argument, in which the argument has the value `text`.
    fn every_value(command: &clap::Command, words: &[OsString], text: &str, found: &mut Vec<Vec<OsString>>) {
        for argument in command.get_arguments() {
            if !argument.get_action().takes_values() {
                continue;
            }
            let mut line = words.to_vec();
            match argument.get_long() {
                Some(long) => line.push(format!("--{long}={text}").into()),
                None => line.extend(["--".into(), text.into()]),
            }
            found.push(line);
        }
        for below in command.get_subcommands() {
            let mut words = words.to_vec();
            words.push(below.get_name().into());
            every_value(below, &words, text, found);
        }
    }

    fn check_every_value(text: &str) {
        let mut lines = Vec::new();
        every_value(&super::command(), &["prodigy-storage".into()], text, &mut lines);
        assert!(lines.len() > 30, "{}", lines.len());
        for line in lines {
            let Err(error) = super::command().try_get_matches_from(&line) else {
                continue;
            };
            // The message for a refused value repeats the text.
            if error.kind() == clap::error::ErrorKind::ValueValidation {
                assert!(error.to_string().contains(text), "{line:?}: {error}");
            }
        }
    }

    #[test]
    fn a_value_that_overflows_is_refused_by_every_parser() {
        check_every_value("18446744073709551615s 999999999ns 1ns");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn no_value_makes_a_parser_panic(text in "([0-9]{1,20}(ns|s|m|h|y|MB| ){1}){0,4}|\\PC{0,20}") {
            check_every_value(&text);
        }
    }
}
