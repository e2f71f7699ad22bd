//! Checks the dependencies by cargo-deny.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::Result;

use super::report::Outcome;
use super::shown;
use crate::project::Project;

/// Checks licences, bans and sources, and advisories if a database of them is available. Reports the date of that
/// database.
pub(crate) fn run(project: &Project) -> Result<Outcome> {
    if !quietly(project, &["deny", "--version"]) {
        let how = "cargo-deny is not installed (`cargo install --locked cargo-deny`)";
        return Ok(Outcome::Skipped(how.to_owned()));
    }
    // Duplicates are allowed. They are not listed, since the tree of each is long.
    let checks = [
        "--log-level",
        "error",
        "--locked",
        "check",
        "bans",
        "licenses",
        "sources",
    ];
    shown::run(project.cargo(["deny"]).args(checks))?;
    let fetched = quietly(project, &["deny", "fetch", "db"]);
    let Some(date) = database_date() else {
        let why = "no database of advisories is here and none could be fetched: advisories were not checked";
        return Ok(Outcome::Partly(why.to_owned()));
    };
    let mut command = project.cargo(["deny", "--locked", "check", "--disable-fetch", "advisories"]);
    shown::run(&mut command)?;
    println!("advisories: checked against the database of {date}");
    Ok(if fetched {
        Outcome::Passed
    } else {
        Outcome::Partly(format!(
            "no newer database of advisories than that of {date} could be fetched"
        ))
    })
}

/// The date of the last commit of the newest database that cargo-deny has fetched.
fn database_date() -> Option<String> {
    let cargo_home = std::env::var_os("CARGO_HOME").map_or_else(
        || std::env::home_dir().map(|home| home.join(".cargo")),
        |path| Some(PathBuf::from(path)),
    )?;
    let databases = std::fs::read_dir(cargo_home.join("advisory-dbs")).ok()?;
    databases
        .filter_map(|entry| {
            let output = Command::new("git")
                .arg("-C")
                .arg(entry.ok()?.path())
                .args(["log", "-1", "--format=%cs"])
                .output()
                .ok()?;
            let date = String::from_utf8(output.stdout).ok()?.trim().to_owned();
            (output.status.success() && !date.is_empty()).then_some(date)
        })
        .max()
}

/// Runs a cargo command without showing its output. True if it succeeds.
fn quietly(project: &Project, arguments: &[&str]) -> bool {
    let mut command = project.cargo(arguments);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
