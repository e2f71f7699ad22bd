//! The git repository of the demo.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::Outcome;

/// Creates a repository with one commit.
pub(crate) fn create(folder: &Path) -> Outcome {
    std::fs::create_dir_all(folder)?;
    git(folder, &["init", "--quiet"])?;
    let text = "# A shop\n\nThe repository that the agents of the demo work on.\n";
    std::fs::write(folder.join("README.md"), text)?;
    git(folder, &["add", "README.md"])?;
    git(folder, &["commit", "--quiet", "--message", "The shop opens"])
}

/// Runs git in a folder, without the settings of the user.
pub(crate) fn git(folder: &Path, arguments: &[&str]) -> Outcome {
    let mut command = Command::new("git");
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("GIT_")) {
            command.env_remove(name);
        }
    }
    for role in ["AUTHOR", "COMMITTER"] {
        command
            .env(format!("GIT_{role}_NAME"), "Demo")
            .env(format!("GIT_{role}_EMAIL"), "demo@localhost");
    }
    command
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .current_dir(folder)
        .args(arguments)
        .stdin(Stdio::null());
    let output = command
        .output()
        .map_err(|error| format!("can't start git, which the demo needs: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let reason = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(format!("`git {}` in {}: {reason}", arguments.join(" "), folder.display()).into())
}
