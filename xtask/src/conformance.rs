//! `cargo xtask conformance`: the suite on every backend under every stack of layers, as a table.

use anyhow::Result;

use crate::project::{Project, must};

/// Options of `conformance`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Random sequences of calls, for each backend under each stack.
    #[arg(long, value_name = "N", default_value_t = 16)]
    cases: u32,
}

/// Runs the facade's example of the same name; an error if anything fails.
pub(crate) fn run(project: &Project, options: &Options) -> Result<()> {
    let run = [
        "run",
        "--quiet",
        "--locked",
        "--package",
        "prodigy-storage",
        "--example",
        "conformance",
        "--",
    ];
    let mut command = project.cargo(run);
    must(command.arg("--cases").arg(options.cases.to_string()))
}
