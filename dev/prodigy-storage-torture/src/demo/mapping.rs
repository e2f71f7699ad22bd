//! The map phase: three processes append, the coordinator keeps a checkpoint of what is acknowledged.

use std::collections::BTreeMap;
use std::sync::mpsc::{Sender, channel};
use std::thread;

use anyhow::{Context, Result, anyhow, ensure};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::JOB;
use super::plan::{Agent, Plan};
use crate::acks::{Appender, End};
use crate::tool::Tool;

/// The one that is killed.
const VICTIM: usize = 1;
/// A checkpoint is saved every so many acknowledgements of all together.
const EVERY: usize = 45;

/// What a checkpoint keeps: how many tasks of each worktree are acknowledged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Progress {
    pub(super) acknowledged: BTreeMap<String, usize>,
}

/// How it went.
#[derive(Debug)]
pub(super) struct Course {
    pub(super) victim: String,
    /// Acknowledgements that the victim got out before it died.
    pub(super) before_death: usize,
    /// What the checkpoint said when it was resumed.
    pub(super) resumed_at: usize,
    pub(super) checkpoints: usize,
}

/// What a running process tells.
#[derive(Debug)]
enum News {
    Acknowledged(Uuid),
    Ended(Result<End>),
}

/// Runs all agents to the end of their shares.
pub(super) fn run(tool: &Tool, plan: &Plan) -> Result<Course> {
    let (tell, hear) = channel();
    for (number, agent) in plan.agents.iter().enumerate() {
        let doomed = (number == VICTIM).then_some(agent.tasks.len() / 2);
        start(tool, agent, number, 0, doomed, &tell)?;
    }
    let mut progress = Progress::default();
    let mut course = None;
    let (mut since, mut checkpoints, mut running) = (0, 0, plan.agents.len());
    while running > 0 {
        let (number, news) = hear.recv().context("no process is left")?;
        let agent = plan.agents.get(number).context("news of nobody")?;
        match news {
            News::Acknowledged(id) => {
                let done = progress.acknowledged.entry(agent.session.clone()).or_default();
                let expected = agent.tasks.get(*done).map(|task| task.id);
                ensure!(
                    expected == Some(id),
                    "{} got {id} acknowledged, not {expected:?}",
                    agent.session
                );
                *done += 1;
                since += 1;
                if since >= EVERY {
                    save(tool, &progress)?;
                    (since, checkpoints) = (0, checkpoints + 1);
                }
            }
            News::Ended(end) if number == VICTIM && course.is_none() => {
                end?.killed()?;
                let found = resume(tool, agent, &mut progress, checkpoints)?;
                start(tool, agent, number, found.resumed_at, None, &tell)?;
                course = Some(found);
            }
            News::Ended(end) => {
                end?.well().with_context(|| agent.session.clone())?;
                running -= 1;
            }
        }
    }
    for agent in &plan.agents {
        let done = progress
            .acknowledged
            .get(&agent.session)
            .copied()
            .unwrap_or_default();
        ensure!(
            done == agent.tasks.len(),
            "{} got {done} of {} acknowledged",
            agent.session,
            agent.tasks.len()
        );
    }
    save(tool, &progress)?;
    let course = course.context("nobody was killed")?;
    Ok(Course {
        checkpoints: checkpoints + 1,
        ..course
    })
}

/// Starts one process behind the first `done` tasks; a doomed one is killed after so many acknowledgements.
fn start(
    tool: &Tool,
    agent: &Agent,
    number: usize,
    done: usize,
    doomed: Option<usize>,
    tell: &Sender<(usize, News)>,
) -> Result<()> {
    let command = tool.clone().within(&agent.worktree).command([
        "events",
        "append",
        "--job",
        JOB,
        "--ack",
        "--with-ids",
    ]);
    let lines = agent.lines_from(done);
    let appender = if doomed.is_some() {
        Appender::start_doomed(command, lines)
    } else {
        Appender::start(command, lines)
    }?;
    let tell = tell.clone();
    thread::spawn(move || {
        let end = follow(appender, doomed, |id| {
            let _ = tell.send((number, News::Acknowledged(id)));
        });
        let _ = tell.send((number, News::Ended(end)));
    });
    Ok(())
}

/// Passes on acknowledgements until the process ends.
fn follow(mut appender: Appender, doomed: Option<usize>, mut pass: impl FnMut(Uuid)) -> Result<End> {
    let mut count = 0;
    while let Some(id) = appender.next()? {
        pass(id);
        count += 1;
        if doomed == Some(count) {
            appender.kill()?;
        }
    }
    let mut rest = Vec::new();
    let end = appender.end(&mut rest)?;
    if rest.is_empty() {
        Ok(end)
    } else {
        Err(anyhow!("acknowledgements behind the last one"))
    }
}

/// Puts the victim's progress back to what a fresh process reads from the latest checkpoint.
fn resume(tool: &Tool, agent: &Agent, progress: &mut Progress, checkpoints: usize) -> Result<Course> {
    let before_death = progress
        .acknowledged
        .get(&agent.session)
        .copied()
        .unwrap_or_default();
    let saved = if checkpoints > 0 {
        load(tool)?
    } else {
        Progress::default()
    };
    let resumed_at = saved
        .acknowledged
        .get(&agent.session)
        .copied()
        .unwrap_or_default();
    ensure!(
        resumed_at <= before_death,
        "the checkpoint is ahead of what was acknowledged"
    );
    progress.acknowledged.insert(agent.session.clone(), resumed_at);
    println!(
        "     {} killed by SIGKILL after {before_death} acknowledgements; its checkpoint says {resumed_at}: resumed there",
        agent.session
    );
    Ok(Course {
        victim: agent.session.clone(),
        before_death,
        resumed_at,
        checkpoints: 0,
    })
}

fn save(tool: &Tool, progress: &Progress) -> Result<()> {
    let document = serde_json::to_vec(progress)?;
    tool.done(["checkpoint", "save", "--job", JOB, "--phase", "map"], &document)?;
    Ok(())
}

/// The latest checkpoint, by a process of its own.
pub(super) fn load(tool: &Tool) -> Result<Progress> {
    let found = tool.done(
        ["checkpoint", "show", "--job", JOB, "--phase", "map", "--payload"],
        b"",
    )?;
    serde_json::from_slice(&found).context("the checkpoint is not what was saved")
}
