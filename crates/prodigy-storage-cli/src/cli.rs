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
use crate::usage::UsageArgs;
use crate::worktree::WorktreeCommand;

const EXITS: &str = "Exit codes: 0 done; 1 failed; 2 command line or configuration refused; 3 lock not acquired; \
                     4 no such job or item; 5 damaged data found, the rest was printed; \
                     6 data skipped that is another program's or over a limit, the rest was printed.";

/// The storage of Prodigy's jobs: events, checkpoints, dead letters, worktrees and locks.
#[derive(Debug, Parser)]
#[command(name = "prodigy-storage", version, after_help = EXITS)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    command: Option<Command>,
}

/// Parses a command line. With `status`, a line without a command means `status`; otherwise it is refused.
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
    let matches = table.try_get_matches_from_mut(arguments)?;
    let cli = Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut table))?;
    let command = cli
        .command
        .unwrap_or_else(|| Command::Status(StatusArgs::default()));
    Ok((cli.global, command))
}

/// Flags of every command.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Global {
    /// Print JSON: an object, or an object a line for each thing listed.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// A configuration file; it wins over all others.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// The root of all data; it wins over the configuration.
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) base_dir: Option<PathBuf>,
    /// Tell on standard error what was opened and how often what was done.
    #[arg(long, short, global = true)]
    pub(crate) verbose: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// One screen: where the store is, its jobs, held locks, space, and problems with what to do about each.
    ///
    /// The tool prints this, too, if it is started on a terminal without a command.
    #[command(after_help = status::HELP)]
    Status(StatusArgs),
    /// Jobs: which exist, what is stored of one, and deleting it.
    #[command(subcommand)]
    Job(JobCommand),
    /// The log of a job.
    #[command(subcommand)]
    Events(EventsCommand),
    /// The states that a job resumes from.
    #[command(subcommand)]
    Checkpoint(CheckpointCommand),
    /// Documents of your own kinds, of a job or of a repository: JSON values that are stored and read whole.
    #[command(subcommand)]
    Document(DocumentCommand),
    /// The items that failed: see why, fix one, run them again, park the rest.
    #[command(subcommand, after_help = dlq::GUIDE)]
    Dlq(DlqCommand),
    /// The worktrees of a repository's sessions.
    #[command(subcommand)]
    Worktree(WorktreeCommand),
    /// Named locks between processes.
    #[command(subcommand)]
    Lock(LockCommand),
    /// The configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Check what can be checked without writing.
    Health,
    /// Look through everything for damage and say what is lost and what to do; with `--repair`, move it out of the way.
    ///
    /// The exit code is 5 while damage is there, and 1 if anything else was left that a repair should have mended.
    #[cfg(feature = "file")]
    Doctor(DoctorArgs),
    /// Write the whole store, or one job, to one archive, while others write to it.
    #[cfg(feature = "file")]
    Backup(BackupArgs),
    /// Check an archive, and restore it into an empty root; or one job of it beside others.
    #[cfg(feature = "file")]
    Restore(RestoreArgs),
    /// The tables of the PostgreSQL backend.
    #[cfg(feature = "postgres")]
    #[command(subcommand)]
    Schema(SchemaCommand),
    /// Write a job as JSON lines: events, checkpoints, documents, dead letters, orphans. `import` reads them into any store.
    Export(ExportArgs),
    /// Import a file of `export`, or what other programs left in a folder: events, states, dead letters, orphans, sessions. A second run stores nothing twice.
    Import(ImportArgs),
    /// Import what the folder `.prodigy` of a project holds into the store that all worktrees share.
    ///
    /// The folder is read and never changed, and what was stored is read back and compared. Run it again after an interruption: it stores nothing twice.
    Migrate(MigrateArgs),
    /// Copy everything, a repository or a job into a database or a folder, and compare. It can be killed and run again.
    Copy(CopyArgs),
    /// Print what takes the space, by area and repository, or by job.
    Usage(UsageArgs),
    /// Write a page of a job, or of all jobs of a repository, for a browser: events over time, dead letters, checkpoints, space, and a search.
    ///
    /// The page is one file that loads nothing. It holds events: pass it on as you would the log.
    Report(ReportArgs),
    /// Show what is older than the rules of retention allow, and remove it with `--yes`.
    ///
    /// A job that is at work, the newest valid checkpoint of each phase and the newest events of a log always stay.
    Clean(CleanArgs),
    /// The repository that each name belongs to.
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
            Self::Job(JobCommand::Delete(_)) => Reads::Nothing,
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

    /// Whether the result of the command is what it prints. The result of the others is what they store, or their exit code.
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
            Self::Health | Self::Import(_) | Self::Migrate(_) | Self::Copy(_) | Self::Report(_) => false,
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

    /// The words that lead to each command, with a value for each of its flags and arguments.
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
            // Of a value that is refused, the message repeats the text.
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
