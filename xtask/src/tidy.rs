//! `cargo xtask tidy` checks the invariants that no compiler, lint or cargo-deny checks. CONTRIBUTING.md lists them.

mod crates;
mod dialect;
mod direction;
mod examples;
mod files;
pub(crate) mod links;
mod packages;
mod sources;

use std::fmt::Display;
use std::path::Path;

use anyhow::{Result, bail};

use crate::project::Project;

/// The results of all checks.
#[derive(Debug, Default)]
struct Findings {
    faults: Vec<String>,
    notices: Vec<String>,
    sums: Vec<String>,
}

impl Findings {
    /// Adds a violation.
    fn fault(&mut self, place: impl Display, what: impl Display) {
        self.faults.push(format!("{place}: {what}"));
    }

    /// Adds a count to the summary, which is the last line of the output.
    fn sum(&mut self, sum: String) {
        self.sums.push(sum);
    }

    /// Adds a notice, which is no failure.
    fn notice(&mut self, place: impl Display, what: impl Display) {
        self.notices.push(format!("{place}: {what}"));
    }
}

/// A text file of the project.
#[derive(Debug)]
struct TextFile {
    /// The path in the project, with slashes.
    path: String,
    text: String,
}

impl TextFile {
    fn has_extension(&self, extension: &str) -> bool {
        Path::new(&self.path)
            .extension()
            .is_some_and(|found| found == extension)
    }

    /// True for a file of a corpus or a fixture, whose text is test input and not checked.
    fn is_as_given(&self) -> bool {
        self.path.contains("/corpus/") || self.path.contains("/fixtures/")
    }

    fn is_rust(&self) -> bool {
        self.has_extension("rs")
    }

    fn is_markdown(&self) -> bool {
        self.has_extension("md")
    }
}

/// Runs all checks and prints their findings.
pub(crate) fn run(project: &Project) -> Result<()> {
    let texts = files::read_all(project.root())?;
    let mut findings = Findings::default();
    crates::check(project, &mut findings);
    packages::check(project, &texts, &mut findings);
    files::check(&texts, &mut findings);
    links::check(project.root(), &texts, &mut findings);
    sources::check(&texts, &mut findings);
    dialect::check(&texts, &mut findings);
    direction::check(&texts, &mut findings);
    examples::check(&texts, &mut findings);
    for notice in &findings.notices {
        println!("notice: {notice}");
    }
    for fault in &findings.faults {
        println!("fault: {fault}");
    }
    let (faults, notices) = (findings.faults.len(), findings.notices.len());
    let sums = findings.sums.join(", ");
    println!(
        "tidy: {} files, {sums}, {faults} faults, {notices} notices",
        texts.len()
    );
    if faults > 0 {
        bail!("{faults} invariants do not hold");
    }
    Ok(())
}
