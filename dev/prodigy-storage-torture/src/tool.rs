//! The real binary, run as a user would, with folders and an environment of its own.

use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result, anyhow};

use crate::project::{Project, show};

/// The tool with a store.
#[derive(Clone, Debug)]
pub(crate) struct Tool {
    binary: PathBuf,
    home: PathBuf,
    base: PathBuf,
    folder: PathBuf,
    variables: Vec<(String, String)>,
}

/// The result of a run.
#[derive(Debug)]
pub(crate) struct Answer {
    shown: String,
    status: ExitStatus,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

/// Builds the tool in the dev profile and returns its path.
pub(crate) fn build(project: &Project) -> Result<PathBuf> {
    project.build("prodigy-storage-cli", "prodigy-storage")
}

/// Gives a command a home of its own, and none of the user's settings.
pub(crate) fn own_environment(command: &mut Command, home: &Path) {
    for (name, _) in std::env::vars_os() {
        let theirs = name
            .to_str()
            .is_some_and(|name| name.starts_with("PRODIGY") || name.starts_with("GIT_"));
        if theirs {
            command.env_remove(name);
        }
    }
    command
        .env("HOME", home)
        .env("XDG_CONFIG_HOME", home.join(".config"));
}

impl Tool {
    /// The tool with the store `store` in a folder, and the home folder `home` beside it.
    pub(crate) fn new(binary: &Path, folder: &Path) -> Result<Self> {
        let home = folder.join("home");
        std::fs::create_dir_all(&home).with_context(|| format!("can't make {}", home.display()))?;
        let (binary, base) = (binary.to_owned(), folder.join("store"));
        Ok(Self {
            binary,
            home,
            base,
            folder: folder.to_owned(),
            variables: Vec::new(),
        })
    }

    /// Uses another store.
    pub(crate) fn over(mut self, base: PathBuf) -> Self {
        self.base = base;
        self
    }

    /// Sets an environment variable.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Uses another current folder.
    pub(crate) fn within(mut self, folder: &Path) -> Self {
        folder.clone_into(&mut self.folder);
        self
    }

    /// The store's root.
    pub(crate) fn base(&self) -> &Path {
        &self.base
    }

    /// The home folder of the tool.
    pub(crate) fn home(&self) -> &Path {
        &self.home
    }

    /// The current folder of the tool.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// A command of the tool, not yet started.
    pub(crate) fn command(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
        let mut command = self.started(&self.binary);
        command.arg("--base-dir").arg(&self.base).args(arguments);
        command
    }

    /// A command of another program that links the library, with the same store, not yet started.
    pub(crate) fn command_of(&self, program: &Path) -> Command {
        let mut command = self.started(program);
        command.env("PRODIGY_STORAGE_BASE_PATH", &self.base);
        command
    }

    fn started(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        own_environment(&mut command, &self.home);
        command.current_dir(&self.folder).stdin(Stdio::null());
        for (name, value) in &self.variables {
            command.env(name, value);
        }
        command
    }

    /// Runs a command, and returns its answer.
    pub(crate) fn run(
        &self,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
        input: &[u8],
    ) -> Result<Answer> {
        finish(self.command(arguments), input)
    }

    /// Runs a command that has to succeed, and returns its output.
    pub(crate) fn done(
        &self,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
        input: &[u8],
    ) -> Result<Vec<u8>> {
        Ok(self.run(arguments, input)?.expect_code(0)?.stdout)
    }
}

/// Starts a command whose three standard streams are pipes.
pub(crate) fn start_piped(command: &mut Command) -> Result<Child> {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
        .spawn()
        .with_context(|| format!("can't start `{}`", show(command)))
}

/// Writes the input of a process in the background. With `held` the input stays open, so that the process can't finish
/// before it is killed.
pub(crate) fn feed(stdin: Option<ChildStdin>, input: Vec<u8>, held: bool) -> JoinHandle<Option<ChildStdin>> {
    thread::spawn(move || {
        let mut stdin = stdin?;
        // This fails if the process is killed meanwhile.
        let _ = stdin.write_all(&input);
        held.then_some(stdin)
    })
}

/// Runs a command with this input, and collects its output.
pub(crate) fn finish(mut command: Command, input: &[u8]) -> Result<Answer> {
    let shown = show(&command);
    let mut child = start_piped(&mut command)?;
    let stdin = child.stdin.take();
    let output = thread::scope(|scope| {
        scope.spawn(move || {
            // A process that ends without reading all input reports the reason itself.
            stdin.map(|mut stdin| stdin.write_all(input))
        });
        child.wait_with_output()
    })
    .with_context(|| format!("can't wait for `{shown}`"))?;
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    Ok(Answer {
        shown,
        status: output.status,
        stdout: output.stdout,
        stderr,
    })
}

impl Answer {
    /// The exit code; `None` if a signal ended the process.
    pub(crate) fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// The signal that ended the process; `None` if it ended by itself.
    pub(crate) fn signal(&self) -> Option<i32> {
        std::os::unix::process::ExitStatusExt::signal(&self.status)
    }

    /// Fails, with the output of the process, unless it ended with this code.
    pub(crate) fn expect_code(self, wanted: i32) -> Result<Self> {
        if self.code() == Some(wanted) {
            return Ok(self);
        }
        Err(self.unexpected(&format!("exit code {wanted}")))
    }

    /// Expects success, or exit code 4 of a command that names a job of which nothing is stored.
    pub(crate) fn expect_found(self) -> Result<Self> {
        match self.code() {
            Some(4) if self.stdout.is_empty() => Ok(self),
            _ => self.expect_code(0),
        }
    }

    /// An error with the expected and the actual end.
    pub(crate) fn unexpected(&self, wanted: &str) -> anyhow::Error {
        let said: String = self.stderr.chars().take(2_000).collect();
        anyhow!(
            "`{}`: wanted {wanted}, it ended with {}\n{said}",
            self.shown,
            self.status
        )
    }

    /// The error messages that the process printed, one per line, including those in the answers of `torture-served`.
    pub(crate) fn errors(&self) -> String {
        let told = self.stderr.lines().filter(|line| line.starts_with("error: "));
        let mut errors: Vec<String> = told.map(str::to_owned).collect();
        for line in self.lines().filter(|line| line.starts_with(b"failed ")) {
            errors.push(String::from_utf8_lossy(line).into_owned());
        }
        errors.join("\n")
    }

    /// The lines that the process printed to standard output.
    pub(crate) fn lines(&self) -> impl Iterator<Item = &[u8]> {
        lines(&self.stdout)
    }
}

/// The lines of a text, without their ends; empty lines are skipped.
pub(crate) fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty())
}
