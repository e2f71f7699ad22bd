//! Runs commands under strace, which lists their system calls, and makes one of the calls fail or kill the command.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::tool::{Answer, finish};

/// The calls that concern files. Calls that the machine does not know are left out.
const CALLS: &[&str] = &[
    "chmod",
    "close",
    "fallocate",
    "fchmod",
    "fchmodat",
    "fdatasync",
    "flock",
    "fstat",
    "fstatfs",
    "fsync",
    "ftruncate",
    "getdents64",
    "linkat",
    "lstat",
    "mkdir",
    "mkdirat",
    "newfstatat",
    "open",
    "openat",
    "openat2",
    "pread64",
    "pwrite64",
    "read",
    "readlink",
    "readlinkat",
    "rename",
    "renameat",
    "renameat2",
    "stat",
    "statfs",
    "statx",
    "unlink",
    "unlinkat",
    "write",
];

/// A system call: the n-th of this name in its thread, from 1.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Point {
    /// The name of the system call.
    pub(super) call: String,
    /// The number of the call among those of this name, from 1.
    pub(super) nth: u32,
}

/// The fault that strace causes at a system call.
#[derive(Clone, Debug)]
pub(super) enum Blow {
    /// SIGKILL: the call has no effect, and no code of the process runs afterwards.
    Kill,
    /// The call is not made and returns this error; with `lasting`, so do all later calls of this name.
    Fail { error: &'static str, lasting: bool },
}

/// The reason why strace can't be used, if there is one.
pub(super) fn lacking() -> Option<String> {
    let probe = Command::new("strace")
        .args([
            "-f",
            "-qq",
            "-o",
            "/dev/null",
            "-e",
            "inject=?flock:error=EIO:when=9",
            "true",
        ])
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .output();
    match probe {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(format!(
            "strace does not work here: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )),
        Err(error) => Some(format!("strace can't be started: {error}")),
    }
}

/// Runs a command without a fault. Returns its calls on paths below `base` and on standard output.
pub(super) fn census(
    command: &Command,
    threads: bool,
    base: &Path,
    input: &[u8],
) -> Result<(Answer, BTreeSet<Point>)> {
    let trace = tempfile::NamedTempFile::new()?;
    let known: Vec<String> = CALLS.iter().map(|call| format!("?{call}")).collect();
    let options = [
        OsStr::new("-y"),
        OsStr::new("-s0"),
        OsStr::new("-o"),
        trace.path().as_os_str(),
        OsStr::new("-e"),
    ];
    let mut traced = under_strace(threads, options);
    traced.arg(format!("trace={}", known.join(","))).arg("--");
    let answer = finish(started_by(traced, command), input)?;
    let text = std::fs::read(trace.path()).context("can't read the trace")?;
    let base = base.to_string_lossy();
    Ok((answer, points(&String::from_utf8_lossy(&text), &base)))
}

/// Runs a command, with a fault at a system call.
pub(super) fn strike(
    command: &Command,
    threads: bool,
    point: &Point,
    blow: &Blow,
    input: &[u8],
) -> Result<Answer> {
    let Point { call, nth } = point;
    let what = match blow {
        Blow::Kill => format!("inject={call}:signal=SIGKILL:when={nth}"),
        Blow::Fail { error, lasting } => {
            let plus = if *lasting { "+" } else { "" };
            format!("inject={call}:error={error}:when={nth}{plus}")
        }
    };
    let options = ["-o", "/dev/null", "-e"].map(OsStr::new);
    let mut struck = under_strace(threads, options);
    struck.arg(format!("trace={call}")).args(["-e", &what, "--"]);
    finish(started_by(struck, command), input)
}

fn under_strace<'a>(threads: bool, options: impl IntoIterator<Item = &'a OsStr>) -> Command {
    let mut strace = Command::new("strace");
    strace.arg("-qq");
    if threads {
        strace.arg("-f");
    }
    strace.args(options);
    strace
}

/// A command that starts another one: the inner command is appended to its arguments, with the same environment and
/// folder.
pub(super) fn started_by(mut outer: Command, command: &Command) -> Command {
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => outer.env(name, value),
            None => outer.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        outer.current_dir(folder);
    }
    outer.arg(command.get_program()).args(command.get_args());
    outer
}

/// Parses `PID name(arguments..`; without threads there is no PID.
fn points(trace: &str, base: &str) -> BTreeSet<Point> {
    let mut seen: BTreeMap<(&str, &str), u32> = BTreeMap::new();
    let (mut points, mut others) = (BTreeSet::new(), BTreeSet::new());
    for line in trace.lines() {
        let digits = line.bytes().take_while(u8::is_ascii_digit).count();
        let (thread, rest) = line.split_at_checked(digits).unwrap_or_default();
        let Some((call, arguments)) = rest.trim_start().split_once('(') else {
            continue;
        };
        if !CALLS.contains(&call) {
            continue;
        }
        let nth = seen.entry((thread, call)).or_default();
        *nth += 1;
        let touches = arguments.contains(base) || (call == "write" && arguments.starts_with("1<"));
        let found = if touches { &mut points } else { &mut others };
        found.insert(Point {
            call: call.to_owned(),
            nth: *nth,
        });
    }
    // strace counts per thread and strikes the first thread that reaches the ordinal, so a point is left out if the
    // program's loader makes such a call.
    &points - &others
}

#[cfg(test)]
mod tests {
    use super::points;

    #[test]
    fn calls_are_counted_by_thread_and_those_on_the_store_are_kept() {
        let trace = "\
7  openat(AT_FDCWD</home>, \"/etc/ld.so.cache\", O_RDONLY) = 3</etc/ld.so.cache>
7  openat(4</s>, \".\", O_RDONLY) = 5</s/events>
8  openat(4</s>, \".\", O_RDONLY <unfinished ...>
7  fsync(5</s/events>) = 0
8  <... openat resumed>) = 6</s>
7  write(1<pipe:[1]>, \"\"..., 37) = 37
7  write(2<pipe:[1]>, \"\"..., 37) = 37
7  +++ exited with 0 +++
";
        let found: Vec<String> = points(trace, "/s")
            .iter()
            .map(|point| format!("{} {}", point.call, point.nth))
            .collect();
        assert_eq!(found, ["fsync 1", "openat 2", "write 1"]);
    }
}
