//! How a process ends, and the power with it.

use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::Result;

use super::disk::Disk;
use super::process::{Ended, Outcome, Process};
use super::scene::Launch;

/// The time that a process lives without power, before it is killed.
const AFTERLIFE: Duration = Duration::from_millis(4);

/// When a process is stopped, and the power cut.
#[derive(Clone, Debug)]
pub(crate) enum Death {
    /// When it makes a system call for the n-th time; the call is not made. Needs `strace`.
    Call { name: String, number: u64 },
    /// After this duration.
    After(Duration),
    /// The power goes after this duration, while the process lives, which is killed a moment later. What it acknowledged before
    /// that moment counts: ext4 and XFS may answer a sync that is under way when they are shut down with success, and
    /// store nothing, as a bare loop of `pwrite` and `fdatasync` shows. Where the power really goes, no process lives to
    /// see that.
    Powerless(Duration),
    /// When it has ended by itself.
    AtItsEnd,
    /// The power goes when it has printed this number of lines and waits for more; then it is killed.
    Lines(usize),
}

impl Death {
    /// Whether the process sees the power go.
    const fn is_survived(&self) -> bool {
        matches!(self, Self::Powerless(_) | Self::Lines(_))
    }

    /// The outcome of a process that ended like this. A failure with the power on is an error.
    pub(crate) fn outcome(&self, ended: &Ended) -> Result<Outcome> {
        if self.is_survived()
            && ended.code.is_some_and(|code| code != 0)
            && !ended.stderr.contains("panicked")
        {
            return Ok(Outcome::Unclear);
        }
        ended.outcome()
    }
}

/// Runs a process until its death and cuts the power; comes back with the power.
///
/// Its input has an end where it dies at a system call, which it may never come to.
pub(crate) fn lose(launch: Launch, death: &Death, disk: &mut Disk) -> Result<Ended> {
    let ended = run(launch, death, disk);
    // Also after a failure, so that the disk is as it would be.
    if !death.is_survived() {
        disk.cut()?;
    }
    disk.restore()?;
    ended
}

/// Runs several at once, and cuts the power after `time`, while they live; they are killed a moment later.
pub(crate) fn lose_all(launches: Vec<Launch>, time: Duration, disk: &mut Disk) -> Result<Vec<Ended>> {
    let started = launches
        .into_iter()
        .map(|launch| Process::start(launch.command, launch.input, launch.held));
    let mut processes: Vec<_> = started.collect::<Result<_>>()?;
    thread::sleep(time);
    let moments: Vec<_> = processes.iter_mut().map(Process::now).collect::<Result<_>>()?;
    disk.cut()?;
    thread::sleep(AFTERLIFE);
    let ended = processes.into_iter().zip(moments);
    let ended = ended
        .map(|(process, moment)| Ok(process.end()?.until(moment)))
        .collect();
    disk.restore()?;
    ended
}

fn run(launch: Launch, death: &Death, disk: &mut Disk) -> Result<Ended> {
    let command = match death {
        Death::Call { name, number } => traced(
            &launch.command,
            name,
            &format!("{name}:signal=SIGKILL:when={number}"),
        ),
        _ => launch.command,
    };
    let held = launch.held && !matches!(death, Death::Call { .. } | Death::AtItsEnd);
    let mut process = Process::start(command, launch.input, held)?;
    match death {
        Death::Call { .. } | Death::AtItsEnd => process.wait()?,
        Death::After(time) => process.wait_for(*time)?,
        Death::Powerless(time) => {
            process.wait_for(*time)?;
            let moment = process.now()?;
            disk.cut()?;
            thread::sleep(AFTERLIFE);
            return Ok(process.end()?.until(moment));
        }
        Death::Lines(lines) => {
            process.wait_for_lines(*lines)?;
            disk.cut()?;
        }
    }
    process.end()
}

/// The same command under `strace`, which tampers with some of its calls.
pub(crate) fn traced(command: &Command, calls: &str, inject: &str) -> Command {
    let words = ["-e", &format!("trace={calls}"), "-e", &format!("inject={inject}")];
    under_strace(command, Path::new("/dev/null"), &words)
}

/// The same command under `strace`, which writes what it sees to a file.
pub(crate) fn under_strace(command: &Command, file: &Path, words: &[&str]) -> Command {
    let mut traced = Command::new("strace");
    traced.args(["-f", "-qq", "-o"]).arg(file).args(words);
    traced.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => traced.env(name, value),
            None => traced.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        traced.current_dir(folder);
    }
    traced
}
