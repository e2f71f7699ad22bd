//! The map phase: agents append events, the coordinator follows the log and saves checkpoints.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use prodigy_storage::{AppendOptions, FollowOptions, Job, Repo, SaveOptions};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::plan::{Commit, Plan, Step, Task, attempt, commit_text};
use crate::support::{Outcome, check};
use crate::{JOB, open, worktree};

/// The session whose agent is killed.
const VICTIM: &str = "agent-2";
/// Events between two checkpoints.
const STRIDE: usize = 45;

/// The state of a checkpoint: how many tasks of each session are done.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Progress {
    pub(crate) done: BTreeMap<String, usize>,
}

/// The figures of the map phase.
#[derive(Serialize, Deserialize)]
pub(crate) struct MapReport {
    pub(crate) victim: String,
    /// Acknowledgements before the kill.
    pub(crate) acknowledged: usize,
    /// Tasks that were done according to the checkpoint that the victim was resumed from.
    pub(crate) resumed_at: usize,
    pub(crate) checkpoints: usize,
}

/// An agent: a process of its own, in its worktree. It stores an event for each task that it reads, then acknowledges it.
pub(crate) fn agent(store: &Path, worktree: &Path, session: &str) -> Outcome {
    let events = open(store)?.repo_at(worktree)?.job(JOB)?.events();
    for line in std::io::stdin().lock().lines() {
        let Task { id, line } = serde_json::from_str(&line?)?;
        let text = commit_text(line)?;
        let commit: Commit = serde_json::from_str(text)?;
        let outcome = attempt(&commit, 1).map_or("done", |_| "failed");
        let step = Step {
            worktree: session.to_owned(),
            line,
            outcome: outcome.to_owned(),
            commit: RawValue::from_string(text.to_owned())?,
        };
        events.append_with(&step, AppendOptions::new().id(id))?;
        writeln!(std::io::stdout(), "{id}")?;
    }
    Ok(())
}

/// Runs all agents until every task is done.
pub(crate) fn map(store: &Path, repo: &Repo, job: &Job, plan: &Plan) -> Outcome<MapReport> {
    thread::scope(|scope| {
        let agents: Vec<_> = plan
            .iter()
            .map(|(session, tasks)| {
                // A thread's error has to be `Send`.
                scope.spawn(move || {
                    supervise(store, repo, job, session, tasks).map_err(|error| format!("{error:#}"))
                })
            })
            .collect();
        let checkpoints = follow(job, plan.values().map(Vec::len).sum());
        let mut killed = None;
        for agent in agents {
            killed = agent.join().map_err(|_| "a thread panicked")??.or(killed);
        }
        let (acknowledged, resumed_at) = killed.ok_or("no agent was killed")?;
        Ok(MapReport {
            victim: VICTIM.to_owned(),
            acknowledged,
            resumed_at,
            checkpoints: checkpoints?,
        })
    })
}

/// Follows the log to the end of the work. Each checkpoint holds the progress and the position in the log that led to it.
fn follow(job: &Job, total: usize) -> Outcome<usize> {
    let options = FollowOptions::new()
        .poll(Duration::from_millis(5))
        .wait(Duration::from_secs(60));
    let mut events = job.events().follow_with::<Step>(options)?;
    let mut progress = Progress::default();
    let (mut seen, mut checkpoints) = (0, 0);
    while seen < total {
        let event = events.next().ok_or("no event came for a minute")??;
        *progress.done.entry(event.event.worktree).or_default() += 1;
        seen += 1;
        if seen % STRIDE == 0 || seen == total {
            job.checkpoints()
                .save_map(&progress, SaveOptions::at(events.cursor()))?;
            checkpoints += 1;
        }
    }
    Ok(checkpoints)
}

/// Runs one agent. The victim is killed in the middle of its work, and a new process continues from the latest
/// checkpoint.
fn supervise(
    store: &Path,
    repo: &Repo,
    job: &Job,
    session: &str,
    tasks: &[Task],
) -> Outcome<Option<(usize, usize)>> {
    let worktree = worktree(repo, store, session)?;
    if session != VICTIM {
        hand_out(store, &worktree, session, tasks, None)?;
        return Ok(None);
    }
    let acknowledged = hand_out(store, &worktree, session, tasks, Some(tasks.len() / 2))?;
    let latest = job.checkpoints().latest_map::<Progress>()?;
    let resumed_at = latest.map_or(0, |latest| latest.data.done.get(session).copied().unwrap_or(0));
    println!(
        "     {session} killed by SIGKILL after {acknowledged} acknowledgements; the checkpoint says {resumed_at}: resumed there"
    );
    // The event that the victim was writing may be stored, although it was not acknowledged.
    check(
        resumed_at <= acknowledged + 1,
        "the checkpoint is not ahead of the log",
    )?;
    let rest = tasks.get(resumed_at..).unwrap_or_default();
    hand_out(store, &worktree, session, rest, None)?;
    Ok(Some((acknowledged, resumed_at)))
}

/// Starts an agent and sends it one task after the other. Kills it during the task number `kill_at`.
fn hand_out(
    store: &Path,
    worktree: &Path,
    session: &str,
    tasks: &[Task],
    kill_at: Option<usize>,
) -> Outcome<usize> {
    let mut child = crate::agent()?
        .arg("agent")
        .args([store, worktree])
        .arg(session)
        .current_dir(worktree)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut input = child.stdin.take().ok_or("the input of an agent is a pipe")?;
    let mut output = BufReader::new(child.stdout.take().ok_or("the output of an agent is a pipe")?);
    for (number, task) in tasks.iter().enumerate() {
        writeln!(input, "{}", serde_json::to_string(task)?)?;
        if kill_at == Some(number) {
            child.kill()?;
            child.wait()?;
            return Ok(number);
        }
        let mut acknowledged = String::new();
        output.read_line(&mut acknowledged)?;
        check(
            acknowledged.trim_end() == task.id.to_string(),
            &format!("{session} acknowledges the event that it was given"),
        )?;
    }
    drop(input);
    check(child.wait()?.success(), &format!("{session} ends well"))?;
    Ok(tasks.len())
}
