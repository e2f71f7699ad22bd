//! The dead-letter queue as it grows.

use std::sync::OnceLock;
use std::time::Instant;

use prodigy_storage::{DeadLetter, Failure, ItemId, Job, Storage};

use crate::append::store;
use crate::row::{Row, per_operation};

const AT_ONCE: usize = 1_000;

pub(crate) fn rows() -> Vec<Row> {
    vec![
        Row {
            name: "dlq push, strict, the last 1,000 of 20,000",
            against: "the first 1,000, in an empty queue",
            bar: 2.0,
            ours: |_| pushes(20_000 - AT_ONCE),
            theirs: |_| pushes(0),
        },
        Row {
            name: "dlq push, strict, at 100,000 items",
            against: "at 10 items",
            bar: 1.2,
            ours: |_| into_large(),
            theirs: |_| pushes(10),
        },
    ]
}

/// An item of about 2 KB.
fn item(n: usize) -> anyhow::Result<DeadLetter<serde_json::Value>> {
    let data = serde_json::json!({"path": format!("src/file-{n}.rs"), "prompt": "x".repeat(1_600), "n": n});
    let failure = Failure::new("timeout", format!("agent {} gave up after {n} s", n % 16));
    Ok(DeadLetter::new(ItemId::new(format!("item-{n:07}"))?, data).failure(failure))
}

fn fill(job: &Job, from: usize, to: usize) -> anyhow::Result<()> {
    for start in (from..to).step_by(1_000) {
        let batch = (start..to.min(start + 1_000))
            .map(item)
            .collect::<anyhow::Result<Vec<_>>>()?;
        job.dlq().push_batch(batch)?;
    }
    Ok(())
}

/// Microseconds a push, of 1,000 pushes into a queue of so many items, through one handle.
fn pushes(already: usize) -> anyhow::Result<f64> {
    let folder = tempfile::tempdir()?;
    let (_storage, job) = store(&folder, true)?;
    fill(&job, 0, already)?;
    timed(&job, already)
}

fn timed(job: &Job, already: usize) -> anyhow::Result<f64> {
    let items = (already..already + AT_ONCE)
        .map(item)
        .collect::<anyhow::Result<Vec<_>>>()?;
    let dlq = job.dlq();
    let began = Instant::now();
    for item in &items {
        dlq.push(item)?;
    }
    let took = per_operation(began, AT_ONCE);
    let count = dlq.list()?.count();
    anyhow::ensure!(
        count == already + AT_ONCE,
        "{count} items of {}",
        already + AT_ONCE
    );
    Ok(took)
}

/// The same into a queue that holds 100,000, made once a run: a round adds 1,000.
fn into_large() -> anyhow::Result<f64> {
    struct Large {
        _folder: tempfile::TempDir,
        _storage: Storage,
        job: Job,
    }
    static LARGE: OnceLock<Large> = OnceLock::new();
    let large = match LARGE.get() {
        Some(large) => large,
        None => {
            let folder = tempfile::tempdir()?;
            let (storage, job) = store(&folder, true)?;
            fill(&job, 0, 100_000)?;
            LARGE.get_or_init(|| Large {
                _folder: folder,
                _storage: storage,
                job,
            })
        }
    };
    let already = large.job.dlq().list()?.count();
    timed(&large.job, already)
}
