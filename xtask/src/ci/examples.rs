//! The examples of the facade crate, run one by one.

use std::process::Command;

use anyhow::{Context, Result, bail};

use super::report::Outcome;
use crate::project::{Project, must, show};
use crate::tool;

/// The crate whose examples they are.
const CRATE: &str = "prodigy-storage";

/// Builds all, then runs each with a home of its own.
pub(crate) fn run(project: &Project) -> Result<Outcome> {
    let package = project
        .metadata()
        .packages
        .iter()
        .find(|package| package.name == CRATE);
    let package = package.with_context(|| format!("there is no crate {CRATE}"))?;
    let is_example = |kind: &String| kind == "example";
    let names: Vec<&str> = package
        .targets
        .iter()
        .filter(|target| target.kind.iter().any(is_example))
        .map(|target| target.name.as_str())
        .collect();
    if names.is_empty() {
        bail!("{CRATE} has no example");
    }
    let mut build = project.cargo(["build", "--locked", "--package", CRATE, "--examples"]);
    println!("$ {}", show(&build));
    must(&mut build)?;
    for name in &names {
        let home = tempfile::Builder::new().prefix("prodigy-example-").tempdir()?;
        let mut command = Command::new(project.built(&format!("examples/{name}")));
        tool::own_environment(&mut command, home.path());
        println!("$ {name}");
        must(command.current_dir(home.path())).with_context(|| format!("example `{name}`"))?;
    }
    println!("{} examples ran", names.len());
    Ok(Outcome::Passed)
}
