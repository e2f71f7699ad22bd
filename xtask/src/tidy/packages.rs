//! Checks the packages that the library depends on: the library's page states their number, and tokio is among them
//! only with the feature `tokio`.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail};

use super::{Findings, TextFile};
use crate::project::Project;

const LIBRARY: &str = "prodigy-storage";
const PAGE: &str = "crates/prodigy-storage/README.md";
/// The dependencies differ by platform; the page states the number for this one.
const PLATFORM: &str = "x86_64-unknown-linux-gnu";

/// Compares the page with the output of `cargo tree`.
pub(super) fn check(project: &Project, texts: &[TextFile], findings: &mut Findings) {
    let (plain, tasks) = match (packages(project, ""), packages(project, "tokio")) {
        (Ok(plain), Ok(tasks)) => (plain, tasks),
        (Err(error), _) | (_, Err(error)) => {
            findings.fault(LIBRARY, format_args!("its packages are unknown: {error:#}"));
            return;
        }
    };
    for package in plain.iter().filter(|package| package.starts_with("tokio")) {
        findings.fault(
            LIBRARY,
            format_args!("brings {package} without the feature `tokio`"),
        );
    }
    let sentence = sentence(plain.len(), tasks.len());
    let page = texts.iter().find(|text| text.path == PAGE);
    if !page.is_some_and(|page| page.text.contains(&sentence)) {
        findings.fault(
            PAGE,
            format_args!("does not say `{sentence}`: a package more has to be worth its cost"),
        );
    }
    findings.sum(format!("{} packages of the library", plain.len()));
}

fn sentence(plain: usize, tasks: usize) -> String {
    format!("`cargo tree` counts {plain} packages with the default features, and {tasks} with `tokio`.")
}

/// The packages of the library with its default features and one more.
fn packages(project: &Project, feature: &str) -> Result<BTreeSet<String>> {
    let output = project
        .cargo([
            "tree",
            "--locked",
            "--package",
            LIBRARY,
            "--edges",
            "normal",
            "--prefix",
            "none",
        ])
        .args(["--format", "{p}", "--target", PLATFORM, "--features", feature])
        .output()
        .context("can't start cargo")?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let tree = String::from_utf8(output.stdout).context("cargo's tree is no text")?;
    // `cargo tree` adds `(*)` to a package that it has listed before.
    let names = tree.lines().map(|line| line.trim_end_matches(" (*)").to_owned());
    Ok(names.filter(|name| !name.is_empty()).collect())
}
