//! Limits of a process (file size, open files, permissions), and full disks.
//!
//! The scenarios are the same as for the kills. The tool must end with the right kind of error, or by the signal that the
//! limit sends. Acknowledged data is stored, and the next process without the limit continues.

mod full;
mod mount;
mod reading;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::pool;
use super::scenario::{self, Prepared, Scenario};
use super::section::{Lab, Tally};
use super::strace::started_by;
use crate::tool::{Answer, finish};

/// The signal for a file that would exceed the size limit.
const SIGXFSZ: i32 = 25;
/// An upper bound on the size of a scenario's files.
const LONGEST: usize = 9_000;
/// The tried limits on open files. The lowest ones do not suffice to start the program, and no scenario needs the
/// highest.
const FILES: std::ops::Range<usize> = 4..20;
/// The number of limits of each kind that a scenario is run under, in the full form; `QUICK` in the short form.
const FULL: usize = 12;
const QUICK: usize = 1;
/// Mounts a folder over itself read-only, for one command in a mount namespace of its own.
const READ_ONLY: &str = r#"mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@""#;
/// The user and group `nobody`.
const NOBODY: &str = "65534";

/// A command that starts another one under a limit, and the expected outcomes.
#[derive(Debug)]
struct Limit {
    what: &'static str,
    value: String,
    outer: Vec<String>,
    words: &'static [&'static str],
    signal: Option<i32>,
    /// True if the command can't succeed under the limit.
    hopeless: bool,
}

/// Runs every scenario under every limit, then the cases with full disks.
pub(super) fn run(lab: &Lab<'_>) -> Result<Tally> {
    let mut tally = Tally::default();
    full::run(lab, &mut tally).context("full disks")?;
    let lacking = Lacking::find();
    for why in lacking.messages() {
        tally.skip(why);
    }
    // Another user needs access to the path of the store.
    for folder in lab.scratch.ancestors().take(1).chain(lab.binary.parent()) {
        std::fs::set_permissions(folder, PermissionsExt::from_mode(0o755))?;
    }
    reading::run(lab, &lacking, &mut tally).context("reading where nothing can be written")?;
    for (number, scenario) in scenario::all().enumerate() {
        let folder = lab.folder(&format!("{number:02}"))?;
        let prepared = scenario.prepared(lab, &folder)?;
        let limits = limits(lab, scenario, &lacking);
        let numbered: Vec<_> = limits.iter().enumerate().collect();
        let felt = pool::each(&numbered, |(number, limit)| trial(&prepared, *number, limit))
            .with_context(|| format!("scenario `{}`", scenario.name))?;
        for limit in &limits {
            tally.add(limit.what, 1_u64);
        }
        println!(
            "  {:<60} {:>4} limits, {:>4} felt",
            scenario.name,
            limits.len(),
            felt.iter().filter(|felt| **felt).count()
        );
    }
    Ok(tally)
}

/// The limits that this machine can't set.
#[derive(Debug)]
struct Lacking {
    prlimit: Option<String>,
    unshare: Option<String>,
    setpriv: Option<String>,
}

impl Lacking {
    fn find() -> Self {
        let probe = |what: &str, words: &[&str]| {
            let (program, arguments) = words.split_first()?;
            let why = match Command::new(program).args(arguments).output() {
                Ok(output) if output.status.success() => return None,
                Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
                Err(error) => error.to_string(),
            };
            Some(format!("{what}: `{program}` does not work here: {why}"))
        };
        let read_only = ["unshare", "-m", "sh", "-c", READ_ONLY, "/tmp", "true"];
        let nobody = [
            "setpriv",
            "--reuid",
            NOBODY,
            "--regid",
            NOBODY,
            "--clear-groups",
            "true",
        ];
        Self {
            prlimit: probe("limits of a process", &["prlimit", "--fsize=1000", "--", "true"]),
            unshare: probe("a read-only mount", &read_only),
            setpriv: probe("another user", &nobody),
        }
    }

    fn messages(&self) -> impl Iterator<Item = String> {
        [&self.prlimit, &self.unshare, &self.setpriv]
            .into_iter()
            .flatten()
            .cloned()
    }
}

fn limits(lab: &Lab<'_>, scenario: &Scenario, lacking: &Lacking) -> Vec<Limit> {
    let mut random = lab.random(scenario.name);
    let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
    let mut limits = Vec::new();
    for _ in 0..if lab.quick { QUICK } else { FULL } {
        if lacking.prlimit.is_some() {
            break;
        }
        let (size, files) = (random.usize(1..LONGEST), random.usize(FILES));
        let limited = format!("--fsize={size}");
        limits.push(Limit {
            what: "limits of the size of a file, and death by its signal",
            value: size.to_string(),
            outer: words(&["prlimit", &limited, "--"]),
            // A write that crosses the limit stores only a part, so its outcome is unknown.
            words: &["disk space full", "outcome unknown"],
            signal: Some(SIGXFSZ),
            hopeless: false,
        });
        limits.push(Limit {
            what: "limits of the size of a file, the signal ignored",
            value: size.to_string(),
            outer: words(&[
                "sh",
                "-c",
                r#"trap "" XFSZ; exec "$@""#,
                "sh",
                "prlimit",
                &limited,
                "--",
            ]),
            words: &["disk space full", "outcome unknown", "File too large"],
            signal: None,
            hopeless: false,
        });
        limits.push(Limit {
            what: "limits of open files",
            value: files.to_string(),
            outer: words(&["prlimit", &format!("--nofile={files}"), "--"]),
            words: &["too many files are open", "Too many open files"],
            signal: None,
            hopeless: false,
        });
    }
    if lacking.unshare.is_none() {
        limits.push(Limit {
            what: "writes to a read-only mount, refused",
            value: String::new(),
            outer: words(&["unshare", "-m", "sh", "-c", READ_ONLY]),
            words: &["storage directory not writable"],
            signal: None,
            hopeless: true,
        });
    }
    if lacking.setpriv.is_none() {
        limits.push(Limit {
            what: "writes by another user, refused",
            value: String::new(),
            outer: words(&["setpriv", "--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"]),
            words: &["storage directory not writable"],
            signal: None,
            hopeless: true,
        });
    }
    limits
}

/// Runs a scenario under a limit, and checks it. Returns true if the limit had an effect.
fn trial(prepared: &Prepared<'_>, number: usize, limit: &Limit) -> Result<bool> {
    let place = format!("{} {}", limit.what, limit.value);
    let trial = prepared.trial(&number.to_string())?;
    let base = trial.scene.tool.base();
    let mut words = limit.outer.iter();
    let mut outer = Command::new(words.next().context("a limit is a command")?);
    outer.args(words);
    if limit.words == ["storage directory not writable"] {
        make_base(base)?;
    }
    if limit.outer.iter().any(|word| word == READ_ONLY) {
        outer.arg(base);
    }
    let answer = finish(started_by(outer, &trial.command()), &trial.act.input)?;
    let felt = judge(&answer, limit).with_context(|| place.clone())?;
    trial
        .check(&answer)
        .with_context(|| format!("{place}; it had said: {}", answer.stderr))?;
    Ok(felt)
}

/// Creates the root, so that it can be mounted or made inaccessible.
fn make_base(base: &Path) -> Result<()> {
    if !base.exists() {
        std::fs::create_dir_all(base)?;
        std::fs::set_permissions(base, PermissionsExt::from_mode(0o700))?;
    }
    Ok(())
}

fn judge(answer: &Answer, limit: &Limit) -> Result<bool> {
    let said = answer.errors();
    ensure!(
        !answer.stderr.contains("panicked"),
        "{}",
        answer.unexpected("no panic")
    );
    if let Some(signal) = answer.signal() {
        ensure!(
            limit.signal == Some(signal),
            "{}",
            answer.unexpected("an end of its own")
        );
        return Ok(true);
    }
    if answer.code() == Some(0) && said.is_empty() {
        ensure!(!limit.hopeless, "it succeeded where nothing can be written");
        return Ok(false);
    }
    // Exit code 126: `lock run` could not start its command.
    ensure!(
        matches!(answer.code(), Some(0 | 1 | 126)),
        "{}",
        answer.unexpected("success, exit code 1 or 126")
    );
    ensure!(
        limit.words.iter().any(|words| said.contains(words)),
        "it says none of {:?}: {}",
        limit.words,
        answer.stderr
    );
    Ok(true)
}
