//! `cargo xtask crash` and `verify` run the programs of `dev/prodigy-storage-torture`.

use std::ffi::OsString;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use crate::project::{Project, show};

/// Arguments that are passed on unchanged, `--help` included.
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Arguments {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENT")]
    words: Vec<OsString>,
}

const PACKAGE: &str = "prodigy-storage-torture";

/// The cargo command that builds the crash tests and runs a command of theirs.
fn command(project: &Project, name: &str) -> Command {
    project.cargo(["run", "--quiet", "--locked", "--package", PACKAGE, "--", name])
}

/// The cargo command that runs a command of the crash tests, whose programs are built already.
pub(crate) fn built(project: &Project, name: &str) -> Command {
    let mut command = Command::new(project.built(PACKAGE));
    command.args([name, "--built"]).current_dir(project.root());
    command
}

/// Builds the crash tests, runs a command of theirs, and returns its exit code.
pub(crate) fn run(project: &Project, name: &str, arguments: &Arguments) -> Result<ExitCode> {
    let mut command = command(project, name);
    let status = command
        .args(&arguments.words)
        .status()
        .with_context(|| format!("can't start `{}`", show(&command)))?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

/// The fields that are read from the report of the crash tests.
#[derive(Debug, serde::Deserialize)]
struct Report {
    sections: Vec<Section>,
}

#[derive(Debug, serde::Deserialize)]
struct Section {
    name: String,
    skipped: Vec<String>,
}

/// The skipped parts of the last crash tests that ran with `--report`, with reasons.
pub(crate) fn skipped(project: &Project) -> Result<Vec<String>> {
    let path = project.target().join("crash-report.json");
    let text = std::fs::read(&path).with_context(|| format!("can't read {}", path.display()))?;
    let report: Report = serde_json::from_slice(&text).with_context(|| format!("in {}", path.display()))?;
    Ok(report
        .sections
        .iter()
        .flat_map(|section| {
            section
                .skipped
                .iter()
                .map(|why| format!("{}: {why}", section.name))
        })
        .collect())
}
