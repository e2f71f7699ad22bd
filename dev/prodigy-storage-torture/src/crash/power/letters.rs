//! A scene that changes dead letters: acknowledged changes of each item survive a power loss.

use std::collections::BTreeMap;
use std::process::Command;

use anyhow::{Context, Result, bail};
use prodigy_storage_backend::Settled;
use prodigy_storage_backend::reference::{self, Certainty, Change, Claim, Stored};
use serde_json::Value;

use super::death::Death;
use super::log::REPO;
use super::lost::lost;
use super::process::{Ended, Outcome};
use super::scene::{Launch, Scene};
use crate::crash::many::stored;
use crate::tool::Tool;

const ADDRESS: [&str; 4] = ["--repo", REPO, "--job", "lost"];

/// An operation of a process on the queue.
#[derive(Clone, Debug)]
enum Act {
    Push(Vec<String>),
    Take,
    Ack(Vec<String>),
    Nack(Vec<String>),
    Remove(String),
}

/// The expected items by id, with the numbers of their failures and the tool's lease tokens.
type Items = reference::Queue<String, usize, String>;
type Item = reference::Item<String, usize, String>;

/// The end of a lease in the expected queue: never. The tool takes items for a day, which is longer than any test.
const LONG: u64 = u64::MAX;

/// A scene that changes the dead letters of a job.
#[derive(Debug)]
pub(crate) struct Letters {
    tool: Tool,
    items: Items,
    next: usize,
    /// The number of the last pushed failure.
    failures: usize,
    /// The operation of the process that is running.
    begun: Option<Act>,
}

impl Letters {
    /// A queue in the tool's store, without items.
    pub(crate) fn new(tool: Tool) -> Self {
        Self {
            tool,
            items: Items::default(),
            next: 0,
            failures: 0,
            begun: None,
        }
    }

    /// Pushes three new items, and a failure of an existing one.
    fn push(&mut self) -> Act {
        let known = self.certain(false).next();
        let mut ids: Vec<String> = known.map(|item| item.key().clone()).into_iter().collect();
        for _ in 0..3 {
            ids.push(format!("item-{:06}", self.next));
            self.next += 1;
        }
        Act::Push(ids)
    }

    /// The items that certainly exist and whose state is certain: taken if `taken` is true, otherwise not taken.
    fn certain(&self, taken: bool) -> impl Iterator<Item = &Item> {
        let items = self.items.items().iter();
        items.filter(move |item| item.is_durable() && !item.is_unclear() && item.token().is_some() == taken)
    }

    fn choose(&mut self, random: &mut fastrand::Rng) -> Act {
        let pending: Vec<String> = self.certain(false).map(|item| item.key().clone()).collect();
        let tokens: Vec<String> = self
            .certain(true)
            .filter_map(|item| item.token().cloned())
            .take(2)
            .collect();
        match random.u8(..8) {
            0..2 if !pending.is_empty() => Act::Take,
            2..4 if !tokens.is_empty() => Act::Ack(tokens),
            4 if !tokens.is_empty() => Act::Nack(tokens),
            5 if pending.len() > 4 => random.choice(pending).map_or_else(|| self.push(), Act::Remove),
            _ => self.push(),
        }
    }

    fn command(&self, act: &Act) -> (Command, Vec<u8>) {
        let words: Vec<&str> = match act {
            Act::Push(_) => vec!["dlq", "push"],
            Act::Take => vec!["dlq", "take", "--limit", "2", "--lease", "1day"],
            Act::Ack(_) => vec!["dlq", "ack"],
            Act::Nack(_) => vec!["dlq", "release"],
            Act::Remove(_) => vec!["dlq", "remove"],
        };
        let mut command = self.tool.command(words.iter().chain(&ADDRESS));
        let mut input = Vec::new();
        match act {
            Act::Push(ids) => {
                // An item stores a failure once, so each pushed failure has a new number.
                for (id, number) in ids.iter().zip(self.failures + 1..) {
                    let line = format!(
                        r#"{{"item_id":"{id}","item_data":{{"of":"{id}"}},"failure_history":[{{"error_message":"failure {number}"}}]}}"#
                    );
                    input.extend_from_slice(line.as_bytes());
                    input.push(b'\n');
                }
            }
            Act::Take => {}
            Act::Ack(tokens) | Act::Nack(tokens) => {
                command.args(tokens);
            }
            Act::Remove(id) => {
                command.arg(id);
            }
        }
        (command, input)
    }

    fn start(&mut self, act: Act) -> Launch {
        let (command, input) = self.command(&act);
        self.begun = Some(act);
        Launch {
            command,
            input,
            held: false,
        }
    }

    /// Applies a process's operation to the expected items. It has happened if `done` is true; otherwise it may have
    /// happened.
    fn note<'l>(&mut self, act: &Act, done: bool, lines: impl Iterator<Item = &'l [u8]>) -> Result<()> {
        let certainty = if done {
            Certainty::Durable
        } else {
            Certainty::Unclear
        };
        let outcome = done.then_some(Settled::Done);
        match act {
            Act::Push(ids) => {
                for id in ids {
                    self.failures += 1;
                    self.items.put(id.clone(), self.failures, certainty);
                }
            }
            Act::Take => {
                for line in lines {
                    let (id, token) = taken(line)?;
                    let took = self.items.take(&id, token, 0, LONG);
                    took.map_err(|what| lost(what.to_string()))?;
                }
                if !done {
                    self.items.take_perhaps(|item| item.token().is_none());
                }
            }
            Act::Ack(tokens) => self.settle(tokens, &Change::Remove, outcome),
            Act::Nack(tokens) => self.settle(tokens, &Change::Release(None), outcome),
            Act::Remove(id) => self.items.settle(id, Change::Remove, outcome),
        }
        Ok(())
    }

    fn settle(&mut self, tokens: &[String], change: &Change<usize>, outcome: Option<Settled>) {
        for token in tokens {
            let (key, _) = self.items.outcome(&Claim::Lease(token.clone()), change);
            if let Some(key) = key.cloned() {
                self.items.settle(&key, *change, outcome);
            }
        }
    }

    fn found(&self) -> Result<BTreeMap<String, Stored>> {
        stored(&self.tool, &ADDRESS).map_err(|error| lost(format!("{error:#}")))
    }
}

impl Scene for Letters {
    fn begin(&mut self, random: &mut fastrand::Rng) -> Result<Launch> {
        let act = self.choose(random);
        Ok(self.start(act))
    }

    fn rehearse(&mut self) -> Result<Launch> {
        let act = self.push();
        Ok(self.start(act))
    }

    fn end(&mut self, ended: &Ended, death: &Death) -> Result<()> {
        let act = self.begun.take().context("nothing was begun")?;
        let done = death.outcome(ended)? == Outcome::Done;
        self.note(&act, done, ended.lines())
            .with_context(|| format!("after {act:?}"))
    }

    fn check(&self) -> Result<usize> {
        let found = self.found()?;
        if let Some(id) = found.keys().find(|id| self.items.get(id).is_none()) {
            return Err(lost(format!("item {id} is there again, or was never pushed")));
        }
        let checked = self.items.check_found(|id| found.contains_key(id));
        checked.map_err(|what| lost(what.to_string()))?;
        for item in self.items.items() {
            let Some(stored) = found.get(item.key()) else {
                continue;
            };
            let state_fits = item.is_unclear() || stored.taken == item.token().is_some();
            if !state_fits || !item.failures().contains(&usize::try_from(stored.failures)?) {
                return Err(lost(format!("found {stored:?}; expected {item:?}")));
            }
        }
        Ok(self.items.items().len())
    }

    fn continue_work(&mut self) -> Result<()> {
        let found = self.found()?;
        self.items.adopt(|id| {
            let stored = found.get(id)?;
            Some((usize::try_from(stored.failures).ok()?, stored.taken))
        });
        let act = self.push();
        let (command, input) = self.command(&act);
        let answer = crate::tool::finish(command, &input)?.expect_code(0)?;
        self.note(&act, true, answer.lines())
    }
}

/// The id and the token of a taken item.
fn taken(line: &[u8]) -> Result<(String, String)> {
    let item: Value = serde_json::from_slice(line).context("no JSON line")?;
    let text = |key: &str| item.get(key).and_then(Value::as_str).map(str::to_owned);
    match (text("item_id"), text("lease_token")) {
        (Some(id), Some(token)) => Ok((id, token)),
        _ => bail!("a taken item has no id or no token: {item}"),
    }
}
