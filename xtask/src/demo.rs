//! `cargo xtask demo`: the example `demo` of the facade.

use std::path::PathBuf;

use anyhow::Result;

use crate::project::{Project, must};

/// Options of `demo`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// An empty or absent folder to work in; a new temporary one if it is not given.
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// Remove the folder at the end.
    #[arg(long)]
    pub(crate) remove: bool,
}

/// Builds the tool, which the summary suggests commands for, and runs the example.
pub(crate) fn run(project: &Project, options: &Options) -> Result<()> {
    println!("building ...");
    must(&mut project.cargo(["build", "--quiet", "--locked", "--package", "prodigy-storage-cli"]))?;
    let example = [
        "run",
        "--quiet",
        "--locked",
        "--package",
        "prodigy-storage",
        "--example",
        "demo",
        "--",
    ];
    let mut command = project.cargo(example);
    command.arg("--tool").arg(project.built("prodigy-storage"));
    if let Some(dir) = &options.dir {
        command.arg("--dir").arg(std::path::absolute(dir)?);
    }
    if options.remove {
        command.arg("--remove");
    }
    must(&mut command)
}
