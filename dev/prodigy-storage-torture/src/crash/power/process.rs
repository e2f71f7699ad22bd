//! A process whose input, output and end are handled at the same time.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};

use super::disk::quietly;
use crate::project::show;
use crate::tool::{feed, start_piped};

/// The longest wait for a process to end or to print another line.
const PATIENCE: Duration = Duration::from_secs(90);
/// The pause between two checks.
const PAUSE: Duration = Duration::from_millis(1);

/// A running process, and the threads that write its input and read its output.
#[derive(Debug)]
pub(crate) struct Process {
    shown: String,
    child: Child,
    printed: Arc<AtomicUsize>,
    feeder: JoinHandle<Option<ChildStdin>>,
    output: JoinHandle<Vec<u8>>,
    complaints: JoinHandle<Vec<u8>>,
}

/// The output of a process that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    shown: String,
    /// The exit code; `None` if a signal ended the process.
    pub(crate) code: Option<i32>,
    stdout: Vec<u8>,
    /// The standard error of the process.
    pub(crate) stderr: String,
}

/// The number of lines that a process had printed at some moment, and whether it had ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    lines: usize,
    ended: bool,
}

/// The outcome of a process's work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The process reported success.
    Done,
    /// Unknown: the process was killed.
    Unclear,
}

impl Process {
    /// Starts a process. If `held` is true, its input stays open after the last line.
    pub(crate) fn start(mut command: Command, input: Vec<u8>, held: bool) -> Result<Self> {
        let shown = show(&command);
        let mut child = start_piped(command.process_group(0))?;
        let feeder = feed(child.stdin.take(), input, held);
        let printed = Arc::new(AtomicUsize::new(0));
        let output = collect(child.stdout.take(), Arc::clone(&printed));
        let complaints = collect(child.stderr.take(), Arc::default());
        Ok(Self {
            shown,
            child,
            printed,
            feeder,
            output,
            complaints,
        })
    }

    /// Waits for the end of the process. If that takes too long, kills it with all its children, and fails.
    pub(crate) fn wait(&mut self) -> Result<()> {
        self.wait_until(|_| false)
    }

    /// Waits until the process has printed `lines` lines or has ended.
    pub(crate) fn wait_for_lines(&mut self, lines: usize) -> Result<()> {
        self.wait_until(|printed| printed >= lines)
    }

    /// Waits until the process has ended, at most for `time`.
    pub(crate) fn wait_for(&mut self, time: Duration) -> Result<()> {
        let begun = Instant::now();
        self.wait_until(|_| begun.elapsed() >= time)
    }

    fn wait_until(&mut self, holds: impl Fn(usize) -> bool) -> Result<()> {
        let (mut answered, mut seen) = (Instant::now(), 0);
        while self.child.try_wait()?.is_none() {
            let printed = self.printed.load(Ordering::Acquire);
            if holds(printed) {
                break;
            }
            if printed > seen {
                (answered, seen) = (Instant::now(), printed);
            }
            if answered.elapsed() > PATIENCE {
                let id = self.child.id();
                let threads = threads(id);
                let group = format!("-{id}");
                quietly(Command::new("kill").args(["-9", "--", &group]))?;
                self.child.wait()?;
                bail!(
                    "`{}` neither ends nor answers for {PATIENCE:?}: it printed {printed} lines, its threads are\n{threads}",
                    self.shown
                );
            }
            thread::sleep(PAUSE);
        }
        Ok(())
    }

    /// The process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Stops the process and all its children for a while. Does nothing if it has ended.
    pub(crate) fn stop_for(&mut self, time: Duration) -> Result<()> {
        let group = format!("-{}", self.child.id());
        let signal = |signal: &str| quietly(Command::new("kill").args([signal, "--", &group]));
        if self.child.try_wait()?.is_none() {
            signal("-STOP")?;
            thread::sleep(time);
            signal("-CONT")?;
        }
        Ok(())
    }

    /// The number of lines printed so far, and whether the process has ended.
    pub(crate) fn now(&mut self) -> Result<Moment> {
        let ended = self.child.try_wait()?.is_some();
        let lines = self.printed.load(Ordering::Acquire);
        Ok(Moment { lines, ended })
    }

    /// Kills the process if it is still running, and returns its output.
    pub(crate) fn end(mut self) -> Result<Ended> {
        self.child.kill().context("can't kill it")?;
        let status = self.child.wait().context("can't wait for it")?;
        self.feeder.join().map_err(|_| anyhow!("the feeder panicked"))?;
        let text = |reader: JoinHandle<Vec<u8>>| reader.join().map_err(|_| anyhow!("a reader panicked"));
        Ok(Ended {
            shown: self.shown,
            code: status.code(),
            stdout: text(self.output)?,
            stderr: String::from_utf8_lossy(&text(self.complaints)?).into_owned(),
        })
    }
}

impl Ended {
    /// The complete lines of the process's output.
    pub(crate) fn lines(&self) -> impl Iterator<Item = &[u8]> {
        let whole = self.stdout.iter().rposition(|byte| *byte == b'\n');
        crate::tool::lines(self.stdout.get(..whole.unwrap_or_default()).unwrap_or_default())
    }

    /// Removes the output after a moment, and the exit code if the process was still running then.
    pub(crate) fn until(mut self, moment: Moment) -> Self {
        if !moment.ended {
            self.code = None;
            let ends = self.stdout.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
            let end = match moment.lines.checked_sub(1) {
                Some(last) => ends.map(|(at, _)| at + 1).nth(last),
                None => Some(0),
            };
            self.stdout.truncate(end.unwrap_or(usize::MAX));
        }
        self
    }

    /// The outcome, by the exit code. A failure or a panic is an error.
    pub(crate) fn outcome(&self) -> Result<Outcome> {
        ensure!(
            !self.stderr.contains("panicked"),
            "{}",
            self.unexpected("no panic")
        );
        match self.code {
            Some(0) => Ok(Outcome::Done),
            None => Ok(Outcome::Unclear),
            Some(_) => Err(self.unexpected("success")),
        }
    }

    /// An error with the expected and the actual end.
    pub(crate) fn unexpected(&self, wanted: &str) -> anyhow::Error {
        let said: String = self.stderr.chars().take(2_000).collect();
        let code = self.code;
        anyhow!(
            "`{}`: wanted {wanted}, it ended with {code:?}: {said}",
            self.shown
        )
    }
}

/// Each thread of a process, as Linux shows it: its name and state, the kernel function in which it waits, its system
/// call, and the file of the descriptor that is the call's first argument.
fn threads(process: u32) -> String {
    let folder = PathBuf::from(format!("/proc/{process}/task"));
    let read = |path: PathBuf| std::fs::read_to_string(path).unwrap_or_default();
    let threads = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let shown = threads.map(|thread| {
        let thread = thread.path();
        let stat = read(thread.join("stat"));
        let state: String = stat.split_inclusive(' ').skip(1).take(2).collect();
        let call = read(thread.join("syscall"));
        let descriptor = call.split(' ').nth(1).and_then(|word| word.strip_prefix("0x"));
        let descriptor = descriptor.and_then(|hex| u64::from_str_radix(hex, 16).ok());
        let file = descriptor.and_then(|number| std::fs::read_link(thread.join(format!("fd/{number}"))).ok());
        let waits = read(thread.join("wchan"));
        format!("  {state}in {waits}, call {} file {file:?}\n", call.trim())
    });
    shown.collect()
}

/// Reads a pipe to its end, and counts lines meanwhile.
fn collect(pipe: Option<impl Read + Send + 'static>, lines: Arc<AtomicUsize>) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut text = Vec::new();
        let Some(pipe) = pipe else { return text };
        let mut reader = BufReader::new(pipe);
        while reader.read_until(b'\n', &mut text).is_ok_and(|bytes| bytes > 0) {
            if text.ends_with(b"\n") {
                lines.fetch_add(1, Ordering::Release);
            }
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::{Outcome, Process};

    #[test]
    fn what_was_printed_before_the_death_counts_and_half_a_line_does_not() {
        let mut command = Command::new("sh");
        command.args(["-c", "read a; echo $a; read b; echo $b; printf half; read c"]);
        let mut process = Process::start(command, b"one\ntwo\n".to_vec(), true).unwrap();
        process.wait_for_lines(2).unwrap();
        let ended = process.end().unwrap();
        assert_eq!(ended.outcome().unwrap(), Outcome::Unclear);
        assert_eq!(ended.lines().collect::<Vec<_>>(), [b"one", b"two"]);
    }

    #[test]
    fn what_came_after_a_moment_is_not_known() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo one; read a; echo two"]);
        let mut process = Process::start(command, Vec::new(), true).unwrap();
        process.wait_for_lines(1).unwrap();
        let moment = process.now().unwrap();
        let mut ended = process.end().unwrap();
        ended.stdout = b"one\ntwo\n".to_vec();
        ended.code = Some(0);
        let ended = ended.until(moment);
        assert_eq!(ended.lines().collect::<Vec<_>>(), [b"one"]);
        assert_eq!(ended.outcome().unwrap(), Outcome::Unclear);
    }

    #[test]
    fn one_that_fails_is_an_error_and_one_that_ends_is_done() {
        let run = |script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            let mut process = Process::start(command, Vec::new(), false).unwrap();
            process.wait().unwrap();
            process.end().unwrap().outcome()
        };
        assert_eq!(run("exit 0").unwrap(), Outcome::Done);
        assert!(
            run("echo gone >&2; exit 7")
                .unwrap_err()
                .to_string()
                .contains("gone")
        );
        assert!(run("echo panicked at >&2").is_err());
    }
}
