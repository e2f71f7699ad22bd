//! A scene that appends events: the acknowledged ones must exist after a power loss.

use std::collections::HashMap;
use std::process::Command;

use anyhow::{Context, Result, bail};
use prodigy_storage_backend::reference;
use uuid::Uuid;

use super::death::Death;
use super::lost::lost;
use super::process::Ended;
use super::scene::{Launch, Scene};
use crate::input::{Input, joined, same_value, with_id};
use crate::segment;
use crate::tool::Tool;

/// The repository of all scenes' data.
pub(crate) const REPO: &str = "power";
/// The number of lines that a process gets: few, so that a process can be stopped at each of its calls.
const LINES: usize = 60;

/// The expected log of a job.
#[derive(Debug)]
pub(crate) struct Log<'a> {
    input: &'a Input,
    tool: Tool,
    job: &'static str,
    /// The acknowledged events, each with its position in the input.
    log: reference::Log<Uuid, usize>,
    /// The ids under which lines were sent, by position in the input.
    given: HashMap<usize, Uuid>,
    /// The position in the input of the first line that was not acknowledged.
    next: usize,
    /// True if the running process was given ids.
    with_ids: bool,
}

impl<'a> Log<'a> {
    /// A log in the tool's store, without events.
    pub(crate) fn new(tool: Tool, input: &'a Input, job: &'static str) -> Self {
        Self {
            input,
            tool,
            job,
            log: reference::Log::default(),
            given: HashMap::new(),
            next: 0,
            with_ids: false,
        }
    }

    /// The next lines of the input, to be sent without ids.
    pub(crate) fn lines(&self, number: usize) -> Vec<u8> {
        joined((self.next..self.next + number).map(|position| self.input.at(position)))
    }

    /// The next lines of the input with ids. A line that was sent before keeps its id.
    fn lines_with_ids(&mut self) -> Vec<u8> {
        let mut text = Vec::new();
        for position in self.next..self.next + LINES {
            let id = *self.given.entry(position).or_insert_with(Uuid::now_v7);
            text.extend_from_slice(with_id(id, self.input.at(position)).as_bytes());
            text.push(b'\n');
        }
        text
    }

    fn append(&self, batch: &str) -> Command {
        let mut command = self
            .tool
            .command(["events", "append"].iter().chain(&self.address()));
        command.args(["--ack", "--batch", batch]);
        command
    }

    fn address(&self) -> [&'static str; 4] {
        ["--repo", REPO, "--job", self.job]
    }

    /// Adds the events that a process has acknowledged, in the order of its input.
    pub(crate) fn note(&mut self, ended: &Ended) -> Result<()> {
        for line in ended.lines() {
            let id = Uuid::try_parse_ascii(line)
                .with_context(|| format!("no id was acknowledged: {}", String::from_utf8_lossy(line)))?;
            if self.with_ids && self.given.get(&self.next) != Some(&id) {
                return Err(lost(format!("{id} was acknowledged for the event behind it")));
            }
            self.log
                .store(id, self.next)
                .map_err(|error| lost(error.to_string()))?;
            self.next += 1;
        }
        Ok(())
    }
}

impl Scene for Log<'_> {
    fn begin(&mut self, random: &mut fastrand::Rng) -> Result<Launch> {
        self.with_ids = random.bool();
        let mut command = self.append(random.choice(["1", "1", "8", "64"]).unwrap_or("1"));
        let input = if self.with_ids {
            command.arg("--with-ids");
            self.lines_with_ids()
        } else {
            self.lines(LINES)
        };
        Ok(Launch {
            command,
            input,
            held: true,
        })
    }

    fn rehearse(&mut self) -> Result<Launch> {
        self.with_ids = false;
        Ok(Launch {
            command: self.append("1"),
            input: self.lines(LINES),
            held: true,
        })
    }

    fn end(&mut self, ended: &Ended, death: &Death) -> Result<()> {
        death.outcome(ended)?;
        self.note(ended)
    }

    fn check(&self) -> Result<usize> {
        let answer = self
            .tool
            .run(["events", "cat"].iter().chain(&self.address()), b"")?;
        match answer.code() {
            Some(0) => {}
            Some(4) if self.log.durable().len() == 0 => return Ok(0),
            _ => return Err(lost(answer.unexpected("all events").to_string())),
        }
        let same = |id: Uuid, position: Option<&usize>, found: &[u8]| {
            position.map_or(Ok(()), |position| {
                same_value(&id.to_string(), self.input.at(*position).as_bytes(), found)
            })
        };
        segment::events(&answer)
            .and_then(|events| self.log.check(events, same))
            .map_err(|error| lost(format!("{error:#}")))?;
        Ok(self.log.durable().len())
    }

    /// Appends an event by another process, which is not killed and repairs the log. Then checks the log's files.
    fn continue_work(&mut self) -> Result<()> {
        let address = self.address();
        let command = ["events", "append", "--ack"].iter().chain(&address);
        let answer = self.tool.run(command, &self.lines(1))?.expect_code(0)?;
        let mut lines = answer.lines();
        let (Some(id), None) = (lines.next(), lines.next()) else {
            bail!("one event was sent, and acknowledged as {:?}", answer.stdout);
        };
        self.log.store(Uuid::try_parse_ascii(id)?, self.next)?;
        self.next += 1;
        segment::check(self.tool.base(), REPO, self.job).map_err(|error| lost(format!("{error:#}")))?;
        Ok(())
    }
}
