//! Which crate may depend on which: the map of ARCHITECTURE.md.

use super::Findings;
use crate::project::Metadata;

/// A crate, and those of ours that it may depend on. Dependencies of tests alone are free, but for the last table.
const ARROWS: &[(&str, &[&str])] = &[
    ("prodigy-storage-layout", &[]),
    ("prodigy-storage-backend", &["prodigy-storage-layout"]),
    ("prodigy-storage-retry", &[]),
    ("prodigy-storage-cache", &[]),
    (
        "prodigy-storage-config",
        &[
            "prodigy-storage-cache",
            "prodigy-storage-layout",
            "prodigy-storage-retry",
        ],
    ),
    (
        "prodigy-storage-file",
        &["prodigy-storage-backend", "prodigy-storage-layout"],
    ),
    (
        "prodigy-storage-fuzz",
        &[
            "prodigy-storage-backend",
            "prodigy-storage-config",
            "prodigy-storage-file",
            "prodigy-storage-layout",
            "prodigy-storage-sim",
        ],
    ),
    (
        "prodigy-storage-memory",
        &["prodigy-storage-backend", "prodigy-storage-layout"],
    ),
    (
        "prodigy-storage-postgres",
        &["prodigy-storage-backend", "prodigy-storage-layout"],
    ),
    (
        "prodigy-storage",
        &[
            "prodigy-storage-backend",
            "prodigy-storage-cache",
            "prodigy-storage-config",
            "prodigy-storage-file",
            "prodigy-storage-layout",
            "prodigy-storage-memory",
            "prodigy-storage-postgres",
            "prodigy-storage-retry",
        ],
    ),
    ("prodigy-storage-cli", &["prodigy-storage"]),
    ("prodigy-storage-bench", &["prodigy-storage"]),
    ("prodigy-storage-model", &[]),
    (
        "prodigy-storage-sim",
        &[
            "prodigy-storage-backend",
            "prodigy-storage-file",
            "prodigy-storage-layout",
        ],
    ),
    ("prodigy-storage-torture", &["prodigy-storage"]),
    ("xtask", &["prodigy-storage-cli", "prodigy-storage-config"]),
];

/// Crates that a user never gets: nothing may depend on them, tests included.
const ENDS: &[&str] = &[
    "prodigy-storage-bench",
    "prodigy-storage-cli",
    "prodigy-storage-torture",
    "xtask",
];

/// Looks at every dependency of every crate.
pub(super) fn check(metadata: &Metadata, findings: &mut Findings) {
    let is_ours = |name: &str| metadata.packages.iter().any(|package| package.name == name);
    for package in &metadata.packages {
        let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == package.name) else {
            findings.fault(
                &package.name,
                "has no row in the map of arrows; give it one there and in ARCHITECTURE.md",
            );
            continue;
        };
        for dependency in package
            .dependencies
            .iter()
            .filter(|dependency| is_ours(&dependency.name))
        {
            let name = dependency.name.as_str();
            if dependency.kind.as_deref() == Some("dev") {
                if ENDS.contains(&name) {
                    findings.fault(
                        &package.name,
                        format_args!("its tests depend on `{name}`, which is an end"),
                    );
                }
            } else if !allowed.contains(&name) {
                findings.fault(
                    &package.name,
                    format_args!("depends on `{name}`; the map of arrows does not allow it"),
                );
            }
        }
        let by_default = metadata.workspace_default_members.contains(&package.id);
        if package.name == "prodigy-storage-bench" && by_default {
            findings.fault(
                &package.name,
                "is a default member: every plain build would compile its peers",
            );
        }
        if !metadata.workspace_members.contains(&package.id) {
            findings.fault(&package.name, "is no member of the workspace");
        }
    }
}
