//! Operations of simulated processes on dead letters.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use prodigy_storage_backend::dead_letter::{DeadLetter, Failure};
use prodigy_storage_backend::{Clock, Durability, ItemId, LeaseToken, QueueItem, QueueStore, Select};
use prodigy_storage_layout::JobAddress;

use super::{Stage, patience};
use crate::history::{Action, Answer};

/// How long a dead letter is taken for.
const LEASE: Duration = Duration::from_secs(3600);

impl Stage {
    /// Pushes dead letters under these keys, each with a failure of its own.
    ///
    /// # Errors
    /// The errors of the backend, unless the process died.
    pub fn push(
        &mut self,
        who: usize,
        job: &JobAddress,
        keys: &[&str],
        durability: Durability,
    ) -> Result<()> {
        let mut items = Vec::new();
        let mut told = Vec::new();
        for key in keys {
            let message = self.unique();
            items.push(letter(key, &message, self.sim.clock().now())?);
            told.push(((*key).to_owned(), message));
        }
        let action = Action::Push {
            job: job.clone(),
            items: told,
            durability,
        };
        self.perform(who, action, |backend| {
            backend.queue_put(job, &items, durability, patience())?;
            Ok(Answer::Done)
        })?;
        Ok(())
    }

    /// Takes up to `limit` dead letters.
    ///
    /// # Errors
    /// The errors of the backend, unless the process died; if another process holds one of them under a running lease.
    pub fn take(&mut self, who: usize, job: &JobAddress, limit: usize) -> Result<()> {
        let answer = self.perform(who, Action::Take { job: job.clone() }, |backend| {
            let taken = backend.queue_take(job, &Select::all(), limit, LEASE, patience())?;
            let mut tokens = Vec::new();
            for entry in taken {
                let lease = entry.lease.context("what was taken has no lease")?;
                tokens.push((entry.id.as_str().to_owned(), lease.token));
            }
            Ok(Answer::Taken(tokens))
        })?;
        if let Some(Answer::Taken(tokens)) = &answer {
            let mut held = self.actors.iter().flat_map(|actor| actor.tokens.keys());
            if let Some(key) = held.find(|held| tokens.iter().any(|(key, _)| key == *held)) {
                bail!("{key} was taken while its lease lasted");
            }
        }
        if let (Some(Answer::Taken(tokens)), Some(actor)) = (answer, self.actors.get_mut(who)) {
            actor.tokens.extend(tokens);
        }
        Ok(())
    }

    /// The first `count` of the dead letters that a process has taken, by key.
    fn held(&mut self, who: usize, count: usize) -> (Vec<String>, Vec<LeaseToken>) {
        let Some(actor) = self.actors.get_mut(who) else {
            return (Vec::new(), Vec::new());
        };
        let mut keys: Vec<String> = actor.tokens.keys().cloned().collect();
        keys.sort_unstable();
        keys.truncate(count);
        let tokens = keys.iter().filter_map(|key| actor.tokens.remove(key)).collect();
        (keys, tokens)
    }

    /// Acknowledges `count` of the dead letters that the process has taken.
    ///
    /// # Errors
    /// The errors of the backend, unless the process died; if one of its tokens is unknown.
    pub fn ack(&mut self, who: usize, job: &JobAddress, count: usize) -> Result<()> {
        let (keys, tokens) = self.held(who, count);
        let action = Action::Settle {
            job: job.clone(),
            keys,
        };
        self.perform(who, action, |backend| {
            let settled = backend.queue_ack(job, &tokens, patience())?;
            if !settled.unknown.is_empty() {
                bail!("a token that was handed out is unknown");
            }
            Ok(Answer::Done)
        })?;
        Ok(())
    }

    /// Gives back `count` of the dead letters that the process has taken.
    ///
    /// # Errors
    /// The errors of the backend, unless the process died; if one of its tokens is unknown.
    pub fn nack(&mut self, who: usize, job: &JobAddress, count: usize) -> Result<()> {
        let (keys, tokens) = self.held(who, count);
        let action = Action::Nack {
            job: job.clone(),
            keys,
        };
        self.perform(who, action, |backend| {
            let settled = backend.queue_nack(job, &tokens, patience())?;
            if !settled.unknown.is_empty() {
                bail!("a token that was handed out is unknown");
            }
            Ok(Answer::Done)
        })?;
        Ok(())
    }

    /// Removes dead letters.
    ///
    /// # Errors
    /// The errors of the backend, unless the process died.
    pub fn remove(&mut self, who: usize, job: &JobAddress, keys: &[&str]) -> Result<()> {
        for actor in &mut self.actors {
            actor.tokens.retain(|key, _| !keys.contains(&key.as_str()));
        }
        let action = Action::Settle {
            job: job.clone(),
            keys: keys.iter().map(|key| (*key).to_owned()).collect(),
        };
        self.perform(who, action, |backend| {
            let ids = keys
                .iter()
                .map(|key| ItemId::new(*key))
                .collect::<Result<Vec<_>, _>>()?;
            backend.queue_remove(job, &ids, patience())?;
            Ok(Answer::Done)
        })?;
        Ok(())
    }
}

fn letter(key: &str, message: &str, now: prodigy_storage_layout::Timestamp) -> Result<QueueItem> {
    let letter = DeadLetter::new(ItemId::new(key)?, format!("work on {key}"))
        .failure(Failure::new("Simulated", message));
    Ok(letter.to_item(now)?)
}
