//! `cargo xtask bench`: builds the benchmarks as users would build the library, and runs them.

use anyhow::Result;

use crate::project::{Project, must};

/// Options of `bench`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Fewer operations a row.
    #[arg(long)]
    quick: bool,
    /// Raw numbers, a JSON object a row.
    #[arg(long)]
    json: bool,
    /// Only rows whose name contains one of these.
    #[arg(value_name = "PART")]
    rows: Vec<String>,
}

/// Runs the benchmarks.
pub(crate) fn run(project: &Project, options: &Options) -> Result<()> {
    let run = [
        "run",
        "--release",
        "--quiet",
        "--locked",
        "--package",
        "prodigy-storage-bench",
        "--",
    ];
    let mut command = project.cargo(run);
    if options.quick {
        command.arg("--quick");
    }
    if options.json {
        command.arg("--json");
    }
    must(command.args(&options.rows))
}
