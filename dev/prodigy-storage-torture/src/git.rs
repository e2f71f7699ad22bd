//! git with a home folder and a user name of its own.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::tool::own_environment;

/// True if git can be started.
pub(crate) fn has_git() -> bool {
    let mut command = Command::new("git");
    command
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Runs git in a folder.
pub(crate) fn git(at: &Path, home: &Path, arguments: &[&str]) -> Result<()> {
    let mut command = Command::new("git");
    own_environment(&mut command, home);
    command.env("GIT_CONFIG_NOSYSTEM", "1");
    for role in ["AUTHOR", "COMMITTER"] {
        command
            .env(format!("GIT_{role}_NAME"), "Demo")
            .env(format!("GIT_{role}_EMAIL"), "demo@localhost");
    }
    command.current_dir(at).args(arguments).stdin(Stdio::null());
    let output = command.output().context("can't start git")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!(
            "`git {}` failed in {}: {}",
            arguments.join(" "),
            at.display(),
            said.trim()
        );
    }
    Ok(())
}
