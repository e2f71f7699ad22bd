//! The developers' chores of Prodigy storage: `cargo xtask --help`.
//!
//! Each chore calls cargo, a standard tool, or a crate in `dev/`; little is implemented here. This program links the code
//! that it checks only with the cargo features `docs` and `dist`.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program of the command line"
)]

mod bench;
mod book;
mod ci;
mod conformance;
mod demo;
mod dist;
mod docs;
mod fuzz;
mod mutants;
mod pictures;
mod project;
mod server;
mod tidy;
mod torture;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::project::Project;

/// The developers' chores of Prodigy storage.
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
    /// Run an example job from end to end, on real input, in a folder of its own.
    Demo(demo::Options),
    /// Kill the tool, fail its system calls, cut the power; then check that no acknowledged data is lost.
    Crash(torture::Arguments),
    /// Run the targets of `dev/prodigy-storage-fuzz` on generated input, some minutes each; needs nightly and
    /// cargo-fuzz.
    Fuzz(fuzz::Options),
    /// Plant bugs into a copy of the project, one at a time, and check that a test catches each.
    Mutants(mutants::Options),
    /// Run the conformance suite on each backend, and through the facade with everything switched on.
    Conformance,
    /// Check what the tool promises, one check after the other, on real input.
    Verify(torture::Arguments),
    /// Check the invariants of the architecture and of the files.
    Tidy,
    /// Write the pages that are generated from the code, and check the links of all pages.
    Docs(docs::Options),
    /// Build the book of all pages in the target folder; needs mdbook.
    Book,
    /// Measure this project beside comparable libraries and the limits of the machine.
    Bench(bench::Options),
    /// Draw the output of `status` on terminals of 80 and of 200 columns, to `docs/pictures` (needs `script`).
    Pictures,
    /// Write a release archive with the tool, its completions and manual pages, and a checksum.
    Dist(dist::Options),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match Project::find().and_then(|project| arguments.chore.run(&project)) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

impl Chore {
    fn run(&self, project: &Project) -> Result<ExitCode> {
        match self {
            Self::Ci(options) => ci::run(project, options),
            Self::Demo(options) => demo::run(project, options),
            Self::Crash(arguments) => return torture::run(project, "crash", arguments),
            Self::Fuzz(options) => fuzz::run(project, options),
            Self::Mutants(options) => mutants::run(project, options),
            Self::Conformance => conformance::run(project),
            Self::Verify(arguments) => return torture::run(project, "verify", arguments),
            Self::Tidy => tidy::run(project),
            Self::Docs(options) => docs::run(project, options),
            Self::Book => book::run(project),
            Self::Bench(options) => bench::run(project, options),
            Self::Pictures => pictures::run(project),
            Self::Dist(options) => dist::run(project, options),
        }
        .map(|()| ExitCode::SUCCESS)
    }
}
