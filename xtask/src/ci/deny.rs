//! What cargo-deny says of the dependencies.

use std::process::Stdio;

use anyhow::Result;

use super::report::Outcome;
use crate::project::{Project, must, show};

/// Licences, bans and sources always; advisories where their database can be had.
pub(crate) fn run(project: &Project) -> Result<Outcome> {
    if !quietly(project, &["deny", "--version"]) {
        let how = "cargo-deny is not installed (`cargo install --locked cargo-deny`)";
        return Ok(Outcome::Skipped(how.to_owned()));
    }
    let mut command = project.cargo(["deny", "--locked", "check", "bans", "licenses", "sources"]);
    println!("$ {}", show(&command));
    must(&mut command)?;
    if !quietly(project, &["deny", "fetch", "db"]) {
        let why = "the database of advisories could not be fetched, so nobody looked at it";
        return Ok(Outcome::Partly(why.to_owned()));
    }
    let mut command = project.cargo(["deny", "--locked", "check", "advisories"]);
    println!("$ {}", show(&command));
    must(&mut command)?;
    Ok(Outcome::Passed)
}

/// Whether a cargo command succeeds; its output is nobody's business.
fn quietly(project: &Project, arguments: &[&str]) -> bool {
    let mut command = project.cargo(arguments);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
