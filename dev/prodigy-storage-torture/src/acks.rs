//! A running `events append --ack`: its input, and the ids that it has acknowledged.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdin, ChildStdout, Command};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result, anyhow};
use uuid::Uuid;

use crate::tool::{feed, start_piped};

/// A process that appends and acknowledges.
#[derive(Debug)]
pub(crate) struct Appender {
    child: Child,
    acks: BufReader<ChildStdout>,
    feeder: JoinHandle<Option<ChildStdin>>,
    complaints: JoinHandle<String>,
}

/// The end of the process.
#[derive(Debug)]
pub(crate) struct End {
    /// The exit code; `None` if the process was killed.
    pub(crate) code: Option<i32>,
    /// The standard error of the process.
    pub(crate) stderr: String,
}

impl Appender {
    /// Starts the process, and writes its input in the background.
    pub(crate) fn start(command: Command, input: Vec<u8>) -> Result<Self> {
        Self::begin(command, input, false)
    }

    /// Starts a process that will be killed: its input stays open, so that it can't finish earlier.
    pub(crate) fn start_doomed(command: Command, input: Vec<u8>) -> Result<Self> {
        Self::begin(command, input, true)
    }

    fn begin(mut command: Command, input: Vec<u8>, doomed: bool) -> Result<Self> {
        let mut child = start_piped(&mut command)?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let acks = BufReader::new(stdout.context("the tool has no standard output")?);
        let feeder = feed(child.stdin.take(), input, doomed);
        let complaints = thread::spawn(move || {
            let mut text = Vec::new();
            if let Some(mut stderr) = stderr {
                let _ = stderr.read_to_end(&mut text);
            }
            String::from_utf8_lossy(&text).into_owned()
        });
        Ok(Self {
            child,
            acks,
            feeder,
            complaints,
        })
    }

    /// Waits for the next acknowledgement; `None` at the end. An incomplete line does not count.
    pub(crate) fn next(&mut self) -> Result<Option<Uuid>> {
        let mut line = Vec::new();
        self.acks
            .read_until(b'\n', &mut line)
            .context("can't read acknowledgements")?;
        let Some(text) = line.strip_suffix(b"\n") else {
            return Ok(None);
        };
        let id = Uuid::try_parse_ascii(text);
        id.map(Some)
            .with_context(|| format!("no id was acknowledged: {:?}", String::from_utf8_lossy(text)))
    }

    /// Sends SIGKILL: no code of the process runs afterwards.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.child.kill().context("can't kill the tool")
    }

    /// Reads the remaining acknowledgements, and waits for the end of the process.
    pub(crate) fn end(mut self, acknowledged: &mut Vec<Uuid>) -> Result<End> {
        while let Some(id) = self.next()? {
            acknowledged.push(id);
        }
        let status = self.child.wait().context("can't wait for the tool")?;
        self.feeder.join().map_err(|_| anyhow!("the feeder panicked"))?;
        let stderr = self
            .complaints
            .join()
            .map_err(|_| anyhow!("the reader panicked"))?;
        Ok(End {
            code: status.code(),
            stderr,
        })
    }
}

impl End {
    /// Fails unless the process succeeded.
    pub(crate) fn well(self) -> Result<()> {
        match self.code {
            Some(0) => Ok(()),
            code => Err(anyhow!("`events append` ended with {code:?}\n{}", self.stderr)),
        }
    }

    /// Fails if the process ended before it was killed.
    pub(crate) fn killed(self) -> Result<()> {
        match self.code {
            None => Ok(()),
            code => Err(anyhow!(
                "`events append` was not killed, it ended with {code:?}\n{}",
                self.stderr
            )),
        }
    }
}
