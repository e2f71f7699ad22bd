//! Who does what: the input's lines dealt out to three worktrees, each under an id that is known before the work begins.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use uuid::Uuid;

use super::git::git;
use super::{JOB, failing};
use crate::input::{Input, with_id};
use crate::tool::Tool;

/// The sessions, a worktree each.
const SESSIONS: [&str; 3] = ["agent-1", "agent-2", "agent-3"];

/// All of the work.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) agents: Vec<Agent>,
}

/// One worktree and its share.
#[derive(Debug)]
pub(super) struct Agent {
    pub(super) session: String,
    pub(super) worktree: PathBuf,
    pub(super) tasks: Vec<Task>,
}

/// One commit to look at.
#[derive(Debug)]
pub(super) struct Task {
    /// The id of its event: sent again under it, the event is stored once.
    pub(super) id: Uuid,
    /// The event, as it is sent.
    pub(super) event: String,
    pub(super) commit: Value,
}

impl Plan {
    /// Makes the worktrees where the tool says that they belong, deals out the lines, and saves the setup checkpoint.
    pub(super) fn make(input: &Input, tool: &Tool) -> Result<Self> {
        let mut agents = Vec::new();
        for session in SESSIONS {
            let path = tool.done(["worktree", "path", session], b"")?;
            let path = String::from_utf8(path)
                .context("a worktree's path is not UTF-8")?
                .trim_end()
                .to_owned();
            if let Some(parent) = Path::new(&path).parent() {
                std::fs::create_dir_all(parent)
                    .with_context(|| format!("can't make {}", parent.display()))?;
            }
            git(
                tool.folder(),
                tool.home(),
                &["worktree", "add", "--quiet", "-b", session, &path],
            )?;
            agents.push(Agent {
                session: session.to_owned(),
                worktree: PathBuf::from(path),
                tasks: Vec::new(),
            });
        }
        for (number, line) in input.lines().iter().enumerate() {
            let turn = number % agents.len().max(1);
            let Some(agent) = agents.get_mut(turn) else {
                continue;
            };
            let commit: Value = serde_json::from_str(line)?;
            let outcome = failing::first_attempt(&commit).map_or("done", |_| "failed");
            let session = serde_json::to_string(&agent.session)?;
            // The commit goes in as it lies in the file: a payload is never rewritten.
            let event = format!(
                r#"{{"worktree":{session},"line":{},"outcome":"{outcome}","commit":{line}}}"#,
                number + 1
            );
            agent.tasks.push(Task {
                id: Uuid::now_v7(),
                event,
                commit,
            });
        }
        let plan = Self { agents };
        tool.done(
            ["checkpoint", "save", "--job", JOB, "--phase", "setup"],
            plan.as_document().to_string().as_bytes(),
        )?;
        Ok(plan)
    }

    /// What the setup checkpoint keeps: which events every worktree is to store.
    fn as_document(&self) -> Value {
        let shares: BTreeMap<&str, Vec<String>> = self
            .agents
            .iter()
            .map(|agent| {
                (
                    agent.session.as_str(),
                    agent.tasks.iter().map(|task| task.id.to_string()).collect(),
                )
            })
            .collect();
        json!({ "shares": shares })
    }

    /// How many events all agents store.
    pub(super) fn events(&self) -> usize {
        self.agents.iter().map(|agent| agent.tasks.len()).sum()
    }
}

impl Agent {
    /// Its tasks behind the first so many, as lines of `--with-ids`.
    pub(super) fn lines_from(&self, done: usize) -> Vec<u8> {
        let lines: Vec<String> = self
            .tasks
            .iter()
            .skip(done)
            .map(|task| with_id(task.id, &task.event))
            .collect();
        crate::input::joined(lines.iter().map(String::as_str))
    }

    /// Its worktree's path, seen from the demo's folder.
    pub(super) fn shown(&self, folder: &Path) -> String {
        self.worktree
            .strip_prefix(folder)
            .unwrap_or(&self.worktree)
            .display()
            .to_string()
    }
}
