//! The proof: everything read back by fresh processes, and from the files themselves.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::failing::Redrive;
use super::plan::Plan;
use super::{JOB, REPO, mapping};
use crate::input::same_value;
use crate::segment;
use crate::tool::{Tool, lines};
use crate::tree;

/// What was found.
#[derive(Debug)]
pub(super) struct Proof {
    pub(super) repo: String,
    pub(super) by_worktree: BTreeMap<String, usize>,
    pub(super) segments: usize,
    pub(super) quarantined: usize,
}

/// Compares what is stored with what was sent, value by value.
pub(super) fn prove(tool: &Tool, plan: &Plan, redrive: &Redrive) -> Result<Proof> {
    let repo = repository(tool)?;
    let by_worktree = events(tool, plan)?;
    let disk = segment::check(tool.base(), &repo, JOB)?;
    ensure!(
        disk.records == plan.events(),
        "{} records lie on the disk",
        disk.records
    );
    checkpoint(tool, plan)?;
    dead_letters(tool, &repo, redrive)?;
    let quarantined = tree::files(&tool.base().join("quarantine"))?.len();
    Ok(Proof {
        repo,
        by_worktree,
        segments: disk.plain + disk.compressed,
        quarantined,
    })
}

/// The name that the repository is stored under: the one folder of events/.
fn repository(tool: &Tool) -> Result<String> {
    let mut names = BTreeSet::new();
    for entry in std::fs::read_dir(tool.base().join("events"))? {
        names.insert(entry?.file_name().to_string_lossy().into_owned());
    }
    let found = names
        .pop_first()
        .filter(|_| names.is_empty())
        .context("the worktrees don't share one repository")?;
    ensure!(found == REPO, "the repository is stored as {found}");
    Ok(found)
}

/// Each planned event once, as it was sent, and no other. How many there are of each worktree.
fn events(tool: &Tool, plan: &Plan) -> Result<BTreeMap<String, usize>> {
    let tasks = plan
        .agents
        .iter()
        .flat_map(|agent| agent.tasks.iter().map(move |task| (task.id, (agent, task))));
    let planned: HashMap<_, _> = tasks.collect();
    let stored = tool.done(["events", "cat", "--job", JOB], b"")?;
    let mut seen = HashSet::new();
    let mut by_worktree = BTreeMap::new();
    for line in lines(&stored) {
        let record = segment::record(line)?;
        let Some((agent, task)) = planned.get(&record.id) else {
            bail!("nobody sent {}", record.id)
        };
        ensure!(seen.insert(record.id), "{} is stored twice", record.id);
        same_value(
            &format!("event {}", record.id),
            task.event.as_bytes(),
            record.event.get().as_bytes(),
        )?;
        *by_worktree.entry(agent.session.clone()).or_insert(0) += 1;
    }
    ensure!(
        seen.len() == planned.len(),
        "{} events of {} are lost",
        planned.len() - seen.len(),
        planned.len()
    );
    Ok(by_worktree)
}

/// The last checkpoint says that all is done.
fn checkpoint(tool: &Tool, plan: &Plan) -> Result<()> {
    let progress = mapping::load(tool)?;
    for agent in &plan.agents {
        let done = progress.acknowledged.get(&agent.session).copied();
        ensure!(
            done == Some(agent.tasks.len()),
            "the checkpoint says {done:?} of {}",
            agent.session
        );
    }
    Ok(())
}

/// The queue holds what failed twice, with both failures, and nothing else; so does the file.
fn dead_letters(tool: &Tool, repo: &str, redrive: &Redrive) -> Result<()> {
    let path = tool.base().join("dlq").join(repo).join(JOB).join("items.json");
    let file = std::fs::read(&path).with_context(|| format!("can't read {}", path.display()))?;
    let items: Vec<Value> = serde_json::from_slice(&file).context("items.json is no JSON array")?;
    let mut found = BTreeSet::new();
    for item in &items {
        let id = item
            .get("item_id")
            .and_then(Value::as_str)
            .context("an item has no `item_id`")?;
        let count = item.get("failure_count").and_then(Value::as_u64);
        ensure!(count == Some(2), "{id} failed twice, its count is {count:?}");
        found.insert(id.to_owned());
    }
    ensure!(
        found == redrive.again,
        "the queue holds other items than those that failed again"
    );
    Ok(())
}
