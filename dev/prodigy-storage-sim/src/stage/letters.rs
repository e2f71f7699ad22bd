//! Operations of simulated processes on dead letters.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use prodigy_storage_backend::dead_letter::{DeadLetter, Failure};
use prodigy_storage_backend::{
    Change, Claim, Durability, ItemId, LeaseToken, QueueItem, QueueStore, Select, Settled, Settlement,
};
use prodigy_storage_layout::JobAddress;

use super::{Stage, patience, unnamed};
use crate::history::{Action, Answer};

/// The length of a lease.
const LEASE: Duration = Duration::from_secs(3600);

impl Stage {
    /// Pushes dead letters with these keys, each with a unique failure.
    ///
    /// # Errors
    /// An error of the backend. If the process dies in the call, this is no error.
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
            items.push(letter(key, &message)?);
            told.push(((*key).to_owned(), message));
        }
        let action = Action::Push {
            job: job.clone(),
            items: told,
            fence: self.token_of(who),
            durability,
        };
        let fence = unnamed(self.token_of(who))?;
        self.perform(who, action, |backend| {
            backend.queue_put(job, &items, durability, fence.as_ref(), patience())?;
            Ok(Answer::Done)
        })?;
        Ok(())
    }

    /// Takes up to `limit` dead letters.
    ///
    /// # Errors
    /// An error of the backend, or an item that another process has leased. If the process dies in the call, this is no error.
    pub fn take(&mut self, who: usize, job: &JobAddress, limit: usize) -> Result<()> {
        let fence = unnamed(self.token_of(who))?;
        let answer = self.perform(who, Action::Take { job: job.clone() }, |backend| {
            let fence = fence.as_ref();
            let taken = backend.queue_take(job, &Select::eligible(), limit, LEASE, fence, patience())?;
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

    /// Removes up to `count` dead letters from those that a process holds, and returns their keys and tokens.
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

    /// Acknowledges `count` dead letters that the process holds.
    ///
    /// # Errors
    /// An error of the backend, or an unknown token. If the process dies in the call, this is no error.
    pub fn ack(&mut self, who: usize, job: &JobAddress, count: usize) -> Result<()> {
        let (keys, tokens) = self.held(who, count);
        let names = keys.clone();
        let fence = unnamed(self.token_of(who))?;
        let action = Action::Settle {
            job: job.clone(),
            keys,
        };
        self.perform(who, action, |backend| {
            let removals = with(&tokens, |_| Change::Remove);
            let settled = backend.queue_settle(job, &removals, fence.as_ref(), patience())?;
            let kept = settled
                .iter()
                .zip(&names)
                .filter(|(settled, _)| **settled == Settled::Kept);
            let kept: Vec<String> = kept.map(|(_, key)| key.clone()).collect();
            if settled.contains(&Settled::Unknown) {
                bail!("a token that was handed out is unknown");
            }
            Ok(Answer::Kept(kept))
        })?;
        Ok(())
    }

    /// Extends the leases on `count` dead letters that the process holds.
    ///
    /// # Errors
    /// An error of the backend, or an unknown token. If the process dies in the call, this is no error.
    pub fn extend(&mut self, who: usize, job: &JobAddress, count: usize) -> Result<()> {
        let (keys, tokens) = self.held(who, count);
        if let Some(actor) = self.actors.get_mut(who) {
            actor.tokens.extend(keys.into_iter().zip(tokens.iter().cloned()));
        }
        self.perform(who, Action::Extend { job: job.clone() }, |backend| {
            let changes = with(&tokens, |_| Change::Extend(LEASE));
            done(&backend.queue_settle(job, &changes, None, patience())?)
        })?;
        Ok(())
    }

    /// Fails `count` dead letters that the process holds.
    ///
    /// # Errors
    /// An error of the backend, or an unknown token. If the process dies in the call, this is no error.
    pub fn fail(&mut self, who: usize, job: &JobAddress, count: usize) -> Result<()> {
        let (keys, tokens) = self.held(who, count);
        let (mut items, mut told) = (Vec::new(), Vec::new());
        for key in keys {
            let message = self.unique();
            items.push(letter(&key, &message)?);
            told.push((key, message));
        }
        let action = Action::Fail {
            job: job.clone(),
            items: told,
        };
        self.perform(who, action, |backend| {
            let mut items = items.iter().cloned();
            let changes = with(&tokens, |_| items.next().map_or(Change::Remove, Change::Fail));
            done(&backend.queue_settle(job, &changes, None, patience())?)
        })?;
        Ok(())
    }

    /// Compacts a queue.
    ///
    /// # Errors
    /// An error of the backend. If the process dies in the call, this is no error.
    pub fn compact(&mut self, who: usize, job: &JobAddress) -> Result<()> {
        self.perform(who, Action::Compact { job: job.clone() }, |backend| {
            backend.queue_compact(job, patience())?;
            Ok(Answer::Done)
        })?;
        Ok(())
    }

    /// Releases `count` dead letters that the process holds.
    ///
    /// # Errors
    /// An error of the backend, or an unknown token. If the process dies in the call, this is no error.
    pub fn nack(&mut self, who: usize, job: &JobAddress, count: usize) -> Result<()> {
        let (keys, tokens) = self.held(who, count);
        let action = Action::Nack {
            job: job.clone(),
            keys,
        };
        self.perform(who, action, |backend| {
            let delay = Duration::ZERO;
            let changes = with(&tokens, |_| Change::Release { delay });
            done(&backend.queue_settle(job, &changes, None, patience())?)
        })?;
        Ok(())
    }

    /// Removes dead letters.
    ///
    /// # Errors
    /// An error of the backend. If the process dies in the call, this is no error.
    pub fn remove(&mut self, who: usize, job: &JobAddress, keys: &[&str]) -> Result<()> {
        for actor in &mut self.actors {
            actor.tokens.retain(|key, _| !keys.contains(&key.as_str()));
        }
        let action = Action::Settle {
            job: job.clone(),
            keys: keys.iter().map(|key| (*key).to_owned()).collect(),
        };
        self.perform(who, action, |backend| {
            let mut changes = Vec::new();
            for key in keys {
                let claim = Claim::Item(ItemId::new(*key)?);
                changes.push(Settlement::new(claim, Change::Remove));
            }
            backend.queue_settle(job, &changes, None, patience())?;
            Ok(Answer::Done)
        })?;
        Ok(())
    }
}

/// A settlement with a change for each token.
fn with(tokens: &[LeaseToken], mut change: impl FnMut(&LeaseToken) -> Change) -> Vec<Settlement> {
    let changes = tokens
        .iter()
        .map(|token| Settlement::new(Claim::Lease(token.clone()), change(token)));
    changes.collect()
}

fn done(settled: &[Settled]) -> Result<Answer> {
    if settled.iter().any(|settled| !settled.is_done()) {
        bail!("a token that was handed out is unknown");
    }
    Ok(Answer::Done)
}

/// The key of a dead letter with long data.
pub(crate) const LONG: &str = "long";

/// The data of a dead letter.
pub(crate) fn work(key: &str) -> String {
    let more = if key == LONG { 40 << 10 } else { 0 };
    format!("work on {key}{}", "!".repeat(more))
}

fn letter(key: &str, message: &str) -> Result<QueueItem> {
    let letter = DeadLetter::new(ItemId::new(key)?, work(key)).failure(Failure::new("Simulated", message));
    Ok(letter.to_item()?)
}
