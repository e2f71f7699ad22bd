//! Checks the answers of processes against the times of the requests and the stored data:
//!
//! - A write that began after the root was taken away, and was acknowledged, is stored at the root's path.
//! - No process is ever shown an empty store, and after one second none is shown data of the old root.
//! - A refusal names the root. A save is never protected by a lost lock, and no token is issued twice.
//! - A process without a lock continues in a copy of its store, and may refuse a different store. A follower continues,
//!   or ends with an error.

use std::collections::HashSet;
use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::ways::{ADDRESS, COPIED, Leads, OTHER, Place};
use crate::crash::power::process::Ended;
use crate::crash::section::Tally;
use crate::segment;

/// The longest time for which a handle may rely on its last check of the root's path.
const LOOK: Duration = Duration::from_millis(1_050);
/// The folder of checkpoints, relative to a root.
const STATES: &str = "state/crash/mapreduce/jobs/struck";

/// The time from the start of a call to its end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) start: Instant,
    pub(super) end: Instant,
}

impl Span {
    pub(super) fn since(start: Instant) -> Self {
        let end = Instant::now();
        Self { start, end }
    }
}

/// A request and its answer.
#[derive(Debug)]
pub(super) struct Op {
    pub(super) by: usize,
    pub(super) request: String,
    pub(super) span: Span,
    pub(super) answer: String,
}

impl Op {
    /// The stored or returned value; `None` if the request was refused.
    fn done(&self) -> Option<&str> {
        self.answer.strip_prefix("stored").map(str::trim)
    }

    fn word(&self) -> &str {
        self.request.split(' ').next().unwrap_or_default()
    }

    /// The identity of the data that the request stores.
    fn thing(&self) -> Option<Thing> {
        let value: Value = serde_json::from_str(self.request.split_once(' ')?.1).ok()?;
        let text = |key: &str| value.get(key).map(Value::to_string);
        match self.word() {
            "append" => Some(Thing::Event(self.done()?.to_owned())),
            "push" => Some(Thing::Item(text("item_data")?)),
            "save" => Some(Thing::State(text("n")?)),
            _ => None,
        }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "role {} asked `{}` and got `{}`",
            self.by, self.request, self.answer
        )
    }
}

/// The identity of stored data.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Thing {
    /// An event, by its id.
    Event(String),
    /// An item, by its data.
    Item(String),
    /// A checkpoint, by its number.
    State(String),
}

/// A finished trial: the root was taken away while processes sent requests.
pub(super) struct Round<'a> {
    pub(super) place: &'a Place<'a>,
    /// The time at which the root was taken away.
    pub(super) went: Span,
    /// The id of the event that a new process then stored at the root's path.
    pub(super) marker: Option<String>,
    pub(super) ops: Vec<Op>,
    pub(super) follower: Ended,
}

impl Round<'_> {
    pub(super) fn check(mut self, tally: &mut Tally) -> Result<()> {
        self.ops.sort_by_key(|op| op.span.start);
        let here = stored(self.place, self.place.base()).context("what is stored at the path")?;
        let old = match self.place.old() {
            old if old.exists() => Some(stored(self.place, &old).context("what is stored in the old root")?),
            _ => None,
        };
        for op in &self.ops {
            self.write(op, &here, old.as_ref())?;
            self.reading(op)?;
            self.refusal(op)?;
        }
        self.guards()?;
        let tokens = self.tokens()?;
        self.continues()?;
        self.followed()?;
        let after = self.ops.iter().filter(|op| self.is_after(op));
        let (done, refused): (Vec<_>, Vec<_>) = after.partition(|op| op.done().is_some());
        tally.add(
            "requests before a root went",
            self.ops.len() - done.len() - refused.len(),
        );
        tally.add(
            "requests behind that, answered from where the path led",
            done.len(),
        );
        tally.add(
            "requests behind that, refused with an error that names the root",
            refused.len(),
        );
        tally.add("tokens of a lock behind that, none twice", tokens);
        Ok(())
    }

    fn leads(&self) -> Leads {
        self.place.way.leads
    }

    fn is_after(&self, op: &Op) -> bool {
        op.span.start >= self.went.end
    }

    /// Checks that acknowledged data is stored: at the root's path if the request began after the root was taken
    /// away, otherwise at the root's path or in the old root.
    fn write(&self, op: &Op, here: &HashSet<Thing>, old: Option<&HashSet<Thing>>) -> Result<()> {
        let (Some(thing), Some(_)) = (op.thing(), op.done()) else {
            return Ok(());
        };
        let is_old = old.map(|old| old.contains(&thing));
        let holds = if self.is_after(op) {
            here.contains(&thing)
        } else {
            is_old != Some(false) || here.contains(&thing)
        };
        ensure!(
            holds,
            "{op}, {:?} after the root had gone; it is not at the path, in the old root: {is_old:?}",
            op.span.start.saturating_duration_since(self.went.end),
        );
        Ok(())
    }

    fn reading(&self, op: &Op) -> Result<()> {
        let (true, Some(given)) = (op.word() == "latest", op.done()) else {
            return Ok(());
        };
        // While the root is removed file by file, the store may appear empty.
        let is_going = op.span.start < self.went.end && op.span.end > self.went.start;
        ensure!(given != "nothing" || is_going, "an empty store was read: {op}");
        if op.span.start < self.went.end + LOOK {
            return Ok(());
        }
        let number = |value: &str| serde_json::from_str::<Value>(value).ok()?.get("n")?.as_i64();
        let is_new = |fresh: i64| {
            let mut saves = self.ops.iter().filter(|op| op.span.end >= self.went.start);
            number(given) == Some(fresh) || saves.any(|op| op.request == format!("save {given}"))
        };
        match self.leads() {
            Leads::Copy => ensure!(is_new(COPIED), "the old root was read: {op}"),
            Leads::Other => ensure!(is_new(OTHER), "the old root was read: {op}"),
            Leads::Nowhere | Leads::Empty => bail!("a root that is not there was read: {op}"),
            Leads::Same | Leads::ReadOnly | Leads::Shut => {}
        }
        Ok(())
    }

    fn refusal(&self, op: &Op) -> Result<()> {
        if op.done().is_some() {
            return Ok(());
        }
        ensure!(
            op.span.end >= self.went.start,
            "refused before the root went: {op}"
        );
        let names_root = op.answer.contains(&*self.place.base().to_string_lossy());
        ensure!(names_root, "the error does not name the root: {op}");
        Ok(())
    }

    /// Checks that no save is acknowledged under a lock of the old root.
    fn guards(&self) -> Result<()> {
        if !matches!(
            self.leads(),
            Leads::Copy | Leads::Other | Leads::Empty | Leads::Nowhere
        ) {
            return Ok(());
        }
        let mut guard: Option<&Op> = None;
        for op in self.ops.iter().filter(|op| op.by != usize::MAX) {
            match op.word() {
                "lock" => guard = op.done().map(|_| op),
                "unlock" => guard = None,
                "save" if op.done().is_some() && self.is_after(op) => {
                    let lost = guard.filter(|lock| lock.span.end <= self.went.start);
                    ensure!(lost.is_none(), "{op}, under a lock that was lost: {lost:?}");
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Checks the lock's tokens that were issued after the root was taken away: none was issued twice, and they
    /// ascend.
    fn tokens(&self) -> Result<usize> {
        let mut given: Vec<(u64, Span)> = Vec::new();
        for op in self
            .ops
            .iter()
            .filter(|op| op.word() == "lock" && self.is_after(op))
        {
            let Some(token) = op.done() else { continue };
            let token = token.parse().with_context(|| format!("no token: {op}"))?;
            for (other, span) in &given {
                let rises = *other < token || span.end > op.span.start && *other != token;
                ensure!(rises, "{op}, and {other} was given before");
            }
            given.push((token, op.span));
        }
        Ok(given.len())
    }

    /// Checks that the last read of a process without a lock succeeded, if its root still leads to a store.
    fn continues(&self) -> Result<()> {
        let last = self.ops.iter().rfind(|op| op.word() == "latest");
        let last = last.context("nobody read")?;
        let has_store = matches!(self.leads(), Leads::Copy | Leads::ReadOnly);
        ensure!(
            !has_store || last.done().is_some(),
            "a reader does not go on: {last}"
        );
        Ok(())
    }

    /// Checks that the follower received each event once, and that it either received the event of the new process or
    /// ended with an error.
    fn followed(&self) -> Result<()> {
        let mut seen = HashSet::new();
        for line in self.follower.lines() {
            let id = segment::record(line)?.id.to_string();
            ensure!(seen.insert(id.clone()), "a follower was given {id} twice");
        }
        let continues = match &self.marker {
            Some(marker) => seen.contains(marker),
            None => self.leads() == Leads::ReadOnly,
        };
        let failed =
            self.follower.code.is_some_and(|code| code != 0) && self.follower.stderr.contains("error: ");
        ensure!(
            continues || failed,
            "{}",
            self.follower
                .unexpected("the event behind the change, or an error")
        );
        Ok(())
    }
}

/// All data in a root; empty for a missing root.
fn stored(place: &Place<'_>, base: &Path) -> Result<HashSet<Thing>> {
    let mut found = HashSet::new();
    if !base.exists() {
        return Ok(found);
    }
    let tool = place.tool().clone().over(base.to_owned());
    let cat = tool.run(["events", "cat"].iter().chain(&ADDRESS), b"")?;
    for line in cat.lines() {
        found.insert(Thing::Event(segment::record(line)?.id.to_string()));
    }
    let list = tool.run(["--json", "dlq", "list"].iter().chain(&ADDRESS), b"")?;
    for line in list.lines() {
        let item: Value = serde_json::from_slice(line)?;
        let data = item.get("item_data").context("an item without data")?;
        found.insert(Thing::Item(data.to_string()));
    }
    let states = base.join(STATES);
    let files = if states.exists() {
        Some(std::fs::read_dir(&states)?)
    } else {
        None
    };
    for file in files.into_iter().flatten() {
        let path = file?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if name.starts_with("map-checkpoint-") {
            let bytes = std::fs::read(&path)?;
            // An older checkpoint may be compressed.
            let text = match name.ends_with(".zst") {
                true => zstd::decode_all(bytes.as_slice())?,
                false => bytes,
            };
            let state: Value = serde_json::from_slice(&text)?;
            found.extend(state.pointer("/data/n").map(|n| Thing::State(n.to_string())));
        }
    }
    Ok(found)
}
