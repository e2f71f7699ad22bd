//! The project under test, and cargo.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

/// The project's folder, and cargo's target folder.
#[derive(Debug)]
pub(crate) struct Project {
    root: PathBuf,
    target: PathBuf,
    /// True if all programs are built already.
    built: bool,
}

impl Project {
    /// Finds the project: cargo built this program, whose crate is two levels below the project, and whose file is two
    /// levels below the target folder.
    pub(crate) fn find(built: bool) -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2);
        let program = std::env::current_exe().context("can't find this program's file")?;
        let target = program.ancestors().nth(2);
        Ok(Self {
            root: root.context("the crate's folder has no parents")?.to_owned(),
            target: target.context("the program's folder has no parents")?.to_owned(),
            built,
        })
    }

    /// A path in the project's folder.
    pub(crate) fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.root.join(relative)
    }

    /// The target folder of cargo.
    pub(crate) fn target(&self) -> &Path {
        &self.target
    }

    /// A cargo command in the project's folder, without the variables that cargo set for this program.
    pub(crate) fn cargo(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command
            .current_dir(&self.root)
            .stdin(Stdio::null())
            .args(arguments);
        for (name, _) in std::env::vars_os() {
            let set_by_cargo = name
                .to_str()
                .is_some_and(|name| name.starts_with("CARGO_PKG_") || name == "CARGO_MANIFEST_DIR");
            if set_by_cargo {
                command.env_remove(name);
            }
        }
        command
    }

    /// Builds a program of a crate in the dev profile, unless all programs are built already. Returns its path.
    pub(crate) fn build(&self, package: &str, name: &str) -> Result<PathBuf> {
        if !self.built {
            let mut command = self.cargo(["build", "--quiet", "--locked"]);
            command.args(["--package", package, "--bin", name]);
            let status = command.status().context("can't start cargo")?;
            ensure!(status.success(), "`{}` failed: {status}", show(&command));
        }
        let file = format!("{name}{}", std::env::consts::EXE_SUFFIX);
        let program = self.target.join("debug").join(file);
        if !program.is_file() {
            bail!("{} is not built", program.display());
        }
        Ok(program)
    }
}

/// Runs a command and returns its standard output; its standard error is shown. If it fails, the error has both.
pub(crate) fn printed(command: &mut Command) -> Result<String> {
    let shown = show(command);
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("can't start `{shown}`"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "`{shown}`: {}\n{text}", output.status);
    Ok(text)
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
