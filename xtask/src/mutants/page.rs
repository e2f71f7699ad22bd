//! Renders `docs/assurance/mutants.md`.

use std::fmt::Write;

use anyhow::Result;

use super::bug::Bug;

/// The path of the page in the project.
pub(crate) const PAGE: &str = "docs/assurance/mutants.md";

/// Renders the page with the bugs of all lists.
pub(super) fn render(bugs: &[Bug]) -> Result<String> {
    let mut text = String::new();
    let count = bugs.len();
    write!(
        text,
        "# Planted bugs\n\n\
         `cargo xtask mutants` plants {count} bugs, one at a time, into a copy of the shipped code. Each bug breaks a promise, and \
         the named test or property of the conformance suite has to fail; without the bug it has to pass. The lists in \
         `xtask/mutants` name a bug by the text that it replaces; `cargo xtask ci` checks that each text occurs exactly once and \
         that each test exists. `cargo xtask docs` writes this page from the lists. cargo-mutants finds general bugs, such as a \
         reversed condition: CONTRIBUTING.md says how to run it.\n\n\
         | bug | the promise that it breaks | what catches it |\n|---|---|---|\n"
    )?;
    for bug in bugs {
        let kind = if bug.property.is_some() {
            "property"
        } else {
            "test"
        };
        let (name, promise, caught_by, package) = (&bug.name, &bug.promise, bug.caught_by(), bug.package());
        writeln!(
            text,
            "| `{name}` | {promise} | {kind} `{caught_by}`, `{package}` |"
        )?;
    }
    Ok(text)
}
