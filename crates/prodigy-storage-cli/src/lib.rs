//! The tool `prodigy-storage`, by which operators and scripts use the storage of Prodigy's jobs.
//!
//! # The model
//!
//! [`run`] parses a command line, loads the configuration, and opens storage (read-only for a command that only reads).
//! The command then streams data between storage and a [`Console`]. [`command`] is the one table of commands and flags,
//! from which help, manual pages and completions are generated. [`run`] returns an [`Exit`], whose codes scripts rely
//! on.
//!
//! Data goes to standard output. Errors, warnings, reports of damage and final counts go to standard error, one per
//! line, with control characters escaped. In data, control characters are escaped only on a terminal: a pipe gets the
//! stored bytes.
//!
//! # Limitations
//!
//! - An event or item that is read is in memory as a whole; saving a checkpoint needs a few times its size.
//! - `lock run` passes its lock to the command as an inherited descriptor: on Unix only.
//! - The commands that `dlq redrive` and `lock run` start write to the standard output of the process, not to a
//!   [`Console`]. The commands of `dlq redrive` run in process groups of their own, so they can't read from the terminal.
//!
//! # Example
//!
//! ```
//! use prodigy_storage_cli::{Console, Exit, run};
//!
//! let (mut output, mut errors) = (Vec::new(), Vec::new());
//! let console = Console::of_pipes(&mut output, &mut errors);
//! assert_eq!(run(["prodigy-storage", "--version"], console), Exit::Done);
//! assert!(output.starts_with(b"prodigy-storage "));
//! ```

mod app;
mod audit;
#[cfg(feature = "file")]
mod backup;
mod checkpoint;
mod clean;
mod cli;
mod complete;
mod config;
mod console;
mod copy;
mod dlq;
#[cfg(feature = "file")]
mod doctor;
mod document;
mod errors;
mod events;
mod examples;
mod exit;
mod export;
mod health;
mod import;
mod input;
mod job;
mod jobs;
mod json;
mod lock;
mod near;
mod new_file;
mod output;
mod problems;
mod progress;
mod repo;
mod report;
#[cfg(feature = "postgres")]
mod schema;
mod shell;
mod signals;
mod status;
mod suggest;
mod table;
mod terminal;
mod time;
mod top;
mod usage;
mod worktree;

pub use cli::command;
pub use complete::complete;
pub use console::Console;
pub use exit::Exit;

use std::ffi::OsString;

/// Runs a command line, which begins with the program's name, and returns how it ended. Without a command it prints the
/// status on a terminal, and its usage elsewhere.
pub fn run<A>(arguments: impl IntoIterator<Item = A>, mut console: Console<'_>) -> Exit
where
    A: Into<OsString> + Clone,
{
    match cli::parse(arguments, (console.size)().is_some()) {
        Ok((global, command)) => {
            signals::end_process_1();
            signals::let_large_writes_fail();
            app::App::new(global, console).run(command)
        }
        Err(error) => errors::command_line(&error, &mut console),
    }
}
