//! Rows that save and load checkpoints.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use prodigy_storage::{SaveOptions, Storage};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use crate::bar::Bar;
use crate::clock::per_operation;
use crate::event::{Digest, Event, Source};
use crate::lab::{Bench, Lab};
use crate::row::{ALL_ROUNDS, Contestant, Plan, Role, Row};
use crate::store;

/// The number of events in a state of 1 MB; `SMALL` is the number in a state of 10 KB.
pub(crate) const LARGE: usize = 4_300;
const SMALL: usize = 43;

pub(crate) fn rows() -> Vec<Row> {
    let row = |key, work, against, bar, plan| Row {
        key,
        group: "checkpoint",
        work,
        against,
        unit: "µs",
        bar,
        rounds: ALL_ROUNDS,
        plan,
    };
    vec![
        row(
            "checkpoint-save",
            "checkpoint save 1 MB, strict, contents differing",
            "serde_json + temp + fsync + rename + fsync of the folder",
            Bar::AtMost(1.1),
            save,
        ),
        row(
            "checkpoint-load",
            "load of the latest of 1 MB, typed",
            "read + serde_json typed",
            Bar::None,
            load,
        ),
        row(
            "checkpoint-latest",
            "latest checkpoint (10 KB) of 10,000, typed",
            "list the names + read the greatest + serde_json typed",
            Bar::AtMost(1.5),
            latest,
        ),
    ]
}

/// The state of a job.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct State {
    events: Vec<Event>,
}

impl State {
    /// The n-th state of a seed.
    pub(crate) fn new(seed: u64, n: usize, events: usize) -> Self {
        let mut source = Source::new(seed);
        let numbers = n * events..(n + 1) * events;
        Self {
            events: numbers.map(|n| source.event(n).clone()).collect(),
        }
    }

    pub(crate) fn digest(&self) -> Digest {
        let mut digest = Digest::default();
        self.events.iter().for_each(|event| digest.add(event));
        digest
    }
}

/// The states of a turn.
pub(crate) fn states(seed: u64, number: usize) -> Vec<State> {
    (0..number).map(|n| State::new(seed, n, LARGE)).collect()
}

/// The number of saves in a turn.
pub(crate) fn saves(lab: &Lab) -> usize {
    lab.of(30)
}

/// Saves a state that is not timed, then the states of a turn, and reads them back. Returns microseconds per save.
pub(crate) fn save_all(storage: &Storage, seed: u64, saves: usize) -> Result<f64> {
    let checkpoints = store::job(storage)?.checkpoints();
    checkpoints.save_map(&State::new(seed, saves, LARGE), SaveOptions::default())?;
    let states = states(seed, saves);
    let mut added = Vec::new();
    let began = Instant::now();
    for state in &states {
        added.push(checkpoints.save_map(state, SaveOptions::default())?);
    }
    let took = per_operation(began, saves);
    for (added, state) in added.iter().zip(&states) {
        let stored = checkpoints.get::<State>(&added.id)?;
        let stored = stored.context("a checkpoint is not there")?;
        ensure!(stored.verified, "a checkpoint has no checksum");
        stored.data.digest().must_be(state.digest())?;
    }
    Ok(took)
}

fn save(lab: &Lab) -> Result<Plan> {
    let saves = saves(lab);
    let bench = lab.bench();
    let ours = Contestant::ours(move |turn| {
        let folder = bench.folder()?;
        save_all(&store::open(folder.path(), true)?, turn.seed, saves)
    });
    let bench = lab.bench();
    let bare = Contestant::new(
        Role::Against,
        "serde_json + temp + fsync + rename + fsync",
        move |turn| {
            let folder = bench.folder()?;
            let states = states(turn.seed, saves);
            let path = |n: usize| folder.path().join(format!("checkpoint-{n}.json"));
            let mut buffer = Vec::new();
            write_whole(folder.path(), &path(saves), b"{}")?;
            let began = Instant::now();
            for (n, state) in states.iter().enumerate() {
                buffer.clear();
                serde_json::to_writer(&mut buffer, state)?;
                write_whole(folder.path(), &path(n), &buffer)?;
            }
            let took = per_operation(began, saves);
            for (n, state) in states.iter().enumerate() {
                let stored: State = serde_json::from_slice(&fs::read(path(n))?)?;
                stored.digest().must_be(state.digest())?;
            }
            Ok(took)
        },
    );
    let mut works = vec![ours, bare];
    works.extend(crate::peers::documents::saves(lab));
    Ok(Plan::Measure(works))
}

/// Writes a file atomically and durably.
fn write_whole(folder: &Path, path: &Path, bytes: &[u8]) -> Result<()> {
    let temp = folder.join(".temp");
    let mut file = File::create(&temp)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temp, path)?;
    File::open(folder)?.sync_all()?;
    Ok(())
}

fn load(lab: &Lab) -> Result<Plan> {
    let loads = lab.of(30);
    let bench = lab.bench();
    let ours = Contestant::ours(move |turn| {
        let folder = bench.folder()?;
        let storage = store::open(folder.path(), false)?;
        let checkpoints = store::job(&storage)?.checkpoints();
        let state = State::new(turn.seed, 0, LARGE);
        checkpoints.save_map(&state, SaveOptions::default())?;
        let mut read = Digest::default();
        let began = Instant::now();
        for _ in 0..loads {
            let latest = checkpoints.latest_map::<State>()?.context("no checkpoint")?;
            read.count += latest.data.events.len();
        }
        let took = per_operation(began, loads);
        ensure!(read.count == LARGE * loads, "a state is not whole");
        let latest = checkpoints.latest_map::<State>()?.context("no checkpoint")?;
        latest.data.digest().must_be(state.digest())?;
        Ok(took)
    });
    let bench = lab.bench();
    let bare = Contestant::new(Role::Against, "read + serde_json", move |turn| {
        let folder = bench.folder()?;
        let path = folder.path().join("checkpoint.json");
        let state = State::new(turn.seed, 0, LARGE);
        fs::write(&path, serde_json::to_vec(&state)?)?;
        let mut count = 0;
        let began = Instant::now();
        for _ in 0..loads {
            let read: State = serde_json::from_str(std::str::from_utf8(&fs::read(&path)?)?)?;
            count += read.events.len();
        }
        let took = per_operation(began, loads);
        ensure!(count == LARGE * loads, "a state is not whole");
        Ok(took)
    });
    let mut works = vec![ours, bare];
    works.extend(crate::peers::documents::loads(lab));
    Ok(Plan::Measure(works))
}

/// A job with many checkpoints.
#[derive(Debug)]
struct Series {
    _folder: TempDir,
    storage: Storage,
    newest: Digest,
}

impl Series {
    fn make(bench: &Bench, number: usize) -> Result<Self> {
        let folder = bench.folder()?;
        let storage = store::open(folder.path(), false)?;
        let checkpoints = store::job(&storage)?.checkpoints();
        for n in 0..number {
            checkpoints.save_map(&State::new(7, n, SMALL), SaveOptions::default())?;
        }
        let saved = checkpoints.list().all()?.len();
        ensure!(saved == number, "{saved} of {number} checkpoints are there");
        Ok(Self {
            _folder: folder,
            storage,
            newest: State::new(7, number - 1, SMALL).digest(),
        })
    }

    fn loads(&self, loads: usize) -> Result<f64> {
        let checkpoints = store::job(&self.storage)?.checkpoints();
        let mut latest = None;
        let began = Instant::now();
        for _ in 0..loads {
            latest = checkpoints.latest_map::<State>()?;
        }
        let took = per_operation(began, loads);
        latest
            .context("no checkpoint")?
            .data
            .digest()
            .must_be(self.newest)?;
        Ok(took)
    }
}

/// A folder with `number` files, as a program would write them without this library.
fn bare_series(bench: &Bench, number: usize) -> Result<(TempDir, Digest)> {
    let folder = bench.folder()?;
    for n in 0..number {
        let path = folder.path().join(format!("map-checkpoint-{n:09}.json"));
        fs::write(path, serde_json::to_vec(&State::new(7, n, SMALL))?)?;
    }
    Ok((folder, State::new(7, number - 1, SMALL).digest()))
}

fn bare_latest(folder: &Path) -> Result<State> {
    let mut newest = String::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name().into_string().ok().context("a name of ours")?;
        if name > newest {
            newest = name;
        }
    }
    Ok(serde_json::from_slice(&fs::read(folder.join(newest))?)?)
}

fn latest(lab: &Lab) -> Result<Plan> {
    let (loads, number) = (lab.of(50), lab.of(10_000));
    let many = Series::make(&lab.bench(), number)?;
    let few = Series::make(&lab.bench(), 10)?;
    let (bare, newest) = bare_series(&lab.bench(), number)?;
    Ok(Plan::Measure(vec![
        Contestant::ours(move |_| many.loads(loads)),
        Contestant::new(Role::Against, "list + read + serde_json", move |_| {
            let mut latest = None;
            let began = Instant::now();
            for _ in 0..loads {
                latest = Some(bare_latest(bare.path())?);
            }
            let took = per_operation(began, loads);
            latest.context("no checkpoint")?.digest().must_be(newest)?;
            Ok(took)
        }),
        Contestant::new(Role::Variant, "prodigy-storage, with 10 saved", move |_| {
            few.loads(loads)
        }),
    ]))
}
