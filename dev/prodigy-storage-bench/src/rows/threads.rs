//! Rows that append events from several threads, on disk and in memory.

use anyhow::Result;
use prodigy_storage::config::BackendKind;
use prodigy_storage::{Job, Storage, StorageConfig};

use crate::bar::Bar;
use crate::clock::threads;
use crate::event::Source;
use crate::lab::{Bench, Lab};
use crate::raw::{self, Appender};
use crate::row::{ALL_ROUNDS, Contestant, Plan, Role, Row, Sample, Turn};
use crate::store::{self, REPO};

pub(crate) const THREADS: usize = 16;

pub(crate) fn rows() -> Vec<Row> {
    vec![
        Row {
            key: "append-strict-16-threads",
            group: "append",
            work: "append, strict, 16 threads",
            against: "the full line + write + fdatasync, a file each",
            unit: "µs",
            bar: Bar::AtMost(0.8),
            rounds: ALL_ROUNDS,
            plan: strict,
        },
        Row {
            key: "memory-backend-2-threads",
            group: "memory",
            work: "memory backend append, 2 threads on 2 jobs",
            against: "1 thread (throughput)",
            unit: "µs",
            bar: Bar::AtLeast(1.6),
            rounds: ALL_ROUNDS,
            plan: memory,
        },
    ]
}

fn strict(lab: &Lab) -> Result<Plan> {
    let each = lab.of(3_200).div_ceil(THREADS);
    let mut works = vec![
        Contestant::ours({
            let bench = lab.bench();
            move |turn| ours(&bench, each, None, turn)
        }),
        Contestant::new(Role::Against, "line + write + fdatasync, a file each", {
            let bench = lab.bench();
            move |turn| bare(&bench, each, turn)
        }),
        Contestant::new(Role::Variant, "prodigy-storage, connection_pool_size 1", {
            let bench = lab.bench();
            move |turn| ours(&bench, each, Some(1), turn)
        }),
    ];
    works.extend(crate::peers::append::from_threads(lab, each));
    Ok(Plan::Measure(works))
}

pub(crate) fn ours(bench: &Bench, each: usize, pool: Option<usize>, turn: Turn) -> Result<Sample> {
    let folder = bench.folder()?;
    let mut config = store::config(&folder.path().join("root"), true);
    if let Some(pool) = pool {
        config.connection_pool_size = pool;
    }
    let storage = Storage::with_config(config)?;
    let job = store::job(&storage)?;
    let events = each * THREADS;
    let syncs = || storage.stats().get("file.syncs");
    let (took, syncs) = append_by_all(&job, each, turn.seed, syncs)?;
    // The number of syncs, scaled to 3,200 events. If all 16 threads shared each sync, it would be 200.
    Ok(Sample::from(took).with("syncs for 3,200 events", syncs as f64 * 3_200.0 / events as f64))
}

/// Appends to a job from all threads, after a first event that is not timed. Returns the time per event, and by how
/// much `count` has increased.
pub(crate) fn append_by_all(
    job: &Job,
    each: usize,
    seed: u64,
    count: impl Fn() -> u64,
) -> Result<(f64, u64)> {
    let events = each * THREADS;
    let mut source = Source::new(seed);
    let first = job.events().append(source.event(events))?;
    let before = count();
    let (took, ids) = threads(
        THREADS,
        events,
        |_| Ok((job.events(), Source::new(seed))),
        |thread, (log, mut source)| {
            let numbers = thread * each..(thread + 1) * each;
            numbers
                .map(|n| Ok(log.append(source.event(n))?))
                .collect::<Result<Vec<_>>>()
        },
    )?;
    let counted = count() - before;
    let ids = ids.into_iter().flatten().chain([first]).collect();
    store::check(job, source.digest(0..=events), ids)?;
    Ok((took, counted))
}

fn bare(bench: &Bench, each: usize, turn: Turn) -> Result<f64> {
    let folder = bench.folder()?;
    let path = |thread: usize| folder.path().join(format!("log-{thread}"));
    let (took, _) = threads(
        THREADS,
        each * THREADS,
        |thread| {
            let mut file = Appender::open(&path(thread), true)?;
            let mut source = Source::new(turn.seed);
            file.append(0, source.event(each * THREADS))?;
            Ok((file, source))
        },
        |thread, (mut file, mut source)| {
            for n in thread * each..(thread + 1) * each {
                file.append(n, source.event(n))?;
            }
            Ok(())
        },
    )?;
    let mut source = Source::new(turn.seed);
    for thread in 0..THREADS {
        let numbers = (thread * each..(thread + 1) * each).chain([each * THREADS]);
        raw::digest(&path(thread))?.must_be(source.digest(numbers))?;
    }
    Ok(took)
}

fn memory(lab: &Lab) -> Result<Plan> {
    let each = lab.of(100_000);
    let work = move |number: usize| {
        move |turn: Turn| -> Result<f64> {
            let mut config = StorageConfig::default().backend(BackendKind::Memory);
            config.memory.max_memory = 1 << 30;
            let storage = Storage::with_config(config)?;
            let job =
                |thread: usize| -> Result<Job> { Ok(storage.repo(REPO)?.job(format!("job-{thread}"))?) };
            let (took, ids) = threads(
                number,
                each * number,
                |thread| Ok((job(thread)?.events(), Source::new(turn.seed))),
                |thread, (log, mut source)| {
                    let numbers = thread * each..(thread + 1) * each;
                    numbers
                        .map(|n| Ok(log.append(source.event(n))?))
                        .collect::<Result<Vec<_>>>()
                },
            )?;
            for (thread, ids) in ids.into_iter().enumerate() {
                let wanted = Source::new(turn.seed).digest(thread * each..(thread + 1) * each);
                store::check(&job(thread)?, wanted, ids)?;
            }
            Ok(took)
        }
    };
    Ok(Plan::Measure(vec![
        Contestant::ours(work(2)),
        Contestant::new(Role::Against, "1 thread", work(1)),
    ]))
}
