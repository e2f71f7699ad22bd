//! The dead-letter queue as it grows.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use prodigy_storage::{DeadLetter, Failure, ItemId, Job, LeaseToken, Select, Storage};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use crate::bar::Bar;
use crate::clock::per_operation;
use crate::lab::{Bench, Lab};
use crate::row::{ALL_ROUNDS, Contestant, Plan, Role, Row, Turn};
use crate::store;

/// Items of a take.
pub(crate) const TAKEN: usize = 100;
pub(crate) const LEASE: Duration = Duration::from_secs(3_600);

pub(crate) fn rows() -> Vec<Row> {
    vec![
        Row {
            key: "dlq-push",
            group: "dlq",
            work: "DLQ push, strict, long-lived handle, at 100,000 items",
            against: "at 10 items",
            unit: "µs",
            bar: Bar::AtMost(1.2),
            rounds: ALL_ROUNDS,
            plan: push,
        },
        Row {
            key: "dlq-take",
            group: "dlq",
            work: "DLQ take of 100 at 10,000 items",
            against: "read + write + fsync + rename of the same bytes",
            unit: "µs",
            bar: Bar::AtMost(1.3),
            rounds: ALL_ROUNDS,
            plan: take,
        },
    ]
}

/// A work item: about 2 KB as a dead letter.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Work {
    path: String,
    prompt: String,
    pub(crate) n: u64,
}

/// The n-th dead letter of a seed.
pub(crate) fn letter(seed: u64, n: usize) -> Result<DeadLetter<Work>> {
    let mut random = fastrand::Rng::with_seed(seed ^ n as u64);
    let prompt = std::iter::repeat_with(|| random.alphanumeric())
        .take(1_600)
        .collect();
    let work = Work {
        path: format!("src/file-{n}.rs"),
        prompt,
        n: n as u64,
    };
    let failure = Failure::new("timeout", format!("agent {} gave up after {n} s", n % 16));
    Ok(DeadLetter::new(ItemId::new(format!("item-{seed:016x}-{n:07}"))?, work).failure(failure))
}

/// The sum of all numbers of items, and how many there are.
fn stored(job: &Job) -> Result<(usize, u64)> {
    let (mut count, mut sum) = (0, 0u64);
    for item in job.dlq().scan()? {
        let item = item?;
        ensure!(item.verified, "{} has no checksum", item.id);
        sum = sum.wrapping_add(item.data::<Work>()?.n);
        count += 1;
    }
    Ok((count, sum))
}

fn numbers(range: std::ops::Range<usize>) -> u64 {
    range.fold(0, |sum: u64, n| sum.wrapping_add(n as u64))
}

/// A queue with items.
#[derive(Debug)]
struct Queue {
    folder: TempDir,
    _storage: Storage,
    job: Job,
}

impl Queue {
    fn make(bench: &Bench, items: usize) -> Result<Self> {
        let folder = bench.folder()?;
        let storage = store::open(folder.path(), true)?;
        let job = store::job(&storage)?;
        for start in (0..items).step_by(1_000) {
            let letters = (start..(start + 1_000).min(items))
                .map(|n| letter(0, n))
                .collect::<Result<Vec<_>>>()?;
            job.dlq().push_batch(letters)?;
        }
        Ok(Self {
            folder,
            _storage: storage,
            job,
        })
    }

    /// Pushes items one by one; returns microseconds per item.
    fn push(&self, seed: u64, pushes: usize) -> Result<f64> {
        let letters = (0..pushes).map(|n| letter(seed, n)).collect::<Result<Vec<_>>>()?;
        let before = stored(&self.job)?;
        let dlq = self.job.dlq();
        let began = Instant::now();
        for letter in &letters {
            dlq.push(letter)?;
        }
        let took = per_operation(began, pushes);
        let wanted = (before.0 + pushes, before.1.wrapping_add(numbers(0..pushes)));
        ensure!(stored(&self.job)? == wanted, "not every pushed item is there");
        Ok(took)
    }
}

fn push(lab: &Lab) -> Result<Plan> {
    let pushes = lab.of(500);
    let large = Queue::make(&lab.bench(), lab.of(100_000))?;
    let bench = lab.bench();
    let mut works = vec![
        Contestant::ours(move |turn: Turn| large.push(turn.seed, pushes)),
        Contestant::new(Role::Against, "at 10 items", move |turn: Turn| {
            Queue::make(&bench, 10)?.push(turn.seed, pushes)
        }),
        bare_push(lab.bench(), pushes),
    ];
    works.extend(crate::peers::queue::pushes(lab, pushes)?);
    Ok(Plan::Measure(works))
}

/// The limit: a line and a sync.
fn bare_push(bench: Bench, pushes: usize) -> Contestant {
    Contestant::new(
        Role::Limit,
        "serde_json + write + fdatasync",
        move |turn: Turn| {
            let folder = bench.folder()?;
            let letters = (0..pushes)
                .map(|n| letter(turn.seed, n))
                .collect::<Result<Vec<_>>>()?;
            let mut file = File::create(folder.path().join("items"))?;
            let mut buffer = Vec::new();
            let began = Instant::now();
            for letter in &letters {
                buffer.clear();
                serde_json::to_writer(&mut buffer, letter)?;
                buffer.push(b'\n');
                file.write_all(&buffer)?;
                file.sync_data()?;
            }
            let took = per_operation(began, pushes);
            let text = fs::read_to_string(folder.path().join("items"))?;
            ensure!(text.lines().count() == pushes, "not every item is there");
            Ok(took)
        },
    )
}

/// Takes of a turn.
pub(crate) fn takes(lab: &Lab) -> usize {
    lab.of(80).min(lab.of(10_000) / (2 * TAKEN)).max(2)
}

fn take(lab: &Lab) -> Result<Plan> {
    let takes = takes(lab);
    let items = lab.of(10_000);
    let queue = Rc::new(Queue::make(&lab.bench(), items)?);
    let copied = Rc::clone(&queue);
    let bench = lab.bench();
    let ours = Contestant::ours(move |_| {
        let dlq = queue.job.dlq();
        let mut taken = Vec::new();
        let began = Instant::now();
        for _ in 0..takes {
            taken.extend(dlq.take(&Select::all(), TAKEN, LEASE)?);
        }
        let took = per_operation(began, takes);
        let sum = taken.iter().try_fold(0u64, |sum, taken| {
            anyhow::Ok(sum.wrapping_add(taken.data::<Work>()?.n))
        })?;
        ensure!(
            taken.len() == takes * TAKEN && sum == numbers(0..takes * TAKEN),
            "not the oldest items were taken, each once"
        );
        let tokens: Vec<LeaseToken> = taken.iter().map(|taken| taken.token().clone()).collect();
        let settled = dlq.nack(&tokens)?;
        ensure!(settled.settled.len() == tokens.len(), "a taken item is not taken");
        ensure!(stored(&queue.job)?.0 == items, "items are gone");
        Ok(took)
    });
    let bare = Contestant::new(Role::Against, "read + write + fsync + rename", move |_| {
        let path = copied
            .folder
            .path()
            .join("root/dlq")
            .join(store::REPO)
            .join(store::JOB)
            .join("items.json");
        let folder = bench.folder()?;
        let copy = folder.path().join("items.json");
        fs::copy(&path, &copy).with_context(|| path.display().to_string())?;
        let began = Instant::now();
        for _ in 0..takes {
            rewrite(folder.path(), &copy)?;
        }
        let took = per_operation(began, takes);
        ensure!(fs::read(&copy)? == fs::read(&path)?, "the copy is another one");
        Ok(took)
    });
    let mut works = vec![ours, bare];
    works.extend(crate::peers::queue::takes(lab, items, takes)?);
    Ok(Plan::Measure(works))
}

fn rewrite(folder: &Path, path: &Path) -> Result<()> {
    let bytes = fs::read(path)?;
    let temp = folder.join(".temp");
    let mut file = File::create(&temp)?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    fs::rename(&temp, path)?;
    Ok(())
}
