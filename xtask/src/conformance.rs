//! `cargo xtask conformance` runs the conformance suite on each backend, and through the facade.

use anyhow::Result;

use crate::project::{Project, must, show};

/// The runs of the suite: on each backend alone, and through the facade with all of its features in use.
const RUNS: [(&str, &str); 4] = [
    ("prodigy-storage-memory", "it"),
    ("prodigy-storage-file", "it"),
    ("prodigy-storage-postgres", "it"),
    ("prodigy-storage", "lib"),
];

/// Runs the suite on each backend and through the facade. Fails if a run fails.
pub(crate) fn run(project: &Project) -> Result<()> {
    for (package, target) in RUNS {
        let mut command = project.cargo(["test", "--quiet", "--locked", "--package", package]);
        match target {
            "lib" => command.arg("--lib"),
            test => command.args(["--test", test]),
        };
        command.arg("conformance");
        println!("$ {}", show(&command));
        must(&mut command)?;
    }
    Ok(())
}
