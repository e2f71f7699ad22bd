//! Rows of the dead-letter queue at different sizes.

mod changes;
mod emptying;
mod first;
mod push;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use prodigy_storage::{DeadLetter, Failure, ItemId, Job, LeaseToken, Select, Storage};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use crate::lab::Bench;
use crate::row::Row;
use crate::store;

/// The number of items in a take.
pub(crate) const TAKEN: usize = 10;
pub(crate) const LEASE: Duration = Duration::from_secs(3_600);
/// The length of an item's text, in bytes: the item has about 2 KB.
const TEXT: usize = 1_600;
/// The reason why a row that is compared with SQLite is skipped.
const WITHOUT_PEERS: &str = "built without the feature `peers`";

pub(crate) use emptying::redrive;

pub(crate) fn rows() -> Vec<Row> {
    [push::rows(), changes::rows(), emptying::rows(), first::rows()]
        .into_iter()
        .flatten()
        .collect()
}

/// A work item.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Work {
    path: String,
    prompt: String,
    pub(crate) n: u64,
}

/// The n-th dead letter of a seed, of about 2 KB.
pub(crate) fn letter(seed: u64, n: usize) -> Result<DeadLetter<Work>> {
    letter_of(seed, n, TEXT)
}

/// The n-th dead letter of a seed, with a text of this length.
fn letter_of(seed: u64, n: usize, text: usize) -> Result<DeadLetter<Work>> {
    let mut random = fastrand::Rng::with_seed(seed ^ n as u64);
    let prompt = std::iter::repeat_with(|| random.alphanumeric())
        .take(text)
        .collect();
    let work = Work {
        path: format!("src/file-{n}.rs"),
        prompt,
        n: n as u64,
    };
    Ok(DeadLetter::new(id(seed, n)?, work).failure(failure(n)))
}

fn id(seed: u64, n: usize) -> Result<ItemId> {
    Ok(ItemId::new(format!("item-{seed:016x}-{n:07}"))?)
}

fn failure(n: usize) -> Failure {
    Failure::new("timeout", format!("agent {} gave up after {n} s", n % 16))
}

/// The number of all items, and the sum of their numbers.
fn stored(job: &Job) -> Result<(usize, u64)> {
    let (mut count, mut sum) = (0, 0u64);
    for item in job.dlq().scan(&Select::any())? {
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

/// Acknowledges items, all of which have to exist.
pub(crate) fn acknowledge(job: &Job, tokens: &[LeaseToken]) -> Result<()> {
    let settled = job.dlq().ack(tokens)?;
    ensure!(
        settled.iter().all(|settled| settled.is_done()),
        "a taken item is not taken"
    );
    Ok(())
}

/// A queue with items.
#[derive(Debug)]
struct Queue {
    folder: TempDir,
    _storage: Storage,
    job: Job,
}

impl Queue {
    /// A queue with the first dead letters of seed 0.
    fn make(bench: &Bench, items: usize) -> Result<Self> {
        Self::make_of(bench, items, TEXT, true)
    }

    fn make_of(bench: &Bench, items: usize, text: usize, strict: bool) -> Result<Self> {
        let folder = bench.folder()?;
        let storage = store::open(folder.path(), strict)?;
        let job = store::job(&storage)?;
        let queue = Self {
            folder,
            _storage: storage,
            job,
        };
        queue.fill(0..items, text)?;
        Ok(queue)
    }

    /// Pushes the dead letters of seed 0 with these numbers.
    fn fill(&self, items: std::ops::Range<usize>, text: usize) -> Result<()> {
        for start in items.clone().step_by(1_000) {
            let letters = (start..(start + 1_000).min(items.end))
                .map(|n| letter_of(0, n, text))
                .collect::<Result<Vec<_>>>()?;
            self.job.dlq().push_batch(letters)?;
        }
        Ok(())
    }

    fn root(&self) -> &Path {
        self.folder.path()
    }

    /// The files of the queue: items and journal.
    fn files(&self) -> Result<Vec<PathBuf>> {
        files(self.root())
    }

    /// The size of the queue's files, in bytes.
    fn bytes(&self) -> Result<u64> {
        self.files()?
            .iter()
            .map(|path| Ok(fs::metadata(path)?.len()))
            .sum()
    }
}

/// The files of the queue in a folder's store.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let dlq = folder.join("root/dlq").join(store::REPO).join(store::JOB);
    let entries = fs::read_dir(&dlq).with_context(|| dlq.display().to_string())?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|end| end == "json" || end == "journal")
        {
            files.push(path);
        }
    }
    Ok(files)
}
