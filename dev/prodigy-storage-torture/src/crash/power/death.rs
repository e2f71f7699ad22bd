//! Ends a process and cuts the power.

use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::Result;

use super::disk::Disk;
use super::process::{Ended, Outcome, Process};
use super::scene::Launch;

/// The time for which a process still runs after the power was cut, until it is killed.
const AFTERLIFE: Duration = Duration::from_millis(4);

/// The moment at which a process is killed, and the power is cut.
#[derive(Clone, Debug)]
pub(crate) enum Death {
    /// At the n-th system call of this name, which is not made. Needs `strace`.
    Call { name: String, number: u64 },
    /// After this duration.
    After(Duration),
    /// The power is cut after this duration, and the process is killed a moment later. Only acknowledgements before the
    /// cut count: when ext4 and XFS are shut down during a sync, they may report success and store nothing, as a bare
    /// loop of `pwrite` and `fdatasync` shows. In a real power loss no process survives to receive that answer.
    Powerless(Duration),
    /// When the process has ended by itself.
    AtItsEnd,
    /// The power is cut when the process has printed this number of lines and waits for more input; then it is killed.
    Lines(usize),
}

impl Death {
    /// True if the process is still running when the power is cut.
    const fn is_survived(&self) -> bool {
        matches!(self, Self::Powerless(_) | Self::Lines(_))
    }

    /// The outcome of a process with this end. A failure before the cut is an error.
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

/// Runs a process until its death, and cuts the power. Returns when the power is back.
///
/// If the process is to die at a system call, its input is closed after the last line: it may never reach that call,
/// and then ends by itself.
pub(crate) fn lose(launch: Launch, death: &Death, disk: &mut Disk) -> Result<Ended> {
    let ended = run(launch, death, disk);
    // The power is cut even after a failure, so that the disk is in the expected state.
    if !death.is_survived() {
        disk.cut()?;
    }
    disk.restore()?;
    ended
}

/// Runs several processes, cuts the power after `time`, and kills them a moment later.
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

/// The command, started under `strace`, which injects faults into some of its calls.
pub(crate) fn traced(command: &Command, calls: &str, inject: &str) -> Command {
    let words = ["-e", &format!("trace={calls}"), "-e", &format!("inject={inject}")];
    under_strace(command, Path::new("/dev/null"), &words)
}

/// The command, started under `strace`, which writes its trace to a file.
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
