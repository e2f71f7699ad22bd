//! Every chore of Prodigy storage's developers: `cargo xtask --help`.
//!
//! A file a command. Whatever checks the tool runs the real binary as a user would, in a folder of its own, with an
//! environment of its own; nothing here links the code that it checks, `docs` and `dist` apart.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program of the command line"
)]

mod acks;
mod bench;
mod ci;
mod conformance;
mod crash;
mod demo;
mod dist;
mod docs;
mod fuzz;
mod input;
mod mutants;
mod project;
mod segment;
mod tidy;
mod tool;
mod tree;
mod verify;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::project::Project;

/// Every chore of Prodigy storage's developers.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Debug, Subcommand)]
enum Chore {
    /// Run every check: format, lints, tests, documentation, invariants, the tool's own checks.
    Ci(ci::Options),
    /// Show the main job, end to end, on real input, in a folder of its own.
    Demo(demo::Options),
    /// Kill the tool, fail its system calls, cut the power; then look for what was lost.
    Crash(crash::Options),
    /// Feed the targets of `dev/prodigy-storage-fuzz` with made-up input, some minutes each; needs nightly and cargo-fuzz.
    Fuzz(fuzz::Options),
    /// Plant bugs into a copy of the project, one at a time: its tests have to catch each.
    Mutants(mutants::Options),
    /// Run the conformance suite on each backend, and through the facade with everything switched on.
    Conformance,
    /// Show what the tool promises, check by check, on real input.
    Verify(verify::Options),
    /// Check the invariants of the architecture and of the files.
    Tidy,
    /// Write what is generated from the code: docs/reference/configuration.md.
    Docs(docs::Options),
    /// Measure this project and what it is held against, side by side.
    Bench(bench::Options),
    /// Write shell completions and manual pages to the target folder.
    Dist(dist::Options),
    /// Be a planted victim of `crash --only victims`.
    #[command(hide = true)]
    Victim(crash::victims::Options),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = Project::find().and_then(|project| match arguments.chore {
        Chore::Ci(options) => ci::run(&project, &options),
        Chore::Demo(options) => demo::run(&project, &options),
        Chore::Crash(options) => crash::run(&project, &options).map(drop),
        Chore::Fuzz(options) => fuzz::run(&project, &options),
        Chore::Mutants(options) => mutants::run(&project, &options),
        Chore::Conformance => conformance::run(&project),
        Chore::Verify(options) => verify::run(&project, &options),
        Chore::Tidy => tidy::run(&project),
        Chore::Docs(options) => docs::run(&project, &options),
        Chore::Bench(options) => bench::run(&project, &options),
        Chore::Dist(options) => dist::run(&project, &options),
        Chore::Victim(options) => crash::victims::program(&options),
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
