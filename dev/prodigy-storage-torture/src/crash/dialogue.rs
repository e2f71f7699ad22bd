//! A process with one handle that serves requests line by line.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, ensure};

/// A running process, with its input and output.
#[derive(Debug)]
pub(super) struct Dialogue {
    child: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Dialogue {
    /// Starts the process with this command.
    pub(super) fn start(mut command: Command) -> Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("can't start the process")?;
        let requests = child.stdin.take().context("it has no standard input")?;
        let answers = child.stdout.take().context("it has no standard output")?;
        Ok(Self {
            child,
            requests,
            answers: BufReader::new(answers),
        })
    }

    /// Sends a request, and waits for the answer.
    pub(super) fn ask(&mut self, request: &str) -> Result<String> {
        writeln!(self.requests, "{request}").context("it reads no more")?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer)?;
        ensure!(answer.ends_with('\n'), "it answers no more: {answer:?}");
        Ok(answer.trim_end().to_owned())
    }

    /// Closes the process's input, and waits until the process ends.
    pub(super) fn end(self) -> Result<()> {
        let Self {
            mut child,
            requests,
            answers,
        } = self;
        drop((requests, answers));
        let status = child.wait()?;
        ensure!(status.success(), "it ended with {status}");
        Ok(())
    }
}
