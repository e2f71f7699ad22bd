//! Works of peers that append events.

use std::time::Instant;

use anyhow::Result;

use super::fjall::Fjall;
use super::redb::Redb;
use super::sqlite::Sqlite;
use super::store::{Peer, Shared, Which};
use crate::child::{self, Task};
use crate::clock::{per_operation, threads};
use crate::event::{Digest, Source};
use crate::lab::{Bench, Lab};
use crate::row::{Contestant, Role, Turn};
use crate::rows::append::BATCH;
use crate::rows::processes::{PROCESSES, all, share};
use crate::rows::threads::THREADS;

/// The peers of relaxed appends, each with the number of events in a turn. With it, a turn takes about as long as
/// ours.
const RELAXED: &[(Which, usize)] = &[
    (Which::FileRotate, 200_000),
    (Which::TracingAppender, 200_000),
    (Which::Fjall, 100_000),
    (Which::Redb, 20_000),
    (Which::Sqlite, 15_000),
];
const STRICT: &[(Which, usize)] = &[
    (Which::Fjall, 3_000),
    (Which::Sqlite, 2_000),
    (Which::Redb, 1_500),
];
/// The peers of appends in batches, each with the number of batches in a turn. With it, a turn takes about as long as
/// ours.
const BATCHES: &[(Which, usize)] = &[
    (Which::FileRotate, 4_000),
    (Which::TracingAppender, 4_000),
    (Which::Fjall, 2_000),
    (Which::Sqlite, 800),
    (Which::Redb, 500),
];

fn digest(peer: &mut dyn Peer) -> Result<Digest> {
    let mut digest = Digest::default();
    peer.read(&mut |event| digest.add(event))?;
    Ok(digest)
}

/// Works of peers that append one event per call.
pub(crate) fn one_by_one(lab: &Lab, strict: bool) -> Vec<Contestant> {
    let table = if strict { STRICT } else { RELAXED };
    let works = table.iter().map(|&(which, events)| {
        let (bench, events) = (lab.bench(), lab.of(events));
        Contestant::new(Role::Peer, which.name(strict), move |turn: Turn| {
            let folder = bench.folder()?;
            let mut peer = which.open(folder.path(), strict)?;
            let mut source = Source::new(turn.seed);
            peer.append(events, source.event(events))?;
            let began = Instant::now();
            for n in 0..events {
                peer.append(n, source.event(n))?;
            }
            let took = per_operation(began, events);
            digest(&mut *peer)?.must_be(source.digest(0..=events))?;
            Ok(took)
        })
    });
    works.collect()
}

/// Works of peers that append one batch per call.
pub(crate) fn in_batches(lab: &Lab) -> Vec<Contestant> {
    let works = BATCHES.iter().map(|&(which, batches)| {
        let (bench, batches) = (lab.bench(), lab.of(batches));
        Contestant::new(Role::Peer, which.name(false), move |turn: Turn| {
            let folder = bench.folder()?;
            let mut peer = which.open(folder.path(), false)?;
            let mut source = Source::new(turn.seed);
            let events = batches * BATCH;
            peer.append(events, source.event(events))?;
            let began = Instant::now();
            for batch in 0..batches {
                peer.append_batch(&mut source, batch * BATCH..(batch + 1) * BATCH)?;
            }
            let took = per_operation(began, events);
            digest(&mut *peer)?.must_be(source.digest(0..=events))?;
            Ok(took)
        })
    });
    works.collect()
}

/// Works of peers to which several threads append durably: to SQLite with a connection per thread, to the others with
/// a shared handle.
pub(crate) fn from_threads(lab: &Lab, each: usize) -> Vec<Contestant> {
    let sqlite = |folder: &std::path::Path| {
        let folder = folder.to_owned();
        Sqlite::open(&folder, true)?;
        Ok(move || Sqlite::open(&folder, true))
    };
    let redb = |folder: &std::path::Path| {
        let shared = Redb::open(folder, true)?;
        Ok(move || Ok(shared.clone()))
    };
    let fjall = |folder: &std::path::Path| {
        let shared = Fjall::open(folder, true)?;
        Ok(move || Ok(shared.clone()))
    };
    vec![
        of_threads(lab.bench(), Which::Fjall, each, fjall),
        of_threads(lab.bench(), Which::Sqlite, each, sqlite),
        of_threads(lab.bench(), Which::Redb, each, redb),
    ]
}

fn of_threads<P, H>(
    bench: Bench,
    which: Which,
    each: usize,
    store: impl Fn(&std::path::Path) -> Result<H> + 'static,
) -> Contestant
where
    P: Peer,
    H: Fn() -> Result<P> + Sync,
{
    Contestant::new(Role::Peer, which.name(true), move |turn: Turn| {
        let folder = bench.folder()?;
        let handle = store(folder.path())?;
        let (took, _) = threads(
            THREADS,
            each * THREADS,
            |_| Ok((handle()?, Source::new(turn.seed))),
            |thread, (mut peer, mut source)| {
                for n in thread * each..(thread + 1) * each {
                    peer.append(n, source.event(n))?;
                }
                Ok(())
            },
        )?;
        let wanted = Source::new(turn.seed).digest(0..each * THREADS);
        digest(&mut handle()?)?.must_be(wanted)?;
        Ok(took)
    })
}

/// Works of peers to which several processes append.
pub(crate) fn from_processes(lab: &Lab, each: usize, strict: bool) -> Vec<Contestant> {
    // With relaxed durability, redb is left out: a process does not see data that another one has not made durable.
    let peers: &[Shared] = if strict {
        &[Shared::Sqlite, Shared::Redb]
    } else {
        &[Shared::Sqlite]
    };
    let each = if strict {
        each.div_ceil(4)
    } else {
        each.div_ceil(10)
    };
    let works = peers.iter().map(|&which| {
        let bench = lab.bench();
        Contestant::new(Role::Peer, which.name(strict), move |turn: Turn| {
            let folder = bench.folder()?;
            which.open(folder.path(), strict)?;
            let tasks: Vec<Task> = (0..PROCESSES)
                .map(|process| Task::Peer {
                    which,
                    folder: folder.path().to_owned(),
                    events: share(process, each, turn, strict),
                })
                .collect();
            let (took, _) = child::together(&tasks, each * PROCESSES)?;
            digest(&mut *which.open(folder.path(), strict)?)?.must_be(all(each, turn))?;
            Ok(took)
        })
    });
    works.collect()
}
