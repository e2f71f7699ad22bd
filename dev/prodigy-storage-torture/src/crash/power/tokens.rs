//! Named locks: a fencing token that was handed out is never handed out again.

use std::process::Command;

use anyhow::{Context, Result};

use super::death::Death;
use super::lost::lost;
use super::process::Ended;
use super::scene::{Launch, Scene};
use crate::tool::Tool;

/// The exit code of a shell, and of the tool, for a command that SIGKILL ended: 128 and the signal's number.
const KILLED: i32 = 128 + 9;

/// The newest token that a command under the lock was seen to have.
#[derive(Debug)]
pub(crate) struct Tokens {
    tool: Tool,
    newest: u64,
}

impl Tokens {
    /// None so far, in the tool's store.
    pub(crate) fn new(tool: Tool) -> Self {
        Self { tool, newest: 0 }
    }

    fn command(&self) -> Command {
        self.tool.command([
            "lock",
            "run",
            "power/lost",
            "--",
            "sh",
            "-c",
            "echo ${PRODIGY_LOCK_FENCING%%@*}",
        ])
    }

    fn note<'a>(&mut self, lines: impl Iterator<Item = &'a [u8]>) -> Result<()> {
        for line in lines {
            let token: u64 = std::str::from_utf8(line)?.parse().context("no token")?;
            if token <= self.newest {
                let newest = self.newest;
                return Err(lost(format!(
                    "the lock's token is {token}, after {newest} was handed out"
                )));
            }
            self.newest = token;
        }
        Ok(())
    }
}

impl Scene for Tokens {
    fn begin(&mut self, _: &mut fastrand::Rng) -> Result<Launch> {
        self.rehearse()
    }

    fn rehearse(&mut self) -> Result<Launch> {
        Ok(Launch {
            command: self.command(),
            input: Vec::new(),
            held: false,
        })
    }

    fn end(&mut self, ended: &Ended, death: &Death) -> Result<()> {
        // The command is struck as well, and the tool hands on how it ended.
        let struck = matches!(death, Death::Call { .. }) && ended.code == Some(KILLED);
        if !struck {
            death.outcome(ended)?;
        }
        self.note(ended.lines())
    }

    fn check(&self) -> Result<usize> {
        let answer = self.tool.run(["--json", "lock", "list"], b"")?.expect_code(0)?;
        if let Some(line) = answer.lines().next() {
            let lock: serde_json::Value = serde_json::from_slice(line)?;
            let told = lock.get("fencing").and_then(serde_json::Value::as_u64);
            if told.unwrap_or_default() < self.newest {
                return Err(lost(format!("{lock} is told, after token {}", self.newest)));
            }
            return Ok(1);
        }
        if self.newest > 0 {
            return Err(lost(format!("no lock is known, after token {}", self.newest)));
        }
        Ok(0)
    }

    fn go_on(&mut self) -> Result<()> {
        let answer = crate::tool::finish(self.command(), b"")?.expect_code(0)?;
        self.note(answer.lines())
    }
}
