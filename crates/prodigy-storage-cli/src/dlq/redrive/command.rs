//! Runs the command that works on one item.

use std::borrow::Cow;
use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prodigy_storage::JobAddress;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use crate::console::ready;

/// The exit code by which a command asks to release its item (`EX_TEMPFAIL` of sysexits.h).
const RELEASE: i32 = 75;
/// The interval at which the tool checks whether a command has ended, while its standard error stays open.
const LOOK: Duration = Duration::from_millis(20);
/// The number of bytes that are read from standard error at once.
const CHUNK: usize = 16 << 10;
/// The largest message of a failure: the last bytes of standard error.
const MESSAGE: usize = 2 << 10;
/// The largest number of lines of a message.
const MESSAGE_LINES: usize = 10;

/// The outcome of the work on an item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// The item is done.
    Done,
    /// The item is released.
    Release,
    /// The item failed, with the type and the message of the failure.
    Failed(String, String),
    /// The run was stopped, which ended the command.
    Stopped,
}

/// An item as its command receives it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Input<'i> {
    pub(super) id: &'i str,
    /// The number of this attempt, from 1.
    pub(super) attempt: u64,
    /// The item's data, as JSON.
    pub(super) data: &'i str,
}

/// Runs a command for each item, in its own process group.
#[derive(Debug)]
pub(super) struct Commands<'r> {
    program: &'r OsString,
    arguments: &'r [OsString],
    job: &'r JobAddress,
    /// True if the standard output of commands is read, too, and written while the progress bar is hidden.
    relays: bool,
    groups: Mutex<Groups>,
}

/// Whole lines of a command's output.
#[derive(Debug)]
pub(super) enum Lines {
    Output(Vec<u8>),
    Error(Vec<u8>),
}

#[derive(Debug, Default)]
struct Groups {
    live: HashSet<Pid>,
    /// The signal that ended the run.
    ended_by: Option<Signal>,
}

impl<'r> Commands<'r> {
    /// The program and its arguments, for items of this job. `None` if there are no words.
    pub(super) fn new(words: &'r [OsString], job: &'r JobAddress, relays: bool) -> Option<Self> {
        let (program, arguments) = words.split_first()?;
        Some(Self {
            program,
            arguments,
            job,
            relays,
            groups: Mutex::default(),
        })
    }

    pub(super) fn program(&self) -> Cow<'_, str> {
        self.program.to_string_lossy()
    }

    /// Sends a signal to every running command, and to commands that start later.
    pub(super) fn end(&self, signal: Signal) {
        let mut groups = self.groups();
        groups.ended_by = Some(signal);
        for group in &groups.live {
            // This fails only if the process group has ended.
            let _ = kill_process_group(*group, signal);
        }
    }

    /// Runs the command on an item until it ends. `said` receives its terminal output, line by line.
    ///
    /// # Errors
    /// The command can't be started.
    pub(super) fn run(&self, input: Input<'_>, said: &(dyn Fn(Lines) + Sync)) -> std::io::Result<Ended> {
        if self.groups().ended_by.is_some() {
            return Ok(Ended::Stopped);
        }
        if input.id.contains('\0') {
            let why = "its `item_id` has a NUL character, which no variable of a command can hold";
            return Ok(Ended::Failed("no variable".to_owned(), why.to_owned()));
        }
        let data = file_with(input.data).map_err(|error| {
            let folder = std::env::temp_dir();
            std::io::Error::other(format!(
                "write the item's data to a temporary file in {}: {error}",
                folder.display()
            ))
        })?;
        let mut child = Command::new(self.program)
            .args(self.arguments)
            .env("PRODIGY_ITEM_ID", input.id)
            .env("PRODIGY_ATTEMPT", input.attempt.to_string())
            .env("PRODIGY_REPO", self.job.repo.as_str())
            .env("PRODIGY_JOB", self.job.job.as_str())
            .stdin(data)
            .stdout(match self.relays {
                true => Stdio::piped(),
                false => Stdio::inherit(),
            })
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()?;
        let pid = Pid::from_child(&child);
        self.begun(pid);
        let mut tail = Tail::default();
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        std::thread::scope(|scope| {
            if let Some(stdout) = stdout {
                scope.spawn(move || read_lines(stdout, pid, |_| {}, |lines| said(Lines::Output(lines))));
            }
            if let Some(stderr) = stderr {
                let add = |read: &[u8]| tail.add(read);
                read_lines(stderr, pid, add, |lines| said(Lines::Error(lines)));
            }
        });
        let (status, stopped) = self.ended(&mut child, pid)?;
        Ok(outcome(status, stopped, &tail))
    }

    fn begun(&self, pid: Pid) {
        let mut groups = self.groups();
        groups.live.insert(pid);
        if let Some(signal) = groups.ended_by {
            let _ = kill_process_group(pid, signal);
        }
    }

    /// Waits for the end of a command. No signal is sent to its process group after the command is reaped, since the
    /// group's id may then be used again.
    fn ended(&self, child: &mut Child, pid: Pid) -> std::io::Result<(ExitStatus, bool)> {
        loop {
            match waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT) {
                Err(rustix::io::Errno::INTR) => {}
                other => {
                    other?;
                    break;
                }
            }
        }
        let stopped = {
            let mut groups = self.groups();
            groups.live.remove(&pid);
            groups.ended_by.is_some()
        };
        Ok((child.wait()?, stopped))
    }

    fn groups(&self) -> MutexGuard<'_, Groups> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A file with the data on one line, as standard input. A command may read it slowly or not at all without blocking the
/// tool.
fn file_with(data: &str) -> std::io::Result<File> {
    let mut file = tempfile::tempfile()?;
    file.write_all(data.replace(['\n', '\r'], " ").as_bytes())?;
    file.write_all(b"\n")?;
    file.rewind()?;
    Ok(file)
}

/// Reads a pipe to its end, or until the command has ended: a process that the command started may keep the pipe open.
fn read_lines(
    mut pipe: impl Read + AsFd,
    command: Pid,
    mut read_so_far: impl FnMut(&[u8]),
    said: impl Fn(Vec<u8>),
) {
    let mut lines = Vec::new();
    let mut chunk = vec![0; CHUNK];
    let mut has_ended = false;
    loop {
        let wait = if has_ended { Duration::ZERO } else { LOOK };
        if !ready(&pipe, wait) {
            if has_ended {
                break;
            }
            has_ended = is_over(command);
            continue;
        }
        match pipe.read(&mut chunk) {
            Ok(0) => break,
            Ok(count) => {
                let read = chunk.get(..count).unwrap_or_default();
                read_so_far(read);
                hand_over(&mut lines, read, &said);
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    if !lines.is_empty() {
        lines.push(b'\n');
        said(lines);
    }
}

/// True if the command has ended. Does not reap it.
fn is_over(pid: Pid) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
    matches!(waitid(WaitId::Pid(pid), options), Ok(Some(_)))
}

fn outcome(status: ExitStatus, stopped: bool, tail: &Tail) -> Ended {
    match (status.code(), status.signal()) {
        (Some(0), _) => Ended::Done,
        _ if stopped => Ended::Stopped,
        (Some(RELEASE), _) => Ended::Release,
        (Some(code), _) => Ended::Failed(
            format!("exit {code}"),
            tail.message(|| format!("the command ended with code {code}")),
        ),
        (None, signal) => {
            let signal = signal.unwrap_or_default();
            Ended::Failed(
                format!("signal {signal}"),
                tail.message(|| format!("signal {signal} ended the command")),
            )
        }
    }
}

/// Passes whole lines to `said`. Keeps the beginning of an unfinished line in `lines`; a long one is passed on
/// unfinished.
fn hand_over(lines: &mut Vec<u8>, read: &[u8], said: &impl Fn(Vec<u8>)) {
    lines.extend_from_slice(read);
    let whole = match memchr::memrchr(b'\n', lines) {
        Some(at) => at + 1,
        None if lines.len() >= CHUNK => lines.len(),
        None => return,
    };
    let rest = lines.split_off(whole);
    said(std::mem::replace(lines, rest));
}

/// The last bytes of a text.
#[derive(Debug, Default)]
struct Tail(Vec<u8>);

impl Tail {
    fn add(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
        let surplus = self.0.len().saturating_sub(MESSAGE);
        if surplus > MESSAGE {
            self.0.drain(..surplus);
        }
    }

    /// The last lines of the text, or another text if it is empty.
    fn message(&self, other: impl FnOnce() -> String) -> String {
        let surplus = self.0.len().saturating_sub(MESSAGE);
        let kept = self.0.get(surplus..).unwrap_or_default();
        let text = String::from_utf8_lossy(kept);
        // A character may have been cut; its remaining bytes are invalid UTF-8.
        let text = text.trim_start_matches('\u{fffd}').trim();
        if text.is_empty() {
            return other();
        }
        let lines: Vec<&str> = text.lines().collect();
        let from = lines.len().saturating_sub(MESSAGE_LINES);
        lines.get(from..).unwrap_or_default().join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_the_last_lines_and_never_long() {
        let mut tail = Tail::default();
        assert_eq!(tail.message(|| "other".to_owned()), "other");
        tail.add(b" \n");
        assert_eq!(tail.message(|| "other".to_owned()), "other");
        for number in 0..10_000 {
            tail.add(format!("line {number}\n").as_bytes());
            assert!(tail.0.len() <= 2 * MESSAGE + 16);
        }
        let message = tail.message(String::new);
        assert_eq!(message.lines().count(), MESSAGE_LINES);
        assert!(message.ends_with("line 9998\nline 9999"), "{message}");
        tail.add("ä".repeat(5000).as_bytes());
        let message = tail.message(String::new);
        assert!(
            message.len() <= MESSAGE && message.chars().all(|char| char == 'ä'),
            "{message}"
        );
    }
}
