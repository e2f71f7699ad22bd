//! The table of commands and flags.

use std::path::PathBuf;

use clap::{CommandFactory, Parser, Subcommand};

use crate::checkpoint::CheckpointCommand;
use crate::config::ConfigCommand;
use crate::dlq::DlqCommand;
use crate::doctor::DoctorArgs;
use crate::events::EventsCommand;
use crate::lock::LockCommand;
use crate::repo::RepoCommand;
use crate::worktree::WorktreeCommand;

const EXITS: &str = "Exit codes: 0 done; 1 failed; 2 command line or configuration refused; 3 lock not acquired; \
                     4 no such job or item; 5 damaged data met, the rest was given; \
                     6 data of another program skipped, the rest was given.";

/// The storage of Prodigy's jobs: events, checkpoints, dead letters, worktrees and locks.
#[derive(Debug, Parser)]
#[command(name = "prodigy-storage", version, after_help = EXITS, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags of every command.
#[derive(Debug, clap::Args)]
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
    /// The log of a job.
    #[command(subcommand, disable_help_subcommand = true)]
    Events(EventsCommand),
    /// The states that a job resumes from.
    #[command(subcommand, disable_help_subcommand = true)]
    Checkpoint(CheckpointCommand),
    /// The items that failed.
    #[command(subcommand, disable_help_subcommand = true)]
    Dlq(DlqCommand),
    /// The worktrees of a repository's sessions.
    #[command(subcommand, disable_help_subcommand = true)]
    Worktree(WorktreeCommand),
    /// Named locks between processes.
    #[command(subcommand, disable_help_subcommand = true)]
    Lock(LockCommand),
    /// The configuration.
    #[command(subcommand, disable_help_subcommand = true)]
    Config(ConfigCommand),
    /// Check what can be checked without writing.
    Health,
    /// Look through everything for damage and say what is lost and what to do; with `--repair`, move it out of the way.
    Doctor(DoctorArgs),
    /// Tell what takes the space.
    Usage,
    /// Which repository a name stands for.
    #[command(subcommand, disable_help_subcommand = true)]
    Repo(RepoCommand),
}

/// The table of commands and flags, for completions and manual pages.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_table_is_sound() {
        super::command().debug_assert();
    }
}
