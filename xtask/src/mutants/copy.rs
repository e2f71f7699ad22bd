//! The copy of the project, into which bugs are planted.

use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::bug::Bug;
use super::outcome::Outcome;
use crate::project::Project;

/// The longest time for one test.
const LONGEST: Duration = Duration::from_secs(300);

/// A copy of the project in the target folder, with a build folder of its own.
///
/// The copy is kept from run to run, and only changed files are written. So cargo rebuilds only the crates that a bug
/// changes.
#[derive(Debug)]
pub(super) struct Copy<'a> {
    project: &'a Project,
    root: PathBuf,
    build: PathBuf,
    output: PathBuf,
    /// The lock file, which is locked while the copy is in use.
    _lock: File,
}

impl<'a> Copy<'a> {
    pub(super) fn open(project: &'a Project) -> Result<Self> {
        let folder = project.target().join("mutants");
        let root = folder.join("project");
        fs::create_dir_all(&root).with_context(|| format!("can't make {}", root.display()))?;
        let lock = File::create(folder.join("lock")).context("can't make the lock of the copy")?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => bail!("another `cargo xtask mutants` is running"),
            Err(TryLockError::Error(error)) => return Err(error).context("can't lock the copy"),
        }
        Ok(Self {
            project,
            root,
            build: folder.join("build"),
            output: folder.join("output"),
            _lock: lock,
        })
    }

    /// Updates the copy from the project: all files that git tracks, and new ones that it does not ignore.
    pub(super) fn refresh(&self) -> Result<()> {
        let mut wanted = BTreeSet::new();
        for relative in self.listed()? {
            let from = self.project.path(&relative);
            let bytes = match fs::read(&from) {
                Ok(bytes) => bytes,
                // The file was deleted, but git still tracks it.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(error).with_context(|| format!("can't read {}", from.display())),
            };
            let to = self.root.join(&relative);
            if fs::read(&to).ok().as_ref() != Some(&bytes) {
                let folder = to.parent().unwrap_or(&self.root);
                fs::create_dir_all(folder)
                    .and_then(|()| fs::write(&to, bytes))
                    .with_context(|| format!("can't write {}", to.display()))?;
            }
            wanted.insert(to);
        }
        for path in files(&self.root)? {
            if !wanted.contains(&path) {
                fs::remove_file(&path).with_context(|| format!("can't remove {}", path.display()))?;
            }
        }
        Ok(())
    }

    fn listed(&self) -> Result<Vec<String>> {
        let output = Command::new("git")
            .current_dir(self.project.root())
            .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
            .stdin(Stdio::null())
            .output()
            .context("can't start git, which names the project's files")?;
        if !output.status.success() {
            bail!(
                "git can't name the project's files: {}",
                error_line(&output.stderr)
            );
        }
        let names = String::from_utf8(output.stdout).context("a file's name is not Unicode")?;
        Ok(names
            .split('\0')
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
            .collect())
    }

    /// Plants a bug in its file.
    pub(super) fn plant(&self, bug: &Bug) -> Result<()> {
        let path = self.root.join(&bug.file);
        let text = fs::read_to_string(&path).with_context(|| format!("can't read {}", path.display()))?;
        fs::write(&path, bug.plant(&text)?).with_context(|| format!("can't write {}", path.display()))
    }

    /// Compiles what `cargo test` with these arguments would run, then runs it without cargo in between, so that a
    /// hanging test can be killed.
    pub(super) fn test(&self, arguments: &[String]) -> Result<Outcome> {
        let mut words = arguments.iter();
        let building: Vec<&String> = words.by_ref().take_while(|word| *word != "--").collect();
        let built = self
            .project
            .cargo([
                "test",
                "--locked",
                "--no-run",
                "--quiet",
                "--message-format",
                "json-render-diagnostics",
            ])
            .args(building)
            .current_dir(&self.root)
            .env("CARGO_TARGET_DIR", &self.build)
            .output()
            .context("can't start cargo")?;
        if !built.status.success() {
            return Ok(Outcome::NotCompiled(error_line(&built.stderr)));
        }

        let filters: Vec<&String> = words.collect();
        let (mut passed, mut printed) = (true, String::new());
        for binary in Artifact::tests(&built.stdout)? {
            let file = File::create(&self.output).context("can't keep what the tests print")?;
            let mut command = Command::new(&binary.program);
            command
                .args(&filters)
                .current_dir(&binary.package)
                .env("CARGO_MANIFEST_DIR", &binary.package)
                .env_remove("RUST_BACKTRACE")
                .stdin(Stdio::null())
                .stdout(file)
                .stderr(Stdio::null());
            let Some(success) = wait(&mut command)? else {
                return Ok(Outcome::Hung);
            };
            passed &= success;
            let bytes = fs::read(&self.output).context("can't read what the tests printed")?;
            printed.push_str(&String::from_utf8_lossy(&bytes));
        }
        Ok(Outcome::of(passed, &printed))
    }
}

/// All files below a folder.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("can't list {}", folder.display()))? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.extend(files(&entry.path())?);
        } else {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// A test binary.
#[derive(Debug)]
struct Binary {
    program: PathBuf,
    /// The folder of its crate, where cargo runs it.
    package: PathBuf,
}

/// The fields that are read from a message of cargo.
#[derive(Debug, Deserialize)]
struct Artifact {
    manifest_path: Option<PathBuf>,
    executable: Option<PathBuf>,
    profile: Option<Profile>,
}

#[derive(Debug, Deserialize)]
struct Profile {
    test: bool,
}

impl Artifact {
    /// The test binaries that cargo built.
    fn tests(messages: &[u8]) -> Result<Vec<Binary>> {
        let mut binaries = Vec::new();
        for message in messages
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
        {
            let artifact: Self = serde_json::from_slice(message).context("can't read a message of cargo")?;
            if let (Some(program), Some(manifest)) = (artifact.executable, artifact.manifest_path)
                && artifact.profile.is_some_and(|profile| profile.test)
            {
                let package = manifest.parent().unwrap_or(&manifest).to_owned();
                binaries.push(Binary { program, package });
            }
        }
        Ok(binaries)
    }
}

/// Waits for a command; returns whether it succeeded, or `None` if it took too long and was killed.
fn wait(command: &mut Command) -> Result<Option<bool>> {
    let mut child = command.spawn().context("can't start a test")?;
    let began = Instant::now();
    loop {
        if let Some(status) = child.try_wait().context("can't wait for a test")? {
            return Ok(Some(status.success()));
        }
        if began.elapsed() > LONGEST {
            child.kill().context("can't end a test")?;
            child.wait().context("can't wait for a test")?;
            return Ok(None);
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// The first line that begins with `error`, or otherwise the first line.
fn error_line(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    let error = lines.clone().find(|line| line.starts_with("error"));
    error
        .or_else(|| lines.next())
        .unwrap_or("no reason given")
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::{Artifact, error_line};

    #[test]
    fn only_test_binaries_are_run() {
        let messages = br#"{"reason":"compiler-artifact","manifest_path":"/a/Cargo.toml","executable":"/t/a","profile":{"test":true}}
{"reason":"compiler-artifact","manifest_path":"/b/Cargo.toml","executable":"/t/b","profile":{"test":false}}
{"reason":"compiler-artifact","manifest_path":"/c/Cargo.toml","executable":null,"profile":{"test":false}}
{"reason":"build-finished","success":true}
"#;
        let tests = Artifact::tests(messages).unwrap();
        assert_eq!(tests.len(), 1);
        assert_eq!(tests[0].program.to_str(), Some("/t/a"));
        assert_eq!(tests[0].package.to_str(), Some("/a"));
    }

    #[test]
    fn the_error_is_told_before_the_warnings() {
        assert_eq!(
            error_line(b"warning: unused\n\nerror[E0308]: mismatched\n"),
            "error[E0308]: mismatched"
        );
        assert_eq!(error_line(b"\npatch does not apply\n"), "patch does not apply");
        assert_eq!(error_line(b""), "no reason given");
    }
}
