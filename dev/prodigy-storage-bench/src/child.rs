//! Child processes: this program started again, with a task as JSON.
//!
//! A child prepares, prints `ready`, waits for a line, works, and prints its report. Then it waits for another line or
//! the end of its input, so that the cost of its exit is not measured as part of other processes' time.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use prodigy_storage::{Cursor, Durability, EventId, Select};
use serde::{Deserialize, Serialize};

use crate::clock::per_operation;
use crate::event::{Event, Source};
use crate::raw::Appender;
use crate::rows::{dlq, follow};
use crate::{memory, store};

/// The hidden command-line argument with which this program is started as a child.
pub(crate) const ARGUMENT: &str = "child";

/// The work that a child process does.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Task {
    /// Appends events by number to the log of the store in a folder.
    Append { folder: PathBuf, events: Events },
    /// Appends the complete lines of events to a file.
    Bare {
        path: PathBuf,
        events: Events,
        /// True if the file is locked for each line.
        lock: bool,
    },
    /// For each line of its input, appends the events that the line asks for.
    InTurns { folder: PathBuf, seed: u64 },
    /// Reads the log of the store in a folder, and reports its memory and descriptors.
    Scan { folder: PathBuf },
    /// For each line of its input, takes ten items from the queue of the store in a folder and acknowledges them.
    Cycles { folder: PathBuf },
    /// Empties the queue of the store in a folder; reports the number of items that were done.
    Redrive { folder: PathBuf },
    /// Takes one item from the queue of the store in a folder; reports the time from opening the store.
    FirstTake { folder: PathBuf },
    /// Follows the log of the store in a folder until it has this number of events.
    Follow { folder: PathBuf, events: usize },
    /// Follows the log of the store in a folder while nothing is appended.
    Idle { folder: PathBuf },
    /// Reads the event after a cursor in the log of the store in a folder.
    Resume { folder: PathBuf, cursor: Cursor },
    /// Appends one event to the log of the store in a folder.
    FirstAppend { folder: PathBuf },
    /// Appends events to the store of another project.
    #[cfg(feature = "peers")]
    Peer {
        which: crate::peers::Shared,
        folder: PathBuf,
        events: Events,
    },
}

/// The events to append.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Events {
    pub(crate) seed: u64,
    pub(crate) from: usize,
    pub(crate) count: usize,
    pub(crate) strict: bool,
}

impl Events {
    pub(crate) fn numbers(&self) -> std::ops::Range<usize> {
        self.from..self.from + self.count
    }
}

/// The report of a child.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Said {
    /// The ids of the stored events, if the task stores events.
    pub(crate) ids: Vec<EventId>,
    pub(crate) events: usize,
    /// The time in microseconds, if the child measures it.
    pub(crate) micros: f64,
    /// The largest resident memory, in MiB.
    pub(crate) resident_mib: f64,
    /// The largest number of open descriptors.
    pub(crate) descriptors: usize,
}

/// Runs a task.
pub(crate) fn run(task: &str) -> Result<()> {
    let task: Task = serde_json::from_str(task).context("can't read the task")?;
    let mut said = Said::default();
    match task {
        Task::Append { folder, events } => {
            let storage = store::open(&folder, events.strict)?;
            let log = store::job(&storage)?.events();
            let mut source = Source::new(events.seed);
            said.ids.reserve(events.count);
            // The first event opens or creates the segment, so it is not timed. For the comparison with a bare file,
            // opening the file is not timed either.
            said.ids
                .push(log.append(source.event(events.from + events.count))?);
            wait()?;
            for n in events.numbers() {
                said.ids.push(log.append(source.event(n))?);
            }
            end(&said)
        }
        Task::Bare { path, events, lock } => {
            let mut file = Appender::open(&path, events.strict)?;
            if lock {
                file = file.locked();
            }
            let mut source = Source::new(events.seed);
            file.append(0, source.event(events.from + events.count))?;
            wait()?;
            for n in events.numbers() {
                file.append(n, source.event(n))?;
            }
            end(&said)
        }
        Task::InTurns { folder, seed } => in_turns(&folder, seed),
        Task::Scan { folder } => {
            let storage = store::open(&folder, false)?;
            let job = store::job(&storage)?;
            wait()?;
            for event in job.events().read::<Event>()? {
                ensure!(event?.verified, "an event has no checksum");
                // The number is a prime, so that different positions within segments are sampled.
                if said.events % 97 == 0 {
                    said.descriptors = said.descriptors.max(memory::descriptors()?);
                }
                said.events += 1;
            }
            said.resident_mib = memory::most_resident_mib()?;
            end(&said)
        }
        Task::Cycles { folder } => cycles(&folder),
        Task::Redrive { folder } => {
            let storage = store::open(&folder, true)?;
            let job = store::job(&storage)?;
            wait()?;
            said.events = dlq::redrive(&job)?;
            end(&said)
        }
        Task::FirstTake { folder } => {
            wait()?;
            let began = Instant::now();
            let storage = store::open(&folder, true)?;
            let job = store::job(&storage)?;
            let taken = job.dlq().take(&Select::eligible(), 1, dlq::LEASE)?;
            said.micros = per_operation(began, 1);
            said.events = taken.len();
            said.resident_mib = memory::most_resident_mib()?;
            let tokens: Vec<_> = taken.iter().map(|taken| taken.token().clone()).collect();
            job.dlq().release(&tokens, Duration::ZERO)?;
            end(&said)
        }
        Task::Follow { folder, events } => end(&follow::follow(&folder, events, wait)?),
        Task::Idle { folder } => end(&follow::idle_child(&folder, wait)?),
        Task::Resume { folder, cursor } => end(&follow::resume_child(&folder, cursor, wait)?),
        Task::FirstAppend { folder } => end(&follow::append_child(&folder, wait)?),
        #[cfg(feature = "peers")]
        Task::Peer {
            which,
            folder,
            events,
        } => {
            let mut peer = which.open(&folder, events.strict)?;
            let mut source = Source::new(events.seed);
            let warm = events.from + events.count;
            peer.append(warm, source.event(warm))?;
            wait()?;
            for n in events.numbers() {
                peer.append(n, source.event(n))?;
            }
            end(&said)
        }
    }
}

/// For each line `from count` of the input, appends these events. Ends with the input.
fn in_turns(folder: &std::path::Path, seed: u64) -> Result<()> {
    let mut config = store::config(&folder.join("root"), false);
    config.file.max_file_size = 1 << 40;
    let storage = prodigy_storage::Storage::with_config(config)?;
    let log = store::job(&storage)?.events();
    let mut source = Source::new(seed);
    say("ready")?;
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let (from, count) = line.split_once(' ').context("a turn is two numbers")?;
        let from: usize = from.parse()?;
        let mut batch = prodigy_storage::Batch::new();
        for n in from..from + count.parse::<usize>()? {
            batch.push(source.event(n))?;
        }
        log.append_prepared(&mut batch, Some(Durability::Relaxed))?;
        say("done")?;
    }
    Ok(())
}

fn cycles(folder: &std::path::Path) -> Result<()> {
    let storage = store::open(folder, true)?;
    let job = store::job(&storage)?;
    say("ready")?;
    for line in std::io::stdin().lock().lines() {
        line?;
        let taken = job.dlq().take(&Select::eligible(), dlq::TAKEN, dlq::LEASE)?;
        ensure!(taken.len() == dlq::TAKEN, "{} items were taken", taken.len());
        let tokens: Vec<_> = taken.iter().map(|taken| taken.token().clone()).collect();
        dlq::acknowledge(&job, &tokens)?;
        say("done")?;
    }
    Ok(())
}

fn say(what: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{what}")?;
    Ok(out.flush()?)
}

fn wait() -> Result<()> {
    say("ready")?;
    let mut line = String::new();
    ensure!(std::io::stdin().read_line(&mut line)? > 0, "never told to begin");
    Ok(())
}

fn end(said: &Said) -> Result<()> {
    say("done")?;
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    say(&serde_json::to_string(said)?)
}

/// A child that was started.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Process {
    /// Starts a child, and waits until it is ready.
    pub(crate) fn start(task: &Task) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg(ARGUMENT)
            .arg(serde_json::to_string(task)?)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("can't start this program again")?;
        let input = child.stdin.take().context("a child without input")?;
        let output = child.stdout.take().context("a child without output")?;
        let mut process = Self {
            child,
            input,
            output: BufReader::new(output),
        };
        process.expect_line("ready")?;
        Ok(process)
    }

    /// Sends a line to the child.
    pub(crate) fn send_line(&mut self, line: &str) -> Result<()> {
        self.input.write_all(format!("{line}\n").as_bytes())?;
        Ok(self.input.flush()?)
    }

    /// Waits for a line, and fails if it differs from the wanted one.
    pub(crate) fn expect_line(&mut self, wanted: &str) -> Result<()> {
        let line = self.line()?;
        ensure!(line == wanted, "a child said `{line}` instead of `{wanted}`");
        Ok(())
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }

    /// Reads the child's report, and ends it.
    pub(crate) fn said(mut self) -> Result<Said> {
        self.send_line("say")?;
        let line = self.line()?;
        self.finish()?;
        serde_json::from_str(&line).with_context(|| format!("a child said `{line}`"))
    }

    /// Closes the child's input, and waits for its exit.
    pub(crate) fn finish(self) -> Result<()> {
        let Self {
            mut child,
            input,
            output,
        } = self;
        drop((input, output));
        let status = child.wait()?;
        ensure!(status.success(), "a child ended with {status}");
        Ok(())
    }
}

/// Starts a child for each task, and lets all of them work from the same moment. Returns the elapsed microseconds
/// divided by `operations`, and the children's reports.
pub(crate) fn together(tasks: &[Task], operations: usize) -> Result<(f64, Vec<Said>)> {
    let mut children = tasks.iter().map(Process::start).collect::<Result<Vec<_>>>()?;
    let began = Instant::now();
    for child in &mut children {
        child.send_line("go")?;
    }
    for child in &mut children {
        child.expect_line("done")?;
    }
    let took = per_operation(began, operations);
    let said = children
        .into_iter()
        .map(Process::said)
        .collect::<Result<Vec<_>>>()?;
    Ok((took, said))
}
