//! `docs/assurance/mutants.md`.

use std::fmt::Write;

use anyhow::Result;

use super::patch::Patch;

/// Its path in the project.
pub(crate) const PAGE: &str = "docs/assurance/mutants.md";

/// The page as the patches say it.
pub(super) fn render(patches: &[Patch]) -> Result<String> {
    let mut text = String::new();
    let count = patches.len();
    write!(
        text,
        "# Mutants\n\n\
         Tests are only worth what they catch. `cargo xtask mutants` plants {count} bugs, one at a time, into a copy of \
         the code that is shipped: patches in `xtask/mutants`. Each must compile, and must be caught by the property of \
         the conformance suite or the test named here, which passes without it. A patch that no longer applies, and one \
         that survives, fail the command. `cargo xtask ci` only sees whether each applies. `cargo xtask docs` writes this page \
         from the patches.\n\n\
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
