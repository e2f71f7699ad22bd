//! A scene that saves checkpoints: the latest one of a phase must be the last acknowledged one, or a later one.

use std::process::Command;

use anyhow::{Context, Result};
use prodigy_storage_backend::reference::{Certainty, Content};
use serde_json::Value;

use super::death::Death;
use super::log::REPO;
use super::lost::lost;
use super::process::{Ended, Outcome};
use super::scene::{Launch, Scene};
use crate::tool::Tool;

const ADDRESS: [&str; 4] = ["--repo", REPO, "--job", "lost"];

/// A phase, and its latest checkpoint as far as it is known.
#[derive(Debug)]
struct Latest {
    phase: &'static str,
    /// The number in the latest checkpoint. After an unacknowledged save, several numbers are possible.
    number: Content<u64>,
    /// The number of the last attempted save.
    tried: u64,
}

impl Latest {
    fn acknowledge(&mut self) {
        self.number.put(Some(self.tried), Certainty::Durable);
    }
}

/// The checkpoints of a job, each with a unique number.
#[derive(Debug)]
pub(crate) struct States {
    tool: Tool,
    phases: [Latest; 3],
    turn: usize,
}

impl States {
    /// The checkpoints in the tool's store, which is empty.
    pub(crate) fn new(tool: Tool) -> Self {
        let phases = ["map", "setup", "reduce"].map(|phase| Latest {
            phase,
            number: Content::default(),
            tried: 0,
        });
        Self {
            tool,
            phases,
            turn: 0,
        }
    }

    /// Records that the first `number` states of the map phase were acknowledged.
    pub(crate) fn note(&mut self, number: u64) {
        if let Some(map) = self.phases.first_mut() {
            map.tried = number;
            map.acknowledge();
        }
    }

    /// Chooses the next state of the current phase. Returns the phase, the command and the input that save the state.
    fn next(&mut self) -> Result<(&mut Latest, Command, Vec<u8>)> {
        let latest = self.phases.get_mut(self.turn).context("no phase")?;
        latest.tried += 1;
        latest.number.put(Some(latest.tried), Certainty::Unclear);
        let mut command = self.tool.command(["checkpoint", "save"].iter().chain(&ADDRESS));
        command.args(["--phase", latest.phase]);
        let text = format!(r#"{{"n":{},"padding":"{:4096}"}}"#, latest.tried, "");
        Ok((latest, command, text.into_bytes()))
    }

    /// The number and the revision of the latest checkpoint.
    fn show(&self, latest: &Latest) -> Result<Option<(u64, String)>> {
        let command = ["checkpoint", "show", "--strict", "--phase", latest.phase];
        let answer = self.tool.run(command.iter().chain(&ADDRESS), b"")?;
        match answer.code() {
            Some(0) => {}
            Some(4) => return Ok(None),
            _ => return Err(lost(answer.unexpected("the latest checkpoint").to_string())),
        }
        let shown: Value = serde_json::from_slice(&answer.stdout)?;
        let number = shown.pointer("/data/n").and_then(Value::as_u64);
        let revision = shown.get("revision").and_then(Value::as_str);
        Ok(number.zip(revision.map(str::to_owned)))
    }
}

impl Scene for States {
    fn begin(&mut self, random: &mut fastrand::Rng) -> Result<Launch> {
        self.turn = random.usize(..self.phases.len());
        let expected = match self.phases.get(self.turn) {
            Some(latest) if random.bool() => self.show(latest)?.map(|(_, revision)| revision),
            _ => None,
        };
        let mut launch = self.rehearse()?;
        if let Some(revision) = expected {
            launch.command.args(["--expected-revision", &revision]);
        }
        Ok(launch)
    }

    fn rehearse(&mut self) -> Result<Launch> {
        let (_, command, input) = self.next()?;
        Ok(Launch {
            command,
            input,
            held: false,
        })
    }

    fn end(&mut self, ended: &Ended, death: &Death) -> Result<()> {
        let latest = self.phases.get_mut(self.turn).context("no phase")?;
        // A printed line is an acknowledgement, even if the process was killed afterwards.
        if death.outcome(ended)? == Outcome::Done || ended.lines().count() > 0 {
            latest.acknowledge();
        }
        Ok(())
    }

    fn check(&self) -> Result<usize> {
        for latest in &self.phases {
            let found = self.show(latest)?.map(|(number, _)| number);
            latest.number.check(found.as_ref()).map_err(|error| {
                lost(format!(
                    "the number of the latest {} checkpoint: {error}",
                    latest.phase
                ))
            })?;
        }
        Ok(self
            .phases
            .iter()
            .filter(|latest| latest.number.stable().is_some())
            .count())
    }

    fn continue_work(&mut self) -> Result<()> {
        let (latest, command, text) = self.next()?;
        crate::tool::finish(command, &text)?.expect_code(0)?;
        latest.acknowledge();
        Ok(())
    }
}
