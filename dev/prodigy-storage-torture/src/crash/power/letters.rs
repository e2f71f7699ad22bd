//! Dead letters: what was acknowledged of each item, and in which state it is.

use std::collections::{BTreeMap, HashSet};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::death::Death;
use super::log::REPO;
use super::lost::lost;
use super::process::{Ended, Outcome};
use super::scene::{Launch, Scene};
use crate::tool::Tool;

const ADDRESS: [&str; 4] = ["--repo", REPO, "--job", "lost"];

/// How an item may be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum State {
    Absent,
    Pending,
    Taken,
}

/// An operation of a process on the queue.
#[derive(Clone, Debug)]
enum Act {
    Push(Vec<String>),
    Take,
    Ack(Vec<String>),
    Nack(Vec<String>),
    Remove(String),
}

/// The known state of an item.
#[derive(Debug)]
struct Item {
    /// The states that it may be in.
    states: Vec<State>,
    /// Its lease's token, if an acknowledged take holds it.
    token: Option<String>,
    /// How often its failure was acknowledged, and tried.
    pushed: u64,
    tried: u64,
}

/// A job's dead letters.
#[derive(Debug)]
pub(crate) struct Letters {
    tool: Tool,
    items: BTreeMap<String, Item>,
    next: usize,
    /// The operation of the running process.
    begun: Option<Act>,
}

impl Letters {
    /// None so far, in the tool's store.
    pub(crate) fn new(tool: Tool) -> Self {
        Self {
            tool,
            items: BTreeMap::new(),
            next: 0,
            begun: None,
        }
    }

    /// Three new ones, and one that has failed before.
    fn push(&mut self) -> Act {
        let known = self
            .items
            .iter()
            .find(|(_, item)| item.states == [State::Pending]);
        let mut ids: Vec<String> = known.map(|(id, _)| id.clone()).into_iter().collect();
        for _ in 0..3 {
            ids.push(format!("item-{:06}", self.next));
            self.next += 1;
        }
        Act::Push(ids)
    }

    fn choose(&mut self, random: &mut fastrand::Rng) -> Act {
        let of = |state| {
            let items = self.items.iter().filter(move |(_, item)| item.states == [state]);
            items
                .map(|(id, item)| (id.clone(), item.token.clone()))
                .collect::<Vec<_>>()
        };
        let (pending, taken) = (of(State::Pending), of(State::Taken));
        let tokens: Vec<String> = taken.into_iter().filter_map(|(_, token)| token).take(2).collect();
        match random.u8(..8) {
            0..2 if !pending.is_empty() => Act::Take,
            2..4 if !tokens.is_empty() => Act::Ack(tokens),
            4 if !tokens.is_empty() => Act::Nack(tokens),
            5 if pending.len() > 4 => {
                let chosen = random.choice(pending).map(|(id, _)| id);
                chosen.map_or_else(|| self.push(), Act::Remove)
            }
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
                for id in ids {
                    let line = format!(r#"{{"item_id":"{id}","item_data":{{"of":"{id}"}}}}"#);
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

    /// Notes what a process may have done, and what it has.
    fn note<'l>(&mut self, act: &Act, done: bool, lines: impl Iterator<Item = &'l [u8]>) -> Result<()> {
        match act {
            Act::Push(ids) => {
                for id in ids {
                    let item = self.items.entry(id.clone()).or_insert_with(Item::new);
                    item.to(State::Pending, done);
                    item.tried += 1;
                    item.pushed += u64::from(done);
                }
            }
            Act::Take => {
                let taken: Vec<(String, String)> = lines.map(taken).collect::<Result<_>>()?;
                for (id, token) in taken {
                    let item = self.items.get_mut(&id);
                    let item = item.with_context(|| format!("{id} was taken and never pushed"))?;
                    if !item.states.contains(&State::Pending) {
                        return Err(lost(format!("{id} was taken twice")));
                    }
                    item.states = vec![State::Taken];
                    item.token = Some(token);
                }
                if !done {
                    let pending = |item: &&mut Item| item.states == [State::Pending];
                    self.items
                        .values_mut()
                        .filter(pending)
                        .for_each(|item| item.to(State::Taken, false));
                }
            }
            Act::Ack(tokens) => self.settle(tokens, State::Absent, done),
            Act::Nack(tokens) => self.settle(tokens, State::Pending, done),
            Act::Remove(id) => {
                if let Some(item) = self.items.get_mut(id) {
                    item.to(State::Absent, done);
                }
            }
        }
        Ok(())
    }

    fn settle(&mut self, tokens: &[String], state: State, done: bool) {
        for item in self.items.values_mut() {
            if item.token.as_ref().is_some_and(|token| tokens.contains(token)) {
                item.to(state, done);
            }
        }
    }

    /// The items as they are, with how often each has failed.
    fn found(&self) -> Result<BTreeMap<String, (State, u64)>> {
        let answer = self
            .tool
            .run(["--json", "dlq", "list"].iter().chain(&ADDRESS), b"")?;
        match answer.code() {
            Some(0) => {}
            Some(4) => return Ok(BTreeMap::new()),
            _ => return Err(lost(answer.unexpected("all items").to_string())),
        }
        let mut found = BTreeMap::new();
        for line in answer.lines() {
            let item: Value = serde_json::from_slice(line).context("no item")?;
            let id = item.get("item_id").and_then(Value::as_str).context("no id")?;
            let of = item.pointer("/item_data/of").and_then(Value::as_str);
            if of != Some(id) {
                return Err(lost(format!("item {id} has the data of {of:?}")));
            }
            let count = item.get("failure_count").and_then(Value::as_u64);
            let state = if item.get("lease_until").is_some() {
                State::Taken
            } else {
                State::Pending
            };
            if found
                .insert(id.to_owned(), (state, count.unwrap_or_default()))
                .is_some()
            {
                return Err(lost(format!("item {id} is there twice")));
            }
        }
        Ok(found)
    }

    /// An unclear state is replaced by the found one.
    fn settle_as_found(&mut self) -> Result<()> {
        let found = self.found()?;
        for (id, item) in &mut self.items {
            let (state, count) = found.get(id).copied().unwrap_or((State::Absent, item.pushed));
            if item.states.len() > 1 && state != State::Taken {
                item.token = None;
            }
            item.states = vec![state];
            (item.pushed, item.tried) = (count, count);
        }
        // An absent item may not come back: `check` treats it as unknown.
        self.items.retain(|_, item| item.states != [State::Absent]);
        Ok(())
    }
}

impl Item {
    fn new() -> Self {
        Self {
            states: vec![State::Absent],
            token: None,
            pushed: 0,
            tried: 0,
        }
    }

    /// It is in this state, or may be. Who fails again while it is taken stays taken.
    fn to(&mut self, state: State, surely: bool) {
        if surely {
            self.states.clear();
        }
        if !self.states.contains(&state) {
            self.states.push(state);
        }
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
        let known: HashSet<&String> = self.items.keys().collect();
        if let Some(id) = found.keys().find(|id| !known.contains(id)) {
            return Err(lost(format!("item {id} is there again, or was never pushed")));
        }
        for (id, item) in &self.items {
            let (state, count) = found.get(id).copied().unwrap_or((State::Absent, item.pushed));
            if !item.states.contains(&state) {
                return Err(lost(format!(
                    "item {id} is {state:?}, it can only be {:?}",
                    item.states
                )));
            }
            if !(item.pushed..=item.tried).contains(&count) {
                return Err(lost(format!(
                    "item {id} has failed {count} times; {} were acknowledged, {} tried",
                    item.pushed, item.tried
                )));
            }
        }
        Ok(self.items.len())
    }

    fn go_on(&mut self) -> Result<()> {
        self.settle_as_found()?;
        let act = self.push();
        let (command, input) = self.command(&act);
        let answer = crate::tool::finish(command, &input)?.expect_code(0)?;
        self.note(&act, true, answer.lines())
    }
}

/// Id and token of a taken item.
fn taken(line: &[u8]) -> Result<(String, String)> {
    let item: Value = serde_json::from_slice(line).context("no JSON line")?;
    let text = |key: &str| item.get(key).and_then(Value::as_str).map(str::to_owned);
    match (text("item_id"), text("lease_token")) {
        (Some(id), Some(token)) => Ok((id, token)),
        _ => bail!("a taken item has no id or no token: {item}"),
    }
}
