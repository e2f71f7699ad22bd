//! Crash tests of the tool and the library: `cargo xtask crash --help`.
//!
//! Every check starts the real binary as a user would, in a folder and an environment of its own. This program links
//! the reference model of the traits, but no code under test; `torture-served` and `torture-worker`, which it starts,
//! link that code.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program of the command line"
)]

mod acks;
mod crash;
mod git;
mod input;
mod project;
mod segment;
mod tool;
mod tree;
mod verify;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::project::Project;

/// Crash tests of Prodigy storage.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask", max_term_width = 100)]
struct Arguments {
    /// Use the programs in the folder of this one, instead of building them.
    #[arg(long, global = true)]
    built: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Kill the tool, fail its system calls, cut the power; then check that no acknowledged data is lost.
    Crash(crash::Options),
    /// Check what the tool promises, one check after the other, on real input.
    Verify(verify::Options),
    /// Run as a planted victim of `crash --only victims`.
    #[command(hide = true)]
    Victim(crash::victims::Options),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = Project::find(arguments.built).and_then(|project| match arguments.command {
        Command::Crash(options) => crash::run(&project, &options),
        Command::Verify(options) => verify::run(&project, &options),
        Command::Victim(options) => crash::victims::program(&options),
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
