//! Rows that append events from several processes to one job.

use std::path::Path;

use anyhow::Result;

use crate::bar::Bar;
use crate::child::{self, Events, Task};
use crate::event::{Digest, Source};
use crate::lab::Lab;
use crate::raw;
use crate::row::{ALL_ROUNDS, Contestant, Plan, Role, Row, Turn};
use crate::store;

pub(crate) const PROCESSES: usize = 8;

pub(crate) fn rows() -> Vec<Row> {
    vec![
        Row {
            key: "append-relaxed-8-processes",
            group: "append",
            work: "append, relaxed, 8 processes on one job",
            against: "a file each, the full line + write",
            unit: "µs",
            bar: Bar::AtMost(1.25),
            rounds: ALL_ROUNDS,
            plan: |lab| plan(lab, lab.of(20_000), false),
        },
        Row {
            key: "append-strict-8-processes",
            group: "append",
            work: "append, strict, 8 processes on one job",
            against: "a file each, the full line + write + fdatasync",
            unit: "µs",
            bar: Bar::AtMost(1.15),
            rounds: ALL_ROUNDS,
            plan: |lab| plan(lab, lab.of(400), true),
        },
    ]
}

/// The events of the n-th process in a turn. The first event of a process, which is not timed, has the number after
/// these.
pub(crate) fn share(process: usize, each: usize, turn: Turn, strict: bool) -> Events {
    Events {
        seed: turn.seed,
        from: process * (each + 1),
        count: each,
        strict,
    }
}

/// The digest of the events of all processes.
pub(crate) fn all(each: usize, turn: Turn) -> Digest {
    Source::new(turn.seed).digest(0..PROCESSES * (each + 1))
}

fn plan(lab: &Lab, each: usize, strict: bool) -> Result<Plan> {
    let bench = lab.bench();
    let ours = Contestant::ours(move |turn| {
        let folder = bench.folder()?;
        let tasks: Vec<Task> = (0..PROCESSES)
            .map(|process| Task::Append {
                folder: folder.path().to_owned(),
                events: share(process, each, turn, strict),
            })
            .collect();
        let (took, said) = child::together(&tasks, each * PROCESSES)?;
        let ids = said.into_iter().flat_map(|said| said.ids).collect();
        let storage = store::open(folder.path(), strict)?;
        store::check(&store::job(&storage)?, all(each, turn), ids)?;
        Ok(took)
    });
    let mut works = vec![ours, bare(lab, each, strict, Role::Against, "a file each", false)];
    if !strict {
        let name = "one file, O_APPEND";
        works.push(bare(lab, each, strict, Role::Limit, name, false));
        let name = "one file, O_APPEND, flock";
        works.push(bare(lab, each, strict, Role::Limit, name, true));
    }
    works.extend(crate::peers::append::from_processes(lab, each, strict));
    Ok(Plan::Measure(works))
}

fn bare(lab: &Lab, each: usize, strict: bool, role: Role, name: &'static str, lock: bool) -> Contestant {
    let bench = lab.bench();
    Contestant::new(role, name, move |turn| {
        let folder = bench.folder()?;
        let path = |process: usize| match role {
            Role::Against => folder.path().join(format!("log-{process}")),
            _ => folder.path().join("log"),
        };
        let tasks: Vec<Task> = (0..PROCESSES)
            .map(|process| Task::Bare {
                path: path(process),
                events: share(process, each, turn, strict),
                lock,
            })
            .collect();
        let (took, _) = child::together(&tasks, each * PROCESSES)?;
        files(folder.path())?.must_be(all(each, turn))?;
        Ok(took)
    })
}

/// The digest of the files of a folder.
fn files(folder: &Path) -> Result<Digest> {
    let mut digest = Digest::default();
    for entry in std::fs::read_dir(folder)? {
        raw::scan(&entry?.path(), |event| digest.add(event))?;
    }
    Ok(digest)
}
