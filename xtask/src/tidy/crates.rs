//! Checks every crate: its lints come from the workspace, its folder has its name, and it is published if it is in
//! `crates/`.

use std::fs;

use super::Findings;
use crate::project::{Package, Project};

/// Checks every crate.
pub(super) fn check(project: &Project, findings: &mut Findings) {
    for package in &project.metadata().packages {
        check_one(project, package, findings);
    }
}

fn check_one(project: &Project, package: &Package, findings: &mut Findings) {
    let name = package.name.as_str();
    let folder = package.folder();
    if folder.file_name().is_none_or(|folder| folder != name) {
        findings.fault(name, "its folder has another name");
    }
    let shipped = folder.starts_with(project.path("crates"));
    // `publish = false` is an empty list of registries.
    let published = package
        .publish
        .as_ref()
        .is_none_or(|registries| !registries.is_empty());
    if shipped != published {
        findings.fault(name, "the crates in `crates/` are published, and no others");
    }
    let manifest = fs::read_to_string(&package.manifest_path).unwrap_or_default();
    let mut lines = manifest.lines().map(str::trim);
    if !(lines.any(|line| line == "[lints]") && lines.next() == Some("workspace = true")) {
        findings.fault(name, "does not take the lints from the workspace");
    }
}
