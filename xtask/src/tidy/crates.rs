//! What every crate has: a page, a description, a licence, the workspace's lints.

use std::fs;

use super::Findings;
use crate::project::{Package, Project};

/// Looks at every crate.
pub(super) fn check(project: &Project, findings: &mut Findings) {
    for package in &project.metadata().packages {
        check_one(project, package, findings);
    }
}

fn check_one(project: &Project, package: &Package, findings: &mut Findings) {
    let name = package.name.as_str();
    if package
        .description
        .as_deref()
        .is_none_or(|text| text.trim().is_empty())
    {
        findings.fault(name, "has no `description`");
    }
    if package.license.is_none() || package.rust_version.is_none() {
        findings.fault(
            name,
            "does not take `license` and `rust-version` from the workspace",
        );
    }
    let folder = package.folder();
    let shipped = folder.starts_with(project.path("crates"));
    if shipped && folder.file_name().is_none_or(|folder| folder != name) {
        findings.fault(name, "lies in a folder of another name");
    }
    let manifest = fs::read_to_string(&package.manifest_path).unwrap_or_default();
    let mut lines = manifest.lines().map(str::trim);
    if !(lines.any(|line| line == "[lints]") && lines.next() == Some("workspace = true")) {
        findings.fault(name, "does not take the lints from the workspace");
    }
    let readme = fs::read_to_string(folder.join("README.md")).unwrap_or_default();
    if shipped && readme.lines().filter(|line| !line.trim().is_empty()).count() < 2 {
        findings.fault(name, "has no README.md that says what it is");
    }
    let shown = |kind: &String| matches!(kind.as_str(), "lib" | "bin" | "example");
    for target in package
        .targets
        .iter()
        .filter(|target| target.kind.iter().any(shown))
    {
        let text = fs::read_to_string(&target.src_path).unwrap_or_default();
        if !text.trim_start_matches("#![").trim_start().starts_with("//!") && !text.contains("\n//!") {
            findings.fault(
                name,
                format_args!(
                    "target `{}` does not open with a page of documentation",
                    target.name
                ),
            );
        }
    }
}
