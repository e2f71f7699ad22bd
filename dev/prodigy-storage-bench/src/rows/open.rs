//! Rows that open a store with many jobs.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Result, ensure};
use prodigy_storage::Storage;
use tempfile::TempDir;

use crate::bar::Bar;
use crate::clock::per_operation;
use crate::event::{Event, Source};
use crate::lab::{Bench, Lab};
use crate::row::{ALL_ROUNDS, Contestant, Plan, Role, Row, Turn};
use crate::store::{self, REPO};

pub(crate) fn rows() -> Vec<Row> {
    vec![Row {
        key: "open-10000-jobs",
        group: "open",
        work: "open a store of 10,000 jobs and append one event, relaxed",
        against: "a store of 10 jobs",
        unit: "µs",
        bar: Bar::AtMost(1.2),
        rounds: ALL_ROUNDS,
        plan,
    }]
}

/// A store with many jobs of one event each.
#[derive(Debug)]
pub(crate) struct Jobs {
    folder: TempDir,
    jobs: usize,
    /// The number of events that were appended after the store was filled.
    appended: usize,
}

impl Jobs {
    pub(crate) fn make(bench: &Bench, jobs: usize) -> Result<Self> {
        let folder = bench.folder()?;
        let storage = store::open(folder.path(), false)?;
        let mut source = Source::new(1);
        for job in 0..jobs {
            let job = storage.repo(REPO)?.job(format!("job-{job}"))?;
            job.events().append(source.event(0))?;
        }
        Ok(Self {
            folder,
            jobs,
            appended: 0,
        })
    }

    /// The root of the store.
    pub(super) fn root(&self) -> PathBuf {
        store::root(self.folder.path())
    }

    /// Opens the store and appends to a job, `opens` times. Closing the handle is not timed.
    fn opens(&mut self, turn: Turn, opens: usize) -> Result<f64> {
        let mut source = Source::new(turn.seed);
        let mut handles: Vec<Storage> = Vec::with_capacity(opens);
        let mut took = 0.0;
        for n in 0..opens {
            // Drops the handle of the previous turn: a new process would have only one handle on the store.
            handles.clear();
            let name = format!("job-{}", (self.appended + n) * 7 % self.jobs);
            let began = Instant::now();
            let storage = store::open(self.folder.path(), false)?;
            storage.repo(REPO)?.job(name)?.events().append(source.event(n))?;
            took += per_operation(began, opens);
            handles.push(storage);
        }
        self.appended += opens;
        self.check()?;
        Ok(took)
    }

    fn check(&self) -> Result<()> {
        let storage = store::open(self.folder.path(), false)?;
        let mut events = 0;
        for job in 0..self.jobs {
            let job = storage.repo(REPO)?.job(format!("job-{job}"))?;
            for event in job.events().read::<Event>()? {
                ensure!(event?.verified, "an event has no checksum");
                events += 1;
            }
        }
        let wanted = self.jobs + self.appended;
        ensure!(events == wanted, "{events} of {wanted} events are there");
        Ok(())
    }
}

fn plan(lab: &Lab) -> Result<Plan> {
    let opens = lab.of(200);
    let mut many = Jobs::make(&lab.bench(), lab.of(10_000))?;
    let mut few = Jobs::make(&lab.bench(), 10)?;
    Ok(Plan::Measure(vec![
        Contestant::ours(move |turn| many.opens(turn, opens)),
        Contestant::new(Role::Against, "10 jobs", move |turn| few.opens(turn, opens)),
    ]))
}
