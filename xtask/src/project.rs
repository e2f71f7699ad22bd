//! The project: its folder, its crates, and calls of cargo.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

/// The project's folder, and its `cargo metadata`.
#[derive(Debug)]
pub(crate) struct Project {
    root: PathBuf,
    metadata: Metadata,
}

/// The fields that are read from `cargo metadata --no-deps`.
#[derive(Debug, Deserialize)]
pub(crate) struct Metadata {
    pub(crate) packages: Vec<Package>,
    target_directory: PathBuf,
}

/// One crate of the workspace.
#[derive(Debug, Deserialize)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) rust_version: Option<String>,
    pub(crate) manifest_path: PathBuf,
    /// The registries that it may be published to; `None` for any.
    pub(crate) publish: Option<Vec<String>>,
    pub(crate) targets: Vec<Target>,
}

/// An artifact that a crate builds.
#[derive(Debug, Deserialize)]
pub(crate) struct Target {
    pub(crate) name: String,
    pub(crate) kind: Vec<String>,
}

impl Package {
    /// The crate's folder.
    pub(crate) fn folder(&self) -> &Path {
        self.manifest_path.parent().unwrap_or(&self.manifest_path)
    }
}

impl Project {
    /// Calls `cargo metadata`. The folder of `xtask` is one level below the project's folder.
    pub(crate) fn find() -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .context("the folder of xtask has no parent")?
            .to_owned();
        let output = cargo_command(&root)
            .args(["metadata", "--no-deps", "--format-version", "1"])
            .stderr(Stdio::inherit())
            .output()
            .context("can't start cargo")?;
        if !output.status.success() {
            bail!("cargo metadata failed: {}", output.status);
        }
        let metadata =
            serde_json::from_slice(&output.stdout).context("can't read the answer of cargo metadata")?;
        Ok(Self { root, metadata })
    }

    /// The project's folder.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// A path in the project's folder.
    pub(crate) fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.root.join(relative)
    }

    /// The metadata from cargo.
    pub(crate) fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The target folder of cargo.
    pub(crate) fn target(&self) -> &Path {
        &self.metadata.target_directory
    }

    /// A cargo command in the project's folder.
    pub(crate) fn cargo(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
        let mut command = cargo_command(&self.root);
        command.args(arguments);
        command
    }

    /// This program, called again for a chore that needs a cargo feature.
    #[cfg(not(all(feature = "docs", feature = "dist", feature = "pictures")))]
    pub(crate) fn again(&self, chore: &str) -> Command {
        let run = [
            "run",
            "--quiet",
            "--locked",
            "--package",
            "xtask",
            "--features",
            chore,
            "--",
            chore,
        ];
        self.cargo(run)
    }

    /// A program that cargo has built in the dev profile.
    pub(crate) fn built(&self, relative: &str) -> PathBuf {
        let name = format!("{relative}{}", std::env::consts::EXE_SUFFIX);
        self.target().join("debug").join(name)
    }
}

/// The cargo that runs this program, without the variables that it set for this program.
fn cargo_command(root: &Path) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        let ours = name
            .to_str()
            .is_some_and(|name| name.starts_with("CARGO_PKG_") || name == "CARGO_MANIFEST_DIR");
        if ours {
            command.env_remove(name);
        }
    }
    command
}

/// Runs a command and shows its output. If it fails, the error shows the command.
pub(crate) fn must(command: &mut Command) -> Result<()> {
    let shown = show(command);
    let status = command
        .status()
        .with_context(|| format!("can't start `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` failed: {status}");
    }
    Ok(())
}

/// A command as a user would type it.
pub(crate) fn show(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let name = program.file_name().unwrap_or(program.as_os_str());
    std::iter::once(name)
        .chain(command.get_args())
        .map(|word| {
            let word = word.to_string_lossy();
            if word.is_empty() || word.contains(' ') {
                format!("'{word}'")
            } else {
                word.into_owned()
            }
        })
        .collect::<Vec<_>>()
        .join(" ")
}
