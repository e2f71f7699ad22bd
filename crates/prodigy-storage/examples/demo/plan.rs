//! The work: each commit of the input is one task of one agent. The id of a task's event is known before the work begins.

use std::collections::BTreeMap;
use std::path::Path;

use prodigy_storage::{EventId, Failure, Repo, SaveOptions, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::repository::git;
use crate::support::Outcome;
use crate::{JOB, worktree};

/// Commits of the public history of a workflow tool, one JSON object per line.
const COMMITS: &str = include_str!("commits.jsonl");
const SESSIONS: [&str; 3] = ["agent-1", "agent-2", "agent-3"];
/// The longest accepted subject in the first attempt, and in the second.
const MAX_SUBJECT: [usize; 2] = [72, 80];
/// The largest accepted number of files in the first attempt, and in the second.
const MAX_FILES: [u64; 2] = [12, 40];

/// The tasks of each session. The setup checkpoint keeps them.
pub(crate) type Plan = BTreeMap<String, Vec<Task>>;

/// The task of checking one commit.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Task {
    /// The id of its event. An event that is sent twice under this id is stored once.
    pub(crate) id: EventId,
    /// The commit's line in the input.
    pub(crate) line: usize,
}

/// The event that a finished task leaves.
#[derive(Serialize, Deserialize)]
pub(crate) struct Step {
    pub(crate) worktree: String,
    pub(crate) line: usize,
    pub(crate) outcome: String,
    /// The commit, byte for byte as in the input.
    pub(crate) commit: Box<RawValue>,
}

/// The fields of a commit that an agent reads.
#[derive(Deserialize)]
pub(crate) struct Commit {
    #[serde(rename = "commit")]
    pub(crate) hash: String,
    subject: String,
    files_total: u64,
}

/// Creates a worktree for each session, distributes the commits, and saves the plan.
pub(crate) fn make(repo: &Repo, store: &Path, repository: &Path) -> Outcome<Plan> {
    let mut plan = Plan::new();
    for session in SESSIONS {
        let path = worktree(repo, store, session)?;
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        let path = path.to_str().ok_or("the path of a worktree is not UTF-8")?;
        git(repository, &["worktree", "add", "--quiet", "-b", session, path])?;
        plan.insert(session.to_owned(), Vec::new());
    }
    let planned = Timestamp::now();
    for ((line, text), session) in COMMITS.lines().enumerate().zip(SESSIONS.iter().cycle()) {
        let commit: Commit = serde_json::from_str(text)?;
        // Ids ascend in the order of the input, a microsecond apart.
        let time = Timestamp::from_nanos(planned.as_nanos() + 1_000 * line as i64);
        let id = EventId::for_key(time, &commit.hash);
        plan.entry((*session).to_owned())
            .or_default()
            .push(Task { id, line });
    }
    for (session, tasks) in &plan {
        println!("     {session}  {} commits to look at", tasks.len());
    }
    repo.job(JOB)?
        .checkpoints()
        .save_setup(&plan, SaveOptions::default())?;
    Ok(plan)
}

/// A line of the input.
pub(crate) fn commit_text(line: usize) -> Outcome<&'static str> {
    Ok(COMMITS.lines().nth(line).ok_or("the input has no such line")?)
}

/// Checks a commit. The limits of the second attempt are higher.
pub(crate) fn attempt(commit: &Commit, number: usize) -> Option<Failure> {
    let (subject, files) = match number {
        1 => (MAX_SUBJECT[0], MAX_FILES[0]),
        _ => (MAX_SUBJECT[1], MAX_FILES[1]),
    };
    let length = commit.subject.chars().count();
    let failure = if length > subject {
        let message = format!("the subject has {length} characters, {subject} are allowed");
        Failure::new("SubjectTooLong", message)
    } else if commit.files_total > files {
        let message = format!(
            "the commit touches {} files, {files} are allowed",
            commit.files_total
        );
        Failure::new("TooManyFiles", message)
    } else {
        return None;
    };
    Some(failure.attempt(number as u64).step("check the form"))
}
