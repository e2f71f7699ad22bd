//! Names of worktrees and agents, and correlation ids, in filters: a mistyped one is an error, and not an empty result.

use std::collections::BTreeSet;

use prodigy_storage::{EventFilter, ReadOptions, Record};
use serde::Deserialize;
use serde_json::Value;

use super::filter::FilterArgs;
use super::jobs::Jobs;
use crate::errors::{Failure, Result};
use crate::exit::Exit;
use crate::near::Near;

/// The largest number of names that are compared with the wanted one.
const NAMES: usize = 10_000;

/// The fields with names, in the payload and in the envelope.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Names {
    worktree: Value,
    agent_id: Value,
    correlation_id: Value,
}

#[derive(Deserialize)]
struct Envelope {
    #[serde(default)]
    event: Value,
    #[serde(default)]
    metadata: Value,
    #[serde(default)]
    worktree: Value,
    #[serde(default)]
    correlation_id: Value,
}

/// Fails with [`Exit::Missing`] if a filter names a worktree, an agent or a correlation id that no stored event has, whatever the other filters
/// select. The error lists the names that there are.
pub(super) fn must_exist(jobs: &Jobs, filters: &FilterArgs) -> Result<()> {
    type Pick = fn(Names) -> Value;
    let worktree = filters.worktree().map(|name| {
        let pick: Pick = |names| names.worktree;
        ("worktree", name, EventFilter::equals("worktree", name), pick)
    });
    let agent = filters.agent().map(|name| {
        let pick: Pick = |names| names.agent_id;
        ("agent", name, EventFilter::agent(name), pick)
    });
    let correlation = filters.correlation_id().map(|id| {
        let pick: Pick = |names| names.correlation_id;
        ("correlation id", id, EventFilter::correlation_id(id), pick)
    });
    for (what, wanted, filter, pick) in worktree.into_iter().chain(agent).chain(correlation) {
        let mut is_there = false;
        jobs.each_event(&ReadOptions::new().filter(filter), |_| is_there = true);
        if is_there {
            continue;
        }
        let mut names = BTreeSet::new();
        jobs.each_event(&ReadOptions::new(), |record| {
            if names.len() < NAMES {
                names.extend(Names::of(record).map(pick).and_then(text));
            }
        });
        let mut near = Near::to(wanted);
        names.iter().for_each(|name| near.offer(name));
        let stats = format!(
            "`prodigy-storage events stats {}` counts the events of each worktree",
            jobs.flags()
        );
        let hint = near.hint(&format!("{what}s"), &stats);
        return Err(Failure::new(Exit::Missing, format!("no event is of the {what} `{wanted}`")).hint(hint));
    }
    Ok(())
}

/// A name as a filter compares it: a text as it is, other values as JSON.
fn text(value: Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text),
        other => Some(other.to_string()),
    }
}

impl Names {
    fn of(record: &Record<'_>) -> Option<Self> {
        let envelope: Envelope = record.parse().ok()?;
        let payload: Self = serde_json::from_value(envelope.event).unwrap_or_default();
        let metadata: Self = serde_json::from_value(envelope.metadata).unwrap_or_default();
        let or = |one: Value, other: Value| if one.is_null() { other } else { one };
        Some(Self {
            worktree: or(payload.worktree, envelope.worktree),
            agent_id: or(payload.agent_id, metadata.agent_id),
            correlation_id: envelope.correlation_id,
        })
    }
}
