//! A scene that takes named locks: a fencing token is never issued twice.

use std::process::Command;

use anyhow::{Context, Result};

use prodigy_storage_backend::reference;

use super::death::Death;
use super::lost::lost;
use super::process::Ended;
use super::scene::{Launch, Scene};
use crate::tool::Tool;

/// The exit code of a shell, and of the tool, after SIGKILL of its command: 128 plus the signal's number.
const KILLED: i32 = 128 + 9;

/// The tokens of the commands under the lock.
#[derive(Debug)]
pub(crate) struct Tokens {
    tool: Tool,
    tokens: reference::Tokens,
}

impl Tokens {
    /// The tokens of a lock in the tool's store, none of which was issued yet.
    pub(crate) fn new(tool: Tool) -> Self {
        Self {
            tool,
            tokens: reference::Tokens::default(),
        }
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
            self.tokens
                .hand_out(token)
                .map_err(|error| lost(error.to_string()))?;
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
        // The call may have been made by the command under the lock. Then that command was killed, and the tool ends
        // with this exit code.
        let struck = matches!(death, Death::Call { .. }) && ended.code == Some(KILLED);
        if !struck {
            death.outcome(ended)?;
        }
        self.note(ended.lines())
    }

    fn check(&self) -> Result<usize> {
        let answer = self.tool.run(["--json", "lock", "list"], b"")?.expect_code(0)?;
        let listed = answer.lines().next();
        let newest = match listed {
            Some(line) => {
                let lock: serde_json::Value = serde_json::from_slice(line)?;
                lock.get("fencing").and_then(serde_json::Value::as_u64)
            }
            None => None,
        };
        self.tokens
            .check(newest.unwrap_or_default())
            .map_err(|error| lost(error.to_string()))?;
        Ok(usize::from(listed.is_some()))
    }

    fn continue_work(&mut self) -> Result<()> {
        let answer = crate::tool::finish(self.command(), b"")?.expect_code(0)?;
        self.note(answer.lines())
    }
}
