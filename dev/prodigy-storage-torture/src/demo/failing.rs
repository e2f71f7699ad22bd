//! What fails, and the redrive. An agent checks a commit's form: how long its subject is, how many files it touches.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::JOB;
use super::plan::{Agent, Plan, Task};
use crate::input::joined;
use crate::tool::{Tool, lines};

/// Longest subject at the first attempt, and at the second.
const SUBJECT: [usize; 2] = [72, 80];
/// Most files at the first attempt, and at the second.
const FILES: [u64; 2] = [12, 40];

/// Why a commit did not pass.
#[derive(Debug)]
pub(super) struct Failure {
    error: &'static str,
    message: String,
}

/// How the redrive went.
#[derive(Debug, Default)]
pub(super) struct Redrive {
    pub(super) failed: usize,
    pub(super) passed: usize,
    /// Items that failed again, which stay.
    pub(super) again: BTreeSet<String>,
    /// By signature: how many items had it, and how many stay.
    pub(super) signatures: BTreeMap<String, (usize, usize)>,
}

/// Whether a commit passes at first.
pub(super) fn first_attempt(commit: &Value) -> Option<Failure> {
    let [subject, _] = SUBJECT;
    let [files, _] = FILES;
    attempt(commit, subject, files)
}

/// The second attempt is more patient.
fn second_attempt(commit: &Value) -> Option<Failure> {
    let [_, subject] = SUBJECT;
    let [_, files] = FILES;
    attempt(commit, subject, files)
}

fn attempt(commit: &Value, longest: usize, most: u64) -> Option<Failure> {
    let subject = commit
        .get("subject")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .chars()
        .count();
    let files = commit
        .get("files_total")
        .and_then(Value::as_u64)
        .unwrap_or_default();
    if subject > longest {
        let message = format!("the subject has {subject} characters, {longest} are allowed");
        return Some(Failure {
            error: "SubjectTooLong",
            message,
        });
    }
    if files > most {
        let message = format!("the commit touches {files} files, {most} can be looked at");
        return Some(Failure {
            error: "TooManyFiles",
            message,
        });
    }
    None
}

/// Pushes what failed, takes it, tries again, acknowledges what passes and gives back what does not.
pub(super) fn run(tool: &Tool, plan: &Plan) -> Result<Redrive> {
    let mut redrive = Redrive::default();
    for agent in &plan.agents {
        let items: Vec<String> = agent
            .tasks
            .iter()
            .filter_map(|task| dead_letter(agent, task))
            .collect();
        redrive.failed += items.len();
        let text = joined(items.iter().map(String::as_str));
        tool.clone()
            .within(&agent.worktree)
            .done(["dlq", "push", "--job", JOB], &text)?;
    }
    let taken = tool.done(["dlq", "take", "--job", JOB, "--all", "--lease", "10m"], b"")?;
    let (mut passed, mut given_back, mut updates) = (Vec::new(), Vec::new(), Vec::new());
    for line in lines(&taken) {
        let item: Value = serde_json::from_slice(line).context("a taken item is no JSON")?;
        let text = |key: &str| {
            let text = item.get(key).and_then(Value::as_str).map(str::to_owned);
            text.with_context(|| format!("a taken item has no `{key}`"))
        };
        let (id, token) = (text("item_id")?, text("lease_token")?);
        let counts = redrive.signatures.entry(text("error_signature")?).or_default();
        counts.0 += 1;
        let data = item.get("item_data").context("a taken item has no `item_data`")?;
        match second_attempt(data) {
            None => passed.push(token),
            Some(failure) => {
                counts.1 += 1;
                updates.push(failure.item(&id, data, 2, "redrive"));
                given_back.push(token);
                redrive.again.insert(id);
            }
        }
    }
    let seen = passed.len() + given_back.len();
    ensure!(
        seen == redrive.failed,
        "{} items failed, {seen} could be taken",
        redrive.failed
    );
    redrive.passed = passed.len();
    tool.done(
        ["dlq", "ack", "--job", JOB]
            .into_iter()
            .chain(passed.iter().map(String::as_str)),
        b"",
    )?;
    tool.done(
        ["dlq", "push", "--job", JOB],
        &joined(updates.iter().map(String::as_str)),
    )?;
    tool.done(
        ["dlq", "nack", "--job", JOB]
            .into_iter()
            .chain(given_back.iter().map(String::as_str)),
        b"",
    )?;
    println!(
        "     {} items failed; redriven under a lease: {} passed and are acknowledged, {} failed again and stay",
        redrive.failed,
        redrive.passed,
        redrive.again.len()
    );
    Ok(redrive)
}

/// The item of a task that fails at first.
fn dead_letter(agent: &Agent, task: &Task) -> Option<String> {
    let failure = first_attempt(&task.commit)?;
    let id: String = task.commit.get("commit")?.as_str()?.chars().take(12).collect();
    Some(failure.item(&id, &task.commit, 1, &agent.session))
}

impl Failure {
    /// As an item to push: one that is known already gets the failure added to its history.
    fn item(&self, id: &str, data: &Value, attempt: u32, agent: &str) -> String {
        let failure = json!({
            "attempt_number": attempt,
            "timestamp": Timestamp::now().to_string(),
            "error_type": self.error,
            "error_message": self.message,
            "agent_id": agent,
            "step_failed": "check the form",
            "duration_ms": 0,
        });
        json!({ "item_id": id, "item_data": data, "failure_history": [failure] }).to_string()
    }
}
