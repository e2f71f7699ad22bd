//! A worker of `cargo xtask crash --only letters`: changes one queue in all possible ways, until it is killed.
//!
//! `torture-letters STORE NAME SEED change` makes random changes; `torture-letters STORE NAME SEED redrive` redrives
//! with leases that are shorter than the work, until the queue is empty. Each call is reported in two JSON lines,
//! before and after it, with the time since the boot in nanoseconds.
#![allow(clippy::print_stdout, reason = "a program of the command line")]

mod opened;
mod told;

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use prodigy_storage::{
    Change, Claim, DeadLetter, Dlq, Eligible, ErrorKind, Failure, ItemId, LeaseToken, Outcome,
    RedriveOptions, Select, Settled, Settlement, Storage, StorageError, Taken,
};
use serde_json::{Value, json};

use told::{now, tell};

/// The prefix of items that are pushed repeatedly and never removed.
const KEPT: &str = "kept";
const KEPT_ITEMS: u8 = 4;
/// The lease of a redrive, which is shorter than most work.
const LEASE: Duration = Duration::from_millis(400);
/// The longest work on an item, in milliseconds.
const WORK: u64 = 1_200;

struct Worker {
    dlq: Dlq,
    by: String,
    random: fastrand::Rng,
    pushed: u32,
    /// The items that this worker has taken, each with its lease token.
    held: Vec<(ItemId, LeaseToken)>,
    /// The items that this worker has pushed.
    own: Vec<ItemId>,
}

fn main() -> Result<()> {
    let mut words = std::env::args().skip(1);
    let mut word = |what: &str| words.next().with_context(|| format!("no {what} is given"));
    let (store, by, seed, role) = (word("store")?, word("name")?, word("seed")?, word("role")?);
    opened::end_with_parent();
    let storage = opened(&store)?;
    let dlq = storage.repo("letters")?.job(&role)?.dlq();
    let seed: u64 = seed.parse().context("the seed is no number")?;
    match role.as_str() {
        "change" => Worker {
            dlq,
            by,
            random: fastrand::Rng::with_seed(seed),
            pushed: 0,
            held: Vec::new(),
            own: Vec::new(),
        }
        .run(),
        "redrive" => redrive(&dlq, &by, seed),
        other => bail!("no role is named `{other}`"),
    }
}

/// Opens a store; waits for a database that is temporarily unavailable.
fn opened(store: &str) -> Result<Storage> {
    loop {
        match opened::open(store) {
            Err(error) if error.is_transient() => thread::sleep(Duration::from_millis(20)),
            opened => return Ok(opened?),
        }
    }
}

/// Reports a call, makes it, and reports its result. A timeout, an unknown outcome or a transient error is a result,
/// too: other workers are stopped and killed meanwhile, and a database may be killed.
fn report<T>(
    call: &Value,
    make: impl FnOnce() -> Result<T, StorageError>,
    shown: impl FnOnce(&T) -> Value,
) -> Result<Option<T>> {
    tell(&json!({"begin": {"at": now(), "call": call}}))?;
    let (result, done) = match make() {
        Ok(done) => (shown(&done), Some(done)),
        Err(error) if error.is_transient() => (json!("unclear"), None),
        Err(error) => match error.kind() {
            ErrorKind::LockUnavailable | ErrorKind::Timeout | ErrorKind::OutcomeUnknown => {
                (json!("unclear"), None)
            }
            _ => return Err(error.into()),
        },
    };
    tell(&json!({"end": {"at": now(), "result": result}}))?;
    Ok(done)
}

fn letter(id: &ItemId, number: u32) -> DeadLetter<Value> {
    DeadLetter::new(
        id.clone(),
        json!({"of": id, "text": "x".repeat(number as usize % 900)}),
    )
    .failure(Failure::new("Torture", format!("failure {number}")))
}

impl Worker {
    fn run(mut self) -> Result<()> {
        loop {
            match self.random.u8(..20) {
                0..5 => self.push()?,
                5..10 => self.take()?,
                10..17 => self.settle()?,
                17..19 => self.operate()?,
                _ => {
                    let dlq = self.dlq.clone();
                    report(&json!("compact"), || dlq.compact(), |_| json!("compacted"))?;
                }
            }
        }
    }

    fn push(&mut self) -> Result<()> {
        let mut letters = Vec::new();
        for _ in 0..self.random.u32(1..6) {
            let id = ItemId::new(format!("{}-{}", self.by, self.pushed))?;
            letters.push(letter(&id, self.pushed));
            self.own.push(id);
            self.pushed += 1;
        }
        if self.random.bool() {
            let id = ItemId::new(format!("{KEPT}-{}", self.random.u8(..KEPT_ITEMS)))?;
            letters.push(letter(&id, self.random.u32(..)));
        }
        let ids: Vec<&ItemId> = letters.iter().map(|letter| &letter.item_id).collect();
        let call = json!({"push": {"items": ids}});
        report(&call, || self.dlq.push_batch(&letters), |_| json!("pushed")).map(drop)
    }

    fn take(&mut self) -> Result<()> {
        let limit = self.random.usize(1..6);
        let lease = Duration::from_millis(self.random.choice([200, 800, 60_000]).unwrap_or(800));
        let select = match self.random.u8(..4) {
            0 => Select::any().with(Eligible::Yes).error_type("Torture"),
            _ => Select::eligible(),
        };
        let call = json!({"take": {"lease": lease.as_nanos() as u64}});
        let shown = |taken: &Vec<Taken>| {
            let pairs = taken
                .iter()
                .map(|taken| json!({"item": taken.id(), "token": taken.token()}));
            json!({"taken": pairs.collect::<Vec<_>>()})
        };
        let taken = report(&call, || self.dlq.take(&select, limit, lease), shown)?;
        let taken = taken.unwrap_or_default();
        taken.iter().for_each(Taken::keep);
        self.held.extend(
            taken
                .iter()
                .map(|taken| (taken.id().clone(), taken.token().clone())),
        );
        Ok(())
    }

    /// Settles a taken item, extends its lease, or abandons it.
    fn settle(&mut self) -> Result<()> {
        if self.held.is_empty() {
            return self.take();
        }
        let at = self.random.usize(..self.held.len());
        let (item, token) = self.held.swap_remove(at);
        let kept = item.as_str().starts_with(KEPT);
        let length = Duration::from_millis(self.random.choice([0, 300, 2_000]).unwrap_or(0));
        let (how, change) = match self.random.u8(..8) {
            0..3 if !kept => ("remove", Change::Remove),
            3 => {
                self.held.push((item.clone(), token.clone()));
                let length = length + Duration::from_millis(200);
                return self.change(&item, Some(token), "extend", Change::Extend(length), length);
            }
            4 => (
                "fail",
                Change::Fail(letter(&item, self.random.u32(..)).to_item()?),
            ),
            5 if !kept => (
                "park",
                Change::Park {
                    reason: Some("torture".to_owned()),
                },
            ),
            6 => return Ok(()),
            _ => ("release", Change::Release { delay: length }),
        };
        let length = if how == "release" { length } else { Duration::ZERO };
        self.change(&item, Some(token), how, change, length)
    }

    /// Changes an item that this worker pushed by its id, as an operator would.
    fn operate(&mut self) -> Result<()> {
        let Some(item) = self.random.choice(&self.own).cloned() else {
            return self.push();
        };
        let (how, change) = match self.random.u8(..5) {
            0 => ("remove", Change::Remove),
            1 => ("park", Change::Park { reason: None }),
            2 => ("unpark", Change::Unpark),
            3 => {
                let edited = letter(&item, self.random.u32(..)).to_item()?;
                ("edit", Change::Edit(edited.body))
            }
            _ => (
                "release",
                Change::Release {
                    delay: Duration::ZERO,
                },
            ),
        };
        self.change(&item, None, how, change, Duration::ZERO)
    }

    fn change(
        &mut self,
        item: &ItemId,
        token: Option<LeaseToken>,
        how: &str,
        change: Change,
        length: Duration,
    ) -> Result<()> {
        let call = json!({"settle": {
            "item": item, "token": token, "how": how, "length": length.as_nanos() as u64,
        }});
        let claim = match token {
            Some(token) => Claim::Lease(token),
            None => Claim::Item(item.clone()),
        };
        let settlement = [Settlement::new(claim, change)];
        let shown = |settled: &Vec<Settled>| {
            json!({"settled": match settled.first() {
                Some(Settled::Done) => "done",
                Some(Settled::Kept) => "kept",
                Some(Settled::Unknown) => "unknown",
                Some(Settled::Changed) => "changed",
                Some(Settled::Already) => "already",
                _ => "nothing",
            }})
        };
        report(&call, || self.dlq.settle(&settlement), shown).map(drop)
    }
}

/// Redrives until the queue is empty. Most work takes longer than the lease.
fn redrive(dlq: &Dlq, by: &str, seed: u64) -> Result<()> {
    let turn = AtomicU64::new(seed);
    loop {
        let options = RedriveOptions::new().lease(LEASE).concurrency(2);
        let report = dlq.redrive(Select::eligible(), &options, |item| {
            let mut random = fastrand::Rng::with_seed(turn.fetch_add(1, Ordering::Relaxed));
            // If a report can't be written, the process ends at the next call.
            let _ = tell(&json!({"work": {"item": item.id, "by": by}}));
            thread::sleep(Duration::from_millis(random.u64(..WORK)));
            let _ = tell(&json!({"worked": {"item": item.id, "by": by}}));
            Outcome::Done
        })?;
        tell(&json!({"ran": {"done": report.done, "lost": report.lost}}))?;
        if dlq.summary()?.items == 0 {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(50));
    }
}
