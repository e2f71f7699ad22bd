//! Checks the release archive, as its user would install it.

use std::process::Command;

use anyhow::{Context, Result, bail};

use super::report::Outcome;
use super::shown;
use super::steps::build;
use crate::project::{Project, must};

/// Packs the tool as it was built for the tests, then checks the checksum, unpacks the archive, and runs the tool from
/// it.
pub(crate) fn run(project: &Project) -> Result<Outcome> {
    build(project)?;
    let folder = tempfile::Builder::new().prefix("prodigy-dist-").tempdir()?;
    let dir = folder.path();
    let mut pack = Command::new(project.built("xtask"));
    pack.arg("dist").arg("--dir").arg(dir);
    shown::run(pack.arg("--binary").arg(project.built("prodigy-storage")))?;
    let name = std::fs::read_dir(dir)?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .find_map(|name| Some(name.strip_suffix(".tar.gz")?.to_owned()))
        .context("no archive was written")?;
    must(
        Command::new("sha256sum")
            .current_dir(dir)
            .args(["--check", &format!("{name}.tar.gz.sha256")]),
    )?;
    must(
        Command::new("tar")
            .current_dir(dir)
            .args(["-xzf", &format!("{name}.tar.gz")]),
    )?;
    let unpacked = dir.join(&name);
    for file in [
        "README.md",
        "CHANGELOG.md",
        "LICENSE-MIT",
        "LICENSE-APACHE",
        "completions/prodigy-storage.bash",
        "completions/_prodigy-storage",
        "man/prodigy-storage.1",
        "man/prodigy-storage-events-cat.1",
    ] {
        let size = unpacked
            .join(file)
            .metadata()
            .with_context(|| file.to_owned())?
            .len();
        if size == 0 {
            bail!("{file} is empty");
        }
    }
    let output = Command::new(unpacked.join("prodigy-storage"))
        .arg("--version")
        .output()
        .context("can't start the tool of the archive")?;
    let version = String::from_utf8(output.stdout)?;
    if !name.starts_with(&version.trim().replace(' ', "-")) {
        bail!("the tool of {name} says that it is `{}`", version.trim());
    }
    Ok(Outcome::Passed)
}
