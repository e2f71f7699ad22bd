//! Checks that the planted bugs fit the code.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use super::bug::Bug;
use crate::project::Project;

/// The folder of the conformance suite, whose functions are its properties.
const SUITE: &str = "crates/prodigy-storage-backend/src/conformance";

/// Checks that the text of each bug occurs exactly once, and that its test exists.
pub(super) fn check(project: &Project, bugs: &[Bug]) -> Result<()> {
    let mut stale = Vec::new();
    for bug in bugs {
        if let Err(error) = check_bug(project, bug) {
            stale.push(format!("{}: {error:#}", bug.name));
        }
    }
    if !stale.is_empty() {
        bail!(
            "{} of {} planted bugs do not fit the code:\n{}",
            stale.len(),
            bugs.len(),
            stale.join("\n")
        );
    }
    println!("all {} planted bugs fit the code", bugs.len());
    Ok(())
}

fn check_bug(project: &Project, bug: &Bug) -> Result<()> {
    let path = project.path(&bug.file);
    let text = std::fs::read_to_string(&path).with_context(|| format!("can't read {}", bug.file))?;
    bug.plant(&text)?;
    let packages = &project.metadata().packages;
    let package = packages
        .iter()
        .find(|package| package.name == bug.package())
        .with_context(|| format!("there is no crate {}", bug.package()))?;
    let test = bug.test_name();
    ensure!(
        names(package.folder(), test)?,
        "{} has no test `{test}`",
        package.name
    );
    if let Some(property) = &bug.property {
        ensure!(
            names(&project.path(SUITE), property)?,
            "the conformance suite has no property `{property}`"
        );
    }
    Ok(())
}

/// True if a source file below the folder contains the identifier. This also finds tests that a macro defines.
fn names(folder: &Path, identifier: &str) -> Result<bool> {
    for entry in std::fs::read_dir(folder).with_context(|| format!("can't list {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            if names(&path, identifier)? {
                return Ok(true);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text =
                std::fs::read_to_string(&path).with_context(|| format!("can't read {}", path.display()))?;
            let mut words = text.split(|c: char| c != '_' && !c.is_alphanumeric());
            if words.any(|word| word == identifier) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}
