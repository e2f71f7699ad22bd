//! The tool `prodigy-storage`: what an operator, or a script, does with the storage of Prodigy's jobs.
//!
//! # The model
//!
//! A command line is parsed ([`command`] is the one table of commands and flags, which also gives help, manual pages and
//! completions), the configuration is loaded, storage is opened, for reading only where the command only reads, and the
//! command streams between storage and a [`Console`]. [`run`] ends with an [`Exit`], whose codes scripts rely on.
//!
//! Data goes to standard output. Everything else (errors, warnings, damage that was met, closing counts) goes to
//! standard error, a line each, with control characters escaped. In data they are escaped on a terminal alone: a pipe gets
//! what is stored, byte for byte.
//!
//! # Limitations
//!
//! - An event or item that is read takes its own size in memory; a checkpoint that is saved, a few times its size.
//! - `lock run` hands its lock to the command by an inherited descriptor: on Unix only.
//! - The commands that `dlq redrive` and `lock run` start write to the standard output of the process, not to a [`Console`].
//!   Those of `dlq redrive` run in process groups of their own: they cannot read from the terminal.
//!
//! # Example
//!
//! ```
//! use prodigy_storage_cli::{Console, Exit, run};
//!
//! let (mut output, mut errors) = (Vec::new(), Vec::new());
//! let console = Console {
//!     input: Box::new(std::io::empty()),
//!     ready: |_| true,
//!     output: Box::new(&mut output),
//!     errors: Box::new(&mut errors),
//!     terminal: false,
//!     width: None,
//!     colour: false,
//!     closed: || false,
//!     closed_from_start: false,
//! };
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
mod progress;
mod repo;
mod report;
#[cfg(feature = "postgres")]
mod schema;
mod shell;
mod signals;
mod status;
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

/// Runs one command line, the program's name first, and says how it ended. Without a command it prints the status on a
/// terminal, and its usage elsewhere.
pub fn run<A>(arguments: impl IntoIterator<Item = A>, mut console: Console<'_>) -> Exit
where
    A: Into<OsString> + Clone,
{
    match cli::parse(arguments, console.width.is_some()) {
        Ok((global, command)) => {
            signals::end_process_1();
            signals::let_large_writes_fail();
            app::App::new(global, console).run(command)
        }
        Err(error) => errors::command_line(&error, &mut console),
    }
}
