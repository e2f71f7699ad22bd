//! `docs/assurance/mutants.md`.

use std::fmt::Write;

use anyhow::{Context, Result};

use super::patch::Patch;
use crate::project::Project;

const PAGE: &str = "docs/assurance/mutants.md";

/// Writes the page, after a run in which each was caught by what its patch names.
pub(super) fn write(project: &Project, patches: &[Patch]) -> Result<()> {
    let text = render(patches)?;
    std::fs::write(project.path(PAGE), text).with_context(|| format!("can't write {PAGE}"))?;
    println!("{PAGE} written");
    Ok(())
}

fn render(patches: &[Patch]) -> Result<String> {
    let mut text = String::new();
    let count = patches.len();
    write!(
        text,
        "# Mutants\n\n\
         Tests are only worth what they catch. `cargo xtask mutants` plants {count} bugs, one at a time, into a copy of \
         the code that is shipped: patches in `xtask/mutants`. Each must compile, and must be caught by the property of \
         the conformance suite or the test named here, which passes without it. A patch that no longer applies, and one \
         that survives, fail the command. This page is written by `cargo xtask mutants --write`, from a run that caught \
         them all.\n\n\
         | mutant | what it breaks | what catches it |\n|---|---|---|\n"
    )?;
    for patch in patches {
        let Patch {
            name,
            what,
            caught_by,
            ..
        } = patch;
        let kind = if patch.is_caught_by_property() {
            "property"
        } else {
            "test"
        };
        let package = patch.package();
        writeln!(text, "| `{name}` | {what} | {kind} `{caught_by}`, `{package}` |")?;
    }
    Ok(text)
}
