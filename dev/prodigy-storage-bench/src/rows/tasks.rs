//! Rows that append events from many tasks.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Result, ensure};
use prodigy_storage::{AsyncStorage, EventId, Storage};
use tokio::runtime;
use tokio::sync::Barrier;

use super::threads::{THREADS, ours as from_threads};
use crate::bar::Bar;
use crate::clock::per_operation;
use crate::event::Source;
use crate::lab::{Bench, Lab};
use crate::row::{ALL_ROUNDS, Contestant, Plan, Role, Row, Sample, Turn};
use crate::store;

const TASKS: usize = 1_000;

pub(crate) fn rows() -> Vec<Row> {
    vec![Row {
        key: "append-strict-1000-tasks",
        group: "append",
        work: "append, strict, 1,000 tasks on one job",
        against: "16 threads on one job",
        unit: "µs",
        // With 1.25x the time per event, the throughput is 0.8x.
        bar: Bar::AtMost(1.25),
        rounds: ALL_ROUNDS,
        plan,
    }]
}

fn plan(lab: &Lab) -> Result<Plan> {
    let each = lab.of(16).max(2);
    let (bench, beside) = (lab.bench(), lab.bench());
    let threads = TASKS * each / THREADS;
    Ok(Plan::Measure(vec![
        Contestant::ours(move |turn| ours(&bench, each, turn)),
        Contestant::new(Role::Against, "prodigy-storage, 16 threads", move |turn| {
            from_threads(&beside, threads, None, turn)
        }),
    ]))
}

fn ours(bench: &Bench, each: usize, turn: Turn) -> Result<Sample> {
    let folder = bench.folder()?;
    let storage = Storage::with_config(store::config(&folder.path().join("root"), true))?;
    let job = store::job(&storage)?;
    let events = TASKS * each;
    let mut source = Source::new(turn.seed);
    let first = job.events().append(source.event(events))?;
    let before = storage.stats().get("file.syncs");
    let runtime = runtime::Builder::new_multi_thread().worker_threads(2).build()?;
    let (took, mut ids) = runtime.block_on(from_tasks(AsyncStorage::from(storage.clone()), each, turn))?;
    let syncs = storage.stats().get("file.syncs") - before;
    ids.push(first);
    store::check(&job, source.digest(0..=events), ids)?;
    Ok(Sample::from(took).with("syncs for 3,200 events", syncs as f64 * 3_200.0 / events as f64))
}

/// Starts all tasks at the same moment. Each appends `each` events, one after another.
async fn from_tasks(storage: AsyncStorage, each: usize, turn: Turn) -> Result<(f64, Vec<EventId>)> {
    let log = storage.repo(store::REPO)?.job(store::JOB)?.events();
    let barrier = Arc::new(Barrier::new(TASKS + 1));
    let mut tasks = Vec::with_capacity(TASKS);
    for task in 0..TASKS {
        let (log, barrier, mut source) = (log.clone(), Arc::clone(&barrier), Source::new(turn.seed));
        tasks.push(tokio::spawn(async move {
            barrier.wait().await;
            let mut ids = Vec::with_capacity(each);
            for n in task * each..(task + 1) * each {
                ids.push(log.append(source.event(n)).await?);
            }
            Ok::<_, prodigy_storage::StorageError>(ids)
        }));
    }
    barrier.wait().await;
    let began = Instant::now();
    let mut ids = Vec::with_capacity(TASKS * each + 1);
    for task in tasks {
        ids.extend(task.await??);
    }
    let took = per_operation(began, TASKS * each);
    ensure!(ids.len() == TASKS * each, "{} ids", ids.len());
    Ok((took, ids))
}
